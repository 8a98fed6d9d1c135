//! The adapter and its units, compared with what `scsi-hd` and `scsi-cd` of QEMU answer.

use crate::core::feature;
use crate::harness::{Driver, Machine, Mmio, Part, RAM, RAM_LEN, Transport, disk};
use crate::{Backends, Drive, VirtioDevice, build, build_child};
use device::Part as _;
use graph::{DiskOptions, Memory};
use state::Value;
use std::sync::Arc;

struct Disks(Vec<(&'static str, Drive)>);

impl Backends for Disks {
    fn drive(&self, id: &str) -> Option<Drive> {
        self.0.iter().find(|(name, _)| *name == id).map(|(_, d)| d.clone())
    }
}

pub(crate) fn adapter() -> (Arc<Memory>, Box<dyn VirtioDevice>) {
    adapter_with(RingPacked(false))
}

pub(crate) struct RingPacked(pub bool);

pub(crate) fn adapter_with(packed: RingPacked) -> (Arc<Memory>, Box<dyn VirtioDevice>) {
    let make = |len: usize| {
        let (node, c) = disk(len, DiskOptions { discard: true, ..DiskOptions::default() });
        (node, Drive { disk: c.disk, executor: c.executor })
    };
    let ((node, d), (_, c)) = (make(10 << 20), make(2048 * 1000));
    let disks = Disks(vec![("d", d), ("c", c)]);
    let text = |p: &[(&str, &str)]| -> Vec<(String, String)> {
        p.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect()
    };
    let on = if packed.0 { "on" } else { "off" };
    let mut host = build("virtio-scsi-device", &text(&[("packed", on)]), &disks).unwrap();
    let hd = text(&[("drive", "d"), ("serial", "abc")]);
    build_child("scsi-hd", &hd, &disks, host.as_mut()).unwrap();
    build_child("scsi-cd", &text(&[("drive", "c")]), &disks, host.as_mut()).unwrap();
    let taken = text(&[("drive", "c"), ("scsi-id", "1")]);
    assert!(build_child("scsi-cd", &taken, &disks, host.as_mut()).is_err());
    let wrong = build_child("virtconsole", &[], &disks, host.as_mut()).unwrap_err();
    assert_eq!(wrong.message, "No 'virtio-serial-bus' bus found for device 'virtconsole'");
    (node, host)
}

/// Response, status, residual, sense key with codes, and data.
type Reply = (u8, u8, u32, [u8; 3], Vec<u8>);

fn command<T: Transport>(
    d: &mut Driver<'_, T>,
    (target, lun): (u8, u8),
    cdb: &str,
    out: &[u8],
    room: usize,
) -> Reply {
    let mut request = vec![1, target, 0x40, lun, 0, 0, 0, 0];
    request.extend(7u64.to_le_bytes());
    request.extend([0; 3]);
    let digits: Vec<u8> = cdb.bytes().filter(|b| *b != b' ').collect();
    let hex = |p: &[u8]| u8::from_str_radix(std::str::from_utf8(p).unwrap(), 16).unwrap();
    request.extend(digits.chunks(2).map(hex));
    request.resize(19 + 32, 0);
    let mut parts = vec![Part::Out(&request)];
    if !out.is_empty() {
        parts.push(Part::Out(out));
    }
    parts.push(Part::In(108));
    if room != 0 {
        parts.push(Part::In(room));
    }
    let (_, got) = d.request(2, &parts);
    let word = |i: usize| u32::from_le_bytes(*got[i..].first_chunk().unwrap());
    let sense = if word(0) == 0 { [0; 3] } else { [got[14], got[24], got[25]] };
    (got[11], got[10], word(4), sense, got[108..].to_vec())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

const HD: (u8, u8) = (0, 0);
const CD: (u8, u8) = (1, 0);

/// Commands with 255 bytes of room: the first bytes of their data.
const ANSWERS: &[((u8, u8), &str, &str)] = &[
    (
        HD,
        "12000000ff00",
        "00000512fa00001251454d552020202051454d5520484152444449534b202020322e352b00",
    ),
    (HD, "12010000ff00", "00000006008083b0b1b200"),
    (HD, "12018000ff00", "0080000361626300"),
    (HD, "12018300ff00", "008300070200000361626300"),
    (
        HD,
        "1201b000ff00",
        "00b0003c01000000003fffff000000000000000000200000000000ff000000080000000000000000003fffff00",
    ),
    (HD, "1201b100ff00", "00b1003c0000"),
    (HD, "1201b200ff00", "00b2000400e0020000"),
    (
        HD,
        "1a003f00ff00",
        "630000080000500000000200010a80000000000000000000041600001410000014000014\
        00c8ffffff00000015180000051e1388103f020000140014001400010100010101000000000000001518000008120400",
    ),
    (HD, "5a003f0000000000ff00", "00660000000000080000500000000200010a8000"),
    (HD, "1a080800ff00", "17000000081204000000"),
    (HD, "1a004800ff00", "1f0000080000500000000200081204000000"),
    (
        CD,
        "12000000ff00",
        "05800512fa00001251454d552020202051454d552043442d524f4d2020202020322e352b00",
    ),
    (CD, "12010000ff00", "0500000200830000"),
    (CD, "12018300ff00", "0583000502000001630000"),
    (CD, "1201b200ff00", "05b2000400e0020000"),
    (
        CD,
        "1a003f00ff00",
        "49000000010a8020000000000000000008120400000000000000000000000000000000000e0e\
        00000000000000000000000000002a143b007fff2d002260000208000b0000000b000b0000",
    ),
    (
        CD,
        "4600000000000000ff00",
        "000000240000000800000308001000000008010000010b08000000010100000000030b043900000000",
    ),
    (CD, "4300000000000000ff00", "0012010100140100000000000016aa00000003e800"),
    (CD, "4302000000000000ff00", "0012010100140100000002000016aa0000000f1900"),
    (CD, "4300010000000000ff00", "000a010100000000"),
    (
        CD,
        "4300020000000000ff00",
        "002e0101011400a000000000010000011400a100000000010000011400a2000000000003e8011400010000000000000000",
    ),
    (CD, "5100000000000000ff00", "00200e010101012000000000"),
    (CD, "4a0100001000 0000ff00", "000404100002000000"),
    (CD, "bd0000000000000000ff0000", "000000000001000000"),
];

#[test]
fn units_answer_as_qemu_does() {
    let m = Machine::new();
    let t = Mmio::new(&m, false, adapter().1);
    let config: String = (0..36).map(|i| format!("{:02x}", t.config(i, 1))).collect();
    assert_eq!(
        config,
        "01000000fe000000ffff000080000000100000006000000020000000\
        0000ff00ff3f0000"
            .replace(' ', "")
    );
    assert_eq!(t.features(), 0x101_3000_0006);
    let mut d = Driver::start(&m, &t, feature::VERSION_1, 3, 16);
    for unit in [HD, CD] {
        assert_eq!(command(&mut d, unit, "000000000000", &[], 0).3, [6, 0x29, 0]);
        assert_eq!(command(&mut d, unit, "000000000000", &[], 0).1, 0);
    }
    for (unit, cdb, want) in ANSWERS {
        let (response, status, residual, _, data) = command(&mut d, *unit, cdb, &[], 255);
        assert_eq!((response, status, residual), (0, 0, 0), "{cdb}");
        assert_eq!(hex(&data)[..want.len()], **want, "{unit:?} {cdb}");
    }
    let (.., data) = command(&mut d, HD, "25000000000000000000", &[], 8);
    assert_eq!(hex(&data), "00004fff00000200");
    let (.., data) = command(&mut d, CD, "9e1000000000000000000000 00200000", &[], 32);
    assert_eq!(hex(&data)[..32], *"00000000000003e70000080000008000");
    let (_, _, residual, _, data) = command(&mut d, HD, "a00000000000000010000000", &[], 4096);
    assert_eq!((residual, &hex(&data)[..32]), (4080, "00000008000000000000000000000000"));
}

#[test]
fn wrong_commands_say_what_is_wrong() {
    let m = Machine::new();
    let t = Mmio::new(&m, false, adapter().1);
    let mut d = Driver::start(&m, &t, u64::MAX, 3, 16);
    for unit in [HD, CD] {
        command(&mut d, unit, "000000000000", &[], 0);
    }
    let wrong = [
        (HD, "1201c000ff00", [5, 0x24, 0]),
        (HD, "1a001700ff00", [5, 0x24, 0]),
        (HD, "ff00000000", [5, 0x20, 0]),
        (HD, "28000005000000000100", [5, 0x21, 0]),
        (HD, "2300000000000000ff00", [5, 0x20, 0]),
        (CD, "12018000ff00", [5, 0x24, 0]),
        (CD, "1201b000ff00", [5, 0x24, 0]),
        (CD, "ad0000000000000000ff0000", [5, 0x30, 0]),
        (CD, "2a000000000000000100", [7, 0x27, 0]),
        ((0, 1), "000000000000", [5, 0x25, 0]),
    ];
    for (unit, cdb, sense) in wrong {
        let reply = command(&mut d, unit, cdb, &[0; 2048], 2048);
        assert_eq!((reply.0, reply.1, reply.3), (0, 2, sense), "{cdb}");
    }
    command(&mut d, HD, "1a001700ff00", &[], 255);
    let (_, _, residual, _, data) = command(&mut d, HD, "03000000ff00", &[], 255);
    assert_eq!((residual, hex(&data[..14])), (237, "700005000000000a000000002400".into()));
    assert_eq!(command(&mut d, (5, 0), "12000000ff00", &[], 255).0, 3);
    assert_eq!(command(&mut d, CD, "28000000000000000100", &[], 512).0, 1);
    let (_, status, residual, _, data) = command(&mut d, (0, 1), "12000000ff00", &[], 255);
    assert_eq!((status, residual, data[0]), (0, 219, 0x7f));
}

#[test]
fn blocks_are_read_written_unmapped_and_filled() {
    for packed in [false, true] {
        let (node, device) = adapter_with(RingPacked(packed));
        let m = Machine::new();
        let t = Mmio::new(&m, false, device);
        let mut d = Driver::start(&m, &t, u64::MAX, 3, 16);
        command(&mut d, HD, "000000000000", &[], 0);
        let data: Vec<u8> = (0..1024).map(|i| (i * 3) as u8).collect();
        for (write, read) in [
            ("0a0000020200", "080000020200"),
            ("2a000000000400000200", "28000000000400000200"),
            ("aa0000000006 000000020000", "a80000000006000000020000"),
            ("8a000000000000000008 000000020000", "8800000000000000000800000002 0000"),
        ] {
            assert_eq!(command(&mut d, HD, write, &data, 0).1, 0, "{write}");
            assert_eq!(command(&mut d, HD, read, &[], 1024).4, data, "{read}");
        }
        assert_eq!(node.snapshot()[2 * 512..4 * 512], data);
        assert_eq!(command(&mut d, HD, "35000000000000000000", &[], 0).1, 0);
        // Unmap blocks 2 and 3.
        let mut list = vec![0, 22, 0, 16, 0, 0, 0, 0];
        list.extend(2u64.to_be_bytes());
        list.extend(2u32.to_be_bytes());
        list.extend([0; 4]);
        assert_eq!(command(&mut d, HD, "42000000000000001800", &list, 0).1, 0);
        list[8..16].copy_from_slice(&20_479u64.to_be_bytes());
        let beyond = command(&mut d, HD, "42000000000000001800", &list, 0);
        assert_eq!((beyond.1, beyond.3), (2, [5, 0x21, 0]));
        // Write same: a pattern, then zeros.
        assert_eq!(command(&mut d, HD, "41000000000000000300", &[9; 512], 0).1, 0);
        assert_eq!(node.snapshot()[..3 * 512], [9; 3 * 512]);
        assert_eq!(command(&mut d, HD, "93080000000000000001 000000010000", &[0; 512], 0).1, 0);
        assert_eq!(node.snapshot()[..3 * 512].iter().map(|b| u32::from(*b)).sum::<u32>(), 9 * 1024);
        // Switch the write cache off by MODE SELECT and see it.
        let mut page = vec![0, 0, 0, 0, 0x08, 0x12];
        page.extend([0; 18]);
        assert_eq!(command(&mut d, HD, "151000001800", &page, 0).1, 0);
        assert_eq!(command(&mut d, HD, "1a080800ff00", &[], 255).4[6], 0);
    }
}

#[test]
fn the_tray_opens_unless_it_is_locked() {
    let m = Machine::new();
    let t = Mmio::new(&m, false, adapter().1);
    let mut d = Driver::start(&m, &t, u64::MAX, 3, 16);
    command(&mut d, CD, "000000000000", &[], 0);
    assert_eq!(command(&mut d, CD, "1e0000000100", &[], 0).1, 0);
    assert_eq!(command(&mut d, CD, "1b0000000200", &[], 0).3, [5, 0x53, 2]);
    assert_eq!(command(&mut d, CD, "1e0000000000", &[], 0).1, 0);
    assert_eq!(command(&mut d, CD, "1b0000000200", &[], 0).1, 0);
    assert_eq!(command(&mut d, CD, "000000000000", &[], 0).3, [2, 0x3a, 0]);
    assert_eq!(command(&mut d, CD, "1b0000000300", &[], 0).1, 0);
    assert_eq!(command(&mut d, CD, "28000000000000000100", &[], 2048).1, 0);
}

#[test]
fn task_management_resets_units_and_state_is_saved() {
    let m = Machine::new();
    let t = Mmio::new(&m, false, adapter().1);
    let mut d = Driver::start(&m, &t, u64::MAX, 3, 16);
    command(&mut d, HD, "000000000000", &[], 0);
    let mut reset = vec![0, 0, 0, 0, 5, 0, 0, 0, 1, 0, 0x40, 0];
    reset.resize(24, 0);
    assert_eq!(d.request(0, &[Part::Out(&reset), Part::In(1)]), (1, vec![0]));
    reset[9] = 9;
    assert_eq!(d.request(0, &[Part::Out(&reset), Part::In(1)]), (1, vec![3]));
    let mut query = vec![1, 0, 0, 0];
    query.resize(20, 0);
    assert_eq!(d.request(0, &[Part::Out(&query), Part::In(5)]), (5, vec![0; 5]));
    let saved = t.slot.save();
    let copy = Machine::new();
    copy.write(RAM, &m.read(RAM, RAM_LEN as usize));
    let other = Mmio::new(&copy, false, adapter().1);
    other.slot.restore(&state::decode(&state::encode(&saved)).unwrap()).unwrap();
    assert_eq!(other.slot.save(), saved);
    assert_eq!(command(&mut d, HD, "000000000000", &[], 0).3, [6, 0x29, 0]);
}

#[test]
fn a_state_that_one_unit_refuses_changes_no_other() {
    let mut host = adapter().1;
    let saved = host.save();
    let mut damaged = saved.clone();
    let Value::Record(fields) = &mut damaged else { panic!("a record") };
    let Value::List(units) = &mut fields[1].1 else { panic!("its units") };
    // The first unit's tray is open; the second's is neither open nor closed.
    for (unit, tray) in units.iter_mut().zip([1, 2]) {
        let Value::Record(fields) = unit else { panic!("a unit") };
        fields[3].1 = Value::Unsigned(tray);
    }
    assert!(host.restore(&damaged).is_err());
    assert_eq!(host.save(), saved);
    let Value::Record(fields) = &mut damaged else { panic!("a record") };
    let Value::List(units) = &mut fields[1].1 else { panic!("its units") };
    let Value::Record(fields) = &mut units[1] else { panic!("a unit") };
    fields[3].1 = Value::Unsigned(0);
    host.restore(&damaged).unwrap();
    assert_eq!(host.save(), damaged);
}
