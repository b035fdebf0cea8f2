"""What may be said of sends that asked for no copy: counts of a cell, and sentences for a run."""

from __future__ import annotations

from collections.abc import Sequence

from iolab.model import Plan, Sample
from iolab.report import fmt
from iolab.report.view import CellView, ZeroCopy

LOCAL_TESTBEDS = ("loopback", "netns")


def tally(samples: Sequence[Sample]) -> ZeroCopy | None:
    """What a cell's slices counted; None when it neither asked for zero copy nor gave up asking."""
    sums = _sums(samples, ("zc_sends", "zc_notified", "zc_copied"))
    waived = (_sums(samples, ("zc_waived",)) or {}).get("zc_waived", 0)
    if sums is None or sums["zc_sends"] + waived == 0:
        return None
    more = _sums(samples, ("zc_bytes", "zc_delay_ns")) or {}
    delay, notified = more.get("zc_delay_ns"), sums["zc_notified"]
    return ZeroCopy(
        sums["zc_sends"],
        notified,
        sums["zc_copied"],
        bytes=more.get("zc_bytes"),
        inflight_peak_bytes=_highest(samples, "zc_inflight_peak_bytes"),
        delay_mean_ns=delay / notified if delay is not None and notified else None,
        delay_max_ns=_highest(samples, "zc_delay_max_ns") if notified else None,
        waived=waived,
    )


def claims(plan: Plan, cells: Sequence[CellView]) -> list[str]:
    """Why nothing may be claimed of zero-copy sends, each cell with all of its own reasons."""
    used = [(cell.cell, cell.zero_copy) for cell in cells if cell.zero_copy is not None]
    copied = [name for name, found in used if found.all_copied]
    partly = [name for name, found in used if found.copied and not found.all_copied]
    waived = [name for name, found in used if found.waived]
    said = []
    if copied:
        said.append(
            "No zero-copy claim: the kernel's notifications say that it copied every send of "
            f"{fmt.listing(copied)}. These cells show the cost of asking, not the gain."
        )
    if partly:
        said.append(
            "No zero-copy claim: the kernel's notifications say that it copied some of the sends "
            f"of {fmt.listing(partly)}."
        )
    if waived:
        said.append(
            "No zero-copy claim: with too many sends awaiting their notifications, the engine sent "
            f"by copy without asking the kernel, by its own count, in {fmt.listing(waived)}."
        )
    rest = {name for name, _ in used} - {*copied, *partly, *waived}
    if rest and plan.testbed in LOCAL_TESTBEDS:
        which = f" of {fmt.listing(sorted(rest))}" if said else ""
        said.append(
            f"No zero-copy claim{which}: not on the testbed {plan.testbed}, where no card sends."
        )
    return said


def _sums(samples: Sequence[Sample], keys: Sequence[str]) -> dict[str, int] | None:
    """Sums of server counters over slices; None when no slice has them all."""
    found = [s.server_counters for s in samples if s.server_counters is not None]
    counters = [c for c in found if all(isinstance(c.get(key), int) for key in keys)]
    return {key: sum(c[key] for c in counters) for key in keys} if counters else None


def _highest(samples: Sequence[Sample], key: str) -> int | None:
    """The highest value of a peak counter over slices; None when no slice has it."""
    found = [(s.server_counters or {}).get(key) for s in samples]
    return max((value for value in found if isinstance(value, int)), default=None)
