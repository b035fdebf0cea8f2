#!/bin/sh
# RPS on eight CPUs for eight queues. The mistakes: numbers of queues and CPUs from another machine,
# and every message thrown away.
IF=${1:-eth0}
for n in 0 1 2 3 4 5 6 7; do
	{ echo ff >"/sys/class/net/$IF/queues/rx-$n/rps_cpus"; } 2>/dev/null
done
exit 0
