# Test of a root file system on disk, run by /init: what is written comes back,
# also after the caches were dropped.
fails=0
check() {
    if [ "$2" = "$3" ]; then
        echo "GUEST-TEST $1 ok"
    else
        echo "GUEST-TEST $1 FAIL got '$2', not '$3'"
        fails=$((fails + 1))
    fi
}
forget() { sync; echo 3 > /proc/sys/vm/drop_caches; }

here=/root/disktest
boots=$(($(cat /root/boots 2>/dev/null || echo 0) + 1))
echo $boots > /root/boots
echo "GUEST-INFO boot $boots from disk"
if [ $boots -gt 1 ]; then
    check survived "$(md5sum < $here/large | cut -c1-16)" "$(cat $here/sum)"
    rm -rf $here
fi
mkdir -p $here
seq 1 600000 > $here/large
sum=$(md5sum < $here/large | cut -c1-16)
echo $sum > $here/sum
forget
check large "$(md5sum < $here/large | cut -c1-16)" "$sum"
i=0
while [ $i -lt 200 ]; do
    echo "file $i" > $here/small$i
    i=$((i + 1))
done
forget
check small "$(cat $here/small* | wc -c)" 1690
rm $here/small*
mv $here/large $here/moved && ln $here/moved $here/large && rm $here/moved
dd if=/dev/zero of=$here/hole bs=1 count=1 seek=50000000 2>/dev/null
forget
check sparse "$(wc -c < $here/hole)" 50000001
check renamed "$(md5sum < $here/large | cut -c1-16)" "$sum"
fstrim / 2>/dev/null && echo "GUEST-INFO trimmed"
[ $fails = 0 ] && echo "GUEST-SELFTEST PASS" || echo "GUEST-SELFTEST FAIL $fails"
exit $fails
