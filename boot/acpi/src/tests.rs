//! Encodings, against examples worked out by hand from the specification.

use crate::aml::*;
use crate::table::Table;
use crate::table::{Harts, SerialConsole, fadt, madt, mcfg, spcr};
use crate::{files, resource};

#[test]
fn numbers_take_their_shortest_form() {
    let forms = [0, 1, 2, 0xff, 0x100, 0x1_0000, 1 << 32].map(|n| integer(n).len());
    assert_eq!(forms, [1, 1, 2, 2, 3, 5, 9]);
    assert_eq!(integer(0x1234), [0x0b, 0x34, 0x12]);
}

#[test]
fn names_are_padded_and_paths_marked() {
    assert_eq!(path("_HID"), b"_HID");
    assert_eq!(path("A"), b"A___");
    assert_eq!(path("\\_SB"), b"\\_SB_");
    assert_eq!(path("\\_SB.PCI0"), b"\\\x2e_SB_PCI0");
}

#[test]
fn lengths_count_themselves() {
    // 2 bytes of size and data: one byte of length.
    assert_eq!(buffer(&[7]), [0x11, 3, 1, 7]);
    // 60 bytes and a number of two make 62 and one byte of length: the most that fits.
    assert_eq!(&buffer(&[0; 60])[..3], [0x11, 63, 0x0a]);
    // One more needs two: 63 + 2 = 0x41.
    assert_eq!(&buffer(&[0; 61])[..3], [0x11, 0x41, 4]);
    // 4092 and three bytes of number: 0xfff, the most for two.
    assert_eq!(&buffer(&[0; 4090])[..3], [0x11, 0x4f, 0xff]);
    assert_eq!(&buffer(&[0; 4091])[..4], [0x11, 0x81, 0, 1]);
}

#[test]
fn terms_nest() {
    let text = device("A", &[name("_UID", integer(1)), method("M", 2, &[give(arg(1))])]);
    let want = [&[0x5b, 0x82, 20][..], b"A___\x08_UID\x01", &[0x14, 8], b"M___", &[2, 0xa4, 0x69]];
    assert_eq!(text, want.concat());
    let text = if_then(not(equal(local(0), integer(0))), &[store(integer(1), local(1))]);
    assert_eq!(text, [0xa0, 8, 0x92, 0x93, 0x60, 0, 0x70, 1, 0x61]);
    assert_eq!(package(&[string("a"), integer(0)]), [0x12, 6, 2, 0x0d, b'a', 0, 0]);
}

#[test]
fn uuids_are_mixed() {
    let id = uuid(0x33db_4d5b_1ff7_401c_9657_7441_c03d_d766);
    assert_eq!(id[4..12], [0x5b, 0x4d, 0xdb, 0x33, 0xf7, 0x1f, 0x1c, 0x40]);
    assert_eq!(id[12..], [0x96, 0x57, 0x74, 0x41, 0xc0, 0x3d, 0xd7, 0x66]);
}

#[test]
fn resources_end_with_a_tag() {
    let template = resource::template(&[resource::memory(0x1000, 0x100), resource::interrupt(10)]);
    let want = [
        &[0x11, 26, 0x0a, 23][..],
        &[0x86, 9, 0, 1, 0, 0x10, 0, 0, 0, 1, 0, 0],
        &[0x89, 6, 0, 1, 1, 10, 0, 0, 0],
        &[0x79, 0],
    ];
    assert_eq!(template, want.concat());
    assert_eq!(resource::buses(0, 255).len(), 16);
    assert_eq!(resource::window_32(0x4000_0000, 0x4000_0000)[14..18], [0xff, 0xff, 0xff, 0x7f]);
    assert_eq!(resource::window_64(1 << 34, 1 << 34).len(), 46);
}

#[test]
fn tables_have_the_lengths_of_the_specification() {
    assert_eq!(fadt(b"\0\0\0\0\0\0\0\0").body.len() + 36, 276);
    assert_eq!(mcfg(0x3000_0000, 0, 255).body.len() + 36, 60);
    let console = SerialConsole { base: 0x1000_0000, interrupt_kind: 0x10, interrupt: 10 };
    assert_eq!(spcr(console).body.len() + 36, 90);
    let controller = madt::Controller { sources: 95, base: 0xc00_0000, len: 0x60_0000 };
    for (entry, kind, len) in [
        (madt::Rintc::default().entry(), 0x18, 36),
        (controller.aplic(4), 0x1a, 36),
        (controller.plic(7), 0x1b, 36),
    ] {
        assert_eq!((entry[0], usize::from(entry[1]), entry.len()), (kind, len, len));
    }
}

#[test]
fn harts_refer_to_what_they_share() {
    let harts = Harts {
        count: 2,
        timebase: 10_000_000,
        isa: "rv64i",
        blocks: [Some(64), None, Some(64)],
        mmu: Some(2),
    };
    let body = harts.table().body;
    // ISA string of 6 with its end: 14 bytes; then 10, then 8: harts at 56 + 32.
    assert_eq!(body[16..20], 56u32.to_le_bytes());
    let nodes = &body[20..];
    assert_eq!(nodes[..14], *b"\0\0\x0e\0\x01\0\x06\0rv64i\0");
    assert_eq!(nodes[14..24], [1, 0, 10, 0, 1, 0, 0, 6, 0, 6]);
    assert_eq!(nodes[24..32], [2, 0, 8, 0, 1, 0, 0, 2]);
    assert_eq!(nodes[32..44], [0xff, 0xff, 24, 0, 1, 0, 3, 0, 0, 0, 0, 0]);
    assert_eq!(nodes[44..56], [56, 0, 0, 0, 70, 0, 0, 0, 80, 0, 0, 0]);
    assert_eq!(nodes.len(), 32 + 2 * 24);
}

/// Does as a firmware does, and looks at the result as a kernel does.
#[test]
fn a_firmware_can_put_the_tables_together() {
    let other = Table::new(b"MCFG", 1, &[vec![1, 2, 3]]);
    let dsdt = Table::new(b"DSDT", 2, &[vec![9; 5]]);
    let mut files = files(&dsdt, &fadt(b"QEMU\0\0\0\0"), &[other]);
    let (_, commands) = files.pop().unwrap();
    let address = |name: &str| if name == "etc/acpi/rsdp" { 0x1000u64 } else { 0x10_0000 };
    let text = |bytes: &[u8]| {
        String::from_utf8_lossy(bytes.split(|b| *b == 0).next().unwrap()).into_owned()
    };
    let number = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().unwrap()) as usize;
    for command in commands.chunks(128) {
        let file = text(&command[4..60]);
        let bytes = &mut files.iter_mut().find(|(name, _)| *name == file).unwrap().1;
        match command[0] {
            1 => {}
            2 => {
                let at = number(&command[116..120]);
                let value = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
                let value = value + address(&text(&command[60..116]));
                bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
            }
            3 => {
                let [at, start, len] = [60, 64, 68].map(|n| number(&command[n..n + 4]));
                let sum = bytes[start..start + len].iter().fold(0u8, |a, b| a.wrapping_add(*b));
                bytes[at] = bytes[at].wrapping_sub(sum);
            }
            kind => panic!("command {kind}"),
        }
    }
    let sum = |bytes: &[u8]| bytes.iter().fold(0u8, |a, b| a.wrapping_add(*b));
    let pointer = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap());
    let (rsdp, tables) = (&files[0].1, &files[1].1);
    assert_eq!((sum(&rsdp[..20]), sum(rsdp)), (0, 0));
    let table = |at: u64| {
        let at = (at - 0x10_0000) as usize;
        let table = &tables[at..at + number(&tables[at + 4..at + 8])];
        assert_eq!(sum(table), 0, "{:?}", &table[..4]);
        table
    };
    let xsdt = table(pointer(&rsdp[24..32]));
    assert_eq!((&xsdt[..4], xsdt.len()), (&b"XSDT"[..], 36 + 16));
    let facp = table(pointer(&xsdt[36..44]));
    assert_eq!(&facp[..4], b"FACP");
    assert_eq!(&table(pointer(&facp[140..148]))[..4], b"DSDT");
    assert_eq!(&table(pointer(&xsdt[44..52]))[..4], b"MCFG");
}
