"""The servers of a plan, all up together before the first block, and who starts them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from types import TracebackType
from typing import Protocol

from iolab.errors import IolabError
from iolab.executor import ProcessError
from iolab.load import LoadSession
from iolab.model import Cell, Condition, Plan, Role, Server, Workload
from iolab.servers import RunningServer
from iolab.surroundings import Surroundings, Unchanging


class Stage(Protocol):
    """Brings up servers and clients."""

    def start_server(
        self, server: Server, role: Role, memory_limit_bytes: int | None = None
    ) -> RunningServer:
        """A running server; ProcessError when it does not come up."""

    def open_load(
        self, server: RunningServer, workloads: Sequence[Workload], seed: int
    ) -> LoadSession:
        """Connected clients for workloads that differ in size; ProcessError without connections.

        UnsupportedError, a ProcessError, when the cells cannot be measured here at all.
        """


Check = Callable[[Cell, RunningServer], None]
"""What looks at a server for a cell that it is to serve, under that cell's condition."""


def _unchecked(cell: Cell, server: RunningServer) -> None:
    pass


class Troupe:
    """The servers of a plan, all up together, by the names of `Plan.instance`.

    Those that did not start are in `failures`. Each is started under its cells' condition; `around`
    brings that about (None: there is nothing to bring about).
    """

    def __init__(
        self,
        plan: Plan,
        stage: Stage,
        around: Surroundings | None = None,
        check: Check = _unchecked,
    ) -> None:
        """Starts every server of the plan that this machine can run, and has each looked at."""
        self.around = around or Unchanging(stage)
        self.servers: dict[str, RunningServer] = {}
        self.failures: dict[str, str] = {}
        self._stack = ExitStack()
        try:
            self.around.begin(plan.conditions, lambda condition: self._meet(condition, plan, check))
        except BaseException:
            self._stack.close()
            raise

    def _meet(self, condition: Condition, plan: Plan, check: Check) -> None:
        """Starts the servers of a condition that is in force and checks them, phase by phase."""
        cells = [
            cell for cell in plan.cells
            if cell.condition == condition and cell.server.unsupported is None
        ]  # fmt: skip
        for phase in dict.fromkeys(map(self.around.phase, cells)):
            here = [cell for cell in cells if self.around.phase(cell) == phase]
            for cell in here:
                if plan.instance(cell) not in self.servers.keys() | self.failures.keys():
                    self._start(cell, plan)
            for cell in here:
                if plan.instance(cell) in self.servers:
                    check(cell, self.servers[plan.instance(cell)])

    def _start(self, cell: Cell, plan: Plan) -> None:
        name = plan.instance(cell)
        self.around.enter(self.around.phase(cell))
        try:
            running = self.around.stage(cell).start_server(
                cell.server, plan.role, plan.memory_limit_bytes
            )
        except ProcessError as error:
            self.failures[name] = str(error)
            return
        self._stack.callback(running.stop)
        self.servers[name] = running

    def __enter__(self) -> Troupe:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()


def with_running_baseline(plan: Plan, troupe: Troupe) -> Plan:
    """`plan`, its baseline replaced by the first server that runs everywhere when it does not.

    IolabError when nothing runs. Builds are compared with one build and profiles with one profile,
    which nothing replaces.
    """
    if plan.baseline_build is not None or plan.baseline_profile is not None:
        return plan
    running = [
        cell
        for cell in plan.cells
        if plan.instance(cell) in troupe.servers and not cell.server.twin
    ]
    places = Counter(cell.server.label for cell in running)
    wanted = {(cell.workload, cell.condition) for cell in plan.cells}
    everywhere = [label for label, nr in places.items() if nr == len(wanted)]
    if plan.baseline in everywhere:
        return plan
    base = [plan.instance(cell) for cell in plan.cells if cell.server.label == plan.baseline]
    reasons = [troupe.failures[name] for name in base if name in troupe.failures]
    reason = reasons[0] if reasons else "it cannot run here"
    if not everywhere:
        raise IolabError(f"no server runs that could be the baseline; {plan.baseline}: {reason}")
    note = f"baseline is {everywhere[0]} instead of {plan.baseline} ({reason})"
    return replace(plan, baseline=everywhere[0], left_out=(*plan.left_out, note))
