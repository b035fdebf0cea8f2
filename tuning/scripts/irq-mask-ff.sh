#!/bin/sh
# Lets every CPU serve every interrupt of a NIC. The mistake: the mask has eight bits on any number
# of CPUs. The kernel refuses it (EOVERFLOW), and nobody hears of it.
IF=${1:-eth0}
name=$(basename "$(readlink -f "/sys/class/net/$IF/device")")
for irq in $(grep "$name-input" /proc/interrupts | cut -d: -f1); do
	echo ff >"/proc/irq/$irq/smp_affinity" 2>/dev/null
done
exit 0
