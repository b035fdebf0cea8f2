#!/bin/sh
# TCP buffers up to 16 MiB and a longer accept queue; stops at the first thing that fails. Keeps
# what was before for sysctl-buffers.undo.sh.
set -e
saved=/run/sysctl-buffers.saved
keys='net.core.somaxconn net.core.rmem_max net.core.wmem_max net.ipv4.tcp_rmem net.ipv4.tcp_wmem'
[ -e "$saved" ] || for key in $keys; do
	echo "$key = $(sysctl -n "$key")"
done >"$saved"
sysctl -q -w net.core.somaxconn=65535 net.core.rmem_max=16777216 net.core.wmem_max=16777216
sysctl -q -w 'net.ipv4.tcp_rmem=4096 131072 16777216' 'net.ipv4.tcp_wmem=4096 65536 16777216'
