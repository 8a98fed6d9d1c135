//! Programs of foreign architectures under user mode: each as a line for its shell and what that has
//! to print.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::emulator;
use crate::guests;
use crate::tools::{self, At, Result, Scratch};

/// Seconds after which a program counts as hanging.
const LIMIT: &str = "600";

/// A program, or several: `$Q` is the emulator with its options, `$R` the folder of programs.
struct Story {
    name: &'static str,
    script: &'static str,
    expected: &'static str,
}

const STORIES: &[Story] = &[
    Story {
        name: "bash",
        script: r#"$Q $R/bin/bash -c 'set -e; x=0; for i in {1..100}; do x=$((x + i)); done; echo $x
            f() { trap "echo trapped" USR1; kill -USR1 $BASHPID; }; f
            echo one two | { read a b; echo $b; }; (exit 3) || echo $?; sleep 0.01 & wait; echo ${BASH_VERSINFO[5]}'"#,
        expected: "5050\ntrapped\ntwo\n3\nriscv64-unknown-linux-gnu\n",
    },
    Story {
        name: "coreutils",
        script: r#"$Q $R/bin/seq 50000 | $Q $R/bin/sort -R | $Q $R/bin/sort -n --parallel=2 | $Q $R/bin/sha256sum
            $Q $R/bin/date -u -d @86400 +%F; $Q $R/bin/stat -c '%F %a' $R/etc; $Q $R/bin/ls $R/bin/bash | $Q $R/usr/bin/wc -l
            $Q $R/bin/timeout 0.1 $R/bin/sleep 10; echo $?"#,
        expected: "44969d026ed4164dbe77d48d4d359e98ac4057008cafd61723be72bff83e5fd4  -\n1970-01-02\ndirectory 755\n1\n124\n",
    },
    Story {
        name: "perl",
        script: r#"$Q $R/usr/bin/perl -e 'my %h; $h{$_ % 977} += $_ for 1..200000; my $s = 0; $s += $h{$_} for keys %h;
            print "$s\n"; my $p = fork; if (!$p) { exit 7 } waitpid $p, 0; print $? >> 8, "\n";
            $SIG{ALRM} = sub { print "alarm\n" }; alarm 1; sleep 10; print join(",", sort { $a <=> $b } 10, 9, 100), "\n"'"#,
        expected: "20000100000\n7\nalarm\n9,10,100\n",
    },
    Story {
        name: "python3",
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
        expected: "333328333350000 d69e6898 446616\n{'a': [1.5, None, True]} 1.414213562373095048801688724 907060870\n16000 b'42\\n'\n9 riscv64 8\n",
    },
    Story {
        name: "gcc",
        script: r#"cd $W; echo 'int printf(const char *, ...);
            int main(void) { for (int i = 0; i < 3; i++) printf("%d %f%c", i, i / 3.0, 10); return 0; }' > t.c
            $Q $R/usr/bin/gcc --sysroot=$R -B$R/usr/bin -O2 -static t.c -o t && $Q ./t
            printf 'all: a b\na b: t.c\n\tcp t.c $@\n' > Makefile; $Q $R/usr/bin/make -j2 -s && cmp a b && echo made"#,
        expected: "0 0.000000\n1 0.333333\n2 0.666667\nmade\n",
    },
    Story {
        name: "git",
        script: r#"cd $W; G="$Q $R/usr/bin/git -c init.defaultBranch=main -c user.name=a -c user.email=a@b --exec-path=$R/usr/lib/git-core"
            $G init -q r && cd r && echo x > f && $G add f && GIT_AUTHOR_DATE='@0 +0000' GIT_COMMITTER_DATE='@0 +0000' $G commit -qm first
            $G log --format='%H %s'; $G fsck && $G gc -q && $G status -s | wc -l"#,
        expected: "db8c05efdac0409c9e9b0c3850a760ea171004dd first\n0\n",
    },
    Story {
        name: "sqlite3",
        script: r#"$Q $R/usr/bin/sqlite3 $W/t.db "create table t(a, b); with recursive n(i) as (select 1 union all select i + 1 from n
            where i < 20000) insert into t select i, i * i % 1009 from n; create index x on t(b);
            select count(*), sum(a), (select count(*) from t where b = 4) from t; pragma integrity_check;""#,
        expected: "20000|200010000|39\nok\n",
    },
    Story {
        name: "openssl",
        script: r#"$Q $R/usr/bin/openssl version | cut -d. -f1; echo hi | $Q $R/usr/bin/openssl enc -aes-128-ctr -K 00 -iv 00 2>/dev/null | od -An -tx1
            $Q $R/usr/bin/openssl genpkey -algorithm ed25519 -out $W/k && $Q $R/usr/bin/openssl pkey -in $W/k -noout && echo key"#,
        expected: "OpenSSL 3\n 0e 80 41\nkey\n",
    },
    Story {
        name: "others",
        script: r#"$Q $R/usr/bin/jq -nc '[range(5)] | map(. * 2)'; echo '2^100' | $Q $R/usr/bin/bc; $Q $R/usr/bin/busybox uname -m
            $Q $R/usr/bin/xz -T2 < $R/bin/bash | $Q $R/usr/bin/xz -d | cmp - $R/bin/bash && echo same
            $Q $R/usr/bin/file -m $R/usr/lib/file/magic.mgc -b $R/bin/true | cut -d, -f1-2; $Q $R/usr/bin/dpkg --print-architecture"#,
        expected: "[0,2,4,6,8]\n1267650600228229401496703205376\nriscv64\nsame\nELF 64-bit LSB pie executable, UCB RISC-V\nriscv64\n",
    },
];

/// `cargo xtask user [--with PROGRAM] [NAME…]`: the stories, or those named.
///
/// # Errors
/// When one goes wrong.
pub fn run(arguments: &[String]) -> Result<()> {
    let (program, names) = match arguments {
        [flag, program, names @ ..] if flag == "--with" => (PathBuf::from(program), names),
        names => (emulator::build()?, names),
    };
    let (_, failed) = all(&program, names)?;
    if failed == 0 { Ok(()) } else { Err(format!("{failed} stories went wrong")) }
}

/// Runs stories with an emulator: how many went well and how many did not.
///
/// # Errors
/// When they cannot be run at all.
pub fn all(program: &Path, names: &[String]) -> Result<(usize, usize)> {
    let root = guests::folder("riscv64-user")?.join("root");
    let (mut passed, mut failed) = (0, 0);
    for story in STORIES {
        if !names.is_empty() && !names.iter().any(|name| name == story.name) {
            continue;
        }
        match tell(story, program, &root) {
            Ok(()) => {
                println!("{:12} ok", story.name);
                passed += 1;
            }
            Err(problem) => {
                println!("{:12} FAIL\n{problem}", story.name);
                failed += 1;
            }
        }
    }
    Ok((passed, failed))
}

fn tell(story: &Story, program: &Path, root: &Path) -> Result<()> {
    let work = Scratch::new(&tools::cache()?, "user")?;
    let link = work.path().join("qemu-riscv64");
    std::os::unix::fs::symlink(program, &link).at("linking", &link)?;
    let emulator = format!("{} -L {}", link.display(), root.display());
    let mut shell = Command::new("timeout");
    shell.args([LIMIT, "sh", "-c", story.script]).env("R", root).env("Q", emulator);
    shell.env("W", work.path()).env("LC_ALL", "C").env("HOME", work.path());
    let done = shell.output().map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&done.stdout);
    if said == story.expected {
        return Ok(());
    }
    let complained = String::from_utf8_lossy(&done.stderr);
    Err(format!("--- expected\n{}--- said\n{said}{complained}", story.expected))
}
