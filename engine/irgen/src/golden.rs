//! What code the engine makes of small kernels of guest code, as text that a review can read: goldens.
//!
//! A file is a `#` line, the guest's code, and what [`compiled`] adds: the count of host instructions, the
//! optimised IR, and the host code up to its records, disassembled. Addresses that mean something have names, so
//! that they change only with the code itself. `UPDATE_GOLDEN=1` writes files anew; a new one needs only its
//! head.

use codegen::x86_64::{Buffers, Generator, HostFeatures, emit_thunks};
use codegen::{Compiled, Core, Memory, Target, Thunks};
use iced_x86::{
    Decoder, DecoderOptions, Formatter, Instruction, Mnemonic, NasmFormatter, SymbolResolver,
    SymbolResult,
};
use ir::{RegInfo, Unit};
use isa::Guest;
use opt::Optimiser;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::mem::offset_of;
use std::path::Path;

/// Where host code is said to be: the thunks, and the unit.
const THUNKS: u64 = 0x1000_0000;
const ORIGIN: u64 = 0x2000_0000;
/// Where the fields of a core begin, and what follows it.
const FIELDS: [(usize, &str); 14] = [
    (offset_of!(Core, tlb), "tlb"),
    (offset_of!(Core, jumps), "jumps"),
    (offset_of!(Core, spill), "spill"),
    (offset_of!(Core, vector_spill), "vector_spill"),
    (offset_of!(Core, frame), "frame"),
    (offset_of!(Core, consts), "consts"),
    (offset_of!(Core, resume), "resume"),
    (offset_of!(Core, target), "target"),
    (offset_of!(Core, returns_limit), "returns_limit"),
    (offset_of!(Core, mxcsr), "mxcsr"),
    (offset_of!(Core, scratch_mxcsr), "scratch"),
    (offset_of!(Core, flags), "flags"),
    (offset_of!(Core, attention), "attention"),
    (size_of::<Core>(), "state"),
];

/// Names of what generated code refers to.
struct Names {
    registers: &'static [RegInfo],
    thunks: Thunks,
    /// Where the unit's code ends, and its records follow.
    end: u64,
    /// Targets of jumps in the unit.
    labels: BTreeMap<u64, usize>,
}

impl Names {
    fn of_code(&self, address: u64) -> Option<String> {
        if let Some(label) = self.labels.get(&address) {
            return Some(format!("L{label}"));
        }
        let thunks = [
            (self.thunks.exit, "exit"),
            (self.thunks.elsewhere, "elsewhere"),
            (self.thunks.slow, "slow"),
            (self.thunks.slow_float, "slow_float"),
            (self.thunks.slow_vector, "slow_vector"),
        ];
        if let Some((_, name)) = thunks.iter().find(|(at, _)| *at == address) {
            return Some((*name).to_owned());
        }
        (address >= self.end).then(|| "record".to_owned())
    }

    /// What lies at a displacement from the base register, and the displacement it begins at.
    fn of_memory(&self, displacement: i64) -> Option<(&'static str, i64)> {
        let in_state = displacement + i64::from(Core::BIAS);
        if let Some(register) = self.registers.iter().find(|r| i64::from(r.offset) == in_state) {
            return Some((register.name, displacement));
        }
        let in_core = in_state + size_of::<Core>() as i64;
        let before = FIELDS.iter().filter(|(at, _)| *at as i64 <= in_core);
        let (at, name) = before.max_by_key(|(at, _)| *at)?;
        Some((name, displacement - in_core + *at as i64))
    }
}

impl SymbolResolver for Names {
    fn symbol(
        &mut self,
        instruction: &Instruction,
        _operand: u32,
        instruction_operand: Option<u32>,
        address: u64,
        _address_size: u32,
    ) -> Option<SymbolResult<'_>> {
        let kind = instruction_operand.map(|i| instruction.op_kind(i));
        if kind == Some(iced_x86::OpKind::NearBranch64) || instruction.is_ip_rel_memory_operand() {
            return Some(SymbolResult::with_string(address, self.of_code(address)?));
        }
        if kind == Some(iced_x86::OpKind::Memory)
            && instruction.memory_base() == iced_x86::Register::RBP
        {
            let (name, start) = self.of_memory(address.cast_signed())?;
            return Some(SymbolResult::with_str(start.cast_unsigned(), name));
        }
        None
    }
}

/// Host instructions from the entry on until control leaves, if no branch is taken. Helpers, which
/// are called out of line, count with the way to them.
fn straight(code: &[Instruction], entry: u64, thunks: Thunks) -> usize {
    let slow = [thunks.slow, thunks.slow_float, thunks.slow_vector];
    let (mut at, mut resume) = (entry, 0);
    let mut seen = BTreeSet::new();
    while let Some(instruction) = code.iter().find(|i| i.ip() == at)
        && seen.insert(at)
    {
        let target = instruction.near_branch_target();
        at = match instruction.mnemonic() {
            Mnemonic::Jmp if slow.contains(&target) => resume,
            Mnemonic::Jmp | Mnemonic::Call => {
                resume = instruction.next_ip();
                target
            }
            _ => instruction.next_ip(),
        };
    }
    seen.len()
}

/// The host code, and the line that sums it up.
fn host_code(
    registers: &'static [RegInfo],
    bytes: &[u8],
    compiled: &Compiled,
    thunks: Thunks,
) -> (String, String) {
    let (code, records) = bytes.split_at(compiled.code_len as usize);
    let decoder = Decoder::with_ip(64, code, ORIGIN, DecoderOptions::NONE);
    let code: Vec<Instruction> = decoder.into_iter().collect();
    let (entry, end) = (ORIGIN + u64::from(compiled.entry), ORIGIN + u64::from(compiled.code_len));
    let mut summary = format!("-- host: {} instructions in {} bytes", code.len(), end - ORIGIN);
    let _ = write!(summary, ", {} if no branch is taken", straight(&code, entry, thunks));
    let _ = writeln!(summary, "; {} bytes of records", records.len());
    let mut labels = BTreeMap::new();
    for instruction in &code {
        assert!(!instruction.is_invalid(), "we emit what others can read");
        let target = instruction.near_branch_target();
        if (ORIGIN..end).contains(&target) {
            labels.insert(target, 0);
        }
    }
    for (number, label) in labels.values_mut().enumerate() {
        *label = number + 1;
    }
    let targets = labels.clone();
    let mut formatter =
        NasmFormatter::with_options(Some(Box::new(Names { registers, thunks, end, labels })), None);
    formatter.options_mut().set_hex_prefix("0x");
    formatter.options_mut().set_hex_suffix("");
    formatter.options_mut().set_show_branch_size(false);
    let mut text = String::new();
    for instruction in &code {
        if instruction.ip() == entry {
            text.push_str("entry:\n");
        }
        if let Some(label) = targets.get(&instruction.ip()) {
            let _ = writeln!(text, "L{label}:");
        }
        let mut line = String::new();
        formatter.format(instruction, &mut line);
        let _ = writeln!(text, "    {line}");
    }
    (summary, text)
}

/// What the engine makes of a unit: counts, IR, host code.
///
/// # Panics
/// If the unit is not well-formed, or too complex to be compiled.
pub fn compiled<G: Guest>(mut unit: Unit, memory: Memory) -> String {
    assert_eq!(unit.verify(), Ok(()));
    let regs = G::registers();
    Optimiser::default().run(&mut unit, regs);
    assert_eq!(unit.verify(), Ok(()));
    let (_, thunks) = emit_thunks(regs, THUNKS);
    let target = Target {
        regs,
        vectors: G::VECTORS,
        origin: ORIGIN,
        thunks,
        unit: 0,
        no_chain: false,
        host: HostFeatures::default(),
        memory,
        compared: None,
    };
    let mut buffers = Buffers::default();
    let compiled = Generator::compile(&unit, target, &mut buffers).expect("a kernel is small");
    let (summary, host) = host_code(regs, &buffers.code, &compiled, thunks);
    let mut golden = String::new();
    let _ = writeln!(golden, "-- guest: {} instructions in {} bytes", unit.insns, unit.len);
    golden.push_str(&summary);
    let _ = write!(golden, "-- IR\n{}-- host code\n{host}", unit.listing(regs));
    golden
}

/// Compares the files of a folder, at least so many, with what they should be by their own heads.
///
/// # Panics
/// If one is not, or cannot be read.
pub fn compare(folder: &Path, least: usize, render: impl Fn(&str) -> String) {
    let bless = std::env::var_os("UPDATE_GOLDEN").is_some();
    let (mut count, mut changed) = (0, Vec::new());
    for entry in std::fs::read_dir(folder).expect("the folder of kernels exists") {
        let path = entry.expect("the folder can be read").path();
        if path.extension().is_none_or(|extension| extension != "txt") {
            continue;
        }
        let found = std::fs::read_to_string(&path).expect("a file of a kernel");
        let golden = render(&found);
        count += 1;
        if golden == found {
            continue;
        }
        if bless {
            std::fs::write(&path, golden).expect("a golden can be written");
            continue;
        }
        let first = golden.lines().zip(found.lines()).find(|(new, old)| new != old);
        let (new, old) = first.unwrap_or_default();
        changed.push(format!("{}:\n    was {old}\n    is  {new}", path.display()));
    }
    assert!(count >= least, "{count} kernels");
    assert!(changed.is_empty(), "see UPDATE_GOLDEN in irgen::golden\n{}", changed.join("\n"));
}

/// The lines of a file's head, without its title.
pub fn head(text: &str) -> impl Iterator<Item = &str> {
    text.lines().skip(1).take_while(|line| !line.starts_with("--"))
}
