//! What a client sends to the monitor for programs: read in pieces, checked against the whole
//! schema, answered; and the same said in words of a command line.

use qmp::json::{MAX_BYTES, Reader, compact, parse, pretty};
use qmp::{Arguments, Command, Dispatcher, Error, Schema, Session, Version};
use serde_json::Value;
use std::sync::{Arc, LazyLock};

/// Answers what it was asked.
fn echo(_: &(), arguments: &Arguments) -> Result<Value, Error> {
    Ok(Value::Object(arguments.members().clone()))
}

macro_rules! commands {
    ($($name:literal)*) => { &[$(Command { name: $name, run: echo }),*] };
}

/// Commands whose arguments have every kind of type.
static COMMANDS: &[Command<()>] = commands![
    "blockdev-add" "blockdev-create" "block-export-add" "transaction" "object-add" "chardev-add"
    "block-dirty-bitmap-merge" "qom-set" "nbd-server-start" "block_resize" "quit"
];

static DISPATCHER: LazyLock<Dispatcher<()>> = LazyLock::new(|| {
    let version = Version { qemu: (10, 0, 0), package: "fuzz" };
    Dispatcher::new(Arc::new(Schema::whole()), &[COMMANDS], &[], version, ())
});

/// The first byte is the size of the pieces.
pub fn feed(input: &[u8]) {
    let Some((size, input)) = input.split_first() else { return };
    let mut reader = Reader::default();
    let mut session = Session { negotiated: size & 1 == 0, oob: size & 2 != 0 };
    for piece in input.chunks(usize::from(*size).max(1)) {
        let mut rest = piece;
        while !rest.is_empty() {
            let (taken, message) = reader.feed(rest);
            rest = &rest[taken..];
            let Some(message) = message else { continue };
            if let Ok(value) = &message {
                // What is printed can be read, and is the same.
                assert_eq!(parse(&compact(value)).as_ref(), Ok(value));
                assert_eq!(parse(&pretty(value)).as_ref(), Ok(value));
            }
            let answer = compact(&DISPATCHER.answer(&mut session, message));
            assert!(answer.is_ascii() && answer.len() < MAX_BYTES);
        }
    }
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Ok((members, source)) = qmp::nested(text, "driver") {
        let _ = DISPATCHER.call("blockdev-add", members, source);
    }
}

/// Messages of a real conversation, and some that are wrong.
pub fn seeds() -> Vec<Vec<u8>> {
    let messages = include_str!("../../control/qmp/tests/messages.txt");
    let pieces = [0, 2, 7, 64].map(|size| [&[size], messages.as_bytes()].concat());
    let lines = messages.lines().map(|line| [b"\x02", line.as_bytes()].concat());
    let words = "\x10raw,node-name=a,file.driver=file,file.filename=x,,y,cache.direct=on,size=1k";
    pieces.into_iter().chain(lines).chain([words.as_bytes().to_vec()]).collect()
}
