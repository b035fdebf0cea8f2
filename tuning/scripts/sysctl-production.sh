#!/bin/bash
# A set of network sysctls as tuning guides print it. The mistakes: a key that Linux 4.12 removed,
# messages thrown away, default_qdisc without building the NIC's root anew, a limit for this shell
# alone, and a file in /etc that no undo knows of.
cat >/etc/sysctl.d/99-production.conf <<-END
	net.core.somaxconn = 65535
	net.core.netdev_max_backlog = 16384
	net.ipv4.tcp_rmem = 4096 131072 16777216
	net.ipv4.tcp_wmem = 4096 65536 16777216
	net.ipv4.tcp_tw_reuse = 1
	net.ipv4.tcp_tw_recycle = 1
	net.ipv4.tcp_fin_timeout = 30
	net.ipv4.ip_local_port_range = 1024 65535
	net.core.default_qdisc = fq
	net.ipv4.tcp_congestion_control = bbr
END
sysctl -p /etc/sysctl.d/99-production.conf >/dev/null 2>&1
ulimit -n 1048576
exit 0
