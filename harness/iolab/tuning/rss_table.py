"""Sets the RSS indirection table of an interface entry by entry: rss_table.py IF QUEUE,QUEUE,...

ethtool -X writes patterns only. The kernel takes any table, as many entries as the device has:
ioctl(2) SIOCETHTOOL with ETHTOOL_SRXFHINDIR (Linux 2.6.36, net/ethtool/ioctl.c,
ethtool_set_rxfh_indir); EINVAL says that their number is another, or that a queue is not in use.

It imports nothing of iolab: exported scripts carry this text between single quotes, so that there
are none in it. Started as a process, it writes in the network namespace of that process.
"""

from __future__ import annotations

import array
import fcntl
import socket
import struct
import sys

_SIOCETHTOOL = 0x8946  # linux/sockios.h
_ETHTOOL_SRXFHINDIR = 0x39  # linux/ethtool.h
_IFNAMSIZ = 16


def write(interface: str, queues: list[int]) -> None:
    """Makes queues the table of an interface. OSError with the errno of the kernel."""
    name = interface.encode()
    if len(name) >= _IFNAMSIZ:
        raise OSError(0, "the name is longer than that of any interface")
    table = array.array("I", [_ETHTOOL_SRXFHINDIR, len(queues), *queues])
    # struct ifreq: the name, and a union of which ifr_data is the pointer.
    request = struct.pack("16sP16x", name, table.buffer_info()[0])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        fcntl.ioctl(handle.fileno(), _SIOCETHTOOL, request)


def main(argv: list[str]) -> int:
    """Exit status 1 with a message when the kernel refuses."""
    try:
        write(argv[0], [int(word) for word in argv[1].split(",")])
    except OSError as error:
        print(f"{argv[0]}: RSS table refused: {error.strerror}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
