# Self-test of a guest, run by /init: a few seconds of ordinary work whose
# results are known.
fails=0
check() {   # check NAME GOT WANTED
    if [ "$2" = "$3" ]; then
        echo "GUEST-TEST $1 ok"
    else
        echo "GUEST-TEST $1 FAIL got '$2', not '$3'"
        fails=$((fails + 1))
    fi
}
echo "GUEST-INFO $(uname -r), $(grep -c '^processor' /proc/cpuinfo) processors," \
    "$(awk '/MemTotal/ { print $2 }' /proc/meminfo) KiB"

# Integers: digests of a known text, whole and through a compressor.
check sha256 "$(seq 1 100000 | sha256sum | cut -c1-16)" b2bc7d3f8b652d2e
check md5 "$(seq 1 100000 | md5sum | cut -c1-16)" dea9193b768319cb
check gzip "$(seq 1 40000 | gzip -c | gunzip -c | md5sum | cut -c1-16)" 1c0f34fee7176dc3
# Floating point: a sum, and square roots by iteration.
check sum "$(awk 'BEGIN { for (i = 1; i <= 20000; i++) s += 1 / (i * i); printf "%.12f", s }')" 1.644884068098
check roots "$(awk 'BEGIN { for (i = 1; i <= 2000; i++) { r = i; for (k = 0; k < 20; k++) r = (r + i / r) / 2; s += r } printf "%.6f", s }')" 59650.633125
# Processes, pipes and signals.
n=0
for i in 1 2 3 4 5 6 7 8 9 10; do n=$((n + $(/bin/busybox echo $i | /bin/busybox cat))); done
check processes "$n" 55
check signal "$(sh -c 'trap "echo caught; exit 0" USR1; kill -USR1 $$; sleep 5')" caught
check background "$(for i in 1 2 3 4; do (seq 1 5000 | sha256sum | cut -c1-8) & done | sort -u | wc -l; wait)" 1
# A second of sleep takes about one second of the guest's time.
before=$(cut -d' ' -f1 /proc/uptime | tr -d .)
sleep 1
after=$(cut -d' ' -f1 /proc/uptime | tr -d .)
took=$((after - before))
[ $took -ge 95 ] && [ $took -le 500 ] && took=ok
check timer "$took" ok
# Memory holds what was put there.
yes abcdefghijklmno | head -c 16777216 > /tmp/memory
check memory "$(md5sum < /tmp/memory | cut -c1-16)" a72ba5f2fe1c5e5d
rm /tmp/memory
# The wall clock was set from the machine's clock.
[ "$(date +%Y)" -ge 2024 ] && year=ok || year=$(date +%Y)
check clock "$year" ok

[ $fails = 0 ] && echo "GUEST-SELFTEST PASS" || echo "GUEST-SELFTEST FAIL $fails"
exit $fails
