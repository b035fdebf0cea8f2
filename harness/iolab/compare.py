"""Two runs, or servers of one run, compared cell by cell: what `compare` and `gate` judge. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from iolab import stats
from iolab.errors import InputError, did_you_mean
from iolab.limiter import CLIENT_LIMITED
from iolab.model import Cell, Plan, Sample, Server, Status
from iolab.verdict import Comparison, paired, unpaired


@dataclass(frozen=True)
class Measured:
    """A run as it was stored."""

    name: str
    plan: Plan
    samples: tuple[Sample, ...]

    def trouble(self, cell: Cell) -> str | None:
        """Why `cell` has no number, None when it has one."""
        mine = [sample for sample in self.samples if sample.cell == cell.id]
        status, reason = stats.cell_status(cell, mine)
        return None if status is Status.OK else f"{cell.id} in {self.name}: {status}: {reason}"

    def capped(self, cell: Cell) -> str | None:
        """Why the server of `cell` may be faster than its rate, None where it showed all it had."""
        found = stats.limiter_of(cell, self.samples)
        if found is None or found.name not in CLIENT_LIMITED:
            return None
        return f"{cell.id} in {self.name} was limited by its client ({found.evidence})"

    def reference(self, cell: Cell) -> Cell | None:
        """The cell that `cell` is compared with, None where the plan has none."""
        return next(
            (
                other
                for other in self.plan.cells
                if other.workload == cell.workload
                and self.plan.label(other) == self.plan.reference(cell)
            ),
            None,
        )


def against_references(run: Measured) -> list[Comparison]:
    """Each cell of a run against its reference, twins left out."""
    return of_pairs(run, stats.against_reference(run.plan))


def inside(run: Measured, base: str, new: str) -> list[Comparison]:
    """Servers (on every workload they share) or cells of one run; InputError for unknown ones.

    Open loops are left out: their rate is given, and the same for all.
    """
    first, second = _closed(_cells(run, base)), _closed(_cells(run, new))
    by_place = {_place(cell, first, second): cell for cell in first}
    places = [(_place(cell, first, second), cell) for cell in second]
    both = [(by_place[place], cell) for place, cell in places if place in by_place]
    if not both and len(first) == len(second) == 1:
        raise InputError(f"{base} and {new} are cells of different workloads: nothing to compare")
    if not both:
        raise InputError(f"{base} and {new} share no workload in {run.name}")
    return of_pairs(run, both)


def _closed(cells: Sequence[Cell]) -> list[Cell]:
    return [cell for cell in cells if not cell.workload.open_loop]


def of_pairs(run: Measured, both: Sequence[tuple[Cell, Cell]]) -> list[Comparison]:
    """Pairs of cells of one run, measured in the same blocks."""
    logs = stats.cell_logs(run.plan, run.samples, both)
    caps = {cell: run.capped(cell) for cell in {cell for pair in both for cell in pair}}
    return [
        Comparison(
            run.plan.label(base),
            run.plan.label(new),
            new.workload.name,
            paired(found, run.plan.seed),
            run.trouble(base) or run.trouble(new),
            new.id,
            base_capped=caps[base],
            new_capped=caps[new],
        )
        for (base, new), found in zip(both, logs, strict=True)
    ]


def _cells(run: Measured, name: str) -> list[Cell]:
    """The cells that a name means: `SERVER@WORKLOAD`, `SERVER:PROFILE`, or `SERVER` for all of it.

    A server's specification is also that of its twin and of those with a handicap; these are meant
    by their labels alone.
    """
    cells, label = run.plan.cells, run.plan.label
    names = {c: (c.id, label(c), c.server.label, _spec(c.server)) for c in cells}
    found = [cell for cell in cells if name in names[cell]]
    if not found:
        known = [*map(label, cells), *(cell.id for cell in cells)]
        raise InputError(
            f"{name}: no server or cell of {run.name}: {did_you_mean(name, dict.fromkeys(known))}"
        )
    return found


def _spec(server: Server) -> str | None:
    return None if server.twin or server.handicap_percent else server.spec


def _place(cell: Cell, first: Sequence[Cell], second: Sequence[Cell]) -> tuple[object, ...]:
    """What two cells must share to be compared: the workload, and each axis both sides vary in."""
    sides = (first, second)
    profile = all(len({c.profile for c in side}) > 1 for side in sides) and cell.profile
    testbed = all(len({c.testbed for c in side}) > 1 for side in sides) and cell.testbed
    return cell.workload, profile, testbed


@dataclass(frozen=True)
class Across:
    """Two runs side by side: what can be compared, and the cells that only one of them has.

    `baseline` is the server that both measured, and to which the ratios are.
    """

    baseline: str
    comparisons: tuple[Comparison, ...]
    only_base: tuple[str, ...]
    only_new: tuple[str, ...]


def across(base: Measured, new: Measured, other_baseline: str | None = None) -> Across:
    """The cells of two runs by their ratios to the baseline, which both must share.

    Rates of two times are never compared: the machine wobbles more between runs than anything that
    is looked for. What a cell was beside its baseline is, unpaired. `other_baseline` is why that is
    not one and the same in both: then a ratio may have changed, or not, on its account.
    """
    _need_one_baseline(base, new)
    moved = None
    if other_baseline is not None:
        moved = (
            f"the baseline {new.plan.baseline} is another one in each run ({other_baseline}), and "
            "what changed it as well is not seen"
        )
    theirs, ours = _by_key(base.plan), _by_key(new.plan)
    caps_base, caps_new = _caps(base), _caps(new)
    logs_base = dict(_reference_logs(base))
    logs_new = dict(_reference_logs(new))
    comparisons = [
        Comparison(
            f"{base.plan.label(theirs[key])} in {base.name}",
            new.plan.label(cell),
            cell.workload.name,
            unpaired(logs_base[key], logs_new[key], new.plan.seed),
            _trouble(base, theirs[key]) or _trouble(new, cell),
            cell.id,
            # Ratios are compared: a reference that may be faster makes that of its run too large.
            base_capped=moved or caps_base[theirs[key]][0] or caps_new[cell][1],
            new_capped=moved or caps_new[cell][0] or caps_base[theirs[key]][1],
        )
        for key, cell in ours.items()
        if key in logs_base and key in logs_new
    ]
    return Across(
        new.plan.baseline,
        tuple(comparisons),
        tuple(cell.id for key, cell in theirs.items() if key not in ours),
        tuple(cell.id for key, cell in ours.items() if key not in theirs),
    )


def _need_one_baseline(base: Measured, new: Measured) -> None:
    """InputError where the plans of two runs have no baseline in common."""
    for run in (base, new):
        if run.plan.baseline_build is not None:
            raise InputError(
                f"{run.name}: a run of a gate compares builds with each other, and has no baseline "
                "that another run could share"
            )
    if base.plan.baseline != new.plan.baseline:
        raise InputError(
            f"the baselines differ: {base.plan.baseline} in {base.name}, {new.plan.baseline} in "
            f"{new.name}; runs are compared by their ratios to one baseline"
        )
    if base.plan.baseline_profile != new.plan.baseline_profile:
        raise InputError(
            f"the baseline profiles differ: {base.plan.baseline_profile or 'none'} in {base.name}, "
            f"{new.plan.baseline_profile or 'none'} in {new.name}"
        )


def _caps(run: Measured) -> dict[Cell, tuple[str | None, str | None]]:
    """Of each cell why it may be faster than its rate, and why its reference may be."""
    found = {cell: run.capped(cell) for cell in run.plan.cells}
    beside = {cell: run.reference(cell) for cell in found}
    return {
        cell: (why, None if (reference := beside[cell]) is None else found[reference])
        for cell, why in found.items()
    }


def _trouble(run: Measured, cell: Cell) -> str | None:
    """Why `cell` has no ratio in `run`: its own trouble, or that of its reference."""
    base = run.reference(cell)
    return run.trouble(cell) or (run.trouble(base) if base is not None else None)


_Key = tuple[object, ...]


def _key(cell: Cell) -> _Key:
    """What makes cells of two runs the same: server and workload.

    Not whether it could run, and not of which build it was: that is what is compared.
    """
    server = replace(cell.server, unsupported=None, build=None)
    return (server, cell.workload, cell.profile, cell.testbed)


def _by_key(plan: Plan) -> Mapping[_Key, Cell]:
    return {_key(cell): cell for cell in plan.cells if not cell.server.twin}


def _reference_logs(run: Measured) -> Iterable[tuple[_Key, list[float]]]:
    pairs = stats.against_reference(run.plan)
    for (_, cell), logs in zip(pairs, stats.cell_logs(run.plan, run.samples, pairs), strict=True):
        yield _key(cell), logs
