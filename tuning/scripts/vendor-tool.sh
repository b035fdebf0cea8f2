#!/bin/sh
# Leaves the tuning to a vendor's program, and switches a sysctl on that Linux 4.12 removed. The
# mistakes: nothing checks that the program is there, its messages are thrown away, and sysctl is
# told to pass over what it does not know (-e).
mlnx_tune -p HIGH_THROUGHPUT >/dev/null 2>&1
sysctl -e -q -w net.ipv4.tcp_tw_recycle=1
exit 0
