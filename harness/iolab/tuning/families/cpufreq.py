"""CPU frequency: governor, energy preference, turbo (Documentation/admin-guide/pm/cpufreq.rst).

/sys/devices/system/cpu/cpufreq/policy*/scaling_governor, energy_performance_preference
(intel_pstate since Linux 4.10, amd-pstate since 6.3), and for turbo intel_pstate/no_turbo
(inverted) or cpufreq/boost. Virtual machines usually have none of them.

A governor may move the energy preference: amd-pstate sets that to `performance` with the governor
`performance` and, up to Linux 6.13, leaves it so (drivers/cpufreq/amd-pstate.c,
amd_pstate_epp_update_limit). It is restored after the governor.
"""

from __future__ import annotations

from collections.abc import Iterator

from iolab.tuning.families.base import FileFamily
from iolab.tuning.knob import Setting, Target
from iolab.tuning.profile import Profile
from iolab.tuning.scene import Scene

_ROOM = "sys/devices/system/cpu"
_GOVERNOR = "scaling_governor"
_PREFERENCE = "energy_performance_preference"


class CpuFrequency(FileFamily):
    """The family `cpufreq`."""

    name = "cpufreq"

    def settings(self, profile: Profile, scene: Scene) -> Iterator[Setting]:
        """See Family: the governor before the preference, which some governors fix."""
        if scene.only_netns:
            return
        yield from self._policies(scene, profile.cpu.governor, _GOVERNOR, "governor")
        preference = profile.cpu.energy_preference
        yield from self._policies(scene, preference, _PREFERENCE, "energy_preference")
        if profile.cpu.turbo is not None:
            inverted = scene.host.tree().exists(f"{_ROOM}/intel_pstate/no_turbo")
            where = f"{_ROOM}/intel_pstate/no_turbo" if inverted else f"{_ROOM}/cpufreq/boost"
            value = str(int(profile.cpu.turbo != inverted))
            yield Setting(Target(self.name, where.rpartition("/")[2], where), value, "cpu.turbo")

    def collateral(self, profile: Profile, scene: Scene) -> Iterator[Target]:
        """See Family."""
        if profile.cpu.governor is not None and not scene.only_netns:
            yield from (self._target(policy, _PREFERENCE) for policy in self._active(scene))

    def _target(self, policy: str, file: str) -> Target:
        return Target(self.name, f"{file} of {policy}", f"{_ROOM}/cpufreq/{policy}/{file}")

    def _active(self, scene: Scene) -> list[str]:
        names = scene.host.tree().names(f"{_ROOM}/cpufreq")
        return [
            name for name in names if name.startswith("policy") and self._is_active(scene, name)
        ]

    def _is_active(self, scene: Scene, policy: str) -> bool:
        """False when all its CPUs are off line: it refuses everything then (EBUSY), and the kernel
        gives it its governor back with the first of them (cpufreq_online)."""
        try:
            text = scene.host.tree().read(f"{_ROOM}/cpufreq/{policy}/related_cpus")
        except OSError:
            return True
        return any(int(cpu) in scene.topology.online for cpu in text.split())

    def _policies(self, scene: Scene, value: str | None, file: str, key: str) -> Iterator[Setting]:
        if value is None:
            return
        for policy in self._active(scene) or ["policy0"]:
            yield Setting(self._target(policy, file), value, f"cpu.{key}")
