#!/bin/sh
# fq on a NIC. The mistake: as the root it replaces mq, and all queues share one discipline.
set -e
IF=${1:-eth0}
tc qdisc replace dev "$IF" root fq
