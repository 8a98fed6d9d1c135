//! Segments: descriptors, limits, far transfers of control within a privilege level.
//!
//! Source: SDM volume 3, “Protection”. A program's descriptors are those that Linux gives: the flat
//! ones of ring 3, three for threads in the GDT, and the LDT.

use crate::helpers_integer::mmu;
use crate::processor::X86;
use crate::state::{CR0_PE, State, attributes, eflags, gpr, seg};
use crate::trap::{Exception, Trap};
use ir::MemOp;
use isa::Cpu;

type Result64 = Result<u64, Trap>;

/// First of the three entries of the GDT for threads, in a 64-bit kernel.
pub const TLS_FIRST: u64 = 12;

/// A descriptor of code or data, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// Address of its first byte.
    pub base: u64,
    /// Its last offset.
    pub limit: u64,
    /// Its attributes.
    pub attributes: u64,
}

impl Descriptor {
    /// From its eight bytes (SDM volume 3, “Segment Descriptors”).
    pub fn from_bits(bits: u64) -> Self {
        let base = bits >> 16 & 0xff_ffff | bits >> 32 & 0xff00_0000;
        let limit = bits & 0xffff | bits >> 32 & 0xf_0000;
        let attributes = bits >> 40 & 0xf0ff;
        let pages = attributes & attributes::G != 0;
        let limit = if pages { limit << 12 | 0xfff } else { limit };
        Self { base, limit, attributes }
    }

    fn dpl(self) -> u64 {
        self.attributes >> attributes::DPL_SHIFT & 3
    }

    fn is_code(self) -> bool {
        self.attributes & attributes::CODE != 0
    }
}

impl State {
    /// A descriptor of the tables that a program under Linux has.
    fn user_descriptor(&self, selector: u64) -> Option<u64> {
        let index = selector >> 3;
        if selector & 4 != 0 {
            return self.ldt.get(index as usize).copied().filter(|bits| *bits != 0);
        }
        match index {
            4 => Some(0x00cf_fb00_0000_ffff),
            5 => Some(0x00cf_f300_0000_ffff),
            6 => Some(0x00af_fb00_0000_ffff),
            TLS_FIRST..=14 => {
                Some(self.tls[(index - TLS_FIRST) as usize]).filter(|bits| *bits != 0)
            }
            _ => None,
        }
    }

    /// Loads a segment register of a program under Linux with what its selector leads to; nothing if
    /// it leads nowhere.
    pub fn load_user_segment(&mut self, number: u8, selector: u64) {
        let null = Descriptor { base: 0, limit: 0, attributes: 0 };
        let bits = if selector & !3 == 0 { None } else { self.user_descriptor(selector) };
        self.set_segment(number, selector, bits.map_or(null, Descriptor::from_bits));
        if bits.is_none() {
            self.seg_attributes[usize::from(number.min(seg::GS))] = 0;
        }
    }

    /// After a change of the descriptors for threads: segment registers that hold them follow.
    pub fn reload_segments(&mut self) {
        for number in [seg::ES, seg::DS, seg::FS, seg::GS] {
            let selector = self.seg_selector[usize::from(number)];
            if (TLS_FIRST..TLS_FIRST + 3).contains(&(selector >> 3)) {
                self.load_user_segment(number, selector);
            }
        }
    }

    fn set_segment(&mut self, number: u8, selector: u64, descriptor: Descriptor) {
        let at = usize::from(number.min(seg::GS));
        self.seg_selector[at] = selector & 0xffff;
        self.seg_base[at] = descriptor.base;
        self.seg_limit[at] = descriptor.limit;
        self.seg_attributes[at] = descriptor.attributes | attributes::ACCESSED;
    }

    /// The lazily kept event of a far transfer: privilege level and width may have changed.
    fn real_segment(&mut self, number: u8, selector: u64) {
        let at = usize::from(number.min(seg::GS));
        self.seg_selector[at] = selector & 0xffff;
        self.seg_base[at] = (selector & 0xffff) << 4;
    }

    fn is_real(&self) -> bool {
        self.cr[0] & CR0_PE == 0 || self.eflags & eflags::VM != 0
    }
}

fn error(selector: u64) -> u32 {
    selector as u32 & 0xfffc
}

/// A descriptor of the GDT or LDT.
fn descriptor(cpu: &mut Cpu<'_, X86>, selector: u64) -> Result<Option<Descriptor>, Trap> {
    if cpu.guest.user {
        return Ok(cpu.state.user_descriptor(selector).map(Descriptor::from_bits));
    }
    let table = if selector & 4 != 0 { 2 } else { 0 };
    let offset = selector & 0xfff8;
    if offset + 7 > cpu.state.table_limit[table] {
        return Ok(None);
    }
    let at = cpu.state.table_base[table].wrapping_add(offset);
    Ok(Some(Descriptor::from_bits(cpu.load(0, MemOp::U64, at)?)))
}

/// Loads a segment register but CS (number, selector).
pub(crate) fn load_segment(cpu: &mut Cpu<'_, X86>, [number, selector, _]: [u64; 3]) -> Result64 {
    let (number, selector) = (number as u8, selector & 0xffff);
    if cpu.state.is_real() {
        cpu.state.real_segment(number, selector);
        return Ok(0);
    }
    let cpl = cpu.state.cpl();
    if selector & !3 == 0 {
        if number == seg::SS && !(cpu.state.is_long() && cpl < 3 && selector == cpl) {
            return Err(Trap::protection(0));
        }
        let attributes = if number == seg::SS { cpl << attributes::DPL_SHIFT } else { 0 };
        let null = Descriptor { base: 0, limit: 0, attributes };
        cpu.state.set_segment(number, selector, null);
        cpu.state.seg_attributes[usize::from(number.min(seg::GS))] = attributes;
        return Ok(0);
    }
    let refused = Trap::protection(error(selector));
    let found = descriptor(cpu, selector)?.ok_or(refused)?;
    let (a, rpl) = (found.attributes, selector & 3);
    let fits = if number == seg::SS {
        let writable = !found.is_code() && a & attributes::RW != 0;
        writable && rpl == cpl && found.dpl() == cpl
    } else {
        let readable = !found.is_code() || a & attributes::RW != 0;
        let conforming = found.is_code() && a & attributes::DC != 0;
        readable && (conforming || found.dpl() >= cpl.max(rpl))
    };
    if a & attributes::S == 0 || !fits {
        return Err(refused);
    }
    if a & attributes::PRESENT == 0 {
        let exception = if number == seg::SS { Exception::Stack } else { Exception::NotPresent };
        return Err(Trap::Exception(exception, error(selector), 0));
    }
    cpu.state.set_segment(number, selector, found);
    Ok(0)
}

/// Checks that a code segment of the same privilege can be entered.
fn code_segment(cpu: &mut Cpu<'_, X86>, selector: u64) -> Result<Descriptor, Trap> {
    if selector & !3 == 0 {
        return Err(Trap::protection(0));
    }
    let refused = Trap::protection(error(selector));
    let found = descriptor(cpu, selector)?.ok_or(refused)?;
    let (a, cpl) = (found.attributes, cpu.state.cpl());
    let conforming = a & attributes::DC != 0;
    let level = if conforming { found.dpl() <= cpl } else { found.dpl() == cpl };
    let both = a & attributes::L != 0 && a & attributes::DB != 0;
    if a & attributes::S == 0 || !found.is_code() || !level || both {
        return Err(refused);
    }
    if a & attributes::PRESENT == 0 {
        return Err(Trap::Exception(Exception::NotPresent, error(selector), 0));
    }
    Ok(found)
}

/// Goes to an offset in a segment.
fn enter(cpu: &mut Cpu<'_, X86>, selector: u64, offset: u64) -> Result<(), Trap> {
    if cpu.state.is_real() {
        cpu.state.real_segment(seg::CS, selector);
        cpu.state.rip = offset & 0xffff;
        return Ok(());
    }
    let found = code_segment(cpu, selector)?;
    let long =
        found.attributes & attributes::L != 0 && cpu.state.efer & crate::state::EFER_LMA != 0;
    if !long && offset > found.limit {
        return Err(Trap::protection(0));
    }
    let cpl = cpu.state.cpl();
    cpu.state.set_segment(seg::CS, selector & !3 | cpl, found);
    cpu.state.rip = offset;
    Ok(())
}

/// `jmp` (selector, offset).
pub(crate) fn far_jump(cpu: &mut Cpu<'_, X86>, [selector, offset, _]: [u64; 3]) -> Result64 {
    enter(cpu, selector & 0xffff, offset)?;
    Ok(0)
}

/// The linear address of the stack at an offset from its pointer.
fn stack(state: &State, by: i64) -> u64 {
    let rsp = state.gpr[usize::from(gpr::RSP)].wrapping_add_signed(by);
    if state.is_long() {
        return rsp;
    }
    let ss = usize::from(seg::SS);
    let wide = state.seg_attributes[ss] & attributes::DB != 0;
    let offset = if wide { rsp & 0xffff_ffff } else { rsp & 0xffff };
    offset.wrapping_add(state.seg_base[ss]) & 0xffff_ffff
}

fn move_stack(state: &mut State, by: i64) {
    let ss = usize::from(seg::SS);
    let old = state.gpr[usize::from(gpr::RSP)];
    let new = old.wrapping_add_signed(by);
    state.gpr[usize::from(gpr::RSP)] = match () {
        () if state.is_long() => new,
        () if state.seg_attributes[ss] & attributes::DB != 0 => new & 0xffff_ffff,
        () => old & !0xffff | new & 0xffff,
    };
}

fn sized(size: u64) -> MemOp {
    crate::translate::unsigned(size as u8)
}

/// `call` (selector, offset, what to return to); the first scratch register has the size.
pub(crate) fn far_call(cpu: &mut Cpu<'_, X86>, [selector, offset, next]: [u64; 3]) -> Result64 {
    let size = cpu.state.scratch[0] & 15;
    let (mem, set) = (sized(size), mmu(cpu.state));
    let by = size.cast_signed();
    let selector = selector & 0xffff;
    if !cpu.state.is_real() {
        code_segment(cpu, selector)?;
    }
    let cs = cpu.state.seg_selector[usize::from(seg::CS)];
    let [first, second] = [-by, -2 * by].map(|by| stack(cpu.state, by));
    cpu.store(set, mem, first, cs)?;
    cpu.store(set, mem, second, next)?;
    let before = cpu.state.gpr[usize::from(gpr::RSP)];
    move_stack(cpu.state, -2 * by);
    enter(cpu, selector, offset).inspect_err(|_| {
        cpu.state.gpr[usize::from(gpr::RSP)] = before;
    })?;
    Ok(0)
}

/// `retf`, `iret` (size, from bit 8 on whether it is `iret`; bytes to drop).
pub(crate) fn far_return(cpu: &mut Cpu<'_, X86>, [what, more, _]: [u64; 3]) -> Result64 {
    let (size, interrupt) = (what & 15, what >> 8 & 1 != 0);
    let (mem, set) = (sized(size), mmu(cpu.state));
    let by = size.cast_signed();
    let mut values = [0; 5];
    let long = cpu.state.is_long();
    let count = match (interrupt, long) {
        (false, _) => 2,
        (true, false) => 3,
        (true, true) => 5,
    };
    for (n, value) in values[..count].iter_mut().enumerate() {
        let at = stack(cpu.state, by * n as i64);
        *value = cpu.load(set, mem, at)?;
    }
    let [ip, cs, flags, rsp, ss] = values;
    let cs = cs & 0xffff;
    if !cpu.state.is_real() && cs & 3 != cpu.state.cpl() {
        return Err(Trap::protection(error(cs)));
    }
    let (old, rip) = (cpu.state.gpr[usize::from(gpr::RSP)], cpu.state.rip);
    if interrupt && long {
        let ss_before = cpu.state.seg_selector[usize::from(seg::SS)];
        if ss & 0xffff != ss_before {
            load_segment(cpu, [seg::SS.into(), ss, 0])?;
        }
        enter(cpu, cs, ip)?;
        cpu.state.gpr[usize::from(gpr::RSP)] = rsp;
    } else {
        move_stack(cpu.state, by * count as i64 + more.cast_signed());
        if let Err(trap) = enter(cpu, cs, ip) {
            cpu.state.gpr[usize::from(gpr::RSP)] = old;
            cpu.state.rip = rip;
            return Err(trap);
        }
    }
    if interrupt {
        crate::helpers_integer::set_flags(cpu, [flags, size, 0])?;
    }
    Ok(0)
}

/// The linear address of an access (segment, from bit 8 on bytes; offset).
pub(crate) fn linear(cpu: &mut Cpu<'_, X86>, [what, offset, _]: [u64; 3]) -> Result64 {
    let number = what as u8;
    let at = usize::from(number.min(seg::GS));
    let len = (what >> 8 & 0xff).max(1);
    let state: &State = cpu.state;
    let a = state.seg_attributes[at];
    let exception = if number == seg::SS { Exception::Stack } else { Exception::Protection };
    let refused = Trap::Exception(exception, 0, 0);
    if !state.is_real() && a & attributes::PRESENT == 0 {
        return Err(Trap::protection(0));
    }
    let offset = offset & 0xffff_ffff;
    let last = offset + len - 1;
    let limit = state.seg_limit[at];
    let expands_down = a & (attributes::CODE | attributes::DC) == attributes::DC;
    let fits = if expands_down {
        let top = if a & attributes::DB != 0 { 0xffff_ffff } else { 0xffff };
        offset > limit && last <= top
    } else {
        last <= limit
    };
    if !fits {
        return Err(refused);
    }
    Ok(offset.wrapping_add(state.seg_base[at]) & 0xffff_ffff)
}

/// `verr` 0, `verw` 1, `lar` 2, `lsl` 3 (which, selector, old value): the value; ZF is set.
pub(crate) fn examine(cpu: &mut Cpu<'_, X86>, [which, selector, old]: [u64; 3]) -> Result64 {
    let selector = selector & 0xffff;
    let found = match selector & !3 {
        0 => None,
        _ => descriptor(cpu, selector)?,
    };
    let level = cpu.state.cpl().max(selector & 3);
    let seen = found.filter(|d| {
        let a = d.attributes;
        let conforming = d.is_code() && a & attributes::DC != 0;
        let reachable = conforming || d.dpl() >= level;
        let kind = match which {
            0 => !d.is_code() || a & attributes::RW != 0,
            1 => !d.is_code() && a & attributes::RW != 0,
            _ => true,
        };
        a & attributes::S != 0 && reachable && kind
    });
    let flags = cpu.state.flags();
    let zero = if seen.is_some() { eflags::ZF } else { 0 };
    cpu.state.set_flags(flags & !eflags::ZF | zero);
    Ok(match (which, seen) {
        (2, Some(d)) => d.attributes << 8 | (d.limit >> 12 & 0xf_0000),
        (3, Some(d)) => d.limit,
        _ => old,
    })
}
