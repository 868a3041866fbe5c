#!/bin/sh
# Process 1 of a machine until its disk is there. The project is a tar on the second disk, the images for scenarios are the third.
busybox mount -t devtmpfs dev /dev
busybox mount -t proc proc /proc
for module in /modules/*.ko; do busybox insmod "$module"; done
tries=0
while [ ! -b /dev/vdc ] && [ "$tries" -lt 100 ]; do busybox sleep 0.05; tries=$((tries + 1)); done
busybox mount -t ext4 /dev/vda /root && busybox mount -t ext4 /dev/vdc /root/images || exit 1
busybox tar -x -f /dev/vdb -C /root/project
cmdline="$(busybox cat /proc/cmdline)"
busybox umount /proc
case "$cmdline" in
*umiak.init=systemd*)
    busybox cp /root/project/tests/vm/umiak-tests.service /root/etc/systemd/system/
    exec busybox switch_root /root /sbin/init
    ;;
*) exec busybox switch_root /root /bin/sh /project/tests/vm/init.sh ;;
esac
