//! RISC-V: `riscv64` and `riscv32`.
//!
//! Sources: RISC-V ELF psABI; Linux, `Documentation/arch/riscv` and the exported headers
//! `asm/sigcontext.h`, `asm/ucontext.h`, `asm/ptrace.h`, `asm/hwprobe.h`.

use super::{
    Abi, Call, Frame, Machine, Processor, Return, generic, riscv_debug, riscv_registers, riscv_vdso,
};
use crate::calls::Entry;
use crate::calls::Run::Own;
use crate::errno::{Done, Errno};
use crate::options::Options;
use crate::space::Space;
use crate::thread::Thread;
use cpu::VirtualCpu;
use isa::Event;
use riscv::{Config, Feature, Riscv, State, Xlen, model};
use runtime::{Kicker, ProcessMemory, Vcpu, Width};
use std::sync::Arc;

/// `riscv64`.
pub static RISCV64: Abi = WIDE;

const WIDE: Abi = Abi {
    name: "riscv64",
    machine: elf::EM_RISCV,
    bits: 64,
    big_endian: false,
    uname: "riscv64",
    release: [4, 15, 0],
    numbers: generic::NUMBERS_64,
    own: CALLS,
    vdso: riscv_vdso::wide,
    rescue: |_, _| false,
    platform: None,
    user_len: 4,
    breakpoint: riscv_debug::breakpoint,
    breakpoint_length: 0,
    has_restorer: false,
    tls_first: true,
    long_alignment: 8,
    packed_events: false,
    breakpoints_by_kernel: false,
    padded_times: false,
    stat: crate::layout::generic_stat,
    machine_for: |options| make(options, Xlen::Rv64),
    models: || models("riscv64"),
};

/// `riscv32`.
pub static RISCV32: Abi = Abi {
    name: "riscv32",
    bits: 32,
    uname: "riscv32",
    release: [5, 4, 0],
    numbers: generic::NUMBERS_32,
    vdso: riscv_vdso::narrow,
    machine_for: |options| make(options, Xlen::Rv32),
    models: || models("riscv32"),
    ..WIDE
};

/// Calls of this architecture.
static CALLS: &[Entry] = &[
    Entry { name: "riscv_hwprobe", shape: "wzzwx", run: Own(hwprobe) },
    Entry { name: "riscv_flush_icache", shape: "ppx", run: Own(flush_icache) },
];

fn models(name: &str) -> String {
    let xlen = if name == "riscv32" { Xlen::Rv32 } else { Xlen::Rv64 };
    let mut text = String::from("Available CPUs:\n");
    for name in model::names().filter(|name| config(name, xlen).is_ok()) {
        text.push_str(&format!("  {name}\n"));
    }
    text
}

/// What a processor of this model can do.
fn config(text: &str, xlen: Xlen) -> Result<Config, String> {
    let name = text.split(',').next().unwrap_or_default();
    // Both widths have a model of this name, each in its own program.
    let text = match text.strip_prefix("max") {
        Some(rest) if xlen == Xlen::Rv32 && !rest.starts_with("32") => format!("max32{rest}"),
        _ => text.to_owned(),
    };
    let config = model::parse(&text).map_err(|error| error.to_string())?;
    if config.xlen != xlen {
        return Err(format!("unable to find CPU model '{name}'"));
    }
    Ok(config)
}

/// The processors of a process.
struct Harts {
    guest: Arc<Riscv>,
    memory: Arc<ProcessMemory>,
}

fn make(options: &Options, xlen: Xlen) -> Result<Box<dyn Machine>, String> {
    let (default, width) = match xlen {
        Xlen::Rv64 => ("max", Width::Bits64),
        Xlen::Rv32 => ("max", Width::Bits32),
    };
    let config = config(options.cpu.as_deref().unwrap_or(default), xlen)?;
    let guest = Riscv::user(config);
    let engine = super::engine(options);
    let memory = ProcessMemory::new::<Riscv>(width, engine)
        .map_err(|error| format!("no memory for programs: {error}"))?;
    Ok(Box::new(Harts { guest: Arc::new(guest), memory }))
}

impl Machine for Harts {
    fn memory(&self) -> &Arc<ProcessMemory> {
        &self.memory
    }

    fn processor(&self) -> Box<dyn Processor> {
        let vcpu = Vcpu::for_process(Arc::clone(&self.guest), &self.memory);
        Box::new(Hart { vcpu, guest: Arc::clone(&self.guest) })
    }

    fn hwcap(&self) -> [u64; 2] {
        const LETTERS: [(Feature, u8); 6] = [
            (Feature::A, b'a'),
            (Feature::C, b'c'),
            (Feature::D, b'd'),
            (Feature::F, b'f'),
            (Feature::M, b'm'),
            (Feature::V, b'v'),
        ];
        let has = LETTERS.iter().filter(|(feature, _)| self.guest.has(*feature));
        [has.fold(1 << (b'i' - b'a'), |set, (_, letter)| set | 1 << (letter - b'a')), 0]
    }

    fn probe(&self, key: i64) -> Option<u64> {
        const BASE_BEHAVIOR: i64 = 3;
        const IMA_EXT_0: i64 = 4;
        const CPUPERF_0: i64 = 5;
        const ZICBOZ_BLOCK_SIZE: i64 = 6;
        const MISALIGNED_FAST: u64 = 3;
        let config = &self.guest.config;
        Some(match key {
            0 => config.mvendorid,
            1 => config.marchid,
            2 => config.mimpid,
            BASE_BEHAVIOR => 1,
            IMA_EXT_0 => PROBED
                .iter()
                .filter(|(feature, _)| config.has(*feature))
                .fold(0, |set, (_, bit)| set | 1 << bit),
            CPUPERF_0 => MISALIGNED_FAST,
            ZICBOZ_BLOCK_SIZE => config.cboz_block.into(),
            _ => return None,
        })
    }

    fn description(&self) -> gdb::Description {
        riscv_debug::description(&self.guest)
    }

    fn cpuinfo(&self, count: usize) -> Option<String> {
        let config = &self.guest.config;
        let mmu = if config.xlen == Xlen::Rv32 { "sv32" } else { "sv48" };
        let one = |n| {
            format!(
                "processor\t: {n}\nhart\t\t: {n}\nisa\t\t: {}\nmmu\t\t: {mmu}\nuarch\t\t: tinamou\n\n",
                config.isa_string()
            )
        };
        Some((0..count).map(one).collect())
    }
}

/// Bits of `RISCV_HWPROBE_KEY_IMA_EXT_0` (Linux, `Documentation/arch/riscv/hwprobe.rst`).
#[rustfmt::skip]
const PROBED: &[(Feature, u32)] = &[
    (Feature::D, 0), (Feature::C, 1), (Feature::V, 2), (Feature::Zba, 3), (Feature::Zbb, 4),
    (Feature::Zbs, 5), (Feature::Zicboz, 6), (Feature::Zbc, 7), (Feature::Zbkb, 8),
    (Feature::Zbkc, 9), (Feature::Zbkx, 10), (Feature::Zknd, 11), (Feature::Zkne, 12),
    (Feature::Zknh, 13), (Feature::Zksed, 14), (Feature::Zksh, 15), (Feature::Zkt, 16),
    (Feature::Zvbb, 17), (Feature::Zvbc, 18), (Feature::Zvkb, 19), (Feature::Zvkg, 20),
    (Feature::Zvkned, 21), (Feature::Zvknha, 22), (Feature::Zvknhb, 23), (Feature::Zvksed, 24),
    (Feature::Zvksh, 25), (Feature::Zvkt, 26), (Feature::Zfh, 27), (Feature::Zfhmin, 28),
    (Feature::Zihintntl, 29), (Feature::Zvfh, 30), (Feature::Zvfhmin, 31), (Feature::Zfa, 32),
    (Feature::Zacas, 34), (Feature::Zicond, 35), (Feature::Zihintpause, 36),
    (Feature::Zimop, 47), (Feature::Zcb, 45), (Feature::Zcmop, 48), (Feature::Zawrs, 49),
];

/// Registers by their numbers.
mod x {
    pub(super) const SP: usize = 2;
    pub(super) const RA: usize = 1;
    pub(super) const TP: usize = 4;
    pub(super) const A0: usize = 10;
    pub(super) const A1: usize = 11;
    pub(super) const A2: usize = 12;
    pub(super) const A7: usize = 17;
}

/// A processor.
struct Hart {
    vcpu: Vcpu<Riscv>,
    guest: Arc<Riscv>,
}

impl Hart {
    fn state(&self) -> &State {
        self.vcpu.state()
    }

    fn set(&mut self, register: usize, value: u64) {
        let value = self.guest.value(value);
        self.vcpu.state_mut().x[register] = value;
    }

    /// A register as an address or an argument: zero-extended.
    fn get(&self, register: usize) -> u64 {
        self.guest.address(self.state().x[register])
    }
}

impl Processor for Hart {
    fn run(&mut self) -> Option<Event> {
        super::run(&mut self.vcpu)
    }

    fn step(&mut self) -> Option<Event> {
        super::step(&mut self.vcpu)
    }

    fn registers(&self) -> Vec<u8> {
        riscv_debug::read(&self.guest, self.state())
    }

    fn set_register(&mut self, number: usize, bytes: &[u8]) {
        let guest = Arc::clone(&self.guest);
        riscv_debug::write(&guest, self.vcpu.state_mut(), number, bytes);
    }

    fn kicker(&self) -> Kicker {
        self.vcpu.kicker()
    }

    fn call(&self) -> Call {
        let mut args = [0; 6];
        for (n, arg) in args.iter_mut().enumerate() {
            *arg = self.get(x::A0 + n);
        }
        Call { number: self.get(x::A7), args }
    }

    fn set_result(&mut self, value: u64) {
        self.set(x::A0, value);
    }

    fn pc(&self) -> u64 {
        self.state().pc
    }

    fn set_pc(&mut self, pc: u64) {
        self.vcpu.state_mut().pc = self.guest.address(pc);
    }

    fn stack(&self) -> u64 {
        self.get(x::SP)
    }

    fn set_stack(&mut self, stack: u64) {
        self.set(x::SP, stack);
    }

    fn set_tls(&mut self, tls: u64) {
        self.set(x::TP, tls);
    }

    fn twin(&self) -> Box<dyn Processor> {
        let memory = self.vcpu.memory().expect("it was made for a process");
        let mut vcpu = Vcpu::for_process(Arc::clone(&self.guest), memory);
        *vcpu.state_mut() = self.state().clone();
        Box::new(Self { vcpu, guest: Arc::clone(&self.guest) })
    }

    fn start(&mut self, entry: u64, stack: u64) {
        self.set_pc(entry);
        self.set_stack(stack);
    }

    fn enter_handler(&mut self, space: &Space, frame: &Frame) -> Result<(), Errno> {
        let layout = Layout::of(&self.guest);
        let vector = layout.vector_len(&self.guest);
        let len = layout.context + layout.registers_end() + vector;
        let at = frame.stack.checked_sub(len).ok_or(Errno::EFAULT)? & !15;
        let mut image = vec![0; len as usize];
        image[..128].copy_from_slice(&frame.info);
        layout.write(&self.guest, self.state(), frame, at, &mut image);
        space.write_bytes(at, &image)?;
        self.set(x::RA, frame.restorer);
        self.set(x::SP, at);
        self.set(x::A0, frame.signal.into());
        self.set(x::A1, at);
        self.set(x::A2, at + 128);
        self.set_pc(frame.handler);
        Ok(())
    }

    fn leave_handler(&mut self, space: &Space) -> Result<Return, Errno> {
        let layout = Layout::of(&self.guest);
        let at = self.stack();
        let len = layout.context + layout.registers_end() + layout.vector_len(&self.guest);
        let mut image = vec![0; len as usize];
        if space.read_bytes(at, &mut image).is_err() {
            // A frame made by hand need not have vector state.
            image.truncate((layout.context + layout.registers_end()) as usize);
            space.read_bytes(at, &mut image)?;
        }
        let guest = Arc::clone(&self.guest);
        layout.read(&guest, self.vcpu.state_mut(), &image)
    }

    fn result(&self) -> i64 {
        self.state().x[x::A0].cast_signed()
    }

    fn restore_call(&mut self, call: &Call) {
        self.set(x::A0, call.args[0]);
        self.set(x::A7, call.number);
    }

    fn register_sets(&self, _: Option<u64>) -> Vec<(u32, Vec<u8>)> {
        riscv_registers::sets(&self.guest, self.state())
    }

    /// The number of the call is in a register of its own.
    fn set_register_set(&mut self, note: u32, bytes: &[u8]) -> Option<u64> {
        let guest = Arc::clone(&self.guest);
        riscv_registers::set(&guest, self.vcpu.state_mut(), note, bytes);
        (note == crate::ptrace::note::PRSTATUS).then(|| self.get(x::A7))
    }

    fn dump(&self) -> String {
        self.vcpu.dump()
    }
}

/// `RISCV_V_MAGIC`.
const V_MAGIC: u32 = 0x5346_5457;
/// Bytes of `__riscv_ctx_hdr`.
const HEADER: u64 = 8;
/// Bytes of `union __riscv_fp_state`, whose alignment is 16.
const FLOAT: u64 = 528;

/// Places in `struct rt_sigframe`: siginfo, then a ucontext with the registers.
struct Layout {
    /// Bytes of a word.
    word: u64,
    /// Offset of `uc_mcontext` in the frame.
    context: u64,
}

impl Layout {
    fn of(guest: &Riscv) -> Self {
        // uc_flags, uc_link, uc_stack, then 128 bytes for the set of signals, aligned to 16.
        let word = if guest.is_rv32() { 4 } else { 8 };
        Self { word, context: 128 + (5 * word + 128).next_multiple_of(16) }
    }

    /// Offset of the floating-point state in the context.
    fn float(&self) -> u64 {
        32 * self.word
    }

    /// Where extensions begin: in the reserved words at the end of the floating-point state.
    fn registers_end(&self) -> u64 {
        self.float() + FLOAT
    }

    /// Bytes that extensions need behind the reserved words, two headers included.
    fn vector_len(&self, guest: &Riscv) -> u64 {
        if !guest.has(Feature::V) {
            return 0;
        }
        // The first header lies in the reserved words.
        self.vector_state() + 32 * u64::from(guest.config.vlen / 8) + HEADER
    }

    /// Bytes of `struct __riscv_v_ext_state`.
    fn vector_state(&self) -> u64 {
        // vstart, vl, vtype, vcsr, vlenb, datap, to a multiple of 16.
        (6 * self.word).next_multiple_of(16)
    }

    /// Writes the frame that goes to `at`, apart from its siginfo.
    fn write(&self, guest: &Riscv, state: &State, frame: &Frame, at: u64, image: &mut [u8]) {
        let word = self.word as usize;
        let mut put = |offset: u64, value: u64, len: usize| {
            let offset = offset as usize;
            image[offset..offset + len].copy_from_slice(&value.to_le_bytes()[..len]);
        };
        let [base, flags, len] = frame.alternate;
        put(128 + 2 * self.word, base, word);
        put(128 + 3 * self.word, flags, 4);
        put(128 + 4 * self.word, len, word);
        put(128 + 5 * self.word, frame.mask, 8);
        put(self.context, state.pc, word);
        for n in 1..32 {
            put(self.context + n * self.word, state.x[n as usize], word);
        }
        let float = self.context + self.float();
        let wide = guest.has(Feature::D);
        for n in 0..32 {
            let (step, len) = if wide { (8, 8) } else { (4, 4) };
            put(float + n * step, state.f[n as usize], len);
        }
        let fcsr = state.frm << 5 | state.fflags;
        put(float + if wide { 256 } else { 128 }, fcsr, 4);
        if !guest.has(Feature::V) {
            return;
        }
        // The headers begin in the last two reserved words, and the state behind them.
        let header = self.context + self.registers_end() - HEADER;
        let body = header + HEADER;
        let registers = 32 * u64::from(guest.config.vlen / 8);
        let size = HEADER + self.vector_state() + registers;
        put(header, V_MAGIC.into(), 4);
        put(header + 4, size, 4);
        let vcsr = state.vxrm << 1 | state.vxsat;
        let vlenb = u64::from(guest.config.vlen / 8);
        let data = body + self.vector_state();
        let vtype = if self.word == 8 { state.vtype } else { state.vtype | state.vtype >> 32 };
        for (n, value) in
            [state.vstart, state.vl, vtype, vcsr, vlenb, at + data].into_iter().enumerate()
        {
            put(body + n as u64 * self.word, value, word);
        }
        let from = &state.v.0[..registers as usize];
        image[data as usize..][..from.len()].copy_from_slice(from);
    }

    /// Takes over the registers from a frame.
    fn read(&self, guest: &Riscv, state: &mut State, image: &[u8]) -> Result<Return, Errno> {
        let word = self.word as usize;
        let get = |offset: u64, len: usize| {
            let offset = offset as usize;
            let bytes = image.get(offset..offset + len).unwrap_or(&[]);
            bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
        };
        state.pc = guest.address(get(self.context, word));
        for n in 1..32 {
            state.x[n as usize] = guest.value(get(self.context + n * self.word, word));
        }
        let float = self.context + self.float();
        let wide = guest.has(Feature::D);
        for n in 0..32 {
            state.f[n as usize] = match wide {
                true => get(float + n * 8, 8),
                false => get(float + n * 4, 4) | 0xffff_ffff << 32,
            };
        }
        let fcsr = get(float + if wide { 256 } else { 128 }, 4);
        (state.fflags, state.frm) = (fcsr & 31, fcsr >> 5 & 7);
        let header = self.context + self.registers_end() - HEADER;
        if guest.has(Feature::V) && get(header, 4) == u64::from(V_MAGIC) {
            let body = header + HEADER;
            let field = |n: u64| get(body + n * self.word, word);
            let vlenb = u64::from(guest.config.vlen / 8);
            state.vtype = match field(2) {
                vtype if vtype >> (8 * word - 1) != 0 => 1 << 63,
                vtype => vtype & 0xff,
            };
            (state.vstart, state.vl) = (field(0).min(8 * vlenb), field(1).min(8 * vlenb));
            (state.vxrm, state.vxsat) = (field(3) >> 1 & 3, field(3) & 1);
            let data = (body + self.vector_state()) as usize;
            let registers = 32 * vlenb as usize;
            let from = image.get(data..data + registers).ok_or(Errno::EFAULT)?;
            state.v.0[..registers].copy_from_slice(from);
        }
        let alternate = [
            get(128 + 2 * self.word, word),
            get(128 + 3 * self.word, 4),
            get(128 + 4 * self.word, word),
        ];
        Ok(Return { mask: get(128 + 5 * self.word, 8), alternate })
    }
}

/// `riscv_flush_icache`: code that was written is fetched from now on.
fn flush_icache(thread: &mut Thread, args: &[u64; 6]) -> Done {
    let [start, end, flags, ..] = *args;
    if flags & !1 != 0 {
        return Err(Errno::EINVAL);
    }
    if start < end {
        thread.process.space.memory().forget_code(start, end - start);
    }
    Ok(0)
}

/// `riscv_hwprobe`: what programs ask instead of trying instructions.
fn hwprobe(thread: &mut Thread, args: &[u64; 6]) -> Done {
    const WHICH_CPUS: u64 = 1;
    let [pairs, count, _, _, flags, _] = *args;
    if flags & WHICH_CPUS != 0 || flags != 0 {
        return Err(Errno::EINVAL);
    }
    let space = &thread.process.space;
    for n in 0..count.min(4096) {
        let at = pairs.wrapping_add(16 * n);
        let key: i64 = space.read(at)?;
        match thread.process.machine.probe(key) {
            Some(value) => space.write(at + 8, value)?,
            None => {
                space.write(at, -1i64)?;
                space.write(at + 8, 0u64)?;
            }
        }
    }
    Ok(0)
}
