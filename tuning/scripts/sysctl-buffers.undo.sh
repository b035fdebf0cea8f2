#!/bin/sh
# Undoes sysctl-buffers.sh.
set -e
sysctl -q -p /run/sysctl-buffers.saved
rm /run/sysctl-buffers.saved
