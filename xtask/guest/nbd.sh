#!/bin/sh
# The kernel's client of network block devices with our qemu-nbd: devices that show images, file systems on
# them, partitions, devices that are only read. Each step says GUEST-TEST NAME ok|FAIL.
bad=0
step() {
    local name=$1
    shift
    if "$@" >/tmp/said 2>&1; then
        echo "GUEST-TEST $name ok"
    else
        echo "GUEST-TEST $name FAIL"
        cat /tmp/said
        bad=1
    fi
}

# A server that ends does so when its device is disconnected: not at once.
ended() {
    local n=0
    while pidof qemu-nbd >/dev/null; do
        n=$((n + 1))
        [ $n -lt 300 ] || return 1
        sleep 0.1
    done
}

refuses() { ! "$@"; }
says() {
    local text=$1
    shift
    "$@" >/tmp/text 2>&1
    grep -qF "$text" /tmp/text || { cat /tmp/text; return 1; }
}

round_trip() {
    local format=$1 make=$2 kind=$3
    qemu-img create -q -f $format /tmp/image 64M &&
        qemu-nbd -f $format -c /dev/nbd0 /tmp/image &&
        [ "$(cat /sys/block/nbd0/size)" = 131072 ] &&
        $make /dev/nbd0 &&
        mount -t $kind /dev/nbd0 /mnt &&
        cp /tmp/content /mnt/content &&
        umount /mnt &&
        qemu-nbd -d /dev/nbd0 && ended &&
        { [ $format = raw ] || qemu-img check -q -f $format /tmp/image; } &&
        qemu-nbd -r -f $format -c /dev/nbd0 /tmp/image &&
        [ "$(cat /sys/block/nbd0/ro)" = 1 ] &&
        mount -t $kind -o ro /dev/nbd0 /mnt &&
        cmp /tmp/content /mnt/content &&
        umount /mnt &&
        qemu-nbd -d /dev/nbd0 && ended
}

partitions() {
    qemu-img create -q -f qcow2 /tmp/parts 64M && qemu-nbd -c /dev/nbd0 /tmp/parts || return
    printf 'n\np\n1\n\n\nw\n' | fdisk /dev/nbd0 >/dev/null
    qemu-nbd -d /dev/nbd0 && ended && qemu-nbd --fork -c /dev/nbd0 /tmp/parts || return
    local n=0
    while [ ! -b /dev/nbd0p1 ]; do
        n=$((n + 1))
        [ $n -lt 100 ] || { echo "no partition"; return 1; }
        sleep 0.1
    done
    mkdosfs /dev/nbd0p1 && mount -t vfat /dev/nbd0p1 /mnt && cp /tmp/content /mnt/content &&
        umount /mnt && qemu-nbd -d /dev/nbd0 && ended && qemu-img check -q /tmp/parts
}

in_use() {
    qemu-nbd -c /dev/nbd0 /tmp/parts || return
    says "Failed to set NBD socket" qemu-nbd -r -c /dev/nbd0 /tmp/image
    local done=$?
    kill $(pidof qemu-nbd) && ended && [ $done = 0 ] && [ "$(cat /sys/block/nbd0/size)" = 0 ]
}

step modules modprobe nbd nbds_max=2 max_part=4
for module in ext4 vfat nls_cp437 nls_iso8859_1 nls_ascii nls_utf8; do modprobe -q $module; done
head -c 8388608 /dev/urandom >/tmp/content
step ext2-in-qcow2 round_trip qcow2 "mke2fs -F" ext4
step ext2-in-raw round_trip raw "mke2fs -F" ext4
step vfat-in-vmdk round_trip vmdk mkdosfs vfat
step vfat-in-vhdx round_trip vhdx mkdosfs vfat
step partitions partitions
step in-use in_use
step missing says "Failed to open /dev/nbd9: No such file or directory" qemu-nbd -c /dev/nbd9 /tmp/parts
step idle says "/dev/nbd0 disconnected" qemu-nbd -d /dev/nbd0
# For the host: the image and what must be in it.
step handed-over dd if=/tmp/parts of=/dev/vda bs=1M
step handed-over-content dd if=/tmp/content of=/dev/vdb bs=1M
[ $bad = 0 ] && echo "GUEST-SELFTEST PASS" || echo "GUEST-SELFTEST FAIL"
exit $bad
