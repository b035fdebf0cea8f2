"""The initramfs of the guest: busybox, our init, and the modules that mounting its root needs.

An archive in cpio's format "newc" (Documentation/driver-api/early-userspace/buffer-format.rst).
It is kept in the cache under the hash of what it was made from.
"""

from __future__ import annotations

import hashlib
import lzma
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from iolab.guest.parts import REMEDY, GuestMissing, Parts

ROOT_MODULES = ("virtio_pci", "9pnet_virtio", "9p", "overlay")
"""What the guest's root is mounted with. NIC drivers are loaded later, from the root."""

_DIRECTORY, _FILE, _DEVICE = 0o040755, 0o100755, 0o020600
_CONSOLE = (5, 1)  # /dev/console, for messages before devtmpfs is mounted


def ensure_initramfs(parts: Parts) -> Path:
    """The packed initramfs for this kernel; made where the cache has none."""
    init = Path(__file__).with_name("init.sh").read_bytes()
    order = module_order((parts.modules / parts.version / "modules.dep").read_text(), ROOT_MODULES)
    key = hashlib.sha256(b"\0".join([init, parts.busybox.read_bytes(), "\n".join(order).encode()]))
    path = parts.cache / f"{parts.version}-{key.hexdigest()[:16]}.cpio"
    if not path.is_file():
        modules = {name: _module(parts.modules / parts.version / name) for name in order}
        parts.cache.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        temporary.write_bytes(build(init, parts.busybox.read_bytes(), modules))
        temporary.rename(path)
    return path


def module_order(dependencies: str, names: Iterable[str]) -> list[str]:
    """Paths of the modules `names` and all they need, in the order of loading.

    `dependencies` is modules.dep of depmod(8): `PATH: PATH...`, the needed ones nearest first.
    A name that stands nowhere is built into the kernel, or the kernel is not Debian's ordinary
    one: GuestMissing.
    """
    needs: dict[str, list[str]] = {}
    paths: dict[str, str] = {}
    for line in dependencies.splitlines():
        path, _, rest = line.partition(":")
        needs[path] = rest.split()
        paths[_stem(path)] = path
    order: list[str] = []
    for name in names:
        if name not in paths:
            raise GuestMissing(f"the guest's kernel has no module {name}", REMEDY)
        for path in [*reversed(needs[paths[name]]), paths[name]]:
            if path not in order:
                order.append(path)
    return order


def build(init: bytes, busybox: bytes, modules: Mapping[str, bytes]) -> bytes:
    """The archive. `modules` maps paths to contents, in the order of loading."""
    archive = bytearray()
    for name in ("bin", "dev", "modules"):
        archive += entry(name, _DIRECTORY, b"")
    archive += entry("dev/console", _DEVICE, b"", _CONSOLE)
    archive += entry("init", _FILE, init)
    archive += entry("bin/busybox", _FILE, busybox)
    for applet in ("sh", "mkdir", "mount", "insmod", "switch_root"):
        archive += entry(f"bin/{applet}", 0o120777, b"busybox")
    order = [f"{_stem(path)}.ko" for path in modules]
    for name, content in zip(order, modules.values(), strict=True):
        archive += entry(f"modules/{name}", _FILE, content)
    archive += entry("modules/order", _FILE, "".join(f"{name}\n" for name in order).encode())
    archive += entry("TRAILER!!!", 0, b"")
    return bytes(archive)


def entry(name: str, mode: int, content: bytes, device: tuple[int, int] = (0, 0)) -> bytes:
    """One member of a newc archive: header of 13 hexadecimal fields, name, content, padding."""
    encoded = name.encode() + b"\0"
    fields = (0, mode, 0, 0, 1, 0, len(content), 0, 0, *device, len(encoded), 0)
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + encoded
    return _padded(head) + _padded(content)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def _module(path: Path) -> bytes:
    """A module's content; Debian 13 ships them compressed, which busybox may not read."""
    data = path.read_bytes()
    return lzma.decompress(data) if path.suffix == ".xz" else data


def _stem(path: str) -> str:
    """`kernel/fs/9p/9p.ko.xz` is `9p`; a dash of a file's name is an underscore of the module's."""
    return path.rpartition("/")[2].partition(".ko")[0].replace("-", "_")
