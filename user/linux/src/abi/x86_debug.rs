//! Registers of x86 as debuggers know them ("Debugging with GDB", section "x86 Features").

use crate::debug::{Group, describe, register};
use gdb::{Description, Kind};
use isa::Guest;
use x86::state::{OPMASK_AT, ZMM_BYTES, gpr, seg};
use x86::{Feature, State, X86};

/// Where a register is.
#[derive(Clone, Copy)]
enum Place {
    General(u8),
    Rip,
    Flags,
    Segment(u8),
    Base(u8),
    /// Bytes of the image of FXSAVE.
    Image(usize),
    Tags,
    /// Of no meaning here.
    None(u64),
    Mxcsr,
    /// Bytes of the region of vectors.
    Vector(usize),
}

/// Numbers and names in the order of the description.
#[rustfmt::skip]
const GENERAL: [(u8, &str, &str); 8] = [
    (gpr::RAX, "rax", "eax"), (gpr::RBX, "rbx", "ebx"), (gpr::RCX, "rcx", "ecx"), (gpr::RDX, "rdx", "edx"),
    (gpr::RSI, "rsi", "esi"), (gpr::RDI, "rdi", "edi"), (gpr::RBP, "rbp", "ebp"), (gpr::RSP, "rsp", "esp"),
];
/// The order of 32 bits, which is that of encodings.
const GENERAL_32: [usize; 8] = [0, 2, 3, 1, 7, 6, 4, 5];
#[rustfmt::skip]
const SEGMENTS: [(u8, &str); 6] = [
    (seg::CS, "cs"), (seg::SS, "ss"), (seg::DS, "ds"), (seg::ES, "es"), (seg::FS, "fs"), (seg::GS, "gs"),
];
/// The x87's control registers; places in the image, or none.
const CONTROL: [(&str, Place); 8] = [
    ("fctrl", Place::Image(0)),
    ("fstat", Place::Image(2)),
    ("ftag", Place::Tags),
    ("fiseg", Place::None(0)),
    ("fioff", Place::None(0)),
    ("foseg", Place::None(0)),
    ("fooff", Place::None(0)),
    ("fop", Place::None(0)),
];
/// Bits of the flags register, by name.
#[rustfmt::skip]
const FLAGS: [(&str, u32); 17] = [
    ("CF", 0), ("", 1), ("PF", 2), ("AF", 4), ("ZF", 6), ("SF", 7), ("TF", 8), ("IF", 9), ("DF", 10),
    ("OF", 11), ("NT", 14), ("RF", 16), ("VM", 17), ("AC", 18), ("VIF", 19), ("VIP", 20), ("ID", 21),
];
/// Bits of MXCSR.
#[rustfmt::skip]
const MXCSR: [(&str, u32); 14] = [
    ("IE", 0), ("DE", 1), ("ZE", 2), ("OE", 3), ("UE", 4), ("PE", 5), ("DAZ", 6), ("IM", 7), ("DM", 8),
    ("ZM", 9), ("OM", 10), ("UM", 11), ("PM", 12), ("FZ", 15),
];
/// Where the x87's registers begin in the image, and how far they are apart.
const ST: (usize, usize) = (32, 16);

fn flags(id: &str, bits: &[(&str, u32)]) -> String {
    let fields: String = bits
        .iter()
        .map(|(name, bit)| format!("<field name=\"{name}\" start=\"{bit}\" end=\"{bit}\"/>"))
        .collect();
    format!("<flags id=\"{id}\" size=\"4\">{fields}</flags>")
}

/// The views of a vector of 16 bytes.
const VECTORS: &str = "<vector id=\"v4f\" type=\"ieee_single\" count=\"4\"/>\
    <vector id=\"v2d\" type=\"ieee_double\" count=\"2\"/><vector id=\"v16i8\" type=\"int8\" count=\"16\"/>\
    <vector id=\"v8i16\" type=\"int16\" count=\"8\"/><vector id=\"v4i32\" type=\"int32\" count=\"4\"/>\
    <vector id=\"v2i64\" type=\"int64\" count=\"2\"/>\
    <union id=\"vec128\"><field name=\"v4_float\" type=\"v4f\"/><field name=\"v2_double\" type=\"v2d\"/>\
    <field name=\"v16_int8\" type=\"v16i8\"/><field name=\"v8_int16\" type=\"v8i16\"/>\
    <field name=\"v4_int32\" type=\"v4i32\"/><field name=\"v2_int64\" type=\"v2i64\"/>\
    <field name=\"uint128\" type=\"uint128\"/></union>";

fn core(long: bool) -> Group<Place> {
    let bits = if long { 64 } else { 32 };
    let general = |n: usize| {
        let (number, wide, narrow) = GENERAL[n];
        let stack = matches!(number, gpr::RBP | gpr::RSP);
        let kind = if stack { Kind::DataPointer } else { Kind::Int };
        register(if long { wide } else { narrow }, bits, kind, Place::General(number))
    };
    let order = if long { [0, 1, 2, 3, 4, 5, 6, 7] } else { GENERAL_32 };
    let mut rows: Vec<_> = order.into_iter().map(general).collect();
    if long {
        let more = (8..16).map(|n| register(format!("r{n}"), 64, Kind::Int, Place::General(n)));
        rows.extend(more);
    }
    rows.push(register(if long { "rip" } else { "eip" }, bits, Kind::CodePointer, Place::Rip));
    rows.push(register("eflags", 32, Kind::Own("i386_eflags"), Place::Flags));
    rows.extend(SEGMENTS.map(|(n, name)| register(name, 32, Kind::Int, Place::Segment(n))));
    let st = |n| register(format!("st{n}"), 80, Kind::X87, Place::Image(ST.0 + ST.1 * n));
    rows.extend((0..8).map(st));
    rows.extend(CONTROL.map(|(name, place)| register(name, 32, Kind::Int, place)));
    Group::new("org.gnu.gdb.i386.core", flags("i386_eflags", &FLAGS), rows)
}

/// Registers that are parts of vectors: names, bytes, where they begin in each.
fn parts(
    names: std::ops::Range<usize>,
    name: impl Fn(usize) -> String,
    (from, len): (usize, usize),
    kind: Kind,
) -> Vec<(gdb::Register, Place)> {
    let row = |n| register(name(n), len as u32 * 8, kind, Place::Vector(n * ZMM_BYTES + from));
    names.map(row).collect()
}

fn groups(guest: &X86, long: bool) -> Vec<Group<Place>> {
    let count = if long { 16 } else { 8 };
    let bits = if long { 64 } else { 32 };
    let mut groups = vec![core(long)];
    let vector = Kind::Own("vec128");
    let mut rows = parts(0..count, |n| format!("xmm{n}"), (0, 16), vector);
    rows.push(register("mxcsr", 32, Kind::Own("i386_mxcsr"), Place::Mxcsr));
    let types = [VECTORS, &flags("i386_mxcsr", &MXCSR)].concat();
    groups.push(Group::new("org.gnu.gdb.i386.sse", types, rows));
    let original = if long { "orig_rax" } else { "orig_eax" };
    let row = register(original, bits, Kind::Int, Place::None(u64::MAX));
    groups.push(Group::new("org.gnu.gdb.i386.linux", String::new(), vec![row]));
    // Of 32 bits, debuggers do not know these by name.
    let name = if long { "org.gnu.gdb.i386.segments" } else { "org.tinamou.i386.segments" };
    let bases = [("fs_base", seg::FS), ("gs_base", seg::GS)];
    let rows = bases.map(|(name, n)| register(name, bits, Kind::Int, Place::Base(n)));
    groups.push(Group::new(name, String::new(), rows.into()));
    if guest.has(Feature::Avx) {
        let upper = Kind::Own("uint128");
        let rows = parts(0..count, |n| format!("ymm{n}h"), (16, 16), upper);
        groups.push(Group::new("org.gnu.gdb.i386.avx", String::new(), rows));
    }
    if guest.has(Feature::Avx512f) {
        groups.push(wide(long, count));
    }
    groups
}

/// AVX-512.
fn wide(long: bool, count: usize) -> Group<Place> {
    let half = Kind::Own("v2ui128");
    let mask = |n: usize| {
        register(format!("k{n}"), 64, Kind::Own("uint64"), Place::Vector(OPMASK_AT + 8 * n))
    };
    let mut rows: Vec<_> = (0..8).map(mask).collect();
    rows.extend(parts(0..count, |n| format!("zmm{n}h"), (32, 32), half));
    if long {
        rows.extend(parts(16..32, |n| format!("xmm{n}"), (0, 16), Kind::Own("vec128")));
        rows.extend(parts(16..32, |n| format!("ymm{n}h"), (16, 16), Kind::Own("uint128")));
        rows.extend(parts(16..32, |n| format!("zmm{n}h"), (32, 32), half));
    }
    let types = [VECTORS, "<vector id=\"v2ui128\" type=\"uint128\" count=\"2\"/>"].concat();
    Group::new("org.gnu.gdb.i386.avx512", types, rows)
}

/// What debuggers are told.
pub fn description(guest: &X86, long: bool) -> Description {
    describe(if long { "i386:x86-64" } else { "i386" }, groups(guest, long))
}

/// Every register with its bytes.
fn places(guest: &X86, long: bool) -> impl Iterator<Item = (Place, usize)> {
    groups(guest, long).into_iter().flat_map(|group| {
        let lengths = group.feature.registers.into_iter().map(|row| row.bits as usize / 8);
        group.places.into_iter().zip(lengths)
    })
}

/// Bytes of all registers.
pub fn read(guest: &X86, state: &State, long: bool) -> Vec<u8> {
    let image = state.image();
    let mut bytes = Vec::with_capacity(1024);
    for (place, len) in places(guest, long) {
        let value = match place {
            Place::General(n) => state.gpr[usize::from(n)],
            Place::Rip => guest.mode(state).pc,
            Place::Flags => state.flags(),
            Place::Segment(n) => state.seg_selector[usize::from(n)],
            Place::Base(n) => state.seg_base[usize::from(n)],
            Place::Tags => state.tag_word(),
            Place::None(value) => value,
            Place::Mxcsr => {
                u64::from(u32::from_le_bytes([image[24], image[25], image[26], image[27]]))
            }
            Place::Image(at) if len == 10 => {
                bytes.extend_from_slice(&image[at..at + len]);
                continue;
            }
            Place::Image(at) => u64::from(u16::from_le_bytes([image[at], image[at + 1]])),
            Place::Vector(at) => {
                bytes.extend_from_slice(&state.vectors.0[at..at + len]);
                continue;
            }
        };
        bytes.extend_from_slice(&value.to_le_bytes()[..len]);
    }
    bytes
}

/// Sets a register; those without a meaning and selectors keep what they have.
pub fn write(guest: &X86, state: &mut State, long: bool, (number, bytes): (usize, &[u8])) {
    let Some((place, len)) = places(guest, long).nth(number) else { return };
    let Some(bytes) = bytes.get(..len) else { return };
    let value = bytes.iter().take(8).rev().fold(0, |value, byte| value << 8 | u64::from(*byte));
    match place {
        Place::General(n) => state.gpr[usize::from(n)] = value,
        Place::Rip => X86::set_pc(state, value),
        Place::Flags => state.set_flags(value),
        Place::Base(n) if long => state.seg_base[usize::from(n)] = value,
        Place::Segment(_) | Place::Base(_) | Place::None(_) => {}
        Place::Tags => state.ftw = State::in_use(value),
        Place::Mxcsr => change_image(state, 24, &bytes[..4]),
        Place::Image(at) => change_image(state, at, if len == 10 { bytes } else { &bytes[..2] }),
        Place::Vector(at) => state.vectors.0[at..at + len].copy_from_slice(bytes),
    }
}

fn change_image(state: &mut State, at: usize, bytes: &[u8]) {
    let mut image = state.image();
    image[at..at + bytes.len()].copy_from_slice(bytes);
    state.set_image(&image);
}
