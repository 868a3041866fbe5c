#!/bin/sh
# Process 1 of a machine without systemd: what a kernel needs mounted, cgroup2 as the only hierarchy, loopback up.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mountpoint -q /dev || mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t tmpfs -o mode=755 run /run
mount -t cgroup2 -o nsdelegate cgroup2 /sys/fs/cgroup
mount --make-rshared /
ip link set lo up
hostname "$(cat /etc/hostname)"
# In a session of its own and as another process: the tests see whom an orphan's death is told.
setsid sh /project/tests/vm/run.sh &
wait $!
