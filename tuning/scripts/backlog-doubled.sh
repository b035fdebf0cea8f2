#!/bin/sh
# Doubles the receive backlog. The mistakes: each run doubles it again, and the undo script puts
# back a number that it takes for the default.
set -e
old=$(sysctl -n net.core.netdev_max_backlog)
sysctl -q -w "net.core.netdev_max_backlog=$((old * 2))"
