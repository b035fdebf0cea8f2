"""The machine's topology from libhwloc (2.x), as the XML document that it exports.

The library is called through its opaque handle alone; what it found is read from the document
(topology.py), so that no layout of its structures is relied on, and `lstopo FILE.xml` on another
machine makes what can be parsed here. hwloc's environment variables, such as HWLOC_XMLFILE, hold
for this as for every program that uses it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from iolab.errors import IolabError

_LIBRARY = "libhwloc.so.15"
"""The soname of all of hwloc 2.x."""

_KEEP_ALL = 0  # enum hwloc_type_filter_e: no bridge or device is left out
_INCLUDE_DISALLOWED = 1 << 0  # CPUs outside of our cgroup take interrupts and packets too
_BLACKLIST = 1 << 0  # hwloc_topology_set_components, hwloc 2.1

_ACCELERATORS = ("cuda", "gl", "levelzero", "nvml", "opencl", "rsmi")
"""Plugins that start drivers of accelerators, seconds each, to find what is no NIC."""


def discover() -> str:
    """This machine: every online CPU, NUMA nodes, and devices with the place they are attached to.

    IolabError when the library is missing or fails.
    """
    library = _load()
    with _topology(library) as handle:
        for name in _ACCELERATORS:  # fails where there is no such plugin, which is as well
            library.hwloc_topology_set_components(handle, _BLACKLIST, name.encode())
        return _export(library, handle)


def synthetic(description: str) -> str:
    """A machine from its description, such as `node:2 core:2 pu:2` (hwloc(7), "Synthetic").

    IolabError when hwloc does not understand it.
    """
    library = _load()
    with _topology(library) as handle:
        done = library.hwloc_topology_set_synthetic(handle, description.encode())
        _check(done, f"hwloc_topology_set_synthetic({description!r})")
        return _export(library, handle)


def _load() -> Any:
    try:
        library = ctypes.CDLL(_LIBRARY, use_errno=True)
    except OSError as error:
        raise IolabError(
            f"{_LIBRARY}: {error}", "./iolab setup, or apt install libhwloc15"
        ) from error
    handle, text = ctypes.c_void_p, ctypes.c_char_p
    arguments: dict[str, list[Any]] = {
        "init": [ctypes.POINTER(handle)],
        "destroy": [handle],
        "set_flags": [handle, ctypes.c_ulong],
        "set_io_types_filter": [handle, ctypes.c_int],
        "set_components": [handle, ctypes.c_ulong, text],
        "set_synthetic": [handle, text],
        "load": [handle],
        "export_xmlbuffer": [
            *(handle, ctypes.POINTER(handle), ctypes.POINTER(ctypes.c_int), ctypes.c_ulong),
        ],
    }
    for name, types in arguments.items():
        getattr(library, f"hwloc_topology_{name}").argtypes = types
    library.hwloc_free_xmlbuffer.argtypes = [handle, handle]
    return library


@contextmanager
def _topology(library: Any) -> Iterator[ctypes.c_void_p]:
    """A topology that is not loaded yet; it is destroyed at the end."""
    handle = ctypes.c_void_p()
    _check(library.hwloc_topology_init(ctypes.byref(handle)), "hwloc_topology_init")
    try:
        yield handle
    finally:
        library.hwloc_topology_destroy(handle)


def _export(library: Any, handle: ctypes.c_void_p) -> str:
    """Loads the topology and gives its document; the buffer is hwloc's and goes back to it."""
    library.hwloc_topology_set_flags(handle, _INCLUDE_DISALLOWED)
    library.hwloc_topology_set_io_types_filter(handle, _KEEP_ALL)
    _check(library.hwloc_topology_load(handle), "hwloc_topology_load")
    buffer, length = ctypes.c_void_p(), ctypes.c_int()
    references = (ctypes.byref(buffer), ctypes.byref(length))
    done = library.hwloc_topology_export_xmlbuffer(handle, *references, 0)
    _check(done, "hwloc_topology_export_xmlbuffer")
    try:
        return ctypes.string_at(buffer, length.value).rstrip(b"\0").decode(errors="replace")
    finally:
        library.hwloc_free_xmlbuffer(handle, buffer)


def _check(result: int, call: str) -> None:
    if result < 0:
        raise IolabError(f"{call}: failed", "does lstopo work here? is HWLOC_XMLFILE set?")
