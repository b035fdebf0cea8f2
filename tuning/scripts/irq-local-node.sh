#!/bin/sh
# Spreads a NIC's receive interrupts over the CPUs of its own node, one after the other. Finds them
# by the device, whatever they are called, and keeps what was before for irq-local-node.undo.sh.
set -e
IF=${1:-eth0}
saved=/run/irq-local-node.saved

# The device itself, or the PCI device above it (virtio).
device=/sys/class/net/$IF/device
[ -e "$device/local_cpulist" ] || device=$device/..
name=$(basename "$(readlink -f "/sys/class/net/$IF/device")")

# A list such as 0-2,8: every CPU on a line of its own.
cpus=$(tr ',' '\n' <"$device/local_cpulist" | while IFS=- read -r first last; do
	seq "$first" "${last:-$first}"
done)
irqs=$(grep -E "($name-input|$IF)" /proc/interrupts | cut -d: -f1)
[ -n "$irqs" ] || { echo "no interrupt of $IF found" >&2; exit 1; }

[ -e "$saved" ] || for irq in $irqs; do
	echo "$irq $(cat "/proc/irq/$irq/smp_affinity_list")"
done >"$saved"
# shellcheck disable=SC2086 # words are wanted
set -- $cpus
for irq in $irqs; do
	echo "$1" >"/proc/irq/$irq/smp_affinity_list"
	set -- "$@" "$1"
	shift
done
