"""Parts of a guest that exist as files only, and the real ones where they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from iolab.guest.parts import GuestMissing, Parts, find_parts
from iolab.paths import find_house

DEPENDENCIES = """\
kernel/net/9p/9pnet.ko:
kernel/net/9p/9pnet_virtio.ko: kernel/net/9p/9pnet.ko kernel/drivers/virtio/virtio_ring.ko kernel/drivers/virtio/virtio.ko
kernel/fs/9p/9p.ko: kernel/net/9p/9pnet.ko
kernel/fs/overlayfs/overlay.ko:
kernel/drivers/virtio/virtio.ko:
kernel/drivers/virtio/virtio_ring.ko: kernel/drivers/virtio/virtio.ko
kernel/drivers/virtio/virtio_pci.ko: kernel/drivers/virtio/virtio_ring.ko kernel/drivers/virtio/virtio.ko
"""  # noqa: E501 - as depmod writes it


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    """Files without meaning, but for modules.dep."""
    modules = tmp_path / "modules"
    for line in DEPENDENCIES.splitlines():
        path = modules / "6.1.0" / line.partition(":")[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(f"module {path.stem}".encode())
    (modules / "6.1.0" / "modules.dep").write_text(DEPENDENCIES)
    for name in ("qemu", "vmlinuz", "busybox"):
        (tmp_path / name).write_bytes(name.encode())
    return Parts(
        tmp_path / "qemu",
        tmp_path / "vmlinuz",
        modules,
        "6.1.0",
        tmp_path / "busybox",
        tmp_path / "cache",
    )


@pytest.fixture
def real_parts() -> Parts:
    """The guest of this machine; a test that needs it is skipped where QEMU is missing."""
    try:
        return find_parts(find_house().cache)
    except GuestMissing as error:
        pytest.skip(str(error).replace("\n", ";"))
