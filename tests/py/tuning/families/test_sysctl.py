"""Names of sysctls, with dots and with slashes."""

from __future__ import annotations

import pytest

from iolab.tuning.families.sysctl import path_of


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("net.core.somaxconn", "proc/sys/net/core/somaxconn"),
        ("net/core/somaxconn", "proc/sys/net/core/somaxconn"),
        ("net.ipv4.conf.eth0/100.rp_filter", "proc/sys/net/ipv4/conf/eth0.100/rp_filter"),
        ("net/ipv4/conf/eth0.100/rp_filter", "proc/sys/net/ipv4/conf/eth0.100/rp_filter"),
    ],
)
def test_sysctl_names(name: str, path: str) -> None:
    assert path_of(name) == path
