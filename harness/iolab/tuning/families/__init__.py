"""Families of knobs, one file each, in the order in which a profile is applied.

Settings of the host come first (default_qdisc before a root is made, fs.nr_open before limits),
then the queues, which everything after depends on.
"""

from __future__ import annotations

from iolab.tuning.families.channels import Channels
from iolab.tuning.families.coalesce import Coalescing
from iolab.tuning.families.cpufreq import CpuFrequency
from iolab.tuning.families.flow_hash import FlowHash
from iolab.tuning.families.idle import IdleLatency
from iolab.tuning.families.irq import IrqAffinity
from iolab.tuning.families.irqbalance import IrqBalance
from iolab.tuning.families.limits import ProcessLimits
from iolab.tuning.families.memory import Memory
from iolab.tuning.families.nic_files import NicFiles
from iolab.tuning.families.offloads import Offloads
from iolab.tuning.families.qdisc import QueueDiscipline
from iolab.tuning.families.rfs import Rfs
from iolab.tuning.families.rings import Rings
from iolab.tuning.families.rps import Rps
from iolab.tuning.families.rss import Rss
from iolab.tuning.families.smt import Smt
from iolab.tuning.families.sysctl import Sysctl
from iolab.tuning.families.xps import Xps
from iolab.tuning.knob import Family

_ORDER: tuple[Family, ...] = (
    Sysctl(),
    Smt(),
    CpuFrequency(),
    IdleLatency(),
    Memory(),
    Channels(),
    Rings(),
    Coalescing(),
    Offloads(),
    Rss(),
    FlowHash(),
    QueueDiscipline(),
    IrqBalance(),
    IrqAffinity(),
    Rps(),
    Rfs(),
    Xps(),
    NicFiles(),
    ProcessLimits(),
)

FAMILIES: dict[str, Family] = {family.name: family for family in _ORDER}
"""By name, in the order of applying; reverting goes the other way."""
