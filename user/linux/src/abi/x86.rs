//! x86: `x86_64` and `i386`.
//!
//! Sources: System V ABI, AMD64 and i386 supplements; Linux, the exported headers `asm/sigcontext.h`,
//! `asm/ucontext.h`, `asm/ldt.h`, `asm/prctl.h`, `asm/stat.h`, and sigreturn(2), arch_prctl(2),
//! set_thread_area(2), modify_ldt(2).

use super::x86_frame::{Narrow, Wide};
use super::{
    Abi, Call, Frame, Machine, Processor, Return, x86_debug, x86_numbers, x86_registers, x86_vdso,
};
use crate::calls::Entry;
use crate::calls::Run::Own;
use crate::errno::{Done, Errno};
use crate::options::Options;
use crate::space::Space;
use crate::thread::Thread;
use cpu::VirtualCpu;
use isa::{Event, FpFlags, Guest};
use runtime::{Kicker, ProcessMemory, Vcpu, Width};
use std::any::Any;
use std::sync::Arc;
use x86::state::{gpr, seg};
use x86::trap::Exception;
use x86::{Config, Feature, State, TLS_FIRST, Wiring, X86, model};

/// `x86_64`.
pub static X86_64: Abi = LONG;

const LONG: Abi = Abi {
    name: "x86_64",
    machine: 62,
    bits: 64,
    big_endian: false,
    uname: "x86_64",
    release: [3, 2, 0],
    numbers: x86_numbers::NUMBERS_64,
    own: CALLS,
    vdso: x86_vdso::wide,
    rescue: x86_vdso::old_call,
    platform: Some("x86_64"),
    user_len: 4,
    breakpoint: |_| &[0xcc],
    breakpoint_length: 1,
    has_restorer: true,
    tls_first: false,
    long_alignment: 8,
    packed_events: true,
    breakpoints_by_kernel: true,
    padded_times: true,
    stat: crate::layout::x86_64_stat,
    machine_for: |options| make(options, true),
    models,
};

/// `i386`.
pub static I386: Abi = Abi {
    name: "i386",
    machine: 3,
    bits: 32,
    uname: "i686",
    numbers: x86_numbers::NUMBERS_32,
    vdso: x86_vdso::narrow,
    user_len: 2,
    rescue: |_, _| false,
    platform: Some("i686"),
    tls_first: true,
    long_alignment: 4,
    stat: crate::layout::i386_stat64,
    machine_for: |options| make(options, false),
    ..LONG
};

/// Calls of this architecture.
static CALLS: &[Entry] = &[
    Entry { name: "arch_prctl", shape: "xx", run: Own(arch_prctl) },
    Entry { name: "set_thread_area", shape: "w", run: Own(set_thread_area) },
    Entry { name: "get_thread_area", shape: "w", run: Own(get_thread_area) },
    Entry { name: "modify_ldt", shape: "dwz", run: Own(modify_ldt) },
    Entry { name: "sigreturn", shape: "", run: Own(sigreturn) },
];

/// Features that Linux calls by other names than `-cpu`, beside `_` for other signs.
const KERNEL_NAMES: &[(&str, &str)] = &[
    ("avx512vbmi2", "avx512_vbmi2"),
    ("avx512vnni", "avx512_vnni"),
    ("avx512bitalg", "avx512_bitalg"),
];

fn models() -> String {
    const WIDTH: usize = 75;
    let mut text = String::from("Available CPUs:\n");
    let mut models: Vec<_> = model::models().collect();
    // The one that has everything comes last.
    models.sort_by_key(|model| (model.name == "max", model.name));
    for model in models {
        let line = match model.name {
            "max" => format!("  {:<20}  {}\n", "max", "Enables all features that are translated"),
            name => {
                let version = format!("{name}-v1");
                format!(
                    "  {name:<20}  (alias configured by machine type)\n  {version:<20}  {}\n",
                    model.text
                )
            }
        };
        text.push_str(&line);
    }
    text.push_str("\nRecognized CPUID flags:\n");
    let mut names: Vec<&str> = model::FEATURES.iter().map(|row| row.name).collect();
    names.sort_unstable();
    let mut line = String::from(" ");
    for name in names {
        if line.len() + 1 + name.len() > WIDTH {
            text.push_str(&line);
            text.push('\n');
            line = String::from(" ");
        }
        line.push(' ');
        line.push_str(name);
    }
    text + &line + "\n"
}

/// The processors of a process.
struct Processors {
    guest: Arc<X86>,
    memory: Arc<ProcessMemory>,
    long: bool,
}

fn make(options: &Options, long: bool) -> Result<Box<dyn Machine>, String> {
    let config = model::parse(options.cpu.as_deref().unwrap_or("max"));
    let mut config: Config = config.map_err(|error| error.to_string())?;
    if !long {
        config.features = config.features.without(Feature::Lm).without(Feature::Syscall);
    }
    let guest = X86 { config, wiring: Wiring::default(), user: true };
    let engine = super::engine(options);
    let width = if long { Width::Bits64 } else { Width::Bits32 };
    let memory = ProcessMemory::new::<X86>(width, engine)
        .map_err(|error| format!("no memory for programs: {error}"))?;
    Ok(Box::new(Processors { guest: Arc::new(guest), memory, long }))
}

impl Machine for Processors {
    fn memory(&self) -> &Arc<ProcessMemory> {
        &self.memory
    }

    fn processor(&self) -> Box<dyn Processor> {
        let mut vcpu = Vcpu::for_process(Arc::clone(&self.guest), &self.memory);
        *vcpu.state_mut() = self.guest.user_state(self.long);
        let (guest, long) = (Arc::clone(&self.guest), self.long);
        Box::new(Cpu { vcpu, guest, long, old_frame: false, stepped: false })
    }

    /// CPUID leaf 1, EDX; and whether ring 3 may use FSGSBASE (bit 1).
    fn hwcap(&self) -> [u64; 2] {
        let state = self.guest.user_state(self.long);
        let [.., edx] = self.guest.config.cpuid(&state, 1, 0);
        let bases = self.long && self.guest.has(Feature::Fsgsbase);
        [edx.into(), if bases { 2 } else { 0 }]
    }

    fn description(&self) -> gdb::Description {
        x86_debug::description(&self.guest, self.long)
    }

    fn cpuinfo(&self, count: usize) -> Option<String> {
        let config = &self.guest.config;
        let flags: Vec<&str> = model::FEATURES
            .iter()
            .filter(|row| config.features.has(row.feature))
            .map(|row| {
                let known = KERNEL_NAMES.iter().find(|(name, _)| *name == row.name);
                known.map_or(row.name, |(_, name)| *name)
            })
            .collect();
        let flags = flags.join(" ").replace(['.', '-'], "_");
        let one = |n| {
            format!(
                "processor\t: {n}\nvendor_id\t: {}\ncpu family\t: {}\nmodel\t\t: {}\nmodel name\t: {}\n\
                 stepping\t: {}\nphysical id\t: 0\nsiblings\t: {count}\ncore id\t\t: {n}\n\
                 cpu cores\t: {count}\nfpu\t\t: yes\nfpu_exception\t: yes\nwp\t\t: yes\n\
                 flags\t\t: {flags}\nclflush size\t: 64\ncache_alignment\t: 64\n\n",
                config.vendor, config.family, config.model, config.name, config.stepping
            )
        };
        Some((0..count).map(one).collect())
    }
}

/// A processor.
struct Cpu {
    vcpu: Vcpu<X86>,
    guest: Arc<X86>,
    long: bool,
    /// Whether the frame to return from is one without `siginfo_t`.
    old_frame: bool,
    /// Whether the trap flag is a debugger's.
    stepped: bool,
}

/// Registers of a system call's arguments.
const ARGS_64: [u8; 6] = [gpr::RDI, gpr::RSI, gpr::RDX, 10, 8, 9];
const ARGS_32: [u8; 6] = [gpr::RBX, gpr::RCX, gpr::RDX, gpr::RSI, gpr::RDI, gpr::RBP];

impl Cpu {
    fn state(&self) -> &State {
        self.vcpu.state()
    }

    fn state_mut(&mut self) -> &mut State {
        self.vcpu.state_mut()
    }

    fn mask(&self) -> u64 {
        if self.long { u64::MAX } else { 0xffff_ffff }
    }

    fn set(&mut self, register: u8, value: u64) {
        let value = value & self.mask();
        self.state_mut().gpr[usize::from(register)] = value;
    }

    fn get(&self, register: u8) -> u64 {
        self.state().gpr[usize::from(register)] & self.mask()
    }

    /// Whether there is a trap behind each instruction.
    fn traps(&self) -> bool {
        self.state().eflags & x86::state::eflags::TF != 0
    }

    /// #MF and #XM as the floating-point exceptions that are not masked; denormal operands count as
    /// underflow.
    fn with_flags(&self, event: Event) -> Event {
        const X87: u8 = Exception::X87 as u8;
        const SIMD: u8 = Exception::Simd as u8;
        let state = self.state();
        let open = match event {
            Event::Protection { vector: X87, .. } => state.fsw & !state.fcw,
            Event::Protection { vector: SIMD, .. } => state.mxcsr & !(state.mxcsr >> 7),
            _ => return event,
        };
        let bit = |n: u32| open >> n & 1 != 0;
        let flags = FpFlags {
            invalid: bit(0),
            div_by_zero: bit(2),
            overflow: bit(3),
            underflow: bit(1) || bit(4),
            inexact: bit(5),
            denormal: bit(1),
        };
        Event::Float { flags }
    }

    /// What a handler begins with.
    fn handler(&mut self, frame: &Frame, at: u64) {
        self.set(gpr::RSP, at);
        let (guest, long) = (Arc::clone(&self.guest), self.long);
        let fresh = guest.user_state(long);
        let state = self.state_mut();
        // Floating point and vectors begin anew; those of before are in the frame.
        state.set_image(&fresh.image());
        for number in [seg::CS, seg::SS] {
            copy_segment(state, &fresh, number);
        }
        if !long {
            copy_segment(state, &fresh, seg::DS);
            copy_segment(state, &fresh, seg::ES);
        }
        let flags = state.flags();
        use x86::state::eflags;
        state.set_flags(flags & !(eflags::DF | eflags::RF | eflags::TF));
        self.set_pc(frame.handler);
    }
}

fn copy_segment(state: &mut State, from: &State, number: u8) {
    let at = usize::from(number);
    state.seg_selector[at] = from.seg_selector[at];
    state.seg_base[at] = from.seg_base[at];
    state.seg_limit[at] = from.seg_limit[at];
    state.seg_attributes[at] = from.seg_attributes[at];
}

impl Processor for Cpu {
    /// With the trap flag, instructions run one by one.
    fn run(&mut self) -> Option<Event> {
        if self.traps() {
            return self.step();
        }
        match super::run(&mut self.vcpu) {
            Some(Event::Step) if self.traps() => self.step(),
            other => other.map(|event| self.with_flags(event)),
        }
    }

    fn step(&mut self) -> Option<Event> {
        let traps = self.traps();
        self.state_mut().stepping = 1;
        let event = super::step(&mut self.vcpu);
        self.state_mut().stepping = 0;
        let event = event.map(|event| self.with_flags(event));
        event.or(traps.then_some(Event::Step))
    }

    fn registers(&self) -> Vec<u8> {
        x86_debug::read(&self.guest, self.state(), self.long)
    }

    fn set_register(&mut self, number: usize, bytes: &[u8]) {
        let (guest, long) = (Arc::clone(&self.guest), self.long);
        x86_debug::write(&guest, self.state_mut(), long, (number, bytes));
    }

    fn kicker(&self) -> Kicker {
        self.vcpu.kicker()
    }

    fn call(&self) -> Call {
        let registers = if self.long { ARGS_64 } else { ARGS_32 };
        let number = self.get(gpr::RAX) & 0xffff_ffff;
        Call { number, args: registers.map(|register| self.get(register)) }
    }

    fn set_result(&mut self, value: u64) {
        self.set(gpr::RAX, value);
    }

    fn pc(&self) -> u64 {
        self.guest.mode(self.state()).pc
    }

    fn set_pc(&mut self, pc: u64) {
        let pc = pc & self.mask();
        X86::set_pc(self.state_mut(), pc);
    }

    fn stack(&self) -> u64 {
        self.get(gpr::RSP)
    }

    fn set_stack(&mut self, stack: u64) {
        self.set(gpr::RSP, stack);
    }

    /// Of x86-64 the base of FS; of i386 the address of a `struct user_desc`, which the call that
    /// makes threads has read already.
    fn set_tls(&mut self, tls: u64) {
        if self.long {
            self.state_mut().seg_base[usize::from(seg::FS)] = tls;
        } else if let Ok(area) = Area::read(self.vcpu.memory(), tls) {
            // A wrong one leaves the thread without, as there is nobody to tell.
            let _ = area.install(self.state_mut());
        }
    }

    fn twin(&self) -> Box<dyn Processor> {
        let memory = self.vcpu.memory().expect("it was made for a process");
        let mut vcpu = Vcpu::for_process(Arc::clone(&self.guest), memory);
        *vcpu.state_mut() = self.state().clone();
        let guest = Arc::clone(&self.guest);
        let mut twin =
            Self { vcpu, guest, long: self.long, old_frame: false, stepped: self.stepped };
        // A debugger's step is not the new thread's.
        Processor::set_step(&mut twin, false);
        Box::new(twin)
    }

    fn start(&mut self, entry: u64, stack: u64) {
        *self.state_mut() = self.guest.user_state(self.long);
        self.set_pc(entry);
        self.set_stack(stack);
    }

    fn enter_handler(&mut self, space: &Space, frame: &Frame) -> Result<(), Errno> {
        let signal = u64::from(frame.signal);
        if self.long {
            let (at, info, context) = Wide::write(self.state(), space, frame)?;
            self.set(gpr::RDI, signal);
            self.set(gpr::RSI, info);
            self.set(gpr::RDX, context);
            self.set(gpr::RAX, 0);
            self.handler(frame, at);
            return Ok(());
        }
        let (at, info, context) =
            Narrow::write(self.state(), space, frame, x86_vdso::RT_RETURN_32)?;
        self.set(gpr::RAX, signal);
        self.set(gpr::RDX, info);
        self.set(gpr::RCX, context);
        self.handler(frame, at);
        Ok(())
    }

    fn leave_handler(&mut self, space: &Space) -> Result<Return, Errno> {
        let stack = self.stack();
        let old = std::mem::take(&mut self.old_frame);
        match self.long {
            true => Wide::read(self.state_mut(), space, stack),
            false => Narrow::read(self.state_mut(), space, stack, old),
        }
    }

    fn result(&self) -> i64 {
        let value = self.get(gpr::RAX);
        if self.long { value.cast_signed() } else { i64::from(value as u32 as i32) }
    }

    fn begin_call(&mut self) {
        self.set(gpr::RAX, (-i64::from(libc::ENOSYS)).cast_unsigned());
    }

    fn restore_call(&mut self, call: &Call) {
        self.set(gpr::RAX, call.number);
    }

    fn register_sets(&self, call: Option<u64>) -> Vec<(u32, Vec<u8>)> {
        x86_registers::sets(self.state(), self.long, call, self.stepped)
    }

    fn set_register_set(&mut self, note: u32, bytes: &[u8]) -> Option<u64> {
        let (long, forced) = (self.long, self.stepped);
        x86_registers::set(self.state_mut(), long, note, bytes, forced)
    }

    fn set_step(&mut self, step: bool) {
        use x86::state::eflags::TF;
        let flags = self.state().flags();
        if step && flags & TF == 0 {
            self.state_mut().set_flags(flags | TF);
            self.stepped = true;
        } else if !step && std::mem::take(&mut self.stepped) {
            self.state_mut().set_flags(flags & !TF);
        }
    }

    fn dump(&self) -> String {
        self.vcpu.dump()
    }
}

/// The processor of a thread of a program of this architecture.
fn cpu(thread: &mut Thread) -> Result<&mut Cpu, Errno> {
    let any: &mut dyn Any = &mut *thread.cpu;
    any.downcast_mut().ok_or(Errno::ENOSYS)
}

/// General registers of a thread.
pub fn registers<const N: usize>(thread: &mut Thread, numbers: [u8; N]) -> Option<[u64; N]> {
    cpu(thread).ok().map(|cpu| numbers.map(|number| cpu.get(number)))
}

/// `sigreturn`: from a frame without `siginfo_t`.
fn sigreturn(thread: &mut Thread, _: &[u64; 6]) -> Done {
    cpu(thread)?.old_frame = true;
    thread.leave_handler()
}

/// `arch_prctl`.
fn arch_prctl(thread: &mut Thread, args: &[u64; 6]) -> Done {
    const SET_GS: u64 = 0x1001;
    const SET_FS: u64 = 0x1002;
    const GET_FS: u64 = 0x1003;
    const GET_GS: u64 = 0x1004;
    const GET_CPUID: u64 = 0x1011;
    let [code, value, ..] = *args;
    let limit = thread.process.space.limit;
    let cpu = cpu(thread)?;
    if !cpu.long && code != GET_CPUID {
        return Err(Errno::EINVAL);
    }
    let number = if matches!(code, SET_GS | GET_GS) { seg::GS } else { seg::FS };
    let at = usize::from(number);
    match code {
        SET_GS | SET_FS if value >= limit => Err(Errno::EPERM),
        SET_GS | SET_FS => {
            let state = cpu.state_mut();
            (state.seg_base[at], state.seg_selector[at]) = (value, 0);
            Ok(0)
        }
        GET_FS | GET_GS => {
            let base = cpu.state().seg_base[at];
            thread.process.space.write(value, base)?;
            Ok(0)
        }
        GET_CPUID => Ok(1),
        _ => Err(Errno::EINVAL),
    }
}

/// `struct user_desc`: number of the entry, base, limit, flags.
#[derive(Clone, Copy)]
struct Area {
    entry: u32,
    base: u32,
    limit: u32,
    flags: u32,
}

/// Bits of its flags.
mod area {
    pub(super) const BITS_32: u32 = 1;
    pub(super) const CONTENTS_SHIFT: u32 = 1;
    pub(super) const READ_ONLY: u32 = 1 << 3;
    pub(super) const PAGES: u32 = 1 << 4;
    pub(super) const NOT_PRESENT: u32 = 1 << 5;
    pub(super) const USEABLE: u32 = 1 << 6;
    pub(super) const LONG: u32 = 1 << 7;
    /// What says that an entry is to be empty.
    pub(super) const EMPTY: u32 = READ_ONLY | NOT_PRESENT;
}

impl Area {
    fn read(memory: Option<&Arc<ProcessMemory>>, at: u64) -> Result<Self, Errno> {
        let mut bytes = [0; 16];
        let memory = memory.ok_or(Errno::EFAULT)?;
        memory.read(at, &mut bytes).map_err(|_| Errno::EFAULT)?;
        let word =
            |n: usize| u32::from_le_bytes([bytes[n], bytes[n + 1], bytes[n + 2], bytes[n + 3]]);
        Ok(Self { entry: word(0), base: word(4), limit: word(8), flags: word(12) })
    }

    fn is_empty(&self) -> bool {
        let none = self.flags & 0x7f == 0 || self.flags & 0x7f == area::EMPTY;
        none && self.base == 0 && self.limit == 0
    }

    /// As a descriptor of ring 3.
    fn descriptor(&self) -> u64 {
        if self.is_empty() {
            return 0;
        }
        let bit = |flag: u32, to: u32| if self.flags & flag != 0 { 1u64 << to } else { 0 };
        let (base, limit) = (u64::from(self.base), u64::from(self.limit));
        let contents = u64::from(self.flags >> area::CONTENTS_SHIFT & 3);
        let writable = if self.flags & area::READ_ONLY == 0 { 1 << 41 } else { 0 };
        let present = if self.flags & area::NOT_PRESENT == 0 { 1 << 47 } else { 0 };
        limit & 0xffff
            | (base & 0xff_ffff) << 16
            | 1 << 40
            | writable
            | contents << 42
            | 1 << 44
            | 3 << 45
            | present
            | (limit & 0xf_0000) << 32
            | bit(area::USEABLE, 52)
            | bit(area::LONG, 53)
            | bit(area::BITS_32, 54)
            | bit(area::PAGES, 55)
            | (base & 0xff00_0000) << 32
    }

    /// Puts it into its entry for threads, or the first free one: its number.
    fn install(&self, state: &mut State) -> Result<u32, Errno> {
        let first = TLS_FIRST as u32;
        let entry = match self.entry {
            u32::MAX => {
                let free = state.tls.iter().position(|bits| *bits == 0);
                first + free.ok_or(Errno::ESRCH)? as u32
            }
            entry => entry,
        };
        let at = entry.checked_sub(first).filter(|at| *at < 3).ok_or(Errno::EINVAL)?;
        state.tls[at as usize] = self.descriptor();
        state.reload_segments();
        Ok(entry)
    }
}

/// `set_thread_area`.
fn set_thread_area(thread: &mut Thread, args: &[u64; 6]) -> Done {
    let area = Area::read(Some(thread.process.space.memory()), args[0])?;
    let entry = area.install(cpu(thread)?.state_mut())?;
    if area.entry == u32::MAX {
        thread.process.space.write(args[0], entry)?;
    }
    Ok(0)
}

/// `get_thread_area`.
fn get_thread_area(thread: &mut Thread, args: &[u64; 6]) -> Done {
    let at = args[0];
    let entry: u32 = thread.process.space.read(at)?;
    let index = entry.checked_sub(TLS_FIRST as u32).filter(|n| *n < 3).ok_or(Errno::EINVAL)?;
    let bits = cpu(thread)?.state().tls[index as usize];
    let base = bits >> 16 & 0xff_ffff | bits >> 32 & 0xff00_0000;
    let limit = bits & 0xffff | bits >> 32 & 0xf_0000;
    let flag = |from: u32, to: u32| if bits >> from & 1 != 0 { to } else { 0 };
    let flags = flag(54, area::BITS_32)
        | ((bits >> 42 & 3) as u32) << area::CONTENTS_SHIFT
        | (flag(41, area::READ_ONLY) ^ area::READ_ONLY)
        | flag(55, area::PAGES)
        | (flag(47, area::NOT_PRESENT) ^ area::NOT_PRESENT)
        | flag(52, area::USEABLE);
    thread.process.space.write(at, [entry, base as u32, limit as u32, flags])?;
    Ok(0)
}

/// `modify_ldt`.
fn modify_ldt(thread: &mut Thread, args: &[u64; 6]) -> Done {
    const ENTRIES: u32 = 8192;
    let [what, at, len, ..] = *args;
    match what as u32 {
        0 => {
            let table = &cpu(thread)?.state().ldt;
            let mut bytes: Vec<u8> = table.iter().flat_map(|bits| bits.to_le_bytes()).collect();
            bytes.truncate(len as usize);
            thread.process.space.write_bytes(at, &bytes)?;
            Ok(bytes.len() as u64)
        }
        2 => Ok(0),
        1 | 0x11 => {
            if len != 16 {
                return Err(Errno::EINVAL);
            }
            let area = Area::read(Some(thread.process.space.memory()), at)?;
            if area.entry >= ENTRIES {
                return Err(Errno::EINVAL);
            }
            let index = area.entry as usize;
            let table = &mut cpu(thread)?.state_mut().ldt;
            if table.len() <= index {
                table.resize(index + 1, 0);
            }
            table[index] = area.descriptor();
            Ok(0)
        }
        _ => Err(Errno::ENOSYS),
    }
}
