//! Programs of an operating system: the headers that say what belongs where.

use elf::Class;
use elf::program::{Flavour, Program};

/// Bytes of a page.
const PAGE: u64 = 4096;

/// Feeds a file.
pub fn feed(input: &[u8]) {
    let flavour = Flavour::of(input);
    let _name = flavour.and_then(|flavour| flavour.architecture());
    let mut read = 0;
    let program = Program::read(&mut |at, bytes| {
        read += bytes.len();
        let start = usize::try_from(at).unwrap_or(usize::MAX).min(input.len());
        let len = bytes.len().min(input.len() - start);
        bytes[..len].copy_from_slice(&input[start..start + len]);
        Ok(len)
    });
    assert!(read <= 64 + 65536 + 16 * 4096 * 1024, "reading is bounded");
    let Ok(program) = program else { return };
    assert_eq!(Some(program.flavour), flavour);
    let (low, high) = program.span();
    assert!(low < high && program.alignment(PAGE).is_power_of_two());
    for load in &program.loads {
        assert!(load.file_len <= load.len && load.address >= low);
        assert!(load.address.checked_add(load.len).is_some_and(|end| end <= high));
    }
    if program.flavour.class == Class::Elf32 {
        assert!(high <= 1 << 32);
    }
    assert!(program.interpreter.is_none_or(|name| name.len() < 4096 && !name.contains(&0)));
}

/// A program with an interpreter and two segments, of a class and byte order.
fn program(wide: bool, big: bool) -> Vec<u8> {
    let mut file = b"\x7fELF".to_vec();
    file.extend_from_slice(&[1 + u8::from(wide), 1 + u8::from(big), 1]);
    file.resize(16, 0);
    let mut put = |value: u64, len: usize| {
        let bytes = value.to_le_bytes();
        let bytes = bytes[..len].iter().copied();
        let bytes: Vec<u8> = if big { bytes.rev().collect() } else { bytes.collect() };
        file.extend_from_slice(&bytes);
    };
    let word = if wide { 8 } else { 4 };
    let (header, entry) = if wide { (64, 56) } else { (52, 32) };
    for (value, len) in [(3, 2), (243, 2), (1, 4), (0x400, word), (header, word), (0, word)] {
        put(value, len);
    }
    for (value, len) in [(5, 4), (header, 2), (entry, 2), (4, 2), (64, 2), (0, 2), (0, 2)] {
        put(value, len);
    }
    let after = header + 4 * entry;
    // Kind, flags, offset, address, bytes in the file and in memory.
    let headers = [
        (3, 4, after, after, 8, 8),
        (1, 5, 0, 0, 0x300, 0x300),
        (1, 6, 0x300, 0x1300, 0x10, 0x2000),
        (0x6474_e551, 6, 0, 0, 0, 0),
    ];
    for (kind, flags, offset, address, file_len, len) in headers {
        put(kind, 4);
        if wide {
            put(flags, 4);
        }
        for value in [offset, address, address, file_len, len] {
            put(value, word);
        }
        if !wide {
            put(flags, 4);
        }
        put(0x1000, word);
    }
    file.extend_from_slice(b"/lib/ld\0");
    file.resize(0x310, 0);
    file
}

/// Programs of both classes and byte orders.
pub fn seeds() -> Vec<Vec<u8>> {
    let kinds = [(true, false), (false, false), (true, true), (false, true)];
    kinds.into_iter().map(|(wide, big)| program(wide, big)).collect()
}
