//! Rules files of `blkdebug`, with requests that run into them; and requests of a kernel to a node
//! that is exported as a file.
//!
//! What must hold: no panic, no hang, no allocation that an input makes large. The first byte chooses.

use std::sync::Arc;

use filters::blkdebug::{Pretended, Rules};
use graph::{Event, Memory, Node, WriteFlags, ZeroFlags};

use crate::bytes::Bytes;
use crate::image::Growing;

const DISK: usize = 64 << 10;

fn disk() -> Arc<dyn Node> {
    Arc::new(Growing(Memory::new(vec![7; DISK], false)))
}

/// Feeds rules or requests.
pub fn feed(input: &[u8]) {
    let mut input = Bytes(input);
    match input.byte() % 2 {
        0 => rules(input),
        _ => requests(input),
    }
}

/// The last 32 bytes are what happens, before them is the file.
fn rules(input: Bytes<'_>) {
    let (text, happens) = input.0.split_at(input.0.len().saturating_sub(32));
    let Ok(rules) = Rules::parse(&String::from_utf8_lossy(text)) else { return };
    let mut happens = Bytes(happens);
    let size = |happens: &mut Bytes<'_>| match happens.byte() % 3 {
        0 => 0,
        1 => 512 << happens.below(8),
        _ => happens.value(512),
    };
    let pretended = Pretended {
        align: size(&mut happens),
        max_transfer: size(&mut happens),
        max_discard: size(&mut happens),
        ..Pretended::default()
    };
    let Ok(node) = filters::blkdebug(disk(), "rules", rules, pretended) else { return };
    while !happens.is_empty() {
        let (offset, len) = (happens.below(DISK as u64), happens.below(4096));
        let len = len.min(DISK as u64 - offset);
        // Failing is what rules are for.
        let _ = match happens.byte() % 6 {
            0 => node.read_at(offset, &mut vec![0; len as usize]),
            1 => node.write_at(offset, &vec![1; len as usize], WriteFlags::default()),
            2 => node.write_zeroes(offset, len, ZeroFlags::default()),
            3 => node.discard(offset, len),
            4 => node.flush(),
            _ => {
                node.event(Event::TABLE[happens.below(Event::TABLE.len() as u64) as usize].1);
                Ok(())
            }
        };
    }
}

/// Messages, each with its length in two bytes before it; the opcode is a small number.
fn requests(mut input: Bytes<'_>) {
    let rules = fuse::Rules { writable: input.byte() & 1 != 0, growable: input.byte() & 1 != 0 };
    let file = fuse::File::new(disk(), rules, (0, 0));
    while !input.is_empty() {
        let len = input.below(65536) as usize;
        let _answer = file.serve(input.take(len));
    }
}

/// A message with arguments.
fn message(opcode: u32, arguments: &[u8]) -> Vec<u8> {
    let mut message = ((40 + arguments.len()) as u32).to_ne_bytes().to_vec();
    message.extend(opcode.to_ne_bytes());
    message.extend(9_u64.to_ne_bytes());
    message.extend(1_u64.to_ne_bytes());
    message.resize(40, 0);
    message.extend(arguments);
    message
}

/// A rules file, and one message of each kind.
pub fn seeds() -> Vec<Vec<u8>> {
    let text = "[inject-error]\nevent = \"read_aio\"\nerrno = \"28\"\nonce = \"on\"\nsector = \"4\"\n\n\
                [set-state]\nevent = \"write_aio\"\nstate = \"1\"\nnew_state = \"2\"\n";
    let mut file = vec![0];
    file.extend(text.as_bytes());
    file.extend([0; 32]);
    let numbers = |list: &[u64]| list.iter().flat_map(|n| n.to_ne_bytes()).collect::<Vec<u8>>();
    let mut all = vec![1, 1, 1];
    let version: Vec<u8> =
        [7_u32, 38, 65536, u32::MAX].iter().flat_map(|n| n.to_ne_bytes()).collect();
    let mut write = numbers(&[0, 512, 5, 0, 0]);
    write.extend(b"bytes");
    for message in [
        message(26, &version),
        message(14, &[0; 8]),
        message(3, &[0; 16]),
        message(15, &numbers(&[0, 100, 4096, 0, 0])),
        message(16, &write),
        message(43, &numbers(&[0, 0, 4096, 3])),
        message(46, &numbers(&[0, 0, 4])),
        message(4, &numbers(&[8, 0, 100_000, 0, 0, 0, 0, 0, 0, 0, 0])),
        message(17, &[]),
        message(20, &[0; 16]),
        message(18, &[0; 24]),
    ] {
        all.extend((message.len() as u16).to_le_bytes());
        all.extend(message);
    }
    vec![file, all]
}
