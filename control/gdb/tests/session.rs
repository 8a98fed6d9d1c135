//! Packets and replies, without a connection and with one.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod toy;

use gdb::{Decoder, Ended, Input, Reply, Session, Target, frame, serve};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use toy::Toy;

#[test]
fn packets_have_their_replies() {
    let (mut session, mut toy) = (Session::default(), Toy::default());
    let mut reply = None;
    for line in include_str!("packets.txt").lines().filter(|line| !line.starts_with('#')) {
        if line == "--" {
            (session, toy) = Default::default();
        } else if let Some(packet) = line.strip_prefix("> ") {
            reply = Some(session.handle(&mut toy, packet.as_bytes()));
        } else if let Some(expected) = line.strip_prefix("! ") {
            assert_eq!(reply.take().unwrap(), Reply::Running, "{line}");
            let told = session.stopped(&toy, &toy.stopped());
            assert_eq!(String::from_utf8_lossy(&told), expected);
        } else {
            let expected = line.strip_prefix('<').unwrap().trim_start();
            let Reply::Payload(told) = reply.take().unwrap() else { panic!("{line}") };
            assert_eq!(String::from_utf8_lossy(&told), expected);
        }
    }
}

#[test]
fn farewells() {
    for (packet, asked) in [("D", "detach"), ("D;7", "detach"), ("k", "kill"), ("vKill;7", "kill")]
    {
        let mut toy = Toy::default();
        let reply = Session::default().handle(&mut toy, packet.as_bytes());
        assert_eq!((reply, toy.asked.as_str()), (Reply::Farewell(b"OK".to_vec()), asked));
    }
}

/// A debugger's end of a connection.
struct Debugger {
    stream: UnixStream,
    decoder: Decoder,
}

impl Debugger {
    fn hear(&mut self) -> Input {
        loop {
            let mut byte = [0];
            self.stream.read_exact(&mut byte).unwrap();
            if let Some(input) = self.decoder.push(byte[0]) {
                return input;
            }
        }
    }

    fn say(&mut self, payload: &str) {
        self.stream.write_all(&frame(payload.as_bytes())).unwrap();
    }
}

fn told(text: &str) -> Input {
    Input::Packet(text.as_bytes().to_vec())
}

#[test]
fn a_connection_acknowledges_until_it_is_told_not_to() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let served = std::thread::spawn(move || {
        let from = theirs.try_clone().unwrap();
        serve(&mut Toy::default(), from, theirs).unwrap()
    });
    let mut debugger = Debugger { stream: ours, decoder: Decoder::default() };
    debugger.stream.write_all(b"$?#00").unwrap();
    assert_eq!(debugger.hear(), Input::Nack);
    debugger.say("?");
    assert_eq!((debugger.hear(), debugger.hear()), (Input::Ack, told("T05thread:1;")));
    debugger.stream.write_all(b"-").unwrap();
    assert_eq!(debugger.hear(), told("T05thread:1;"), "it is sent again");
    debugger.say("QStartNoAckMode");
    assert_eq!((debugger.hear(), debugger.hear()), (Input::Ack, told("OK")));
    // An interrupt of what stands is nothing.
    debugger.stream.write_all(b"\x03").unwrap();
    debugger.say("s");
    assert_eq!(debugger.hear(), told("T05thread:1;"));
    debugger.say("M1004,1:05");
    assert_eq!(debugger.hear(), told("OK"));
    debugger.say("c");
    assert_eq!(debugger.hear(), told("W05"));
    assert_eq!(served.join().unwrap(), Ended::TargetGone);
}

#[test]
fn a_debugger_that_is_gone_leaves_the_target_as_it_is() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    drop(ours);
    let mut toy = Toy::default();
    let ended = serve(&mut toy, theirs.try_clone().unwrap(), theirs).unwrap();
    assert_eq!((ended, toy.asked.as_str()), (Ended::LostStopped, ""));
}
