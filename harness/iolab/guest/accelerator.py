"""Does KVM carry the guest here? Found out by booting its kernel, and remembered.

/dev/kvm that opens proves little: inside virtual machines some kernels never get past their first
page tables on it, without an error. A yes holds for that kernel and that QEMU. A no may have been
the moment's (another hypervisor held the processor, no memory was free), so that it is asked for
again after a day, and after a boot.
"""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path

from iolab.executor import Executor, ProcessError
from iolab.guest.parts import Parts

_BOUND_S = 20.0
"""Under KVM the kernel gets this far in one or two seconds."""

_TRIES = 3
"""A busy host may be late; one that is late so often has no KVM that works for now."""

_REFUSAL_HOLDS_S = 24 * 3600.0
"""So long no guest waits for the answer again, which takes up to _BOUND_S where KVM hangs."""


def kvm_works(executor: Executor, parts: Parts, device: Path = Path("/dev/kvm")) -> bool:
    """True when the guest's kernel boots under KVM; asked anew after a change of kernel or QEMU.

    What was no is asked anew after a day and after a boot, too.
    """
    if not os.access(device, os.R_OK | os.W_OK):
        return False
    stamp = parts.cache / f"kvm-{_key(parts)}"
    known = stamp.read_text().split() if stamp.is_file() else []
    if known == ["yes"] or (known and not _is_open(known) and _is_recent(stamp)):
        return known == ["yes"]
    found = _boots(executor, parts)
    late = int(known[1]) if known[:1] == ["late"] else 0
    parts.cache.mkdir(parents=True, exist_ok=True)
    stamp.write_text(f"{found} {late + 1}\n" if found == "late" else f"{found}\n")
    return found == "yes"


def _is_open(known: list[str]) -> bool:
    """True for a file that says `late N`: no answer came in time so far."""
    return known[0] == "late" and int(known[1]) < _TRIES


def _is_recent(stamp: Path) -> bool:
    """Whether the file is of this boot and of the last day; not when clocks were set back."""
    age_s = time.time() - stamp.stat().st_mtime
    return 0 <= age_s < min(_REFUSAL_HOLDS_S, time.clock_gettime(time.CLOCK_BOOTTIME))


def _key(parts: Parts) -> str:
    return f"{platform.release()}-{parts.version}-{parts.qemu.stat().st_mtime_ns}"


def _boots(executor: Executor, parts: Parts) -> str:
    """`yes`, `no`, or `late`: without a root the kernel panics and restarts, and QEMU ends instead
    (`-no-reboot`)."""
    argv = [
        *(str(parts.qemu), "-machine", "q35", "-accel", "kvm", "-cpu", "max", "-m", "512M"),
        *("-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"),
        *("-kernel", str(parts.kernel), "-append", "quiet panic=-1"),
    ]
    try:
        return "yes" if executor.run(argv, timeout_s=_BOUND_S).code == 0 else "no"
    except ProcessError:
        return "late"
