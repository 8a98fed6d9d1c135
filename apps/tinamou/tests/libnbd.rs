//! Other implementations of the network block device: libnbd's tools against our server, and our
//! client against nbdkit with its filters. The packages are libnbd-bin, nbdkit and e2fsprogs.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod tools;

use std::path::Path;
use std::process::{Command, Output, Stdio};

use tools::*;

const URI: &str = "nbd+unix:///disk?socket=socket";

/// Runs another program; fails the test if it is missing.
fn run(name: &str, args: &[&str], within: &Path) -> Output {
    let mut command = Command::new(name);
    command.args(args).current_dir(within).stdin(Stdio::null());
    command.output().unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// The same where it has to succeed: what it printed.
fn other(name: &str, args: &[&str], within: &Path) -> String {
    let out = run(name, args, within);
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let errors = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{name} {args:?}: {text}{errors}");
    text
}

/// An image with data and holes.
fn sample(within: &Path) {
    must(Whose::Ours, "qemu-img", &["create", "-q", "-f", "qcow2", "disk", "8M"], within);
    let writes = ["-c", "write -P 3 1M 320k", "-c", "write -z 4M 64k", "-c", "write -P 4 7M 1M"];
    must(Whose::Ours, "qemu-io", &[&writes[..], &["disk"]].concat(), within);
}

#[test]
fn nbdinfo_says_the_same_of_both_servers() {
    let within = folder("nbdinfo");
    sample(&within);
    let say = |whose: Whose| {
        let args = ["-t", "-e", "0", "-A", "-x", "disk", "-D", "text", "-f", "qcow2", "disk"];
        let _serving = Server::start(whose, &args, &within);
        let info = other("nbdinfo", &["--json", URI], &within);
        // What differs is what we may do later, and a hint.
        let fixed = |line: &&str| !line.contains("fast_zero") && !line.contains("_preferred");
        let info: Vec<String> = info.lines().filter(fixed).map(str::to_owned).collect();
        let map = other("nbdinfo", &["--map", URI], &within);
        let depth = other("nbdinfo", &["--map=qemu:allocation-depth", URI], &within);
        let size = other("nbdinfo", &["--size", URI], &within);
        (info, map, depth, size)
    };
    let ours = say(Whose::Ours);
    std::fs::remove_file(within.join("socket")).unwrap_or_default();
    assert_eq!(ours, say(Whose::Peer));
    assert!(ours.1.contains("hole,zero") && ours.2.contains("local"));
}

#[test]
fn nbdcopy_reads_and_writes_over_several_connections() {
    let within = folder("nbdcopy");
    sample(&within);
    let bytes: Vec<u8> =
        (0..8u32 << 20).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    std::fs::write(within.join("bytes"), &bytes).unwrap();
    let args = ["-t", "-e", "8", "-x", "disk", "-f", "qcow2", "disk"];
    let serving = Server::start(Whose::Ours, &args, &within);
    other("nbdcopy", &["--connections=4", URI, "copy"], &within);
    let compared = ["compare", "-U", "-f", "qcow2", "-F", "raw", "disk", "copy"];
    must(Whose::Peer, "qemu-img", &compared, &within);
    other("nbdcopy", &["--connections=4", "--flush", "bytes", URI], &within);
    other("nbdcopy", &["--connections=4", URI, "again"], &within);
    assert!(std::fs::read(within.join("again")).unwrap() == bytes);
    drop(serving);
    must(
        Whose::Peer,
        "qemu-img",
        &["compare", "-f", "qcow2", "-F", "raw", "disk", "bytes"],
        &within,
    );
    must(Whose::Peer, "qemu-img", &["check", "-q", "disk"], &within);
}

/// A file system made by other tools goes into an image, over our server, and comes back whole.
#[test]
fn a_file_system_survives_the_way_through_an_image() {
    let within = folder("ext4");
    std::fs::create_dir_all(within.join("files/below")).unwrap();
    for n in 0..40u32 {
        let name = if n % 2 == 0 { format!("files/{n}") } else { format!("files/below/{n}") };
        let content: Vec<u8> = (0..n * 7000).map(|i| (i ^ n) as u8).collect();
        std::fs::write(within.join(name), content).unwrap();
    }
    let at = |name: &str| within.join(name).display().to_string();
    std::fs::File::create(at("raw")).unwrap().set_len(32 << 20).unwrap();
    other("/sbin/mkfs.ext4", &["-q", "-F", "-d", "files", "raw"], &within);
    for format in ["qcow2", "vmdk", "vdi", "vhdx", "qed", "parallels"] {
        must(
            Whose::Ours,
            "qemu-img",
            &["convert", "-f", "raw", "-O", format, "raw", "disk"],
            &within,
        );
        let args = ["-t", "-x", "disk", "-f", format, "disk"];
        let serving = Server::start(Whose::Ours, &args, &within);
        other("nbdcopy", &[URI, "back"], &within);
        drop(serving);
        let _ = std::fs::remove_file(at("socket"));
        other("/sbin/e2fsck", &["-f", "-n", "back"], &within);
        for n in [7, 39] {
            let dump = format!("cat /below/{n}");
            let shown = run("/sbin/debugfs", &["-R", &dump, "back"], &within).stdout;
            let kept = std::fs::read(within.join(format!("files/below/{n}"))).unwrap();
            assert!(shown == kept, "{format}: file {n}");
        }
    }
}

/// Runs our tools against nbdkit: `$img`, `$io` and `$uri` are there.
fn kit(arguments: &str, script: &str, within: &Path) -> Output {
    let ours = env!("CARGO_BIN_EXE_tinamou");
    let script = format!(
        "mkdir -p ours; ln -sf {ours} ours/qemu-img; ln -sf {ours} ours/qemu-io; \
         img=ours/qemu-img; io=ours/qemu-io; {script}"
    );
    let words: Vec<&str> = arguments.split_whitespace().collect();
    run("nbdkit", &[&["-U", "-"], &words[..], &["--run", &script]].concat(), within)
}

/// Plugins and filters of nbdkit that our client writes and reads through.
const SERVERS: &[&str] = &[
    "memory 8M",
    "--no-sr memory 8M",
    "--filter=nozero memory 8M",
    "--filter=nozero memory 8M zeromode=emulate",
    "--filter=noextents memory 8M",
    "--filter=nocache memory 8M",
    "--filter=noparallel memory 8M",
    "--filter=fua memory 8M fuamode=emulate",
    "--filter=delay memory 8M rdelay=1ms wdelay=1ms",
    "--filter=rate memory 8M rate=400M",
    "--filter=blocksize memory 8M minblock=4k",
    "--filter=blocksize-policy memory 8M blocksize-minimum=4096 blocksize-preferred=65536 \
     blocksize-maximum=1M blocksize-error-policy=error",
];

#[test]
fn our_client_copies_to_every_kind_of_server() {
    let within = folder("nbdkit");
    sample(&within);
    let script = "$img convert -n -f qcow2 -O raw disk $uri && \
        $img compare -f qcow2 -F raw disk $uri && \
        $io -f raw -c 'write -P 9 12345 70000' -c 'read -P 9 12345 70000' \
            -c 'write -z 1M 128k' -c 'read -P 0 1M 128k' -c 'discard 2M 1M' -c flush $uri";
    for server in SERVERS {
        let out = kit(server, script, &within);
        assert!(out.status.success(), "{server}: {out:?}");
    }
    let script = "$img convert -f raw -O qcow2 $uri one && qemu-img convert -f raw -O qcow2 $uri two \
        && qemu-img compare one two && test \"$($img map -f raw $uri)\" = \"$(qemu-img map -f raw $uri)\"";
    let out = kit("sparse-random 64M seed=5", script, &within);
    assert!(out.status.success(), "{out:?}");
}

#[test]
fn errors_of_a_server_are_told_as_the_peer_tells_them() {
    let within = folder("nbdkit-errors");
    sample(&within);
    for (server, command) in [
        (
            "--filter=error memory 8M error-pread=EIO error-pread-rate=100%",
            "io -f raw -c 'read 0 4k' $uri",
        ),
        (
            "--filter=error memory 8M error-pwrite=ENOSPC error-pwrite-rate=100%",
            "img convert -n -f qcow2 -O raw disk $uri",
        ),
        (
            "--filter=error memory 8M error-pwrite=EPERM error-pwrite-rate=100%",
            "io -f raw -c 'write 0 4k' $uri",
        ),
        (
            "--filter=error memory 8M error-zero=EIO error-zero-rate=100%",
            "io -f raw -c 'write -z 0 4k' $uri",
        ),
        ("-r memory 8M", "io -f raw -c 'write 0 4k' $uri"),
    ] {
        let say = |tool: &str| {
            let out = kit(server, &format!("{tool}{command} 2>said; echo $? >code"), &within);
            assert!(out.status.success(), "{server}: {out:?}");
            let read = |name: &str| std::fs::read_to_string(within.join(name)).unwrap();
            let said = read("said");
            // The address of the server differs from run to run.
            let known = said.split("/nbdkit").next().unwrap().to_owned();
            (known, read("code"))
        };
        assert_eq!(say("$"), say("qemu-"), "{server}: {command}");
    }
}
