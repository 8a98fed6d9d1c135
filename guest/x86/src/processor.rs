//! A processor: configuration, and what the engine asks of it.

use crate::decode;
use crate::flags::Cc;
use crate::helpers::{HELPERS, LEAVES};
use crate::model::{Config, Feature};
use crate::state::{
    self, CR0_AM, CR0_EM, CR0_PE, CR0_TS, CR4_FSGSBASE, CR4_OSFXSR, CR4_OSXSAVE, REGISTERS, State,
    VectorFile, XCR0_AVX, XCR0_AVX512, attributes, eflags, mode, seg,
};
use crate::trap::{self, Exception, Trap};
use ir::{Builder, GuestReg, RegInfo, VectorRegion};
use isa::{
    Access, CodeSource, Cpu, Event, FloatControl, FpFlags, Guest, Helper, HostRounding, LeafFn,
    Mapping, MemoryFault, Mode, UserGuest,
};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::mem::offset_of;
use std::time::Instant;

/// What a processor asks its surroundings for.
pub struct Wiring {
    /// The time-stamp counter.
    pub clock: Box<dyn Fn() -> u64 + Send + Sync>,
    /// Random numbers.
    pub random: Box<dyn Fn() -> u64 + Send + Sync>,
}

impl Default for Wiring {
    /// A counter of nanoseconds, and numbers of the host.
    fn default() -> Self {
        let start = Instant::now();
        Self {
            clock: Box::new(move || start.elapsed().as_nanos() as u64),
            random: Box::new(|| RandomState::new().build_hasher().finish()),
        }
    }
}

/// A processor.
pub struct X86 {
    /// What it can do.
    pub config: Config,
    /// How it is tied into its surroundings.
    pub wiring: Wiring,
    /// Whether it runs programs of ring 3 only, whose kernel is not in the guest.
    pub user: bool,
}

impl X86 {
    /// Whether it has a feature.
    pub fn has(&self, feature: Feature) -> bool {
        self.config.features.has(feature)
    }

    /// The state in which a program of Linux begins: ring 3, flat segments, `long` or of 32 bits.
    pub fn user_state(&self, long: bool) -> State {
        let mut state = self.reset();
        state.gpr = [0; 16];
        state.cr[0] = CR0_PE | state::CR0_MP | state::CR0_NE;
        state.cr[4] = CR4_OSFXSR | state::CR4_OSXMMEXCPT;
        if self.has(Feature::Xsave) {
            state.cr[4] |= CR4_OSXSAVE;
            state.xcr0 = 3;
            for (feature, bits) in
                [(Feature::Avx, XCR0_AVX), (Feature::Avx512f, XCR0_AVX512 | XCR0_AVX)]
            {
                state.xcr0 |= if self.has(feature) { bits } else { 0 };
            }
        }
        if long {
            state.efer = state::EFER_SCE | state::EFER_LME | state::EFER_LMA | state::EFER_NXE;
            if self.has(Feature::Fsgsbase) {
                state.cr[4] |= CR4_FSGSBASE;
            }
        }
        // Selectors as Linux has them (arch/x86/include/asm/segment.h).
        let (code, data, long_code) = (0x23, 0x2b, 0x33);
        for number in [seg::ES, seg::CS, seg::SS, seg::DS, seg::FS, seg::GS] {
            let at = usize::from(number);
            state.seg_base[at] = 0;
            state.seg_limit[at] = 0xffff_ffff;
            (state.seg_selector[at], state.seg_attributes[at]) = match number {
                seg::CS if long => (long_code, attributes::CODE3 & !attributes::DB | attributes::L),
                seg::CS => (code, attributes::CODE3),
                seg::SS => (data, attributes::DATA3),
                _ if long => (0, 0),
                seg::FS | seg::GS => (0, 0),
                _ => (data, attributes::DATA3),
            };
        }
        state.eflags = eflags::ONE | eflags::IF;
        state.set_flags(eflags::ONE | eflags::IF);
        (state.fcw, state.mxcsr) = (0x37f, 0x1f80);
        state
    }
}

/// Whether a segment begins at 0 and has no limit, and may be written.
fn is_flat(state: &State, number: u8) -> bool {
    let at = usize::from(number);
    let attributes = state.seg_attributes[at];
    let data = attributes & attributes::CODE == 0;
    let usable = if data {
        attributes & (attributes::PRESENT | attributes::RW | attributes::DC)
            == attributes::PRESENT | attributes::RW
    } else {
        number == seg::CS
    };
    usable && state.seg_limit[at] == 0xffff_ffff
}

/// What the flags of the mode are.
fn mode_flags(state: &State) -> u32 {
    let long = state.is_long();
    let cs = state.seg_attributes[usize::from(seg::CS)];
    let bit = |condition: bool, flag: u32| if condition { flag } else { 0 };
    let code = match (long, cs & attributes::DB != 0) {
        (true, _) => 2,
        (false, true) => 1,
        (false, false) => 0,
    };
    let zero = |number: u8| state.seg_base[usize::from(number)] == 0;
    let flat = |number: u8| zero(number) && is_flat(state, number);
    let all_flat = long || [seg::ES, seg::CS, seg::SS, seg::DS].into_iter().all(flat);
    let [cr0, _, _, _, cr4, ..] = state.cr;
    let cpl = state.cpl() as u32;
    let align = cr0 & CR0_AM != 0 && state.eflags & eflags::AC != 0 && cpl == 3;
    let stack32 = state.seg_attributes[usize::from(seg::SS)] & attributes::DB != 0;
    code | bit(stack32, mode::STACK32)
        | cpl << mode::CPL_SHIFT
        | bit(cr0 & CR0_PE != 0, mode::PROTECTED)
        | bit(state.eflags & eflags::VM != 0, mode::VM86)
        | bit(all_flat, mode::FLAT)
        | bit(long || is_flat(state, seg::FS), mode::FS_FLAT)
        | bit(long || is_flat(state, seg::GS), mode::GS_FLAT)
        | bit(state.eflags & eflags::DF != 0, mode::DF)
        | bit(state.eflags & eflags::TF != 0, mode::TF)
        | bit(align, mode::ALIGN)
        | bit(cr0 & (CR0_EM | CR0_TS) != 0, mode::NO_X87)
        | bit(cr0 & CR0_EM != 0 || cr4 & CR4_OSFXSR == 0, mode::NO_SSE)
        | bit(cr0 & CR0_TS != 0, mode::TS)
        | bit(state.xcr0 & XCR0_AVX == XCR0_AVX && cr4 & CR4_OSXSAVE != 0, mode::AVX)
        | bit(state.xcr0 & XCR0_AVX512 == XCR0_AVX512, mode::AVX512)
        | ((state.eflags & eflags::IOPL) >> 12 << mode::IOPL_SHIFT) as u32
        | bit(state.mxcsr & 0x1f80 != 0x1f80, mode::SSE_EXACT)
        | bit(cr4 & CR4_FSGSBASE != 0, mode::FSGSBASE)
        | bit(state.fcw & 0x3f != 0x3f, mode::X87_EXACT)
        | bit(cr4 & CR4_OSXSAVE != 0, mode::OSXSAVE)
        | bit(state.split != 0, mode::SPLIT)
        | bit(state.zmm_used != 0, mode::ZMM)
        | bit(state.stepping != 0, mode::STEPPING)
}

/// The linear address of the next instruction.
fn linear_pc(state: &State) -> u64 {
    if state.is_long() {
        return state.rip;
    }
    state.rip.wrapping_add(state.seg_base[usize::from(seg::CS)]) & 0xffff_ffff
}

impl Guest for X86 {
    type State = State;
    type Trap = Trap;
    const LONGEST: u64 = decode::MAX_LEN as u64;
    const VECTORS: VectorRegion = VectorRegion {
        offset: offset_of!(State, vectors) as u32,
        len: size_of::<VectorFile>() as u32,
    };

    fn vector_bytes(state: &mut State) -> &mut [u8] {
        &mut state.vectors.0
    }

    fn registers() -> &'static [RegInfo] {
        &REGISTERS
    }

    fn helpers() -> &'static [Helper<Self>] {
        HELPERS
    }

    fn leaves() -> &'static [LeafFn<State>] {
        LEAVES
    }

    fn reg(state: &State, reg: GuestReg) -> u64 {
        state.reg(reg)
    }

    fn set_reg(state: &mut State, reg: GuestReg, value: u64) {
        state.set_reg(reg, value);
    }

    /// SDM volume 3, “Processor State After Reset”.
    fn reset(&self) -> State {
        let mut state = State {
            rip: 0xfff0,
            cc_op: Cc::EFLAGS.code(),
            eflags: eflags::ONE,
            fcw: 0x40,
            mxcsr: 0x1f80,
            xcr0: 1,
            pat: 0x0007_0406_0007_0406,
            apic_base: 0xfee0_0900,
            ..State::default()
        };
        state.cr[0] = 0x6000_0010;
        (state.dr[6], state.dr[7]) = (0xffff_0ff0, 0x400);
        state.seg_limit = [0xffff; 6];
        state.table_limit = [0xffff; 4];
        let data = attributes::PRESENT | attributes::S | attributes::RW | attributes::ACCESSED;
        state.seg_attributes = [data; 6];
        let cs = usize::from(seg::CS);
        state.seg_attributes[cs] |= attributes::CODE;
        (state.seg_selector[cs], state.seg_base[cs]) = (0xf000, 0xffff_0000);
        let signature = self.config.signature();
        state.gpr[usize::from(state::gpr::RDX)] = signature.into();
        state
    }

    fn mode(&self, state: &State) -> Mode {
        Mode { pc: linear_pc(state), flags: mode_flags(state), mmu: u8::from(state.cpl() == 3) }
    }

    fn set_pc(state: &mut State, pc: u64) {
        state.rip = match state.is_long() {
            true => pc,
            false => pc.wrapping_sub(state.seg_base[usize::from(seg::CS)]) & 0xffff_ffff,
        };
    }

    fn translate(
        &self,
        mode: &Mode,
        max_insns: u32,
        code: &mut dyn CodeSource,
        b: &mut Builder<'_>,
    ) {
        crate::translate::translate_unit(self, mode, max_insns, code, b);
    }

    fn disassemble(&self, pc: u64, code: &[u8]) -> (String, usize) {
        // The width is not known here.
        decode::text(decode::Width::W64, pc, code)
    }

    fn translate_address(
        _: &mut Cpu<'_, Self>,
        _: u8,
        _: Access,
        gva: u64,
        _: u32,
    ) -> Result<Mapping, Trap> {
        // Paging comes with system mode.
        Ok(Mapping {
            gpa: gva,
            read: true,
            write: true,
            execute: true,
            span: 4096,
            global: true,
            whole_page: true,
        })
    }

    fn debug_translate(_: &mut Cpu<'_, Self>, gva: u64) -> Option<u64> {
        Some(gva)
    }

    fn memory_trap(fault: MemoryFault, access: Access, gva: u64) -> Trap {
        match fault {
            MemoryFault::Misaligned if access == Access::Atomic => Trap::SplitLock,
            MemoryFault::Misaligned => Trap::new(Exception::Alignment),
            _ => Trap::Exception(Exception::Page, trap::page_error(fault, access), gva),
        }
    }

    fn raise(cpu: &mut Cpu<'_, Self>, trap: Trap) {
        trap::raise(cpu, trap);
    }

    fn holds_event(state: &State) -> bool {
        state.event[0] != 0
    }

    fn interrupt(_: &mut Cpu<'_, Self>) -> bool {
        false
    }

    fn interrupt_due(_: &mut Cpu<'_, Self>) -> bool {
        false
    }

    fn wakes(_: &mut Cpu<'_, Self>) -> bool {
        false
    }

    fn rounding(state: &State) -> HostRounding {
        match state.mxcsr >> 13 & 3 {
            1 => HostRounding::Down,
            2 => HostRounding::Up,
            3 => HostRounding::Zero,
            _ => HostRounding::Nearest,
        }
    }

    fn float_control(state: &State) -> FloatControl {
        FloatControl {
            rounding: Self::rounding(state),
            flush_to_zero: state.mxcsr >> 15 & 1 != 0,
            denormals_are_zero: state.mxcsr >> 6 & 1 != 0,
        }
    }

    fn add_fp_flags(state: &mut State, flags: FpFlags) {
        let FpFlags { invalid, div_by_zero, overflow, underflow, inexact, denormal } = flags;
        let bits = [invalid, denormal, div_by_zero, overflow, underflow, inexact];
        for (bit, set) in bits.into_iter().enumerate() {
            state.mxcsr |= u64::from(set) << bit;
        }
    }
}

impl UserGuest for X86 {
    fn take_event(&self, state: &mut State) -> Option<Event> {
        state.take_trap().map(Trap::event)
    }
}
