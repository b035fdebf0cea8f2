"""The axes `profile` and `testbed` of a matrix: which cells each table of it means. Pure.

What a workload or a grid names replaces the common list: `[profiles] list`, and `testbed` or
`testbeds` of `[run]`. A profile of `ablate` stands for itself and, for each of its knobs, for
`PROFILE~KEY`: the same without that knob.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Sequence
from typing import Protocol

from iolab.errors import InputError, did_you_mean
from iolab.model import NO_PROFILE, WITHOUT, Cell, Condition, Server, TestbedName, Workload

_RESERVED = ("loopback", "netns", "remote")
"""Names of testbeds: in the id of a cell they would be taken for one."""


class RunAxes(Protocol):
    """What `[run]` says of testbeds."""

    @property
    def testbed(self) -> TestbedName | None:
        """The one testbed."""

    @property
    def testbeds(self) -> tuple[TestbedName, ...] | None:
        """Several of them."""


class ProfileAxis(Protocol):
    """What `[profiles]` says; see matrix.ProfilesTable."""

    @property
    def list(self) -> tuple[str, ...]:
        """The profiles of every workload."""

    @property
    def baseline(self) -> str:
        """What each cell is compared with."""

    @property
    def ablate(self) -> tuple[str, ...]:
        """The profiles whose knobs are left out in turn."""

    @property
    def servers(self) -> tuple[str, ...]:
        """Patterns of the specs that meet all profiles."""


class Axes:
    """The axes of one matrix. InputError from its calls names `place` (the file) and the key."""

    def __init__(
        self,
        run: RunAxes,
        profiles: ProfileAxis | None,
        knobs: Callable[[str], Sequence[str]],
        place: str,
    ) -> None:
        self._table = profiles
        self._knobs = knobs
        self._place = place
        if run.testbed is not None and run.testbeds is not None:
            raise InputError(f"{place}: run.testbed and run.testbeds: give one of them")
        self.testbeds: tuple[TestbedName, ...] = run.testbeds or (run.testbed or "loopback",)
        if profiles is not None:
            self._check(profiles)

    def of(
        self,
        profiles: Sequence[str] | None,
        testbeds: Sequence[TestbedName] | None,
        key: str,
    ) -> tuple[Condition, ...]:
        """The conditions of a table of the matrix: `key` names it, None is the common list."""
        names = self._profiles(profiles, key)
        beds = tuple(dict.fromkeys(testbeds or self.testbeds))
        return tuple(Condition(name, bed) for bed in beds for name in names)

    def cells(
        self, servers: Sequence[Server], workload: Workload, conditions: Sequence[Condition]
    ) -> list[Cell]:
        """The cells of one workload, servers that do not meet all profiles at the baseline only."""
        return [
            Cell(server, workload, condition.profile, condition.testbed)
            for condition in conditions
            for server in servers
            if self._meets(server, condition.profile)
        ]

    def _meets(self, server: Server, profile: str) -> bool:
        if self._table is None or profile == self._table.baseline:
            return True
        return any(fnmatch.fnmatch(server.spec, pattern) for pattern in self._table.servers)

    def _check(self, table: ProfileAxis) -> None:
        """Everything that can be said of `[profiles]` alone."""
        for key, names in (("list", table.list), ("ablate", table.ablate)):
            for name in names:
                self._check_name(name, f"profiles.{key}")
        if table.baseline not in table.list:
            raise InputError(
                f"{self._place}: profiles.baseline: {table.baseline!r} is not in profiles.list: "
                f"{did_you_mean(table.baseline, table.list)}"
            )
        for name in table.ablate:
            if name not in table.list:
                raise InputError(
                    f"{self._place}: profiles.ablate: {name!r} is not in profiles.list: "
                    f"{did_you_mean(name, table.list)}"
                )
            if name == NO_PROFILE:
                raise InputError(f"{self._place}: profiles.ablate: {name!r} has no knobs")

    def _check_name(self, name: str, key: str) -> None:
        if name in _RESERVED:
            raise InputError(f"{self._place}: {key}: {name!r} is the name of a testbed")
        if name == NO_PROFILE:
            return
        try:
            self._knobs(name)
        except InputError as error:
            raise InputError(f"{self._place}: {key}: {error}") from error

    def _profiles(self, names: Sequence[str] | None, key: str) -> tuple[str, ...]:
        """The profiles of a table, ablations expanded."""
        table = self._table
        if table is None:
            if names is not None:
                raise InputError(
                    f"{self._place}: {key}.profiles: the matrix has no [profiles], which names "
                    "their baseline"
                )
            return (NO_PROFILE,)
        for name in names or ():
            self._check_name(name, f"{key}.profiles")
        chosen = table.list if names is None else tuple(names)
        if table.baseline not in chosen:
            raise InputError(
                f"{self._place}: {key}.profiles: the baseline {table.baseline!r} is not among them"
            )
        expanded = [
            one
            for name in chosen
            for one in (name, *(self._without(name) if name in table.ablate else ()))
        ]
        return tuple(dict.fromkeys(expanded))

    def _without(self, name: str) -> list[str]:
        return [f"{name}{WITHOUT}{key}" for key in self._knobs(name)]
