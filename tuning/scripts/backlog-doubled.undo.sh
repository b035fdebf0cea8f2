#!/bin/sh
# Undoes backlog-doubled.sh, on machines where the backlog was 300.
sysctl -q -w net.core.netdev_max_backlog=300
