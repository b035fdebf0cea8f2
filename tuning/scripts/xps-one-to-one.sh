#!/bin/sh
# XPS with one CPU for each transmit queue. The mistake: queue N for CPU N, wherever the NIC is and
# whatever CPU its interrupt has.
set -e
IF=${1:-eth0}
cpu=0
for queue in /sys/class/net/"$IF"/queues/tx-*; do
	printf '%x\n' $((1 << cpu)) >"$queue/xps_cpus"
	cpu=$((cpu + 1))
done
