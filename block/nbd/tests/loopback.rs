//! A client against our server, through a socket.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use graph::{Memory, Node, WriteFlags, ZeroFlags};
use nbd::{Address, Client, Export, Exports, Listener, Location, Options, Stream, list, serve};
use std::path::PathBuf;
use std::sync::Arc;

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
struct Stuck(std::sync::Mutex<std::sync::mpsc::Receiver<()>>);

impl Node for Stuck {
    fn size(&self) -> u64 {
        SIZE as u64
    }
    fn read_at(&self, _: u64, _: &mut [u8]) -> std::io::Result<()> {
        // Ends when the test lets go of the other end.
        let _ = self.0.lock().unwrap().recv();
        Ok(())
    }
    fn write_at(&self, _: u64, _: &[u8], _: WriteFlags) -> std::io::Result<()> {
        Err(std::io::ErrorKind::ReadOnlyFilesystem.into())
    }
    fn write_zeroes(&self, _: u64, _: u64, _: ZeroFlags) -> std::io::Result<()> {
        Err(std::io::ErrorKind::ReadOnlyFilesystem.into())
    }
    fn discard(&self, _: u64, _: u64) -> std::io::Result<()> {
        Ok(())
    }
    fn flush(&self) -> std::io::Result<()> {
        Ok(())
    }
    fn block_status(&self, offset: u64, len: u64) -> std::io::Result<graph::Extent> {
        Ok(graph::Extent { kind: graph::ExtentKind::Data, len, host_offset: Some(offset) })
    }
    fn read_only(&self) -> bool {
        true
    }
    fn info(&self) -> graph::NodeInfo {
        graph::NodeInfo::default()
    }
}

#[test]
fn all_who_wait_are_told_when_the_connection_breaks() {
    let address = socket("told");
    let listener = Listener::bind(&address).unwrap();
    let (hold, held) = std::sync::mpsc::channel();
    let node = Arc::new(Stuck(std::sync::Mutex::new(held))) as Arc<dyn Node>;
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
