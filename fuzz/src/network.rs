//! Network block devices: what a client sends to our server, and what a server sends to our client.

use graph::{Memory, Node, Plain, WriteFlags};
use nbd::{Address, Client, Export, Exports, Location, Options, Stream, serve};
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::channel;

/// Bytes of the disk that is served.
const SIZE: usize = 1 << 16;

/// The first byte says which side is ours, and whether a client has requests in flight; the rest is what the
/// other side sends.
pub fn feed(input: &[u8]) {
    let Some((side, bytes)) = input.split_first() else { return };
    let (Ok((ours, theirs)), true) = (UnixStream::pair(), bytes.len() <= 1 << 16) else { return };
    std::thread::scope(|scope| {
        scope.spawn(|| outsider(theirs, bytes));
        if side & 1 == 0 {
            // Errors end the connection and nothing else.
            let _ = serve(&exports(), Stream::Unix(ours), None);
        } else {
            use_server(Stream::Unix(ours), side & 2 != 0);
        }
    });
}

/// Sends everything, then listens until the other side has enough.
fn outsider(mut stream: UnixStream, bytes: &[u8]) {
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    let mut sink = [0; 4096];
    while stream.read(&mut sink).is_ok_and(|n| n != 0) {}
}

fn exports() -> Exports {
    let node = || Arc::new(Memory::new(vec![1; SIZE], false)) as Arc<dyn Node>;
    Exports::new(vec![
        Export::new("", "", node(), true, false).with_allocation_depth(),
        Export::new("fixed", "cannot be written to", node(), false, true),
    ])
}

fn use_server(stream: Stream, in_flight: bool) {
    let location = Location { address: Address::Unix("nowhere".to_owned()), export: String::new() };
    let Ok(client) = Client::over(stream, &location, &Options::default()) else { return };
    let len = client.size().min(4096);
    let mut buf = vec![0; len as usize];
    if in_flight {
        for write in [false, true] {
            if let Some(plain) = Plain::find(&client, 0, len, write) {
                let (tell, told) = channel();
                let answer = Box::new(move |_: io::Result<()>, buf: Vec<u8>| {
                    // Who waits is there until it is told.
                    let _ = tell.send(buf.len());
                });
                plain.send(write, buf.clone(), answer);
                assert_eq!(told.recv(), Ok(buf.len()), "every request is answered");
            }
        }
    }
    let read = client.read_at(0, &mut buf);
    let status = client.block_status(0, client.size().max(1));
    if let Ok(extent) = status {
        assert!(extent.len != 0, "an extent has a length");
    }
    let written = client.write_at(0, &buf, WriteFlags { fua: true });
    // What fails, fails without a panic.
    let _ = (read, written, client.flush());
}

fn option(kind: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = b"IHAVEOPT".to_vec();
    bytes.extend_from_slice(&kind.to_be_bytes());
    bytes.extend_from_slice(&(data.len() as u32).to_be_bytes());
    bytes.extend_from_slice(data);
    bytes
}

fn request(kind: u16, offset: u64, len: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = 0x2560_9513_u32.to_be_bytes().to_vec();
    bytes.extend_from_slice(&0_u16.to_be_bytes());
    bytes.extend_from_slice(&kind.to_be_bytes());
    bytes.extend_from_slice(&7_u64.to_be_bytes());
    bytes.extend_from_slice(&offset.to_be_bytes());
    bytes.extend_from_slice(&len.to_be_bytes());
    bytes.extend_from_slice(data);
    bytes
}

/// A client that does a little of everything, and a server that answers one.
pub fn seeds() -> Vec<Vec<u8>> {
    let go = option(7, &[0, 0, 0, 0, 0, 0]);
    let context = [&[0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 15][..], b"base:allocation"].concat();
    let requests = [
        request(0, 0, 512, &[]),
        request(1, 512, 4, b"data"),
        request(3, 0, 0, &[]),
        request(6, 0, 4096, &[]),
        request(7, 0, 4096, &[]),
        request(2, 0, 0, &[]),
    ]
    .concat();
    let greeting = [0, 0, 0, 3_u8];
    let talk = [option(3, &[]), option(8, &[]), option(10, &context), go.clone()].concat();
    let plain = [&[0][..], &greeting, &go, &requests].concat();
    let structured = [&[0][..], &greeting, &talk, &requests].concat();
    let oldest = [&[0][..], &greeting, &option(1, &[]), &requests].concat();
    vec![plain, structured, oldest, server_seed(1, 0), server_seed(3, 1 << 63)]
}

/// What a plain server says to a client that asks for dialects, the export, and a read, which has a cookie.
fn server_seed(side: u8, cookie: u64) -> Vec<u8> {
    let reply = |option: u32, kind: u32, data: &[u8]| {
        let mut bytes = 0x0003_e889_0455_65a9_u64.to_be_bytes().to_vec();
        bytes.extend_from_slice(&option.to_be_bytes());
        bytes.extend_from_slice(&kind.to_be_bytes());
        bytes.extend_from_slice(&(data.len() as u32).to_be_bytes());
        bytes.extend_from_slice(data);
        bytes
    };
    let refused = (1 << 31) + 1;
    let export = [&[0, 0][..], &512_u64.to_be_bytes(), &1_u16.to_be_bytes()].concat();
    let mut read = 0x6744_6698_u32.to_be_bytes().to_vec();
    read.extend_from_slice(&[0; 4]);
    read.extend_from_slice(&cookie.to_be_bytes());
    read.extend_from_slice(&[5; 512]);
    [
        vec![side],
        b"NBDMAGICIHAVEOPT\0\x03".to_vec(),
        reply(11, refused, &[]),
        reply(8, refused, &[]),
        reply(7, 3, &export),
        reply(7, 1, &[]),
        read,
    ]
    .concat()
}
