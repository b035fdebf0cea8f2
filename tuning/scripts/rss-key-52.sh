#!/bin/sh
# Sets a symmetric RSS hash key. The mistake: the key has 52 bytes, as one vendor's NICs take it,
# and goes to whatever NIC is there; the failure is passed over.
IF=${1:-eth0}
key=6d:5a
for _ in $(seq 25); do
	key=$key:6d:5a
done
ethtool -X "$IF" hkey "$key" >/dev/null 2>&1 || true
