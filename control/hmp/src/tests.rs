//! Commands against a machine of a few bytes; what they say was compared with QEMU 10.0.2.

use crate::*;
use std::sync::{Arc, Mutex};

/// The reset vector of a RISC-V board, at 0x1000.
const ROM: [u8; 40] = [
    0x97, 0x02, 0x00, 0x00, 0x13, 0x86, 0x82, 0x02, 0x73, 0x25, 0x40, 0xf1, 0x83, 0xb5, 0x02, 0x02,
    0x83, 0xb2, 0x82, 0x01, 0x67, 0x80, 0x02, 0x00, 0x00, 0x00, 0x00, 0x80, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0xe0, 0x87, 0x00, 0x00, 0x00, 0x00,
];

#[derive(Default)]
struct Board {
    done: Mutex<Vec<Action>>,
}

impl MonitorTarget for Board {
    fn act(&self, action: Action) -> Result<(), String> {
        if action == Action::PowerDown {
            return Err("no power button".into());
        }
        self.done.lock().unwrap().push(action);
        Ok(())
    }
    fn status(&self) -> String {
        "paused (prelaunch)".into()
    }
    fn cpus(&self) -> usize {
        2
    }
    fn register(&self, cpu: usize, name: &str) -> Option<u64> {
        (name == "pc").then_some(0x1000 + 4 * cpu as u64)
    }
    fn read_memory(&self, _: Space, address: u64, buffer: &mut [u8]) -> Result<(), Unmapped> {
        let at = address.checked_sub(0x1000).ok_or(Unmapped)?;
        let at = usize::try_from(at).map_err(|_| Unmapped)?;
        let end = at.checked_add(buffer.len()).ok_or(Unmapped)?;
        buffer.copy_from_slice(ROM.get(at..end).ok_or(Unmapped)?);
        Ok(())
    }
    fn translate(&self, _: usize, address: u64) -> Option<u64> {
        (address < 0x10000).then_some(address)
    }
    fn disassemble(&self, _: usize, _: u64, bytes: &[u8]) -> Option<(usize, String)> {
        let word: [u8; 4] = bytes.get(..4)?.try_into().ok()?;
        Some((4, format!("{:08x}", u32::from_le_bytes(word))))
    }
    fn info(&self, request: &InfoRequest) -> Result<String, String> {
        match request.topic {
            Topic::Registers => Ok(format!(" pc {}\n", request.cpu)),
            Topic::Mtree if request.has('f') => Ok("flat\n".into()),
            _ => Err("not supported yet".into()),
        }
    }
    fn read_ring(&self, id: &str, _: usize) -> Option<Vec<u8>> {
        (id == "r").then(|| b"a\\\x01".to_vec())
    }
}

fn session() -> (Session, Arc<Board>) {
    let board = Arc::new(Board::default());
    (Session::new(board.clone(), " (Tinamou)"), board)
}

/// Commands and what they say, in one session: `> command`, then the lines.
const GOLDENS: &str = include_str!("../tests/commands.txt");

#[test]
fn commands_say_what_the_original_says() {
    let (mut session, _) = session();
    let mut now = String::new();
    for line in GOLDENS.lines().filter(|line| line.starts_with("> ")) {
        now += &format!("{line}\n{}", session.run(&line[2..]));
    }
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/commands.txt"), now).unwrap();
        return;
    }
    assert_eq!(now, GOLDENS, "BLESS=1 accepts what is said now");
}

#[test]
fn actions_are_done_only_when_the_line_is_right() {
    let (mut session, board) = session();
    for line in ["quit 1", "stop", "c", "system_reset x", "log int,exec", "commit all", "q"] {
        session.run(line);
    }
    assert_eq!(
        *board.done.lock().unwrap(),
        [
            Action::Stop,
            Action::Continue,
            Action::Log("int,exec".into()),
            Action::Commit("all".into()),
            Action::Quit
        ]
    );
}

#[test]
fn memory_is_saved_to_a_file() {
    let (mut session, _) = session();
    let path = std::env::temp_dir().join(format!("hmp-test-{}", std::process::id()));
    let line = format!("pmemsave 0x1008 8 \"{}\"", path.display());
    assert_eq!(session.run(&line), "");
    assert_eq!(std::fs::read(&path).unwrap(), ROM[8..16]);
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn the_stream_has_echo_prompt_and_raw_line_ends() {
    let (mut session, _) = session();
    assert!(session.greeting().ends_with(b"more information\r\n(qemu) "));
    let out = String::from_utf8(session.feed(b"p 1\r")).unwrap();
    assert!(out.ends_with("p 1\x1b[K\r\n0x1\r\n(qemu) "), "{out:?}");
    let out = String::from_utf8(session.feed(b"system_po\t")).unwrap();
    assert!(out.ends_with("system_powerdown \x1b[K"), "{out:?}");
    let out = String::from_utf8(session.feed(b"\x15info mt\t\r")).unwrap();
    assert!(out.contains("info mtree "), "{out:?}");
    let out = String::from_utf8(session.feed(b"s\t")).unwrap();
    assert!(out.contains("\r\nstop s sum system_powerdown system_reset\r\n(qemu) s"), "{out:?}");
}

#[test]
fn a_monitor_speaks_on_a_back_end() {
    use chardev::{Backend, Chardevs, Config, Socket, SocketAddress};
    use std::io::{Read, Write};
    let path = std::env::temp_dir().join(format!("hmp-test-{}.sock", std::process::id()));
    let address = SocketAddress::Unix { path: path.display().to_string(), is_abstract: false };
    let socket = Socket {
        address,
        server: true,
        wait: false,
        telnet: false,
        nodelay: false,
        reconnect_ms: 0,
    };
    let chardevs = Chardevs::start(1, |_| {}).unwrap();
    chardevs.open(&Config::new("m", Backend::Socket(socket)), &|_| {}).unwrap();
    let _monitor = Monitor::attach(session().0, chardevs.port("m").unwrap());
    let mut client = std::os::unix::net::UnixStream::connect(&path).unwrap();
    client.write_all(b"info status\n").unwrap();
    let mut said = String::new();
    while !said.ends_with("VM status: paused (prelaunch)\r\n(qemu) ") {
        let mut buffer = [0; 256];
        let count = client.read(&mut buffer).unwrap();
        said.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
    }
    assert!(said.starts_with("QEMU 10.0.2 monitor - type 'help' for more information\r\n(qemu) "));
}

#[test]
fn no_line_is_too_strange() {
    let (mut session, _) = session();
    for line in [
        "xp /99999999999999999999999xb 0",
        "xp /i 0x1026",
        "p 0x",
        "x /",
        "memsave 0x1000 -1 \"/nonexistent/x\"",
        "sum 0xffffffffffffffff 100",
        "p '",
        "p 'é",
        "info \"x",
        "log \"\\z\"",
        "é",
        "/",
        "cpu -1",
    ] {
        session.run(line);
    }
}
