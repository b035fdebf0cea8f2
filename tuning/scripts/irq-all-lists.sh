#!/bin/sh
# Opens every interrupt of the machine to CPUs 0 to 3. The mistake: the kernel itself places managed
# interrupts, here those of a disk, and refuses (EIO); the message is thrown away.
for list in /proc/irq/[0-9]*/smp_affinity_list; do
	echo 0-3 >"$list" 2>/dev/null
done
exit 0
