"""What a guest is made of, found on this host: QEMU, Debian's kernel, busybox, a few tools.

`./iolab setup --guest` brings all of it: packages of the group `guest` in setup/packages.txt, and
the kernel, busybox and irqbalance unpacked into .cache/guest, never installed.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from iolab.errors import IolabError

REMEDY = "./iolab setup --guest"

_TOOLS = ("unshare", "ip", "modprobe", "setsid", "setpriv", "strace", "ethtool", "tc")
_SBIN = "/usr/local/sbin:/usr/sbin:/sbin"


class GuestMissing(IolabError):
    """Something that a guest needs is not on this host; the message names it."""


@dataclass(frozen=True)
class Parts:
    """Paths on the host. `modules` is the directory that holds one directory per kernel version."""

    qemu: Path
    kernel: Path
    modules: Path
    version: str
    busybox: Path
    cache: Path
    """Where packed initramfs files are kept."""


def find_parts(cache: Path) -> Parts:
    """The parts below `cache` (.cache of the house) and on PATH; GuestMissing names what lacks."""
    missing = [name for name in _TOOLS if which(name) is None]
    qemu = which("qemu-system-x86_64")
    if qemu is None:
        missing.append("qemu-system-x86_64")
    if missing or qemu is None:
        raise GuestMissing(f"the guest needs programs not found here: {', '.join(missing)}", REMEDY)
    tree = cache / "guest"
    kernels = sorted((tree / "boot").glob("vmlinuz-*"))
    if not kernels:
        raise GuestMissing(f"no kernel for the guest in {tree / 'boot'}", REMEDY)
    version = kernels[-1].name.removeprefix("vmlinuz-")
    modules = _first(tree, ("lib/modules", "usr/lib/modules"))
    if not (modules / version / "modules.dep").is_file():
        raise GuestMissing(f"no modules.dep in {modules / version}", REMEDY)
    busybox = _first(tree, ("bin/busybox", "usr/bin/busybox"))
    return Parts(qemu, kernels[-1], modules, version, busybox, cache / "guest-initramfs")


def which(name: str) -> Path | None:
    """A program on PATH or in the directories of system programs, which a user's PATH may lack."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:{_SBIN}")
    return None if found is None else Path(found)


def _first(tree: Path, candidates: tuple[str, ...]) -> Path:
    for name in candidates:
        if (tree / name).exists():
            return tree / name
    raise GuestMissing(f"no {' or '.join(candidates)} in {tree}", REMEDY)
