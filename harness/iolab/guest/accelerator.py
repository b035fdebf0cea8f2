"""Does KVM carry the guest here? Found out by booting its kernel, once, and remembered.

/dev/kvm that opens proves little: inside virtual machines some kernels never get past their first
page tables on it, without an error.
"""

from __future__ import annotations

import os
import platform
from pathlib import Path

from iolab.executor import Executor, ProcessError
from iolab.guest.parts import Parts

_BOUND_S = 20.0
"""Under KVM the kernel gets this far in one or two seconds."""


def kvm_works(executor: Executor, parts: Parts, device: Path = Path("/dev/kvm")) -> bool:
    """True when the guest's kernel boots under KVM; asked anew after a change of kernel or QEMU."""
    if not os.access(device, os.R_OK | os.W_OK):
        return False
    stamp = parts.cache / f"kvm-{_key(parts)}"
    if not stamp.is_file():
        works = _boots(executor, parts)
        parts.cache.mkdir(parents=True, exist_ok=True)
        stamp.write_text("yes\n" if works else "no\n")
    return stamp.read_text().strip() == "yes"


def _key(parts: Parts) -> str:
    return f"{platform.release()}-{parts.version}-{parts.qemu.stat().st_mtime_ns}"


def _boots(executor: Executor, parts: Parts) -> bool:
    """Without a root the kernel panics and restarts, and QEMU ends instead (`-no-reboot`)."""
    argv = [
        *(str(parts.qemu), "-machine", "q35", "-accel", "kvm", "-cpu", "max", "-m", "512M"),
        *("-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"),
        *("-kernel", str(parts.kernel), "-append", "quiet panic=-1"),
    ]
    try:
        return executor.run(argv, timeout_s=_BOUND_S).code == 0
    except ProcessError:
        return False
