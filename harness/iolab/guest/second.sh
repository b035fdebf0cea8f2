#!/bin/sh
# Second stage, process 1 of the guest, in the overlay over the host's files. The host has put a
# file "settings" and a program "job" beside this one; "status" tells it how the job ended. The
# shell comes from the host, so nothing here needs more than POSIX.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8
share=/run/iolab
MODULES='' INTERFACE=eth0 INTERACTIVE=no ROWS=24 COLUMNS=80 WITHOUT=''
# shellcheck source=/dev/null
. "$share/settings"

# Ends the guest: the kernel's own power-off needs no running init (Documentation/admin-guide/sysrq.rst).
off() {
	sync
	echo o >/proc/sysrq-trigger
	while :; do sleep 60; done
}

mkdir -p /dev/pts /dev/shm /lib/modules
mount -t devpts devpts /dev/pts
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mount --bind "$MODULES" /lib/modules || off
hostname iolab-guest 2>/dev/null
# Module names that this trial goes without: loading them fails as where no package brings them.
for name in $WITHOUT; do
	echo "install $name /bin/false"
done >/etc/modprobe.d/iolab-without.conf
# The drivers in this order: the kernel counts eth0, eth1 as they come. virtio_blk is there for its
# managed interrupts.
for name in virtio_net e1000e virtio_blk; do
	modprobe "$name"
done
[ "$INTERFACE" = eth0 ] || ip link set eth0 name "$INTERFACE"
ip link set lo up
ip address add 198.18.0.2/24 dev "$INTERFACE"
ip link set "$INTERFACE" up
ip address add 198.18.1.2/24 dev eth1
ip link set eth1 up

cd "$share" || off
if [ "$INTERACTIVE" = yes ]; then
	stty -F /dev/ttyS1 rows "$ROWS" cols "$COLUMNS"
	export TERM="${TERMINAL:-linux}"
	setsid --ctty --wait /bin/sh "$share/job" <>/dev/ttyS1 >&0 2>&1
else
	setsid --wait /bin/sh "$share/job" </dev/null >stdout 2>stderr
fi
code=$?
echo "$code" >status.new
mv status.new status
off
