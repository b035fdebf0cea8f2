#!/bin/sh
# Undoes irq-local-node.sh.
set -e
saved=/run/irq-local-node.saved
while read -r irq cpus; do
	echo "$cpus" >"/proc/irq/$irq/smp_affinity_list"
done <"$saved"
rm "$saved"
