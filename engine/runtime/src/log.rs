//! What `-d` shows of units: their guest code, IR and host code, and each as it is entered. The
//! layout is that of the peer's log, which scripts read.

use crate::cache::Isa;
use crate::code_page::{CodePage, code_of};
use codegen::Compiled;
use iced_x86::{Decoder, DecoderOptions, Formatter, GasFormatter};
use ir::Unit;
use isa::Guest;
use std::fmt::Write;
use trace::Item;

/// Logs the guest code of a unit that was just translated.
pub(crate) fn guest_code<G: Guest>(
    guest: &G,
    unit: &Unit,
    first: &CodePage,
    second: Option<&CodePage>,
) {
    if !trace::enabled_at(Item::InAsm, unit.pc) {
        return;
    }
    let code = code_of(unit, first, second);
    let (mut text, mut at) = (String::from("----------------\nIN: \n"), 0);
    while at < code.len() {
        let pc = unit.pc.wrapping_add(at as u64);
        let (line, len) = guest.disassemble(pc, &code[at..]);
        let end = code.len().min(at + len.max(1));
        let line = isa::instruction_line(&code[at..end], &line);
        // A string takes every write.
        let _ = writeln!(text, "{pc:#010x}:  {line}");
        at = end;
    }
    trace::log!(InAsm, "{text}");
}

/// Logs the IR of a unit as it is now, under a heading.
pub(crate) fn ir(item: Item, heading: &str, unit: &Unit, isa: &Isa) {
    if trace::enabled_at(item, unit.pc) {
        let listing = unit.listing_with(isa.regs, isa.helper_name);
        trace::write(format_args!("{heading}:\n{listing}\n"));
    }
}

/// Logs the host code of a unit, made at host address `origin`, and the records behind it.
/// `insns` says where each guest instruction's code begins.
pub(crate) fn host_code(
    unit: &Unit,
    origin: u64,
    compiled: &Compiled,
    code: &[u8],
    insns: &[(u32, u64)],
) {
    if !trace::enabled_at(Item::OutAsm, unit.pc) {
        return;
    }
    let (code, data) = code.split_at(compiled.code_len as usize);
    let mut text = format!("OUT: [size={}]\n", code.len() + data.len());
    let first = insns.first().map_or(unit.pc, |(_, pc)| *pc);
    let mut parts = vec![(0, format!("guest addr {first:#018x} + tb prologue"))];
    let others = insns.iter().skip(1).map(|(at, pc)| (*at, format!("guest addr {pc:#018x}")));
    parts.extend(others);
    parts.push((compiled.tails, "tb slow paths + alignment".to_owned()));
    let ends: Vec<u32> =
        parts.iter().skip(1).map(|(at, _)| *at).chain([compiled.code_len]).collect();
    for ((start, what), end) in parts.into_iter().zip(ends) {
        if let Some(piece) = code.get(start as usize..end as usize)
            && !piece.is_empty()
        {
            let _ = writeln!(text, "  -- {what}");
            disassemble(&mut text, origin + u64::from(start), piece);
        }
    }
    if !data.is_empty() {
        let _ = writeln!(text, "  data: [size={}]", data.len());
        dump(&mut text, origin + code.len() as u64, data);
    }
    trace::log!(OutAsm, "{text}");
}

/// Host code at address `at`, an instruction a line.
fn disassemble(text: &mut String, at: u64, code: &[u8]) {
    let mut formatter = GasFormatter::new();
    let options = formatter.options_mut();
    options.set_first_operand_char_index(9);
    options.set_space_after_operand_separator(true);
    options.set_gas_show_mnemonic_size_suffix(true);
    options.set_rip_relative_addresses(true);
    options.set_signed_immediate_operands(true);
    options.set_branch_leading_zeros(false);
    options.set_uppercase_hex(false);
    let mut line = String::new();
    for instruction in &mut Decoder::with_ip(64, code, at, DecoderOptions::NONE) {
        let start = (instruction.ip() - at) as usize;
        let bytes = code[start..].iter().take(instruction.len());
        line.clear();
        bytes.for_each(|byte| {
            let _ = write!(line, "{byte:02x} ");
        });
        let _ = write!(text, "{:#x}:  {line:<25}", instruction.ip());
        if !instruction.is_invalid() {
            formatter.format(&instruction, text);
        }
        text.push('\n');
    }
}

/// Data at address `at`, eight bytes a line, and what comes before and after those by bytes.
fn dump(text: &mut String, at: u64, data: &[u8]) {
    let before = (at.next_multiple_of(8) - at).min(data.len() as u64) as usize;
    let (before, rest) = data.split_at(before);
    let (quads, after) = rest.as_chunks::<8>();
    let mut here = at;
    let bytes = |text: &mut String, here: &mut u64, bytes: &[u8]| {
        if !bytes.is_empty() {
            let list: Vec<_> = bytes.iter().map(|byte| format!("{byte:#04x}")).collect();
            let _ = writeln!(text, "{here:#x}:  .byte  {}", list.join(", "));
            *here += bytes.len() as u64;
        }
    };
    bytes(text, &mut here, before);
    for quad in quads {
        let _ = writeln!(text, "{here:#x}:  .quad  {:#018x}", u64::from_le_bytes(*quad));
        here += 8;
    }
    bytes(text, &mut here, after);
}
