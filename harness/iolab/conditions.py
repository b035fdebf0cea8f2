"""The conditions of a run's cells on this machine: testbeds that stand, profiles that are applied.

A profile whose knobs all live in a network namespace is applied to the server's namespace of a pair
of its own and stays so for the whole run: its cells are compared with others inside one block. One
that touches the host is in force only while cells under it are driven, for the host has one value
of each knob: see `surroundings`. Only the server's side is tuned, as only the server's host is
one's own; on testbed loopback both sides are one host. Interfaces are the testbed's: no profile
reaches a NIC that carries none of a run's traffic.

Whatever ends a run (its end, an error, Ctrl-C) reverts what is applied; after `kill -9` the journal
is found by `iolab tune revert`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from iolab.errors import IolabError
from iolab.executor import Executor
from iolab.lab import Lab
from iolab.model import NO_PROFILE, WITHOUT, Cell, Condition, Plan
from iolab.surroundings import AS_FOUND
from iolab.testbed import Testbed
from iolab.testbed.netns import Netns, open_netns, set_client_mtu
from iolab.topology import CpuSplit
from iolab.tuning import journal
from iolab.tuning.bench import Result
from iolab.tuning.host import Host
from iolab.tuning.placement import Side
from iolab.tuning.planning import Item, make_plan
from iolab.tuning.profile import Loaded, load_profile, without
from iolab.tuning.scene import Scene
from iolab.tuning.session import Session, session
from iolab.tuning.state import forget, state_dir
from iolab.tuning.undisturbed import undisturbed


@dataclass(frozen=True)
class Tuned:
    """A profile at its place. `whole_host` says that not all of its knobs are a namespace's own."""

    condition: Condition
    loaded: Loaded
    scene: Scene
    whole_host: bool
    applied: tuple[Result, ...] = ()

    def facts(self) -> dict[str, Any]:
        """What the manifest says of it: every knob as asked and as it is."""
        return {
            "profile": self.condition.profile,
            "testbed": self.condition.testbed,
            "scope": "host" if self.whole_host else "namespace",
            "namespace": self.scene.netns or None,
            "knobs": [
                {
                    "knob": one.knob, "key": one.place.rpartition(": ")[2],
                    "requested": one.requested, "original": one.original,
                    "effective": one.effective, "outcome": str(one.outcome), "reason": one.reason,
                }
                for one in self.applied
            ],
        }  # fmt: skip

    @property
    def not_taken(self) -> tuple[str, ...]:
        """The knobs that this host lacks or that did not take."""
        return tuple(one.knob for one in self.applied if one.outcome != "exact")


class Conditions:
    """See surroundings.Surroundings. Made by `open_conditions`, which also ends it."""

    def __init__(self, lab: Lab, plan: Plan, stack: ExitStack) -> None:
        self._lab = lab
        self._plan = plan
        self._stack = stack
        self._labs: dict[Condition, Lab] = {}
        self._tuned: dict[Condition, Tuned] = {}
        self._standing: dict[Condition, ExitStack] = {}
        """Profiles in namespaces, applied for the whole run."""
        self._sessions: dict[Condition, Session] = {}
        self._phase = AS_FOUND
        self._leave = ExitStack()
        """Undoes the phase in force."""
        self.unsupported: Mapping[Condition, str] = {}

    def begin(self, conditions: Sequence[Condition], meet: Callable[[Condition], None]) -> None:
        """See Surroundings: builds the testbeds, and tries every profile once."""
        lacking: dict[Condition, str] = {}
        for number, condition in enumerate(conditions):
            self._end_phase()  # what a profile would change is asked of the host as it was found
            bed = self._bed(condition, number)
            self._labs[condition] = replace(self._lab, testbed=bed)
            reason = None
            if condition.profile != NO_PROFILE:
                reason = self._prepare_profile(condition, bed)
            if reason is None:
                meet(condition)
                continue
            lacking[condition] = reason
            if condition.profile == self._plan.baseline_profile:
                raise IolabError(f"the baseline profile {condition.profile}: {reason}")
        self._end_phase()
        self.unsupported = lacking

    def phase(self, cell: Cell) -> str:
        """See Surroundings."""
        tuned = self._tuned.get(cell.condition)
        if tuned is None or not tuned.whole_host:
            return AS_FOUND
        return _phase_of(cell.condition) + ("#2" if cell.server.twin else "")

    def enter(self, phase: str) -> bool:
        """See Surroundings."""
        if phase == self._phase:
            return False
        self._end_phase()
        if phase != AS_FOUND:
            tail = "@" + phase.removesuffix("#2")
            tuned = next(one for one in self._tuned.values() if one.condition.tail == tail)
            self._apply(tuned, self._leave)
        self._phase = phase
        return True

    def drift(self) -> str | None:
        """See Surroundings."""
        moved = [
            f"{condition.profile}: {one.knob}: asked for {one.requested}, has {one.effective}"
            for condition, tuned in self._sessions.items()
            for one in tuned.verify()
            if one.knob not in self._tuned[condition].not_taken
        ]
        return "; ".join(moved) or None

    def renew(self) -> None:
        """See Surroundings."""
        self._end_phase()
        for condition, stack in self._standing.items():
            stack.close()
            self._apply(self._tuned[condition], stack)

    def not_set(self, cell: Cell) -> tuple[str, ...]:
        """See Surroundings."""
        tuned = self._tuned.get(cell.condition)
        return tuned.not_taken if tuned is not None else ()

    def stage(self, cell: Cell) -> Lab:
        """See Surroundings."""
        return self._labs[cell.condition]

    def facts(self) -> dict[str, Any]:
        """What the manifest says: the run's testbed, and every profile as it was applied."""
        bed = self._labs[self._plan.conditions[0]].testbed
        return {
            "testbed": bed.name,
            "testbed_facts": bed.facts(),
            "profiles": [tuned.facts() for tuned in self._tuned.values()],
        }

    def notes(self) -> list[str]:
        """What a reader must know of the profiles: knobs that this host lacks, one line each."""
        return [
            f"profile {tuned.condition.profile} on {tuned.condition.testbed}: not set here: "
            + ", ".join(tuned.not_taken)
            for tuned in self._tuned.values()
            if tuned.not_taken and WITHOUT not in tuned.condition.profile
        ]

    def _bed(self, condition: Condition, number: int) -> Testbed:
        if condition.testbed == "loopback":
            return self._lab.testbed
        return self._stack.enter_context(open_netns(self._lab.executor, pair=number))

    def _prepare_profile(self, condition: Condition, bed: Testbed) -> str | None:
        """Applies a profile, in a namespace for the whole run, else as a phase.

        The reason when it cannot be had.
        """
        tuned = None
        try:
            tuned = _place(self._lab, condition, bed)
            self._stack.callback(tuned.scene.host.close)
            nothing = self._not_taken_whole(condition) or _changes_nothing(
                self._lab.house.profiles, tuned
            )
            if nothing is not None:
                return nothing
            stack = self._leave if tuned.whole_host else ExitStack()
            self._apply(tuned, stack)
        except IolabError as error:
            if tuned is not None and journal.load(tuned.scene.host.state) is not None:
                raise  # somebody's profile is applied, or something could not be restored
            return " ".join(str(error).split())
        self._match_client(condition, bed)
        split = _split(self._lab.split, self._sessions[condition])
        self._labs[condition] = replace(self._labs[condition], split=split)
        if tuned.whole_host:
            self._phase = _phase_of(condition)
        else:
            self._standing[condition] = stack
            self._stack.callback(forget, tuned.scene.host.state)
        return None

    def _match_client(self, condition: Condition, bed: Testbed) -> None:
        """The client's end of a pair follows where the server's end has taken an MTU."""
        for one in self._tuned[condition].applied:
            if one.place.endswith(": nic.files.mtu") and one.effective and isinstance(bed, Netns):
                set_client_mtu(self._lab.executor, bed, int(one.effective))

    def _not_taken_whole(self, condition: Condition) -> str | None:
        """Why a step of an ablation cannot differ, by what the whole profile was seen to set."""
        profile, _, key = condition.profile.partition(WITHOUT)
        whole = self._tuned.get(replace(condition, profile=profile))
        mine = [one for one in whole.applied if one.place.endswith(f": {key}")] if whole else []
        if not mine or any(one.outcome == "exact" for one in mine):
            return None
        return " ".join(f"{key} changes nothing here: {mine[0].outcome}: {mine[0].reason}".split())

    def _apply(self, tuned: Tuned, stack: ExitStack) -> None:
        """Applies a profile until `stack` is closed."""
        condition = tuned.condition
        made = stack.enter_context(session(tuned.loaded, tuned.scene, self._plan.partial))
        self._sessions[condition] = made
        stack.callback(self._sessions.pop, condition)
        self._tuned[condition] = replace(tuned, applied=made.applied.results)

    def _end_phase(self) -> None:
        """Back to the host as it was found; IolabError when something cannot be restored."""
        self._phase = AS_FOUND
        self._leave.close()

    def close(self) -> None:
        """Reverts everything that is applied; signals that ask for an end have to wait."""
        with undisturbed(), ExitStack() as all_of_them:
            for stack in self._standing.values():
                all_of_them.callback(stack.close)
            all_of_them.callback(self._leave.close)


@contextmanager
def open_conditions(lab: Lab, plan: Plan) -> Iterator[Conditions]:
    """The conditions of a plan; on leaving, the host and its namespaces are as they were.

    Nothing is there before `begin`, which raises IolabError with the remedy when a testbed or the
    baseline's profile cannot be had here.
    """
    with ExitStack() as stack:
        conditions = Conditions(lab, plan, stack)
        try:
            yield conditions
        finally:
            conditions.close()


def _phase_of(condition: Condition) -> str:
    """The phase of a profile that touches the host."""
    return condition.tail.removeprefix("@")


def _place(lab: Lab, condition: Condition, bed: Testbed) -> Tuned:
    """Where a profile goes: to a namespace alone when all of its knobs are that one's own."""
    inside = _scene(lab.executor, bed, only_netns=True)
    if condition.profile in lab.given:
        return _place_given(lab.given[condition.profile], condition, inside)
    loaded = load_variant(lab.house.profiles, condition.profile)
    if inside is not None:
        beside = loaded.profile.placement.model_dump(exclude_none=True)
        if not beside and not make_plan(loaded, inside).left_out:
            return Tuned(condition, loaded, inside, whole_host=False)
        inside.host.close()
    scene = _scene(lab.executor, bed, only_netns=False)
    assert scene is not None
    return Tuned(condition, loaded, scene, whole_host=True)


def _place_given(loaded: Loaded, condition: Condition, inside: Scene | None) -> Tuned:
    """A profile that is not the tree's: whatever it names, the host is not for it to change."""
    if inside is None:
        raise IolabError(
            f"profile {condition.profile}: it is for a namespace, and testbed "
            f"{condition.testbed} has none",
            'testbed = "netns"',
        )
    return Tuned(condition, loaded, inside, whole_host=False)


def _scene(executor: Executor, bed: Testbed, only_netns: bool) -> Scene | None:
    """The scene of a testbed; None for a namespace where there is none.

    Limits are set on this process, from which servers inherit them.
    """
    if not isinstance(bed, Netns):
        host = Host(executor, state=state_dir())
        return None if only_netns else Scene(host, "lo", limits_pid=os.getpid())
    name = bed.namespace("server")
    host = Host(executor, state=state_dir(name if only_netns else ""))
    return Scene(host, bed.device("server"), name, only_netns, os.getpid())


def load_variant(room: Path, name: str) -> Loaded:
    """The profile of that name, or `PROFILE~KEY`: it without one of its knobs."""
    whole, without_one, key = name.partition(WITHOUT)
    loaded = load_profile(room, whole)
    return without(loaded, key, name) if without_one else loaded


def _changes_nothing(room: Path, tuned: Tuned) -> str | None:
    """Why a step of an ablation cannot differ from the whole profile; None when it can."""
    whole, without_one, key = tuned.condition.profile.partition(WITHOUT)
    if not without_one:
        return None
    if key.startswith("placement."):
        one_node = len(tuned.scene.topology.nodes) == 1
        return f"{key} changes nothing on a host with one NUMA node" if one_node else None
    # What is left may live in a namespace alone, the knob that is left out need not.
    items = make_plan(load_profile(room, whole), replace(tuned.scene, only_netns=False)).items
    mine = [item for item in items if item.setting.key == key]
    if any(item.problem is None and not item.unchanged for item in mine):
        return None
    return f"{key} changes nothing here: {_why(mine)}"


def _why(items: list[Item]) -> str:
    if not items:
        return "there is nothing that it would set"
    return next((one.problem for one in items if one.problem), "the host has that value already")


def _split(split: CpuSplit, tuned: Session) -> CpuSplit:
    """The CPUs of both sides as the profile places them, as many as without it.

    Memory follows: it is taken from the node of the CPU that touches it first. On one node there is
    nothing to place.
    """
    if len(tuned.scene.topology.nodes) < 2 or not tuned.placement:
        return split
    server = _first(tuned.placement.get("server"), len(split.server), ()) or split.server
    client = _first(tuned.placement.get("client"), 1, server) or (split.client,)
    return CpuSplit(server, client[0], split.note)


def _first(side: Side | None, nr: int, taken: tuple[int, ...]) -> tuple[int, ...]:
    """The first CPUs of a side that this process may use and that are not taken."""
    usable = os.sched_getaffinity(0)
    free = [cpu for cpu in side.cpus if cpu in usable and cpu not in taken] if side else []
    return tuple(free[:nr])
