from __future__ import annotations

import lzma

import pytest

from iolab.guest.initramfs import ensure_initramfs, entry, module_order
from iolab.guest.parts import GuestMissing, Parts

from .conftest import DEPENDENCIES


def members(archive: bytes) -> dict[str, tuple[int, bytes]]:
    """An independent reading of newc: name to mode and content."""
    found: dict[str, tuple[int, bytes]] = {}
    offset = 0
    while True:
        fields = [int(archive[offset + 6 + 8 * i : offset + 14 + 8 * i], 16) for i in range(13)]
        assert archive[offset : offset + 6] == b"070701"
        name = archive[offset + 110 : offset + 110 + fields[11] - 1].decode()
        start = (offset + 110 + fields[11] + 3) // 4 * 4
        if name == "TRAILER!!!":
            return found
        found[name] = (fields[1], archive[start : start + fields[6]])
        offset = (start + fields[6] + 3) // 4 * 4


def test_what_a_module_needs_is_loaded_before_it() -> None:
    order = module_order(DEPENDENCIES, ("virtio_pci", "9pnet_virtio", "9p"))
    names = [path.rpartition("/")[2] for path in order]
    assert names == [
        "virtio.ko", "virtio_ring.ko", "virtio_pci.ko", "9pnet.ko", "9pnet_virtio.ko", "9p.ko",
    ]  # fmt: skip


def test_a_kernel_without_9p_is_refused_by_name() -> None:
    with pytest.raises(GuestMissing, match="no module ceph"):
        module_order(DEPENDENCIES, ("ceph",))


def test_a_dash_in_a_file_name_is_an_underscore_in_the_modules() -> None:
    assert module_order("kernel/virtio-pci.ko.xz:\n", ("virtio_pci",)) == [
        "kernel/virtio-pci.ko.xz"
    ]


def test_the_archive_holds_init_busybox_and_the_modules_in_order(parts: Parts) -> None:
    found = members(ensure_initramfs(parts).read_bytes())
    assert found["init"][0] == 0o100755
    assert found["init"][1].startswith(b"#!/bin/busybox sh\n")
    assert found["bin/busybox"] == (0o100755, b"busybox")
    assert found["bin/sh"] == (0o120777, b"busybox")
    order = found["modules/order"][1].decode().split()
    assert order[-1] == "overlay.ko"
    assert all(found[f"modules/{name}"][1] == f"module {name[:-3]}".encode() for name in order)


def test_a_compressed_module_is_unpacked(parts: Parts) -> None:
    folder = parts.modules / "6.1.0"
    plain = folder / "kernel/fs/overlayfs/overlay.ko"
    plain.with_suffix(".ko.xz").write_bytes(lzma.compress(plain.read_bytes()))
    plain.unlink()
    text = DEPENDENCIES.replace("overlay.ko", "overlay.ko.xz")
    (folder / "modules.dep").write_text(text)
    assert (
        members(ensure_initramfs(parts).read_bytes())["modules/overlay.ko"][1] == b"module overlay"
    )


def test_it_is_packed_once_and_anew_when_a_part_changes(parts: Parts) -> None:
    first = ensure_initramfs(parts)
    first.write_bytes(b"kept")
    assert ensure_initramfs(parts).read_bytes() == b"kept"
    parts.busybox.write_bytes(b"another")
    assert ensure_initramfs(parts) != first


def test_names_and_contents_are_padded_to_four_bytes() -> None:
    for name in ("a", "ab", "abc", "abcd"):
        assert len(entry(name, 0o100644, b"x" * len(name))) % 4 == 0
