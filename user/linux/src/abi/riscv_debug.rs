//! Registers of RISC-V as debuggers know them ("Debugging with GDB", section "RISC-V Features").

use crate::debug::{Group, describe, register};
use gdb::{Description, Kind};
use riscv::{Feature, Riscv, State};

/// Where a register is.
#[derive(Clone, Copy)]
enum Place {
    X(usize),
    Pc,
    F(usize),
    Fflags,
    Frm,
    Fcsr,
    V(usize),
    Vstart,
    Vl,
    Vtype,
    Vcsr,
    Vlenb,
}

#[rustfmt::skip]
const X: [&str; 32] = [
    "zero", "ra", "sp", "gp", "tp", "t0", "t1", "t2", "fp", "s1", "a0", "a1", "a2", "a3", "a4", "a5",
    "a6", "a7", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9", "s10", "s11", "t3", "t4", "t5", "t6",
];
#[rustfmt::skip]
const F: [&str; 32] = [
    "ft0", "ft1", "ft2", "ft3", "ft4", "ft5", "ft6", "ft7", "fs0", "fs1", "fa0", "fa1", "fa2", "fa3",
    "fa4", "fa5", "fa6", "fa7", "fs2", "fs3", "fs4", "fs5", "fs6", "fs7", "fs8", "fs9", "fs10", "fs11",
    "ft8", "ft9", "ft10", "ft11",
];

/// `ebreak` of a length.
pub fn breakpoint(len: u64) -> &'static [u8] {
    if len == 2 { &[0x02, 0x90] } else { &[0x73, 0x00, 0x10, 0x00] }
}

fn xlen(guest: &Riscv) -> u32 {
    if guest.is_rv32() { 32 } else { 64 }
}

fn groups(guest: &Riscv) -> Vec<Group<Place>> {
    let xlen = xlen(guest);
    let kind = |n| match n {
        1 => Kind::CodePointer,
        2..=4 | 8 => Kind::DataPointer,
        _ => Kind::Int,
    };
    let mut rows: Vec<_> = (0..32).map(|n| register(X[n], xlen, kind(n), Place::X(n))).collect();
    rows.push(register("pc", xlen, Kind::CodePointer, Place::Pc));
    let mut groups = vec![Group::new("org.gnu.gdb.riscv.cpu", String::new(), rows)];
    if guest.has(Feature::F) {
        let wide = guest.has(Feature::D);
        let (bits, kind) = if wide { (64, Kind::Own("riscv_double")) } else { (32, Kind::Single) };
        let types = "<union id=\"riscv_double\"><field name=\"float\" type=\"ieee_single\"/>\
                     <field name=\"double\" type=\"ieee_double\"/></union>";
        let mut rows: Vec<_> = (0..32).map(|n| register(F[n], bits, kind, Place::F(n))).collect();
        rows.push(register("fflags", 32, Kind::Int, Place::Fflags));
        rows.push(register("frm", 32, Kind::Int, Place::Frm));
        rows.push(register("fcsr", 32, Kind::Int, Place::Fcsr));
        let types = if wide { types.to_owned() } else { String::new() };
        groups.push(Group::new("org.gnu.gdb.riscv.fpu", types, rows));
    }
    if guest.has(Feature::V) {
        let bits = guest.config.vlen;
        let kind = Kind::Own("riscv_vector");
        let rows = (0..32).map(|n| register(format!("v{n}"), bits, kind, Place::V(n))).collect();
        groups.push(Group::new("org.gnu.gdb.riscv.vector", vector_types(bits), rows));
        let csrs = [
            ("vstart", Place::Vstart),
            ("vl", Place::Vl),
            ("vtype", Place::Vtype),
            ("vcsr", Place::Vcsr),
            ("vlenb", Place::Vlenb),
        ];
        let rows = csrs.map(|(name, place)| register(name, xlen, Kind::Int, place));
        groups.push(Group::new("org.gnu.gdb.riscv.csr", String::new(), rows.into()));
    }
    groups
}

/// The views of a vector register.
fn vector_types(bits: u32) -> String {
    const VIEWS: [(&str, &str, u32, &str); 5] = [
        ("quads", "uint128", 128, "q"),
        ("longs", "uint64", 64, "l"),
        ("words", "uint32", 32, "w"),
        ("shorts", "uint16", 16, "s"),
        ("bytes", "uint8", 8, "b"),
    ];
    let views = VIEWS.iter().filter(|(.., width, _)| *width <= bits);
    let vectors = views.clone().map(|(id, kind, width, _)| {
        format!("<vector id=\"{id}\" type=\"{kind}\" count=\"{}\"/>", bits / width)
    });
    let fields =
        views.rev().map(|(id, .., name)| format!("<field name=\"{name}\" type=\"{id}\"/>"));
    let (vectors, fields): (String, String) = (vectors.collect(), fields.collect());
    format!("{vectors}<union id=\"riscv_vector\">{fields}</union>")
}

/// What debuggers are told.
pub fn description(guest: &Riscv) -> Description {
    describe(if guest.is_rv32() { "riscv:rv32" } else { "riscv:rv64" }, groups(guest))
}

/// Every register with its bits.
fn places(guest: &Riscv) -> impl Iterator<Item = (Place, u32)> {
    groups(guest).into_iter().flat_map(|group| {
        group.places.into_iter().zip(group.feature.registers.into_iter().map(|r| r.bits))
    })
}

fn vcsr(state: &State) -> u64 {
    state.vxrm << 1 | state.vxsat
}

/// Bytes of all registers.
pub fn read(guest: &Riscv, state: &State) -> Vec<u8> {
    let vlenb = (guest.config.vlen / 8) as usize;
    let mut bytes = Vec::with_capacity(1024);
    for (place, bits) in places(guest) {
        let value = match place {
            Place::X(n) => state.x[n],
            Place::Pc => state.pc,
            Place::F(n) => state.f[n],
            Place::Fflags => state.fflags,
            Place::Frm => state.frm,
            Place::Fcsr => state.frm << 5 | state.fflags,
            Place::Vstart => state.vstart,
            Place::Vl => state.vl,
            Place::Vtype if bits == 32 => state.vtype | state.vtype >> 32,
            Place::Vtype => state.vtype,
            Place::Vcsr => vcsr(state),
            Place::Vlenb => vlenb as u64,
            Place::V(n) => {
                bytes.extend_from_slice(&state.v.0[n * vlenb..(n + 1) * vlenb]);
                continue;
            }
        };
        bytes.extend_from_slice(&value.to_le_bytes()[..bits as usize / 8]);
    }
    bytes
}

/// Sets a register; those that have one value only keep it.
pub fn write(guest: &Riscv, state: &mut State, number: usize, bytes: &[u8]) {
    let Some((place, bits)) = places(guest).nth(number) else { return };
    let value = bytes.iter().take(8).rev().fold(0, |value, byte| value << 8 | u64::from(*byte));
    match place {
        Place::X(0) | Place::Vlenb | Place::Vl | Place::Vtype | Place::Vstart => {}
        Place::X(n) => state.x[n] = guest.value(value),
        Place::Pc => state.pc = guest.address(value),
        Place::F(n) if bits == 32 => state.f[n] = value | 0xffff_ffff << 32,
        Place::F(n) => state.f[n] = value,
        Place::Fflags => state.fflags = value & 31,
        Place::Frm => state.frm = value & 7,
        Place::Fcsr => (state.fflags, state.frm) = (value & 31, value >> 5 & 7),
        Place::Vcsr => (state.vxsat, state.vxrm) = (value & 1, value >> 1 & 3),
        Place::V(n) => {
            let vlenb = (guest.config.vlen / 8) as usize;
            if let Some(bytes) = bytes.get(..vlenb) {
                state.v.0[n * vlenb..(n + 1) * vlenb].copy_from_slice(bytes);
            }
        }
    }
}
