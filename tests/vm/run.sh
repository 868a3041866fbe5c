#!/bin/sh
# Inside a machine: run the tests, tell the host how they ended, and switch off.
cd /project || exit 1
. ./vm-environment
export HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
# An address other than loopback's, as scenarios that publish ports look for; a machine has no network card.
ip link add eth0 type dummy && ip address add 192.0.2.2/24 dev eth0 && ip link set eth0 up
mkdir -p "$TMPDIR"
echo "$(uname -r), $(/opt/umiak/bin/python --version), process 1 is $(cat /proc/1/comm), $(cut -d ' ' -f 1 /proc/uptime) s after the kernel's start"
xargs -a vm-arguments -d '\n' /opt/umiak/bin/python -m pytest
status=$?
# xargs says 123 for any failure; what pytest said does not matter beyond that.
echo "$status" > /dev/ttyS1
sync
busybox poweroff -f
