//! The programs, and what each has to print.
//!
//! In what is expected, names in braces stand for what the architectures of a [`Root`] differ in.

use super::Root;

/// A program, or several: `$Q` is the emulator with its options, `$R` the folder of programs, `$D` the
/// architecture as Debian calls it, `$W` a folder to work in, `$S` where our own programs lie, `$T` for
/// how many seconds those that could go on for ever do so.
pub struct Story {
    pub name: &'static str,
    /// Architectures whose folders have what it takes.
    pub on: fn(&Root) -> bool,
    pub script: &'static str,
    pub expected: &'static str,
}

/// All of them.
const ALL: fn(&Root) -> bool = |_| true;

/// Those that have Java, JavaScript and Go.
const RUNTIMES: fn(&Root) -> bool = |root| root.runtimes;

pub const STORIES: &[Story] = &[
    Story {
        name: "bash",
        on: ALL,
        script: r#"$Q $R/bin/bash -c 'set -e; x=0; for i in {1..100}; do x=$((x + i)); done; echo $x
            f() { trap "echo trapped" USR1; kill -USR1 $BASHPID; }; f
            echo one two | { read a b; echo $b; }; (exit 3) || echo $?; sleep 0.01 & wait; echo ${BASH_VERSINFO[5]}'"#,
        expected: "5050\ntrapped\ntwo\n3\n{triple}\n",
    },
    Story {
        name: "coreutils",
        on: ALL,
        script: r#"$Q $R/bin/seq 50000 | $Q $R/bin/sort -R | $Q $R/bin/sort -n --parallel=2 | $Q $R/bin/sha256sum
            $Q $R/bin/date -u -d @86400 +%F; $Q $R/bin/stat -c '%F %a' $R/etc; $Q $R/bin/ls $R/bin/bash | $Q $R/usr/bin/wc -l
            $Q $R/bin/timeout 0.1 $R/bin/sleep 10; echo $?"#,
        expected: "44969d026ed4164dbe77d48d4d359e98ac4057008cafd61723be72bff83e5fd4  -\n1970-01-02\ndirectory 755\n1\n124\n",
    },
    Story {
        name: "perl",
        on: ALL,
        script: r#"$Q $R/usr/bin/perl -e 'my %h; $h{$_ % 977} += $_ for 1..200000; my $s = 0; $s += $h{$_} for keys %h;
            print "$s\n"; my $p = fork; if (!$p) { exit 7 } waitpid $p, 0; print $? >> 8, "\n";
            $SIG{ALRM} = sub { print "alarm\n" }; alarm 1; sleep 10; print join(",", sort { $a <=> $b } 10, 9, 100), "\n"'"#,
        expected: "20000100000\n7\nalarm\n9,10,100\n",
    },
    Story {
        name: "python3",
        on: ALL,
        script: r#"$Q $R/usr/bin/python3 -c '
import hashlib, json, threading, subprocess, sys, decimal, zlib, struct, os, signal, mmap, tempfile
print(sum(i * i for i in range(100000)), hashlib.sha256(b"x" * 100000).hexdigest()[:8], 2 ** 200 % 1000007)
print(json.loads(json.dumps({"a": [1.5, None, True]})), decimal.Decimal(2).sqrt(), zlib.crc32(b"hello"))
n = 0
lock = threading.Lock()
def work():
    global n
    for _ in range(2000):
        with lock: n += 1
threads = [threading.Thread(target=work) for _ in range(8)]
[t.start() for t in threads]; [t.join() for t in threads]
print(n, subprocess.run([sys.executable, "-c", "print(6 * 7)"], capture_output=True).stdout)
r = os.fork()
if r == 0: os.kill(os.getpid(), signal.SIGKILL)
print(os.waitpid(r, 0)[1], os.uname().machine, struct.calcsize("P"))
'"#,
        expected: "333328333350000 d69e6898 446616\n{'a': [1.5, None, True]} 1.414213562373095048801688724 907060870\n16000 b'42\\n'\n9 {machine} {word}\n",
    },
    Story {
        name: "gcc",
        on: ALL,
        script: r#"cd $W; echo 'int printf(const char *, ...);
            int main(void) { for (int i = 0; i < 3; i++) printf("%d %f%c", i, i / 3.0, 10); return 0; }' > t.c
            $Q $R/usr/bin/gcc --sysroot=$R -B$R/usr/bin -O2 -static t.c -o t && $Q ./t
            printf 'all: a b\na b: t.c\n\tcp t.c $@\n' > Makefile; $Q $R/usr/bin/make -j2 -s && cmp a b && echo made"#,
        expected: "0 0.000000\n1 0.333333\n2 0.666667\nmade\n",
    },
    Story {
        name: "git",
        on: ALL,
        script: r#"cd $W; G="$Q $R/usr/bin/git -c init.defaultBranch=main -c user.name=a -c user.email=a@b --exec-path=$R/usr/lib/git-core"
            $G init -q r && cd r && echo x > f && $G add f && GIT_AUTHOR_DATE='@0 +0000' GIT_COMMITTER_DATE='@0 +0000' $G commit -qm first
            $G log --format='%H %s'; $G fsck && $G gc -q && $G status -s | wc -l"#,
        expected: "db8c05efdac0409c9e9b0c3850a760ea171004dd first\n0\n",
    },
    Story {
        name: "sqlite3",
        on: ALL,
        script: r#"$Q $R/usr/bin/sqlite3 $W/t.db "create table t(a, b); with recursive n(i) as (select 1 union all select i + 1 from n
            where i < 20000) insert into t select i, i * i % 1009 from n; create index x on t(b);
            select count(*), sum(a), (select count(*) from t where b = 4) from t; pragma integrity_check;""#,
        expected: "20000|200010000|39\nok\n",
    },
    Story {
        name: "openssl",
        on: ALL,
        script: r#"$Q $R/usr/bin/openssl version | cut -d. -f1; echo hi | $Q $R/usr/bin/openssl enc -aes-128-ctr -K 00 -iv 00 2>/dev/null | od -An -tx1
            $Q $R/usr/bin/openssl genpkey -algorithm ed25519 -out $W/k && $Q $R/usr/bin/openssl pkey -in $W/k -noout && echo key"#,
        expected: "OpenSSL 3\n 0e 80 41\nkey\n",
    },
    Story {
        name: "openssl-self-test",
        on: ALL,
        script: r#"C="$Q $R/usr/bin/openssl"; for d in sha1 sha256 sha512 sha3-256 blake2b512 md5; do printf abc | $C dgst -r -$d | cut -c1-16; done
            for c in aes-256-cbc aes-128-gcm chacha20 camellia-128-cbc; do head -c 100000 $R/bin/bash > $W/in
                case $c in *gcm) $C speed -evp $c -seconds 1 -bytes 1024 2>&1 | grep -c '^AES-128-GCM';;
                *) $C enc -$c -pbkdf2 -k x -in $W/in -out $W/e && $C enc -d -$c -pbkdf2 -k x -in $W/e | cmp - $W/in && echo $c;; esac; done
            $C genrsa -out $W/rsa 1024 2>/dev/null; $C ecparam -name prime256v1 -genkey -noout -out $W/ec
            for k in rsa ec; do $C dgst -sha256 -sign $W/$k -out $W/s $W/in && $C pkey -in $W/$k -pubout -out $W/p && $C dgst -sha256 -verify $W/p -signature $W/s $W/in; done"#,
        expected: "a9993e364706816a\nba7816bf8f01cfea\nddaf35a193617aba\n3a985da74fe225b2\nba80a53f981c4d0d\n900150983cd24fb0\n\
            aes-256-cbc\n1\nchacha20\ncamellia-128-cbc\nVerified OK\nVerified OK\n",
    },
    Story {
        name: "others",
        on: ALL,
        script: r#"$Q $R/usr/bin/jq -nc '[range(5)] | map(. * 2)'; echo '2^100' | $Q $R/usr/bin/bc; $Q $R/usr/bin/busybox uname -m
            $Q $R/usr/bin/xz -T2 < $R/bin/bash | $Q $R/usr/bin/xz -d | cmp - $R/bin/bash && echo same
            $Q $R/usr/bin/file -m $R/usr/lib/file/magic.mgc -b $R/bin/true | cut -d, -f1-2; $Q $R/usr/bin/dpkg --print-architecture"#,
        expected: "[0,2,4,6,8]\n1267650600228229401496703205376\n{machine}\nsame\nELF {bits}-bit LSB pie executable, {file}\n{debian}\n",
    },
    Story {
        name: "rust",
        on: ALL,
        script: r#"cd $R/usr/lib/python3.13/test && for n in 1 2 3; do $Q $R/usr/bin/rg -j4 -c 'def test_\w+' . | sort | $Q $R/usr/bin/sha256sum; done | uniq | wc -l
            $Q $R/usr/bin/rg -j3 --no-ignore --stats -q 'import' . | tail -n +2 | head -n 1 | cut -d' ' -f2-"#,
        expected: "1\nmatches\n",
    },
    Story {
        name: "gcc-links",
        on: ALL,
        script: r#"cd $W; printf 'int twice(int n) { return 2 * n; }\n' > a.c
            printf '#include <stdio.h>\n#include <math.h>\n#include <pthread.h>\nint twice(int);\nstatic void *run(void *x) { return (void *)(long)twice(21); }\nint main(int n, char **v) { pthread_t t; void *r; pthread_create(&t, 0, run, 0); pthread_join(t, &r); printf("%%ld %%.3f %%s\\n", (long)r, sqrt(n + 1.0), v[1]); return 3; }\n' > m.c
            printf 'all: m\nlibtwice.so: a.c\n\t$(CC) -shared -fPIC -o $@ $<\nm: m.c libtwice.so\n\t$(CC) -O2 -o $@ m.c -L. -ltwice -lm -pthread\n' > Makefile
            $Q $R/usr/bin/make -s -j2 CC="$R/usr/bin/gcc --sysroot=$R -B$R/usr/bin" && LD_LIBRARY_PATH=$W $Q -E LD_LIBRARY_PATH=$W ./m arg; echo $?"#,
        expected: "42 1.732 arg\n3\n",
    },
    Story {
        name: "node",
        on: RUNTIMES,
        script: r#"printf '%s\n' 'const { Worker, isMainThread, parentPort } = require("worker_threads");' \
            'const fib = n => n < 2 ? n : fib(n - 1) + fib(n - 2);' \
            'if (!isMainThread) { parentPort.postMessage(fib(22)); } else {' \
            '  let done = 0, sum = 0; const lists = [];' \
            '  for (let i = 0; i < 300000; i++) { lists[i %% 1000] = [i, { i }]; }' \
            '  const finish = () => { if (++done < 5) return; console.log(sum, process.arch, lists.length);' \
            '    const out = require("child_process").execFileSync(process.execPath, ["-p", "6*7"]); console.log(String(out).trim());' \
            '    console.log(require("zlib").gunzipSync(require("zlib").gzipSync("x".repeat(1e5))).length, 2n ** 100n, /(?<y>\d+)-\1/.test("12-12")); };' \
            '  for (let i = 0; i < 4; i++) new Worker(__filename).on("message", n => { sum += n; finish(); });' \
            '  setTimeout(finish, 20); }' | sed 's/%%/%/' > $W/t.js
            $Q $R/usr/bin/node $W/t.js"#,
        expected: "70844 {node} 1000\n42\n100000 1267650600228229401496703205376n true\n",
    },
    Story {
        name: "java",
        on: RUNTIMES,
        script: r#"cd $W; cat > T.java <<'END'
import java.util.*; import java.util.concurrent.*; import java.util.stream.*;
public class T {
    static int fib(int n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }
    static int depth(int n) { return depth(n + 1) + 1; }
    public static void main(String[] args) throws Exception {
        ExecutorService pool = Executors.newFixedThreadPool(4);
        List<Future<Integer>> all = new ArrayList<>();
        for (int i = 0; i < 8; i++) { final int n = 20 + i % 3; all.add(pool.submit(() -> fib(n))); }
        int sum = 0; for (Future<Integer> f : all) sum += f.get();
        pool.shutdown();
        Map<String, List<byte[]>> garbage = new HashMap<>();
        for (int i = 0; i < 20000; i++) garbage.computeIfAbsent("k" + i % 50, k -> new ArrayList<>()).add(new byte[i % 512]);
        System.gc();
        String text = IntStream.range(0, 50000).parallel().mapToObj(i -> Integer.toString(i * 7919 % 9973)).sorted().distinct().limit(3).collect(Collectors.joining(","));
        String s = null; int caught = 0;
        for (int i = 0; i < 20000; i++) try { caught += s.length(); } catch (NullPointerException e) { caught++; }
        try { depth(0); } catch (StackOverflowError e) { caught++; }
        try { System.out.println(1 / (caught - caught)); } catch (ArithmeticException e) { caught++; }
        System.out.println(sum + " " + garbage.size() + " " + text + " " + caught + " " + System.getProperty("os.arch"));
    }
}
END
            J="$Q $R/usr/lib/jvm/java-21-openjdk-$D/bin/java"
            $J -cp $R/usr/share/java/ecj.jar org.eclipse.jdt.internal.compiler.batch.Main -11 -proc:none T.java && $J -XX:+UseParallelGC -Xmx200m T && $J -Xint -Xmx100m T"#,
        expected: "88555 50 0,1,10 20002 {machine_java}\n88555 50 0,1,10 20002 {machine_java}\n",
    },
    Story {
        name: "go",
        on: RUNTIMES,
        script: r#"cd $W; for n in 1 2 3 4 5 6; do printf 'export const f%d = (a: number): number => a * %d;\n' $n $n > m$n.ts; printf 'import { f%d } from "./m%d"; console.log(f%d(7));\n' $n $n $n >> all.ts; done
            $Q $R/usr/bin/esbuild all.ts --bundle --minify --outfile=all.js --log-level=error && $Q $R/usr/bin/node all.js | tail -n 1
            $Q $R/usr/bin/seq 20000 | $Q $R/usr/bin/fzf --exact --filter=1999 | wc -l"#,
        expected: "42\n12\n",
    },
    Story {
        name: "stress",
        on: ALL,
        script: r#"cd $W; $Q $R/usr/bin/gcc --sysroot=$R -B$R/usr/bin -O1 -pthread -static $S/stress.c -o stress && $Q ./stress $T"#,
        expected: "ok\n",
    },
];
