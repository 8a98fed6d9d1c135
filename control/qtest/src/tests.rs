//! The protocol against 64 KiB of memory, one line and one timer; replies as QEMU 10.0.2 gives them.

use crate::*;
use std::sync::{Arc, Mutex};

#[derive(Default)]
struct Board {
    memory: Mutex<Vec<u8>>,
    listener: Mutex<Option<LineListener>>,
    now: Mutex<u64>,
}

impl Board {
    fn change(&self, number: u32, level: bool) {
        if let Some(listener) = &*self.listener.lock().unwrap() {
            listener(number, level);
        }
    }
}

impl QtestTarget for Board {
    fn is_big_endian(&self) -> bool {
        false
    }
    fn load(&self, address: u64, size: u32) -> u64 {
        let mut bytes = [0; 8];
        self.read(address, &mut bytes[..size as usize]);
        u64::from_le_bytes(bytes)
    }
    fn store(&self, address: u64, size: u32, value: u64) {
        self.write(address, &value.to_le_bytes()[..size as usize]);
        if address == 0 {
            self.change(3, value != 0);
        }
    }
    fn read(&self, address: u64, buffer: &mut [u8]) {
        let memory = self.memory.lock().unwrap();
        for (at, byte) in (address as usize..).zip(buffer) {
            *byte = memory.get(at).copied().unwrap_or(0);
        }
    }
    fn write(&self, address: u64, bytes: &[u8]) {
        let mut memory = self.memory.lock().unwrap();
        memory.resize(65536, 0);
        for (at, byte) in (address as usize..).zip(bytes) {
            if let Some(place) = memory.get_mut(at) {
                *place = *byte;
            }
        }
    }
    fn intercept(
        &self,
        path: &str,
        _: Pins,
        _: Option<&str>,
        listener: LineListener,
    ) -> Result<(), String> {
        if path != "/machine/uart" {
            return Err("Unknown device".into());
        }
        *self.listener.lock().unwrap() = Some(listener);
        Ok(())
    }
    fn set_line(&self, path: &str, _: &str, _: u32, _: u64) -> Result<(), String> {
        if path == "/machine/uart" { Ok(()) } else { Err("Unknown device".into()) }
    }
    fn now_ns(&self) -> u64 {
        *self.now.lock().unwrap()
    }
    fn next_deadline_ns(&self) -> Option<u64> {
        (self.now_ns() < 500).then_some(500)
    }
    fn advance_to_ns(&self, time: u64) {
        *self.now.lock().unwrap() = time;
        self.change(7, true);
    }
}

/// Commands and replies, in one session; ` | ` separates lines of a reply.
const DIALOGUE: &[(&str, &str)] = &[
    ("endianness", "OK little"),
    ("foo", "FAIL Unknown command 'foo'"),
    ("", "FAIL Unknown command ''"),
    ("READL 0x1000", "FAIL Unknown command 'READL'"),
    ("writel 0x1000 0x12345678", "OK"),
    ("readl 4096", "OK 0x0000000012345678"),
    ("readw 0x1000", "OK 0x0000000000005678"),
    ("writeb 0x1000 0x1ff", "OK"),
    ("readb 0x1000", "OK 0x00000000000000ff"),
    ("writeq 0x1000 0xffffffffffffffff", "OK"),
    ("readq 0x1000", "OK 0xffffffffffffffff"),
    ("write 0x1000 4 0x01020304", "OK"),
    ("read 0x1000 4", "OK 0x01020304"),
    ("write 0x1000 4 0x0102", "OK"),
    ("read 0x1000 4", "OK 0x01020000"),
    ("write 0x1000 0 0x", "ERR invalid argument size"),
    ("b64write 0x1000 4 AQIDBA==", "OK"),
    ("b64read 0x1000 4", "OK AQIDBA=="),
    ("memset 0x1000 8 0xab", "OK"),
    ("memset 0x1000 0 0xab", "OK"),
    ("readq 0x1000", "OK 0xabababababababab"),
    ("readl 0x9999999999", "OK 0x0000000000000000"),
    ("inb 0x70", "OK 0x00ff"),
    ("inl 0x70", "OK 0xffffffff"),
    ("outb 0x70 1", "OK"),
    ("irq_intercept_in /machine/nosuch", "FAIL Unknown device"),
    ("irq_intercept_in /machine/uart", "OK"),
    ("irq_intercept_in /machine/uart", "OK"),
    ("irq_intercept_out /machine/uart", "FAIL IRQ intercept already enabled"),
    ("writel 0 1", "IRQ raise 3 | OK"),
    ("writel 0 0", "IRQ lower 3 | OK"),
    ("set_irq_in /machine/uart unnamed-gpio-in 3 1", "OK"),
    ("clock_step 100", "IRQ raise 7 | OK 100"),
    ("clock_step", "IRQ raise 7 | OK 500"),
    ("clock_step", "OK 500"),
    ("clock_set 400", "OK 500"),
    ("clock_set 1000", "IRQ raise 7 | OK 1000"),
    ("readl", "FAIL address is missing"),
    ("readl x", "FAIL address 'x' is no number below 2^64"),
    ("readl 0xffffffffffffffffff", "FAIL address '0xffffffffffffffffff' is no number below 2^64"),
    ("read 0x1000 0xffffffffffffffff", "FAIL size must be from 1 to 67108864"),
    ("read 0x1000 0", "FAIL size must be from 1 to 67108864"),
    ("memset 0x1000 8", "FAIL pattern is missing"),
    ("b64write 0x1000 4 !!!!", "FAIL data is no Base64"),
    ("set_irq_in", "FAIL device or name is missing"),
    ("irq_intercept_in", "FAIL device is missing"),
];

#[test]
fn commands_get_their_replies() {
    let (outbox, lines) = Outbox::collecting();
    let mut session = Session::new(Arc::new(Board::default()), outbox);
    for (command, reply) in DIALOGUE {
        session.feed(format!("{command}\n").as_bytes(), &mut |_| {});
        let said = std::mem::take(&mut *lines.lock().unwrap());
        assert_eq!(said.trim_end().replace('\n', " | "), *reply, "{command}");
    }
}

#[test]
fn the_server_speaks_on_a_socket_and_logs() {
    use chardev::{Backend, Chardevs, Config, Socket, SocketAddress};
    use std::io::{BufRead, BufReader, Write};
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);
    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let path = std::env::temp_dir().join(format!("qtest-test-{}.sock", std::process::id()));
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let address = SocketAddress::Unix { path: path.display().to_string(), is_abstract: false };
    let socket = Socket {
        address,
        server: false,
        wait: false,
        telnet: false,
        nodelay: false,
        reconnect_ms: 0,
    };
    let chardevs = Chardevs::start(1, |_| {}).unwrap();
    chardevs.open(&Config::new("qtest", Backend::Socket(socket)), &|_| {}).unwrap();
    let log = Log::default();
    let _server = Server::attach(
        Arc::new(Board::default()),
        chardevs.port("qtest").unwrap(),
        Some(Box::new(log.clone())),
    );
    let (mut harness, _) = listener.accept().unwrap();
    harness.write_all(b"writel 0x10 5\nreadl 0x10\n").unwrap();
    let mut lines = BufReader::new(harness).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "OK");
    assert_eq!(lines.next().unwrap().unwrap(), "OK 0x0000000000000005");
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(log.contains("] writel 0x10 5\n[S +"), "{log}");
    std::fs::remove_file(path).unwrap();
}
