//! What code the engine makes of small guest kernels: `tests/codegen/*.txt`.
//!
//! A file is a `#` line, the words of the guest's code (what follows a word on its line is for
//! readers), and what the driver adds: the count of host instructions, the optimised IR, and the
//! host code up to its records, disassembled. Addresses that mean something have names, so that
//! they change only with the code itself. A title that has `vtype=` and `vl=` asks for vectors of that
//! type. `UPDATE_GOLDEN=1` writes the files anew; a new one needs
//! only its head.

#[allow(dead_code, reason = "no memory is needed here")]
mod machine;

use codegen::x86_64::{Buffers, Generator, emit_thunks};
use codegen::{Compiled, Core, Memory, Target, Thunks};
use iced_x86::{
    Decoder, DecoderOptions, Formatter, Instruction, Mnemonic, NasmFormatter, SymbolResolver,
    SymbolResult,
};
use ir::{Builder, Unit};
use isa::Guest;
use machine::{Code, START, hart};
use opt::Optimiser;
use riscv::decode::disassemble_plain;
use riscv::{Riscv, Xlen};
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
    fn of_memory(displacement: i64) -> Option<(&'static str, i64)> {
        let in_state = displacement + i64::from(Core::BIAS);
        let registers = Riscv::registers();
        if let Some(register) = registers.iter().find(|r| i64::from(r.offset) == in_state) {
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
            let (name, start) = Self::of_memory(address.cast_signed())?;
            return Some(SymbolResult::with_str(start.cast_unsigned(), name));
        }
        None
    }
}

/// Words of a file's head.
fn words(text: &str) -> Vec<u32> {
    let head = text.lines().skip(1).take_while(|line| !line.starts_with("--"));
    let word = |line: &str| {
        let word = line.split_whitespace().next()?;
        Some(u32::from_str_radix(word, 16).unwrap_or_else(|e| panic!("{line}: {e}")))
    };
    head.filter_map(word).collect()
}

/// The number that a file's title gives to a name.
fn setting(title: &str, name: &str) -> Option<u64> {
    let words = title.split([' ', ',', ';', '.']);
    let value = words.filter_map(|word| word.split_once('=')).find(|(key, _)| *key == name)?.1;
    Some(value.parse().unwrap_or_else(|e| panic!("{title}: {value}: {e}")))
}

fn translate(title: &str, words: &[u32]) -> Unit {
    let hart = hart(Xlen::Rv64);
    let mut state = hart.reset();
    // The unit is on and its registers are dirty.
    state.mstatus |= 3 << 13;
    if let (Some(vtype), Some(vl)) = (setting(title, "vtype"), setting(title, "vl")) {
        // So is the other, and its type is known.
        state.mstatus |= 3 << 9;
        (state.vtype, state.vl, state.vknown) = (vtype, vl, 1);
    }
    state.pc = START;
    let mode = hart.mode(&state);
    // As the runtime fills them in.
    let flags = mode.flags | u32::from(mode.mmu) << 29;
    let mut unit = Unit { pc: START, mmu: mode.mmu, flags, ..Unit::default() };
    let mut code = Code(words.iter().flat_map(|word| word.to_le_bytes()).collect());
    hart.translate(&mode, 64, &mut code, &mut Builder::new(&mut unit));
    assert_eq!(unit.verify(), Ok(()));
    unit
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
fn host_code(bytes: &[u8], compiled: &Compiled, thunks: Thunks) -> (String, String) {
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
        NasmFormatter::with_options(Some(Box::new(Names { thunks, end, labels })), None);
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

/// A whole file, made of its head.
fn render(text: &str) -> String {
    let words = words(text);
    let title = text.lines().next().expect("a file has a title");
    let mut golden = format!("{title}\n");
    let ext = hart(Xlen::Rv64).config.ext;
    for (pc, word) in (START..).step_by(4).zip(&words) {
        let shown = disassemble_plain(*word, pc, ext).expect("an instruction");
        let _ = writeln!(golden, "{word:08x}  {shown}");
    }
    let mut unit = translate(title, &words);
    let regs = Riscv::registers();
    Optimiser::default().run(&mut unit, regs);
    assert_eq!(unit.verify(), Ok(()));
    let (_, thunks) = emit_thunks(regs, THUNKS);
    let vectors = Riscv::VECTORS;
    let target = Target {
        regs,
        vectors,
        origin: ORIGIN,
        thunks,
        unit: 0,
        no_chain: false,
        avx512: false,
        units: codegen::x86_64::Units::default(),
        memory: Memory::Tlb,
        compared: None,
    };
    let mut buffers = Buffers::default();
    let compiled = Generator::compile(&unit, target, &mut buffers).expect("a kernel is small");
    let (summary, host) = host_code(&buffers.code, &compiled, thunks);
    let _ = writeln!(golden, "-- guest: {} instructions in {} bytes", unit.insns, unit.len);
    golden.push_str(&summary);
    let _ = write!(golden, "-- IR\n{}-- host code\n{host}", unit.listing(regs));
    golden
}

#[test]
fn kernels_give_the_code_of_their_files() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/codegen");
    let bless = std::env::var_os("UPDATE_GOLDEN").is_some();
    let (mut count, mut changed) = (0, Vec::new());
    for entry in std::fs::read_dir(dir).expect("the folder of kernels exists") {
        let path = entry.expect("the folder can be read").path();
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
    assert!(count >= 12, "{count} kernels");
    assert!(changed.is_empty(), "see UPDATE_GOLDEN in this file's head\n{}", changed.join("\n"));
}
