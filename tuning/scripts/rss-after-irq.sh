#!/bin/sh
# Pins the first two receive interrupts to the second node, then leaves the NIC two channels. The
# mistake is the order: a change of channels makes the driver place all interrupts anew.
set -e
IF=${1:-eth0}
name=$(basename "$(readlink -f "/sys/class/net/$IF/device")")
cpu=3
for irq in $(grep -E "$name-input\.[01]\$" /proc/interrupts | cut -d: -f1); do
	echo $cpu >"/proc/irq/$irq/smp_affinity_list"
	cpu=$((cpu - 1))
done
ethtool -L "$IF" combined 2
