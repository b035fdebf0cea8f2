"""What the harness itself costs, beside the slices and inside them. Pure.

A slice is the time from the command to a load generator until its answer: warm-up, timed window and
drain. Between slices the harness reads counters, settles, judges, stores and chooses what comes
next; meanwhile nothing is measured. Inside a slice it should do nothing at all: what its process
uses of a CPU there may be taken from the servers that are measured.

To bring a tuning profile into force, let the host settle under it and verify it is part of the
experiment, as warm-up is. It lies between slices, and is told apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from iolab.model import Sample

CPU_KEY = "harness_cpu_ns"
"""CPU time of the harness's process within a slice, as samples store it."""

PROFILES_KEY = "profiles_ns"
"""Wall time since the slice before that went to profiles, as samples of tuned runs store it."""

OUTSIDE_LIMIT = 0.05
INSIDE_LIMIT = 0.01


@dataclass(frozen=True)
class Overhead:
    """Sums over the slices of a run, in seconds.

    `loop_s` is the wall time of the measuring loop, `slices_s` that inside slices, `windows_s` the
    timed part of these. `cpu_s` is the CPU time of the harness's process, all its threads, in
    `watched_s` of slices: those that recorded it. `profiles_s` is the wall time between slices in
    which profiles were applied, settled, verified and reverted.
    """

    loop_s: float = 0.0
    slices_s: float = 0.0
    windows_s: float = 0.0
    cpu_s: float = 0.0
    watched_s: float = 0.0
    profiles_s: float = 0.0

    def __add__(self, other: Overhead) -> Overhead:
        """Both together."""
        return Overhead(
            self.loop_s + other.loop_s,
            self.slices_s + other.slices_s,
            self.windows_s + other.windows_s,
            self.cpu_s + other.cpu_s,
            self.watched_s + other.watched_s,
            self.profiles_s + other.profiles_s,
        )

    @property
    def outside(self) -> float | None:
        """Share of the loop's wall time between slices, profiles aside; None without a loop."""
        return 1 - (self.slices_s + self.profiles_s) / self.loop_s if self.loop_s > 0 else None

    @property
    def profiles(self) -> float | None:
        """Share of the loop's wall time that went to profiles; None without a loop."""
        return self.profiles_s / self.loop_s if self.loop_s > 0 else None

    @property
    def inside(self) -> float | None:
        """Share of a core that the harness used inside slices; None where nobody looked."""
        return self.cpu_s / self.watched_s if self.watched_s > 0 else None

    @property
    def untimed(self) -> float | None:
        """Share of the slices' wall time that is warm-up and drain; None without slices."""
        return 1 - self.windows_s / self.slices_s if self.slices_s > 0 else None

    @property
    def met(self) -> bool | None:
        """Whether both limits hold; None where one of them cannot be judged."""
        if self.outside is None or self.inside is None:
            return None
        return self.outside < OUTSIDE_LIMIT and self.inside < INSIDE_LIMIT

    @property
    def text(self) -> str:
        """The shares in words, beside their limits."""
        words = []
        if self.outside is not None:
            words.append(
                f"{self.outside:.1%} of the measuring loop between slices (limit "
                f"{OUTSIDE_LIMIT:.0%})"
            )
        if self.inside is not None:
            words.append(f"{self.inside:.2%} of a core inside them (limit {INSIDE_LIMIT:.0%})")
        if self.profiles:
            words.append(f"{self.profiles:.0%} of the loop brings profiles into force")
        if self.untimed is not None:
            words.append(f"of the slices {self.untimed:.0%} is warm-up and drain")
        return "; ".join(words) or "not recorded"

    def to_json(self) -> dict[str, Any]:
        """As manifests and `--json` hold it; null where it cannot be said."""
        return {
            "loop_s": round(self.loop_s, 3),
            "slices_s": round(self.slices_s, 3),
            "windows_s": round(self.windows_s, 3),
            "harness_cpu_s": round(self.cpu_s, 4),
            "profiles_s": round(self.profiles_s, 3),
            "outside_share": _rounded(self.outside),
            "inside_share": _rounded(self.inside),
            "profiles_share": _rounded(self.profiles),
            "untimed_share": _rounded(self.untimed),
            "met": self.met,
        }


def _rounded(share: float | None) -> float | None:
    return None if share is None else round(share, 5)


def read(samples: Iterable[Sample], loop_s: float) -> Overhead:
    """What these slices cost in a loop of `loop_s` seconds, whatever their status."""
    slices_ns = windows_ns = cpu_ns = watched_ns = profiles_ns = 0
    for sample in samples:
        slices_ns += sample.wall_ns
        windows_ns += ((sample.load or {}).get("window") or {}).get("ns", 0)
        profiles_ns += sample.extra.get(PROFILES_KEY, 0)
        used_ns = sample.extra.get(CPU_KEY)
        if used_ns is not None:
            cpu_ns += used_ns
            watched_ns += sample.wall_ns
    seconds = (ns / 1e9 for ns in (slices_ns, windows_ns, cpu_ns, watched_ns, profiles_ns))
    return Overhead(loop_s, *seconds)


def of_run(samples: Iterable[Sample], manifest: Mapping[str, Any]) -> Overhead:
    """That of a stored run; without the loop's time where it never ended."""
    outcome = manifest.get("outcome")
    loop_s = outcome.get("measure_wall_s") if isinstance(outcome, Mapping) else None
    return read(samples, float(loop_s) if isinstance(loop_s, int | float) else 0.0)
