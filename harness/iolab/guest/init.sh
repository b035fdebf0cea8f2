#!/bin/busybox sh
# shellcheck shell=dash
# First process of the guest, in its initramfs: loads the modules that the root needs, puts a
# writable overlay over the host's files and goes on there with second.sh. A failure ends the
# guest: the kernel panics when its first process exits, and QEMU ends with it.
set -e
export PATH=/bin
mkdir -p /proc /sys /dev /lower /over /merged /run
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
# Dependencies stand before those that need them; see initramfs.py.
while read -r module; do
	insmod "/modules/$module"
done </modules/order
mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=262144,cache=loose host /lower
mount -t tmpfs -o mode=755 tmpfs /over
mkdir /over/upper /over/work
mount -t overlay -o lowerdir=/lower,upperdir=/over/upper,workdir=/over/work overlay /merged
# /run of the host holds sockets and process ids that mean nothing here.
mount -t tmpfs -o mode=755 tmpfs /merged/run
mkdir /merged/run/iolab
mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144,cache=none share /merged/run/iolab
for place in proc sys dev; do
	mount --move "/$place" "/merged/$place"
done
exec switch_root /merged /bin/sh /run/iolab/second.sh
