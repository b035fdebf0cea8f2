#!/bin/sh
# Gives each interrupt of a NIC a CPU of the NIC's node. The mistake: the list of CPUs is split at
# commas only, and 2-3 becomes a shift by minus one.
IF=${1:-eth0}
name=$(basename "$(readlink -f "/sys/class/net/$IF/device")")
# shellcheck disable=SC2046 # words are wanted
set -- $(tr ',' ' ' <"/sys/class/net/$IF/device/../local_cpulist")
for irq in $(grep "$name-input" /proc/interrupts | cut -d: -f1); do
	# shellcheck disable=SC2004 # the text is what is wrong
	printf '%x\n' $((1 << $1)) >"/proc/irq/$irq/smp_affinity" 2>/dev/null
done
exit 0
