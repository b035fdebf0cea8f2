"""Parameters of interrupt coalescing: all that ethtool sets, by the names that it shows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from fakehost import FakeHost, WriteProfile, snapshot
from faketools import load

from iolab.executor import HostExecutor
from iolab.tuning import bench
from iolab.tuning.host import find_tool
from iolab.tuning.profile import Coalesce
from iolab.tuning.scene import Scene


def test_every_parameter_of_coalescing_is_read_by_the_name_it_is_shown_under(
    machine: Path, host: FakeHost, scene: Scene, write_profile: WriteProfile
) -> None:
    before = snapshot(machine)
    wanted = {
        "adaptive_rx": "true", "cqe_mode_rx": "true", "rx_usecs_irq": "5", "rx_frames_low": "4",
        "pkt_rate_low": "5000", "sample_interval": "2",
    }  # fmt: skip
    lines = "\n".join(f"{name} = {value}" for name, value in wanted.items())
    applied = bench.apply(write_profile(f"[nic.coalesce]\n{lines}"), scene)
    assert applied.ok, [one for one in applied.results if not one.good]
    values = load(machine)["coalesce"]
    assert {name: values[name.replace("_", "-")] for name in wanted} == {
        name: value.replace("true", "on") for name, value in wanted.items()
    }
    bench.revert(host)
    assert snapshot(machine) == before


def test_profiles_have_all_parameters_that_ethtool_sets() -> None:
    if find_tool("ethtool") is None:
        pytest.skip("ethtool is not installed")
    with HostExecutor() as executor:
        text = executor.run([str(find_tool("ethtool")), "-h"], timeout_s=30.0).stdout
    section = text.partition("--coalesce")[2].partition("--show-ring")[0]
    names = re.findall(r"\[ *([\w-]+) +(?:on\|off|N) *\]", section)
    assert len(names) > 20
    assert {name.replace("-", "_") for name in names} <= set(Coalesce.model_fields)
