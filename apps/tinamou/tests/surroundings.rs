//! The built binary among other processes: terminals, closed streams, the background, what it is
//! handed over.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod emulator;

use emulator::{Emulator, NAME, command, firmware, folder, run};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, tcgetattr};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

const QUIET: [&str; 8] = ["-M", "virt", "-bios", "none", "-display", "none", "-monitor", "none"];

/// Prints `A` for ever.
const PRINTS: [u32; 4] = [0x1000_02b7, 0x0410_0313, 0x0062_8023, 0xffdf_f06f];

fn prints(folder: &Path) -> String {
    let path = folder.join("prints.bin");
    std::fs::write(&path, firmware(&PRINTS, &[])).unwrap();
    path.to_str().unwrap().to_owned()
}

/// A pseudo-terminal: our side, and the path of the other.
fn terminal() -> (File, String) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap().to_string_lossy().into_owned();
    (master.into(), name)
}

fn is_raw(terminal: &File) -> bool {
    !tcgetattr(terminal).unwrap().local_modes.intersects(LocalModes::ICANON | LocalModes::ECHO)
}

/// Reads until a text is there; everything up to it.
fn read_until(stream: &mut impl Read, end: &str) -> String {
    let mut text = Vec::new();
    while !text.ends_with(end.as_bytes()) {
        let mut byte = [0];
        assert_eq!(stream.read(&mut byte).unwrap(), 1, "{:?}", String::from_utf8_lossy(&text));
        text.push(byte[0]);
    }
    String::from_utf8_lossy(&text).into_owned()
}

fn signal(name: &str, id: u32) {
    assert!(Command::new("kill").args([name, &id.to_string()]).status().unwrap().success());
}

#[test]
fn the_terminal_is_put_back_however_it_ends() {
    for way in ["-TERM", "-INT", "-HUP", "-QUIT", "x", "quit"] {
        let (mut ours, name) = terminal();
        let theirs = OpenOptions::new().read(true).write(true).open(&name).unwrap();
        assert!(!is_raw(&ours), "{way}");
        let stream = || Stdio::from(theirs.try_clone().unwrap());
        let mut child = command(&["-M", "virt", "-bios", "none", "-nographic", "-S"])
            .stdin(stream())
            .stdout(stream())
            .stderr(stream())
            .spawn()
            .unwrap();
        ours.write_all(b"\x01c").unwrap();
        read_until(&mut ours, "(qemu) ");
        assert!(is_raw(&ours), "{way}");
        match way {
            "x" => ours.write_all(b"\x01x").unwrap(),
            "quit" => ours.write_all(b"quit\r").unwrap(),
            name => signal(name, child.id()),
        }
        assert_eq!(child.wait().unwrap().code(), Some(0), "{way}");
        assert!(!is_raw(&ours), "{way}");
    }
}

/// A session without a terminal, and streams that are not there.
#[test]
fn it_runs_without_a_terminal() {
    let folder = folder("no_terminal");
    // lui t0, 0x100; lui t1, 0x5; addi t1, t1, 0x555; sw t1, 0(t0); j .
    let off = [0x0010_02b7, 0x0000_5337, 0x5553_0313, 0x0062_a023, 0x0000_006f];
    let path = folder.join("off.bin");
    std::fs::write(&path, firmware(&off, &[])).unwrap();
    let link = folder.join(NAME);
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_tinamou"), &link).unwrap();
    for streams in ["</dev/null", "<&-", "<&- >&-", "</dev/null >/dev/full"] {
        let line = format!("exec setsid -w \"$0\" -M virt -nographic -bios \"$1\" {streams}");
        let output =
            Command::new("sh").arg("-c").arg(&line).arg(&link).arg(&path).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{streams}: {output:?}");
        assert_eq!(output.stderr, b"", "{streams}");
    }
}

#[test]
fn output_that_nobody_reads_any_more_is_lost() {
    let bios = prints(&folder("pipe_closed"));
    let mut child = command(&["-M", "virt", "-bios", &bios, "-nographic"]).spawn().unwrap();
    let mut out = child.stdout.take().unwrap();
    let mut some = [0; 64];
    out.read_exact(&mut some).unwrap();
    assert_eq!(some, [b'A'; 64]);
    drop(out);
    // It still serves its keys.
    child.stdin.take().unwrap().write_all(b"\x01x").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr), (Some(0), Vec::new()));
}

#[test]
fn in_the_background_its_number_is_in_a_file() {
    let folder = folder("background");
    let (pid, socket) = (folder.join("pid"), folder.join("monitor"));
    let (pid, socket) = (pid.to_str().unwrap(), socket.to_str().unwrap());
    let serve = format!("unix:{socket},server=on,wait=off");
    let args = ["-M", "virt", "-bios", "none", "-display", "none", "-serial", "null", "-S"];
    let args = [&args[..], &["-monitor", &serve, "-pidfile", pid]].concat();
    let started = run(&[&args[..], &["-daemonize"]].concat(), b"");
    assert_eq!((started.code, started.err.as_str()), (Some(0), ""));
    let id = std::fs::read_to_string(pid).unwrap();
    let id = id.strip_suffix('\n').unwrap();
    assert_eq!(std::fs::read_link(format!("/proc/{id}/cwd")).unwrap(), Path::new("/"));
    assert_eq!(std::fs::read_link(format!("/proc/{id}/fd/0")).unwrap(), Path::new("/dev/null"));
    let other = ["-pidfile", pid, "-serial", "null"];
    let second = run(&[&QUIET[..], &other].concat(), b"");
    let text = format!(
        "{NAME}: cannot create PID file: Cannot lock pid file '{pid}': Resource temporarily unavailable\n"
    );
    assert_eq!((second.code, second.err), (Some(1), text));
    let mut monitor = UnixStream::connect(socket).unwrap();
    read_until(&mut monitor, "(qemu) ");
    monitor.write_all(b"quit\n").unwrap();
    let mut rest = Vec::new();
    // The other side may go while there is something to read.
    let _ = monitor.read_to_end(&mut rest);
    for _ in 0..100_000 {
        if !Path::new(pid).exists() {
            return;
        }
        std::thread::yield_now();
    }
    panic!("{pid} is still there");
}

#[test]
fn what_fails_in_the_background_is_told_in_front() {
    let args = [&QUIET[..], &["-serial", "null", "-daemonize", "-kernel", "/nowhere/k"]].concat();
    let ended = run(&args, b"");
    let text = format!("{NAME}: -kernel /nowhere/k: No such file or directory\n");
    assert_eq!((ended.code, ended.err), (Some(1), text));
    let ended = run(&[&QUIET[..], &["-daemonize", "-serial", "stdio"]].concat(), b"");
    let text = format!("{NAME}: -serial stdio: cannot use stdio with -daemonize\n");
    assert_eq!((ended.code, ended.err), (Some(1), text));
}

/// The shell gives descriptor 7 to the program it starts.
#[test]
fn a_socket_that_is_handed_over_is_used() {
    let folder = folder("handed_over");
    let link = folder.join(NAME);
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_tinamou"), &link).unwrap();
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let line = "exec 7<&0 </dev/null; exec \"$0\" \"$@\"";
    let args = [&QUIET[..6], &["-serial", "null", "-S"]].concat();
    let mut child = Command::new("sh")
        .args(["-c", line])
        .arg(&link)
        .args(args)
        .args(["-chardev", "socket,id=c,fd=7", "-mon", "chardev=c"])
        .stdin(std::os::fd::OwnedFd::from(theirs))
        .spawn()
        .unwrap();
    read_until(&mut ours, "(qemu) ");
    ours.write_all(b"quit\n").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let ended =
        run(&[&QUIET[..], &["-serial", "null", "-chardev", "socket,id=c,fd=7"]].concat(), b"");
    assert_eq!(ended.code, Some(1));
    assert!(ended.err.contains("descriptor 7 was not handed over"), "{}", ended.err);
}

/// The line status of the UART: a break that was received, by key and by command.
#[test]
fn a_break_reaches_the_serial_port() {
    let args = ["-M", "virt", "-bios", "none", "-nographic", "-S"];
    let mut q = Emulator::start(&args);
    q.send(b"\x01b\x01c");
    q.until("(qemu) ");
    // A byte of zero whose status says break.
    assert_eq!(q.says("xp/1xb 0x10000005"), "0000000010000005: 0x71\n");
    assert_eq!(q.says("xp/1xb 0x10000000"), "0000000010000000: 0x00\n");
    assert_eq!(q.says("xp/1xb 0x10000005"), "0000000010000005: 0x60\n");
    assert_eq!(q.says("chardev-send-break serial0"), "");
    assert_eq!(q.says("xp/1xb 0x10000005"), "0000000010000005: 0x71\n");
    assert_eq!(q.says("chardev-send-break nothing"), "Error: Chardev 'nothing' not found\n");
    q.send(b"quit\n");
    assert_eq!(q.wait(), Some(0));
}
