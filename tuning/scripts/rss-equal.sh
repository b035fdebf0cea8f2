#!/bin/sh
# Spreads flows over the first two receive queues and hashes UDP by its ports too.
set -e
IF=${1:-eth0}
ethtool -X "$IF" equal 2
ethtool -N "$IF" rx-flow-hash udp4 sdfn
