//! What a debugger sends: packets, and the stream they come in.

#[path = "../../control/gdb/tests/toy/mod.rs"]
mod toy;

use gdb::{Decoder, Input, MAX_PACKET, Reply, Session, Target, frame};
use toy::Toy;

/// Feeds a stream; each packet of it is carried out.
pub fn feed(input: &[u8]) {
    let (mut decoder, mut session, mut toy) = <(Decoder, Session, Toy)>::default();
    for byte in input {
        let Some(Input::Packet(payload)) = decoder.push(*byte) else { continue };
        match session.handle(&mut toy, &payload) {
            Reply::Payload(reply) => assert!(reply.len() <= MAX_PACKET, "{}", reply.len()),
            Reply::Running => {
                session.stopped(&toy, &toy.stopped());
            }
            Reply::Farewell(_) => return,
        }
    }
}

/// The packets that the protocol's own tests know, one at a time and all together.
pub fn seeds() -> Vec<Vec<u8>> {
    let known = include_str!("../../control/gdb/tests/packets.txt");
    let packets = known.lines().filter_map(|line| line.strip_prefix("> "));
    let mut seeds: Vec<_> = packets.map(|packet| frame(packet.as_bytes())).collect();
    seeds.push(seeds.concat());
    seeds
}
