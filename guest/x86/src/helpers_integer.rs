//! Integer instructions that are too long for IR.

use crate::processor::X86;
use crate::state::{State, eflags, gpr};
use crate::trap::{Exception, Trap};
use ir::{AmoOp, MemOp};
use isa::Cpu;

type Result64 = Result<u64, Trap>;
type Cpu86<'a> = Cpu<'a, X86>;

/// The set of translations in use.
pub(crate) fn mmu(state: &State) -> u8 {
    u8::from(state.cpl() == 3)
}

pub(crate) fn settle_flags(state: &mut State, _: [u64; 3]) -> u64 {
    state.settle_flags()
}

pub(crate) fn flags(state: &mut State, _: [u64; 3]) -> u64 {
    state.flags() & !(eflags::RF | eflags::VM)
}

/// `popf` (SDM volume 2, its table of modes).
pub(crate) fn set_flags(cpu: &mut Cpu86<'_>, [value, size, _]: [u64; 3]) -> Result64 {
    let state = &mut *cpu.state;
    let old = state.flags();
    let cpl = state.cpl();
    let mut fixed = eflags::VM | eflags::VIF | eflags::VIP | eflags::RF;
    if cpl > 0 {
        fixed |= eflags::IOPL;
    }
    if cpl > (old & eflags::IOPL) >> 12 {
        fixed |= eflags::IF;
    }
    if size == 2 {
        fixed |= !0xffff;
    }
    let known = eflags::ARITHMETIC
        | eflags::TF
        | eflags::IF
        | eflags::DF
        | eflags::IOPL
        | eflags::NT
        | eflags::RF
        | eflags::VM
        | eflags::AC
        | eflags::VIF
        | eflags::VIP
        | eflags::ID;
    let new = (old & fixed | value & !fixed) & known & !eflags::RF;
    state.set_flags(new);
    Ok(0)
}

pub(crate) fn div64(cpu: &mut Cpu86<'_>, [divisor, ..]: [u64; 3]) -> Result64 {
    let gpr = &mut cpu.state.gpr;
    let [low, high] = [gpr::RAX, gpr::RDX].map(|n| u128::from(gpr[usize::from(n)]));
    let dividend = high << 64 | low;
    let quotient = dividend.checked_div(divisor.into()).ok_or(Trap::new(Exception::Divide))?;
    let quotient = u64::try_from(quotient).map_err(|_| Trap::new(Exception::Divide))?;
    let remainder = (dividend % u128::from(divisor)) as u64;
    gpr[usize::from(gpr::RAX)] = quotient;
    gpr[usize::from(gpr::RDX)] = remainder;
    Ok(0)
}

pub(crate) fn idiv64(cpu: &mut Cpu86<'_>, [divisor, ..]: [u64; 3]) -> Result64 {
    let gpr = &mut cpu.state.gpr;
    let [low, high] = [gpr::RAX, gpr::RDX].map(|n| u128::from(gpr[usize::from(n)]));
    let dividend = (high << 64 | low).cast_signed();
    let divisor = i128::from(divisor.cast_signed());
    let error = Trap::new(Exception::Divide);
    let quotient = dividend.checked_div(divisor).ok_or(error)?;
    let quotient = i64::try_from(quotient).map_err(|_| error)?;
    let remainder = (dividend % divisor) as i64;
    gpr[usize::from(gpr::RAX)] = quotient.cast_unsigned();
    gpr[usize::from(gpr::RDX)] = remainder.cast_unsigned();
    Ok(0)
}

/// Rotates `value` and CF by `what`'s low byte to the left, in as many bytes as the next says; the
/// flags go into the first scratch register.
fn through_carry(state: &mut State, [value, what, flags]: [u64; 3], left: bool) -> u64 {
    let bits = 8 * (what >> 8 & 15) as u32;
    let count = what as u32 & 63;
    let mask = u64::MAX >> (64 - bits.clamp(8, 64));
    let value = value & mask;
    let all = u128::from(value) | u128::from(flags & eflags::CF) << bits;
    let turn = count % (bits + 1);
    let by = if left { turn } else { (bits + 1 - turn) % (bits + 1) };
    let ring = (1u128 << (bits + 1)) - 1;
    let turned = if by == 0 { all } else { (all << by | all >> (bits + 1 - by)) & ring };
    let result = turned as u64 & mask;
    let carry = (turned >> bits) as u64 & 1;
    let top = result >> (bits - 1) & 1;
    // SDM: OF is told of a count of 1; it is so of any.
    let overflow = if left { top ^ carry } else { top ^ result >> (bits - 2) & 1 };
    let mut new = flags;
    if count != 0 {
        new = flags & !(eflags::CF | eflags::OF) | carry | overflow << 11;
    }
    state.scratch[0] = new;
    result
}

pub(crate) fn rcl(state: &mut State, args: [u64; 3]) -> u64 {
    through_carry(state, args, true)
}

pub(crate) fn rcr(state: &mut State, args: [u64; 3]) -> u64 {
    through_carry(state, args, false)
}

pub(crate) fn cmpxchg8b(cpu: &mut Cpu86<'_>, [at, ..]: [u64; 3]) -> Result64 {
    let pair = |cpu: &Cpu86<'_>, high: u8, low: u8| {
        cpu.state.gpr[usize::from(high)] << 32 | cpu.state.gpr[usize::from(low)] & 0xffff_ffff
    };
    let expected = pair(cpu, gpr::RDX, gpr::RAX);
    let new = pair(cpu, gpr::RCX, gpr::RBX);
    let set = mmu(cpu.state);
    let old = if cpu.state.split != 0 {
        let old = cpu.load(set, MemOp::U64, at)?;
        cpu.store(set, MemOp::U64, at, if old == expected { new } else { old })?;
        old
    } else {
        cpu.cas(set, MemOp::U64, at, (expected, new))?
    };
    if old == expected {
        return Ok(1);
    }
    cpu.state.gpr[usize::from(gpr::RAX)] = old & 0xffff_ffff;
    cpu.state.gpr[usize::from(gpr::RDX)] = old >> 32;
    Ok(0)
}

pub(crate) fn cmpxchg16b(cpu: &mut Cpu86<'_>, [at, ..]: [u64; 3]) -> Result64 {
    if !at.is_multiple_of(16) {
        return Err(Trap::protection(0));
    }
    let pair = |cpu: &Cpu86<'_>, high: u8, low: u8| {
        u128::from(cpu.state.gpr[usize::from(high)]) << 64
            | u128::from(cpu.state.gpr[usize::from(low)])
    };
    let expected = pair(cpu, gpr::RDX, gpr::RAX);
    let new = pair(cpu, gpr::RCX, gpr::RBX);
    let old = cpu.cas_wide(mmu(cpu.state), at, (expected, new))?;
    if old == expected {
        return Ok(1);
    }
    cpu.state.gpr[usize::from(gpr::RAX)] = old as u64;
    cpu.state.gpr[usize::from(gpr::RDX)] = (old >> 64) as u64;
    Ok(0)
}

pub(crate) fn random(cpu: &mut Cpu86<'_>, _: [u64; 3]) -> Result64 {
    Ok((cpu.guest.wiring.random)())
}

/// `daa`, `das`, `aaa`, `aas` (SDM volume 2). The flags that it leaves undefined are those of the
/// sum or difference: of 8 bits, or, before the upper digit of AL is dropped, of 16.
pub(crate) fn decimal(cpu: &mut Cpu86<'_>, [opcode, ..]: [u64; 3]) -> Result64 {
    let old = cpu.state.flags();
    let rax = cpu.state.gpr[usize::from(gpr::RAX)];
    let (al, ax) = (rax as u8, rax as u16);
    let (carry, adjust) = (old & eflags::CF != 0, old & eflags::AF != 0);
    let low = al & 15 > 9 || adjust;
    let subtract = matches!(opcode, 0x2f | 0x3f);
    let bit = |set: bool, flag: u64| if set { flag } else { 0 };
    let of_result = |sign: bool, zero: bool, low: u8| {
        let even = low.count_ones().is_multiple_of(2);
        bit(sign, eflags::SF) | bit(zero, eflags::ZF) | bit(even, eflags::PF)
    };
    let (new, flags) = if opcode < 0x30 {
        // The six, and the sixty, by which decimal digits fall short of a nibble.
        let high = al > 0x99 || carry;
        let by = if low { 6 } else { 0 } + if high { 0x60 } else { 0 };
        let (result, overflow) = match subtract {
            true => (al.wrapping_sub(by), al.cast_signed().overflowing_sub_unsigned(by).1),
            false => (al.wrapping_add(by), al.cast_signed().overflowing_add_unsigned(by).1),
        };
        let borrow = subtract && low && (carry || al < 6);
        let flags = bit(high || borrow, eflags::CF) | bit(overflow, eflags::OF);
        let flags = flags | of_result(result & 0x80 != 0, result == 0, result);
        (ax & 0xff00 | u16::from(result), flags)
    } else {
        let by = if low { 0x106 } else { 0 };
        let signed = ax.cast_signed();
        let (result, overflow) = match subtract {
            true => (ax.wrapping_sub(by), signed.overflowing_sub_unsigned(by).1),
            false => (ax.wrapping_add(by), signed.overflowing_add_unsigned(by).1),
        };
        let flags = bit(low, eflags::CF) | bit(overflow, eflags::OF);
        let flags = flags | of_result(result >> 15 != 0, result == 0, result as u8);
        (result & 0xff0f, flags)
    };
    cpu.state.gpr[usize::from(gpr::RAX)] = rax & !0xffff | u64::from(new);
    let flags = flags | bit(low, eflags::AF);
    cpu.state.set_flags(old & !eflags::ARITHMETIC | flags);
    Ok(0)
}

/// `lock neg` (address, nothing, size): the old value.
pub(crate) fn locked(cpu: &mut Cpu86<'_>, [at, _, size]: [u64; 3]) -> Result64 {
    let mem = match size {
        1 => MemOp::U8,
        2 => MemOp::U16,
        4 => MemOp::U32,
        _ => MemOp::U64,
    };
    let set = mmu(cpu.state);
    // A read that needs the right to write.
    let mut old = cpu.amo(set, (AmoOp::Or, mem), at, 0)?;
    loop {
        let found = cpu.cas(set, mem, at, (old, old.wrapping_neg()))?;
        if mem.extend(found) == mem.extend(old) {
            return Ok(old);
        }
        old = found;
    }
}

/// Bytes that a part of a repeated move moves at most.
const PART: u64 = 4096;

/// A part of `rep movs` (what: bytes of an element, from bit 8 whether it is `stos`, from bit 16
/// bytes of addresses); what is left of the count.
pub(crate) fn repeat_move(cpu: &mut Cpu86<'_>, [what, ..]: [u64; 3]) -> Result64 {
    let (size, store) = (what & 15, what >> 8 & 1 != 0);
    let mask = u64::MAX >> (64 - 8 * (what >> 16 & 15).clamp(2, 8));
    let at = |n: u8| usize::from(n);
    let get = |state: &State, n: u8| state.gpr[at(n)] & mask;
    let (rcx, rsi, rdi) =
        (get(cpu.state, gpr::RCX), get(cpu.state, gpr::RSI), get(cpu.state, gpr::RDI));
    if rcx == 0 {
        return Ok(0);
    }
    // Nothing of a part goes round the end of the address space.
    let room = |from: u64| (mask - from) / size;
    let mut count = rcx.min(PART / size).min(room(rdi).max(1));
    let mut bytes = [0; PART as usize];
    let set = mmu(cpu.state);
    let mem = super::translate::unsigned(size as u8);
    if store {
        let value = cpu.state.gpr[at(gpr::RAX)].to_le_bytes();
        for element in bytes[..(count * size) as usize].chunks_exact_mut(size as usize) {
            element.copy_from_slice(&value[..size as usize]);
        }
    } else {
        count = count.min(room(rsi).max(1));
        // What is written here may be read a little later.
        let ahead = rdi.wrapping_sub(rsi);
        if ahead != 0 && ahead < count * size {
            count = (ahead / size).max(1);
        }
        let len = (count * size) as usize;
        if let Err((done, trap)) = cpu.load_run(set, mem, rsi, &mut bytes[..len]) {
            count = done as u64 / size;
            if count == 0 {
                return Err(trap);
            }
        }
    }
    let len = (count * size) as usize;
    if let Err((done, trap)) = cpu.store_run(set, mem, rdi, &bytes[..len]) {
        count = done as u64 / size;
        if count == 0 {
            return Err(trap);
        }
    }
    let moved = count * size;
    let mut put = |n: u8, value: u64| {
        let reg = &mut cpu.state.gpr[at(n)];
        *reg = if mask == 0xffff { *reg & !mask | value & mask } else { value & mask };
    };
    put(gpr::RCX, rcx - count);
    put(gpr::RDI, rdi.wrapping_add(moved));
    if !store {
        put(gpr::RSI, rsi.wrapping_add(moved));
    }
    Ok(rcx - count)
}
