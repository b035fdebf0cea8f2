#!/bin/sh
# Spreads a NIC's interrupts over all CPUs, found by the interface's name in /proc/interrupts.
# The mistake: a virtio NIC's interrupts are called virtioN-input.M, so none is found; the loop
# over nothing succeeds.
IF=${1:-eth0}
cpu=0
for irq in $(grep "$IF" /proc/interrupts | cut -d: -f1); do
	printf '%x\n' $((1 << cpu)) >"/proc/irq/$irq/smp_affinity"
	cpu=$(((cpu + 1) % $(nproc)))
done
echo "interrupts of $IF are spread"
