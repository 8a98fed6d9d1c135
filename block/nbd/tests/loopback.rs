//! A client against our server, through a socket.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use graph::{Extent, ExtentKind, Memory, Node, NodeInfo, WriteFlags, ZeroFlags};
use nbd::{Address, Client, Export, Exports, Listener, Location, Options, Stream, list, serve};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

const SIZE: usize = 1 << 20;

/// A socket of this test's own.
fn socket(test: &str) -> Address {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{test}.sock"));
    let _ = std::fs::remove_file(&path);
    Address::Unix(path.display().to_string())
}

/// Serves `exports` to `clients` clients, one after the other.
fn server(address: &Address, exports: Exports, clients: usize) -> std::thread::JoinHandle<()> {
    let listener = Listener::bind(address).unwrap();
    std::thread::spawn(move || {
        for _ in 0..clients {
            let stream = listener.accept().unwrap();
            // A client that leaves without a word is no error of this test.
            let _ = serve(&exports, stream, None);
        }
    })
}

fn at(address: &Address, export: &str) -> Location {
    Location { address: address.clone(), export: export.to_owned() }
}

#[test]
fn what_is_written_is_read_and_is_in_the_node() {
    let address = socket("written");
    let memory = Arc::new(Memory::new(vec![0; SIZE], false));
    let node = Arc::clone(&memory) as Arc<dyn Node>;
    let served = server(&address, Exports::new(vec![Export::new("x", "", node, true, false)]), 1);
    let client = Client::open(&at(&address, "x"), &Options::default()).unwrap();
    assert_eq!(client.size(), SIZE as u64);
    std::thread::scope(|scope| {
        for row in 0..8_u64 {
            let client = &client;
            scope.spawn(move || {
                let data = vec![row as u8 + 1; 70_000];
                client.write_at(row * 100_000, &data, WriteFlags::default()).unwrap();
                let mut back = vec![0; 70_000];
                client.read_at(row * 100_000, &mut back).unwrap();
                assert_eq!(data, back);
            });
        }
    });
    client.write_zeroes(0, 4096, ZeroFlags { unmap: true, fua: true }).unwrap();
    client.discard(100_000, 512).unwrap();
    client.flush().unwrap();
    assert!(client.read_at(SIZE as u64, &mut [0]).is_err(), "behind the end");
    drop(client);
    served.join().unwrap();
    let bytes = memory.snapshot();
    assert_eq!((bytes[0], bytes[4095], bytes[4096], bytes[700_000]), (0, 0, 1, 8));
}

#[test]
fn a_list_tells_what_there_is() {
    let address = socket("list");
    let node = |len| Arc::new(Memory::new(vec![0; len], false)) as Arc<dyn Node>;
    let exports = Exports::new(vec![
        Export::new("a", "first", node(512), false, true),
        Export::new("b", "", node(1024), true, false).with_allocation_depth(),
    ]);
    let served = server(&address, exports, 1);
    let found = list(Stream::connect(&address).unwrap(), &address, None).unwrap();
    served.join().unwrap();
    let seen: Vec<_> =
        found.iter().map(|e| (e.name.as_str(), e.description.as_str(), e.size)).collect();
    assert_eq!(seen, [("a", "first", 512), ("b", "", 1024)]);
    assert_eq!(found[1].contexts, ["base:allocation", "qemu:allocation-depth"]);
    assert!(found[0].extended);
}

#[test]
fn refusals_have_words() {
    let address = socket("refusals");
    let node = Arc::new(Memory::new(vec![0; 512], true)) as Arc<dyn Node>;
    let served = server(&address, Exports::new(vec![Export::new("x", "", node, true, false)]), 3);
    let open = |export, options: &Options| Client::open(&at(&address, export), options);
    let unknown = open("y", &Options::default()).err().unwrap().to_string();
    assert!(unknown.contains("Requested export not available"), "{unknown}");
    assert!(open("x", &Options::default()).is_err(), "the export is for reading only");
    let client = open("x", &Options { read_only: true, ..Options::default() }).unwrap();
    assert!(client.write_at(0, &[1], WriteFlags::default()).is_err());
    drop(client);
    served.join().unwrap();
}

#[test]
fn a_broken_connection_comes_back() {
    let address = socket("back");
    let Address::Unix(path) = &address else { panic!("it is a socket") };
    fn node() -> Arc<dyn Node> {
        Arc::new(Memory::new(vec![7; 512], false))
    }
    let exports = move || Exports::new(vec![Export::new("", "", node(), true, false)]);
    let listener = Listener::bind(&address).unwrap();
    let first = std::thread::spawn(move || {
        let stream = listener.accept().unwrap();
        let copy = stream.duplicate().unwrap();
        let serving = std::thread::spawn(move || serve(&exports(), stream, None));
        (copy, serving)
    });
    let reconnect_delay = std::time::Duration::from_secs(60);
    let options = Options { reconnect_delay, ..Options::default() };
    let client = Client::open(&at(&address, ""), &options).unwrap();
    let (copy, serving) = first.join().unwrap();
    copy.shut_down();
    let _ = serving.join().unwrap();
    std::fs::remove_file(path).unwrap();
    let second = server(&address, Exports::new(vec![Export::new("", "", node(), true, false)]), 1);
    let mut byte = [0];
    client.read_at(5, &mut byte).unwrap();
    assert_eq!(byte, [7]);
    drop(client);
    second.join().unwrap();
}

/// Callers on their own, with reads short and long, share a connection; one of them reads for all.
#[test]
fn every_caller_gets_its_own_answer() {
    let address = socket("callers");
    let content: Vec<u8> = (0..SIZE).map(|at| (at / 512) as u8 ^ (at >> 17) as u8).collect();
    let node = Arc::new(Memory::new(content.clone(), true)) as Arc<dyn Node>;
    let served = server(&address, Exports::new(vec![Export::new("", "", node, false, true)]), 1);
    let client =
        Client::open(&at(&address, ""), &Options { read_only: true, ..Options::default() });
    let client = client.unwrap();
    std::thread::scope(|scope| {
        for caller in 0..12_usize {
            let (client, content) = (&client, &content);
            scope.spawn(move || {
                for round in 0..100_usize {
                    let len = if round % 5 == 0 { 200_000 } else { 512 + caller };
                    let offset = (caller * 7919 + round * 104_729) % (SIZE - len);
                    let mut data = vec![0; len];
                    client.read_at(offset as u64, &mut data).unwrap();
                    assert!(data == content[offset..offset + len], "{caller}: {len} at {offset}");
                }
            });
        }
    });
    drop(client);
    served.join().unwrap();
}

/// A node that answers nothing before somebody hangs up.
struct Stuck(Mutex<std::sync::mpsc::Receiver<()>>);

impl Node for Stuck {
    fn size(&self) -> u64 {
        SIZE as u64
    }
    fn read_at(&self, _: u64, _: &mut [u8]) -> io::Result<()> {
        // Ends when the test lets go of the other end.
        let _ = self.0.lock().unwrap().recv();
        Ok(())
    }
    fn write_at(&self, _: u64, _: &[u8], _: WriteFlags) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }
    fn write_zeroes(&self, _: u64, _: u64, _: ZeroFlags) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }
    fn discard(&self, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }
    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
    fn block_status(&self, offset: u64, len: u64) -> io::Result<Extent> {
        Ok(Extent { kind: ExtentKind::Data, len, host_offset: Some(offset) })
    }
    fn read_only(&self) -> bool {
        true
    }
    fn info(&self) -> NodeInfo {
        NodeInfo::default()
    }
}

#[test]
fn all_who_wait_are_told_when_the_connection_breaks() {
    let address = socket("told");
    let listener = Listener::bind(&address).unwrap();
    let (hold, held) = std::sync::mpsc::channel();
    let node = Arc::new(Stuck(Mutex::new(held))) as Arc<dyn Node>;
    let first = std::thread::spawn(move || {
        let stream = listener.accept().unwrap();
        let copy = stream.duplicate().unwrap();
        let exports = Exports::new(vec![Export::new("", "", node, false, true)]);
        let serving = std::thread::spawn(move || serve(&exports, stream, None));
        (copy, serving)
    });
    let options = Options { read_only: true, ..Options::default() };
    let client = Client::open(&at(&address, ""), &options).unwrap();
    let (copy, serving) = first.join().unwrap();
    std::thread::scope(|scope| {
        let calls: Vec<_> = (0..6)
            .map(|caller| {
                let client = &client;
                scope.spawn(move || client.read_at(caller * 512, &mut [0; 512]))
            })
            .collect();
        copy.shut_down();
        for call in calls {
            assert!(call.join().unwrap().is_err());
        }
    });
    drop(hold);
    let _ = serving.join().unwrap();
}

/// A huge node of zeroes that notes how long the requests about it are.
struct Huge(Mutex<Vec<u64>>);

impl Huge {
    const SIZE: u64 = 1 << 40;

    fn note(&self, len: u64) {
        self.0.lock().unwrap().push(len);
    }
}

impl Node for Huge {
    fn size(&self) -> u64 {
        Self::SIZE
    }
    fn read_at(&self, _offset: u64, buf: &mut [u8]) -> io::Result<()> {
        buf.fill(0);
        Ok(())
    }
    fn write_at(&self, _offset: u64, _buf: &[u8], _flags: WriteFlags) -> io::Result<()> {
        Ok(())
    }
    fn write_zeroes(&self, _offset: u64, len: u64, _flags: ZeroFlags) -> io::Result<()> {
        self.note(len);
        Ok(())
    }
    fn discard(&self, _offset: u64, len: u64) -> io::Result<()> {
        self.note(len);
        Ok(())
    }
    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
    fn block_status(&self, _offset: u64, len: u64) -> io::Result<Extent> {
        self.note(len);
        Ok(Extent { kind: ExtentKind::Zero, len, host_offset: None })
    }
    fn read_only(&self) -> bool {
        false
    }
    fn info(&self) -> NodeInfo {
        NodeInfo::default()
    }
}

#[test]
fn one_request_is_about_as_much_as_there_is() {
    let address = socket("huge");
    let huge = Arc::new(Huge(Mutex::default()));
    let node = Arc::clone(&huge) as Arc<dyn Node>;
    let served = server(&address, Exports::new(vec![Export::new("", "", node, true, false)]), 1);
    let client = Client::open(&at(&address, ""), &Options::default()).unwrap();
    client.write_zeroes(4096, Huge::SIZE - 4096, ZeroFlags::default()).unwrap();
    client.discard(0, Huge::SIZE).unwrap();
    assert_eq!(client.block_status(512, Huge::SIZE - 512).unwrap().len, Huge::SIZE - 512);
    drop(client);
    served.join().unwrap();
    assert_eq!(*huge.0.lock().unwrap(), [Huge::SIZE - 4096, Huge::SIZE, Huge::SIZE - 512]);
}

/// What a server of the old style begins with: the length and flags of its only export.
fn greeting(size: u64, flags: u16) -> Vec<u8> {
    let parts = [&b"NBDMAGIC"[..], &[0, 0, 0x42, 2, 0x81, 0x86, 0x12, 0x53], &size.to_be_bytes()];
    [&parts.concat()[..], &[0, 0], &flags.to_be_bytes(), &[0; 124]].concat()
}

#[test]
fn a_server_of_the_old_style_has_one_export_without_a_name() {
    let address = socket("old");
    let memory = Arc::new(Memory::new(vec![5; SIZE], false));
    let export = Export::new("", "", Arc::clone(&memory) as Arc<dyn Node>, true, false);
    let listener = Listener::bind(&address).unwrap();
    let served = std::thread::spawn(move || {
        for _ in 0..3 {
            let mut stream = listener.accept().unwrap();
            stream.write_all(&greeting(export.size(), export.flags())).unwrap();
            // Whoever only asks leaves without a word.
            let _ = export.serve_kernel(stream);
        }
    });
    let client = Client::open(&at(&address, ""), &Options::default()).unwrap();
    assert_eq!(client.size(), SIZE as u64);
    client.write_at(1000, &[7; 3000], WriteFlags { fua: true }).unwrap();
    client.write_zeroes(2000, 100, ZeroFlags::default()).unwrap();
    let mut back = [0; 4000];
    client.read_at(0, &mut back).unwrap();
    assert_eq!((back[999], back[1000], back[2000], back[2100]), (5, 7, 0, 7));
    assert_eq!(client.block_status(0, 4000).unwrap().kind, ExtentKind::Data);
    drop(client);
    let named = Client::open(&at(&address, "name"), &Options::default()).err().unwrap();
    assert!(
        named.to_string().contains("Server does not support non-empty export names"),
        "{named}"
    );
    let found = list(Stream::connect(&address).unwrap(), &address, None).unwrap();
    assert_eq!((found.len(), found[0].size, found[0].name.as_str()), (1, SIZE as u64, ""));
    served.join().unwrap();
    assert_eq!(memory.snapshot()[1000], 7);
}
