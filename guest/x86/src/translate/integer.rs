//! `spec/integer.map`: arithmetic, logic, moves. What is longer is in `bits.rs` and `multiply.rs`.

use super::{Binary, Place, Translator};
use crate::decode::Insn;
use crate::decode::traits::Integer;
use crate::flags::{Cc, Kind};
use crate::helpers::HelperIndex;
use crate::model::Feature;
use crate::state::{CC_DST, CC_SRC, CC_SRC2, EFLAGS, eflags, gpr, mode};
use ir::{AmoOp, Builder, Cond, Operand};

impl Integer for Translator<'_, '_> {
    fn add(&mut self, i: &Insn) {
        if self.is_atomic(i) {
            let value = self.read(i, 1);
            let old = self.atomic(i, AmoOp::Add, value);
            let r = self.add_sized(Self::size(i, 0), old, value);
            return self.flags_from(Kind::Add, Self::size(i, 0), r, value);
        }
        self.sum(i, Kind::Add, None);
    }
    fn adc(&mut self, i: &Insn) {
        let carry = self.carry();
        if self.is_atomic(i) {
            let (size, value) = (Self::size(i, 0), self.read(i, 1));
            let both = self.add_sized(size, value, carry);
            let old = self.atomic(i, AmoOp::Add, both);
            let r = self.add_sized(size, old, both);
            self.keep(CC_SRC2, carry);
            return self.flags_from(Kind::Adc, size, r, value);
        }
        self.sum(i, Kind::Adc, Some(carry));
    }
    fn sub(&mut self, i: &Insn) {
        if self.is_atomic(i) {
            let value = self.read(i, 1);
            let minus = self.b.neg(value);
            let old = self.atomic(i, AmoOp::Add, minus);
            return self.flags_from(Kind::Sub, Self::size(i, 0), old, value);
        }
        self.difference(i, Kind::Sub, None);
    }
    fn sbb(&mut self, i: &Insn) {
        let carry = self.carry();
        if self.is_atomic(i) {
            let (size, value) = (Self::size(i, 0), self.read(i, 1));
            let both = self.add_sized(size, value, carry);
            let minus = self.b.neg(both);
            let old = self.atomic(i, AmoOp::Add, minus);
            self.keep(CC_SRC2, carry);
            return self.flags_from(Kind::Sbb, size, old, value);
        }
        self.difference(i, Kind::Sbb, Some(carry));
    }
    fn and(&mut self, i: &Insn) {
        self.logic(i, (Builder::and, Builder::and32), AmoOp::And);
    }
    fn or(&mut self, i: &Insn) {
        self.logic(i, (Builder::or, Builder::or32), AmoOp::Or);
    }
    fn xor(&mut self, i: &Insn) {
        // Zero, whatever was there.
        let (x, y) = (self.operand_gpr(i, 0), self.operand_gpr(i, 1));
        if x.is_some() && x == y {
            let (size, zero) = (Self::size(i, 0), self.b.imm(0));
            self.write(i, 0, zero);
            let zero = self.b.imm(0);
            return self.flags_of_result(size, zero);
        }
        self.logic(i, (Builder::xor, Builder::xor32), AmoOp::Xor);
    }
    fn cmp(&mut self, i: &Insn) {
        let (d, s) = (self.read(i, 0), self.second(i));
        self.flags_from(Kind::Sub, Self::size(i, 0), d, s);
    }
    fn test(&mut self, i: &Insn) {
        let (x, y) = (self.read(i, 0), self.second(i));
        let r = if x == y { x } else { self.b.and(x, y) };
        self.flags_of_result(Self::size(i, 0), r);
    }
    fn inc(&mut self, i: &Insn) {
        self.step(i, Kind::Inc, 1);
    }
    fn dec(&mut self, i: &Insn) {
        self.step(i, Kind::Dec, -1);
    }
    fn neg(&mut self, i: &Insn) {
        let size = Self::size(i, 0);
        let zero = self.b.imm(0);
        if self.is_atomic(i) {
            let (base, offset) = self.address(i, size);
            let at = self.at(base, offset);
            let what = self.b.imm(size.into());
            let old = self.call(HelperIndex::Locked, &[at, zero, what]);
            let zero = self.b.imm(0);
            return self.flags_from(Kind::Sub, size, zero, old);
        }
        let place = self.place(i, 0);
        let value = self.get(place, size);
        if let Place::Memory(..) = place {
            let r = self.sub_sized(size, zero, value);
            self.put(place, size, r);
            return self.flags_from(Kind::Sub, size, zero, value);
        }
        self.flags_from(Kind::Sub, size, zero, value);
        let r = self.sub_sized(size, zero, value);
        self.put(place, size, r);
    }
    fn not(&mut self, i: &Insn) {
        let size = Self::size(i, 0);
        let ones = self.b.imm(u64::MAX);
        if self.is_atomic(i) {
            self.atomic(i, AmoOp::Xor, ones);
            return;
        }
        let place = self.place(i, 0);
        let value = self.get(place, size);
        let r = self.sized((Builder::xor, Builder::xor32), size, value, ones);
        self.put(place, size, r);
    }
    fn mov(&mut self, i: &Insn) {
        let value = self.read(i, 1);
        self.write(i, 0, value);
    }
    fn movzx(&mut self, i: &Insn) {
        let value = self.read(i, 1);
        let value = self.zx(value, Self::size(i, 1));
        self.write(i, 0, value);
    }
    fn movsx(&mut self, i: &Insn) {
        let size = Self::size(i, 1);
        let value = self.read(i, 1);
        let value = self.sx(value, size);
        self.write(i, 0, value);
    }
    fn movsxd(&mut self, i: &Insn) {
        // A move with an operand size of less than 64 bits.
        let value = self.read(i, 1);
        let value = self.sx(value, 4);
        self.write(i, 0, value);
    }
    fn movnti(&mut self, i: &Insn) {
        self.mov(i);
    }
    fn movbe(&mut self, i: &Insn) {
        let value = self.read(i, 1);
        let value = self.byte_swapped(value, i.size);
        self.write(i, 0, value);
    }
    fn lea(&mut self, i: &Insn) {
        if i.memory.is_none() {
            return self.undefined_instruction();
        }
        let value = self.effective_address(i);
        self.write(i, 0, value);
    }
    fn xchg(&mut self, i: &Insn) {
        let size = Self::size(i, 0);
        let value = self.read(i, 1);
        // Of memory, locked always.
        if i.memory.is_some() && self.flags & mode::SPLIT == 0 {
            let old = self.atomic(i, AmoOp::Swap, value);
            self.write(i, 1, old);
            return;
        }
        let (first, second) = (self.place(i, 0), self.place(i, 1));
        let other = self.get(first, size);
        let (value, other) = (self.b.copy(value), self.b.copy(other));
        self.put(first, size, value);
        self.put(second, size, other);
    }
    fn xadd(&mut self, i: &Insn) {
        let size = Self::size(i, 0);
        let value = self.read(i, 1);
        let value = self.b.copy(value);
        if self.is_atomic(i) {
            let old = self.atomic(i, AmoOp::Add, value);
            let r = self.add_sized(size, old, value);
            self.flags_from(Kind::Add, size, r, value);
            self.write(i, 1, old);
            return;
        }
        let place = self.place(i, 0);
        let old = self.get(place, size);
        let old = self.b.copy(old);
        let r = self.add_sized(size, old, value);
        if let Place::Memory(..) = place {
            self.put(place, size, r);
            self.flags_from(Kind::Add, size, r, value);
            self.write(i, 1, old);
        } else {
            self.flags_from(Kind::Add, size, r, value);
            self.write(i, 1, old);
            self.put(place, size, r);
        }
    }
    fn cmpxchg(&mut self, i: &Insn) {
        self.compare_exchange(i);
    }
    fn cmpxchg8b(&mut self, i: &Insn) {
        self.compare_exchange_pair(i, HelperIndex::Cmpxchg8b, 8);
    }
    fn cmpxchg16b(&mut self, i: &Insn) {
        match self.has(Feature::Cx16) {
            true => self.compare_exchange_pair(i, HelperIndex::Cmpxchg16b, 16),
            false => self.undefined_instruction(),
        }
    }
    fn bswap(&mut self, i: &Insn) {
        let value = self.read(i, 0);
        // Undefined for 16 bits: zero.
        let value = match i.size {
            2 => self.b.imm(0),
            size => self.byte_swapped(value, size),
        };
        self.write(i, 0, value);
    }
    fn cmovcc(&mut self, i: &Insn) {
        let size = Self::size(i, 0);
        let new = self.read(i, 1);
        let new = self.b.copy(new);
        let bit = self.condition_bit(i.opcode & 15);
        let old = self.read(i, 0);
        let value = self.b.select(bit, new, old);
        let place = self.place(i, 0);
        self.put(place, size, value);
    }
    fn setcc(&mut self, i: &Insn) {
        let bit = self.condition_bit(i.opcode & 15);
        self.write(i, 0, bit);
    }
    fn cbw(&mut self, i: &Insn) {
        let value = self.x(gpr::RAX);
        let value = self.sx(value, i.size / 2);
        self.put(Place::Gpr(gpr::RAX), i.size, value);
    }
    fn cwd(&mut self, i: &Insn) {
        let value = self.x(gpr::RAX);
        let value = self.sx(value, i.size);
        let shift = self.b.imm(63);
        let sign = self.b.sar(value, shift);
        self.put(Place::Gpr(gpr::RDX), i.size, sign);
    }
    fn nop(&mut self, _: &Insn) {}
    fn pause(&mut self, _: &Insn) {}
    fn prefetch(&mut self, _: &Insn) {}
    fn sahf(&mut self, i: &Insn) {
        const LOW: u64 = eflags::ARITHMETIC & !eflags::OF;
        if self.is_long() && !self.has(Feature::LahfLm) {
            return self.undefined_instruction();
        }
        let _ = i;
        let old = self.all_flags();
        let (overflow, low) = (self.b.imm(eflags::OF), self.b.imm(LOW));
        let old = self.b.and(old, overflow);
        let value = self.get(Place::High(0), 1);
        let value = self.b.and(value, low);
        let bits = self.b.or(old, value);
        self.flags_are(bits);
    }
    fn lahf(&mut self, _: &Insn) {
        if self.is_long() && !self.has(Feature::LahfLm) {
            return self.undefined_instruction();
        }
        let bits = self.all_flags();
        let one = self.b.imm(eflags::ONE);
        let bits = self.b.or(bits, one);
        self.put(Place::High(0), 1, bits);
    }
    fn clc(&mut self, _: &Insn) {
        let zero = self.b.imm(0);
        self.set_carry(zero);
    }
    fn stc(&mut self, _: &Insn) {
        let one = self.b.imm(1);
        self.set_carry(one);
    }
    fn cmc(&mut self, _: &Insn) {
        let (carry, one) = (self.carry(), self.b.imm(1));
        let carry = self.b.xor(carry, one);
        self.set_carry(carry);
    }
    fn cld(&mut self, _: &Insn) {
        self.set_direction(false);
    }
    fn std(&mut self, _: &Insn) {
        self.set_direction(true);
    }
    fn xlat(&mut self, i: &Insn) {
        let (base, index) = (self.x(gpr::RBX), self.x(gpr::RAX));
        let index = self.b.zext(index, 8);
        let at = self.b.add(base, index);
        let at = self.zx(at, i.address_size);
        let segment = i.segment.unwrap_or(crate::state::seg::DS);
        let (at, offset) = self.in_segment(segment, (at, 0), 1);
        let value = self.get(Place::Memory(at, offset), 1);
        self.put(Place::Gpr(gpr::RAX), 1, value);
    }
    fn rdtsc(&mut self, _: &Insn) {
        self.time_stamp();
    }
    fn cpuid(&mut self, _: &Insn) {
        self.call_effect(HelperIndex::Cpuid, &[]);
    }
    fn rdrand(&mut self, i: &Insn) {
        self.random(i);
    }
    fn rdseed(&mut self, i: &Insn) {
        self.random(i);
    }
    fn imul(&mut self, i: &Insn) {
        self.multiply(i, true);
    }
    fn mul(&mut self, i: &Insn) {
        self.multiply(i, false);
    }
    fn imul2(&mut self, i: &Insn) {
        let (x, y) = (self.read(i, 0), self.read(i, 1));
        self.multiply_short(i, x, y);
    }
    fn imul3(&mut self, i: &Insn) {
        let (x, y) = (self.read(i, 1), self.read(i, 2));
        self.multiply_short(i, x, y);
    }
    fn div(&mut self, i: &Insn) {
        self.divide(i, false);
    }
    fn idiv(&mut self, i: &Insn) {
        self.divide(i, true);
    }
    fn mulx(&mut self, i: &Insn) {
        self.multiply_without_flags(i);
    }
    fn bt(&mut self, i: &Insn) {
        self.bit_test(i, None);
    }
    fn bts(&mut self, i: &Insn) {
        self.bit_test(i, Some(AmoOp::Or));
    }
    fn btr(&mut self, i: &Insn) {
        self.bit_test(i, Some(AmoOp::And));
    }
    fn btc(&mut self, i: &Insn) {
        self.bit_test(i, Some(AmoOp::Xor));
    }
    fn bsf(&mut self, i: &Insn) {
        self.bit_scan(i, false);
    }
    fn bsr(&mut self, i: &Insn) {
        self.bit_scan(i, true);
    }
    fn tzcnt(&mut self, i: &Insn) {
        match self.has(Feature::Bmi1) {
            true => self.count_zeros(i, false),
            false => self.bit_scan(i, false),
        }
    }
    fn lzcnt(&mut self, i: &Insn) {
        match self.has(Feature::Abm) {
            true => self.count_zeros(i, true),
            false => self.bit_scan(i, true),
        }
    }
    fn popcnt(&mut self, i: &Insn) {
        self.population(i);
    }
    fn shld(&mut self, i: &Insn) {
        self.double_shift(i, true);
    }
    fn shrd(&mut self, i: &Insn) {
        self.double_shift(i, false);
    }
    fn crc32(&mut self, i: &Insn) {
        let (crc, value) = (self.read(i, 0), self.read(i, 1));
        let crc = self.b.crc32c(crc, value, 8 * u16::from(Self::size(i, 1)));
        self.write(i, 0, crc);
    }
    fn adcx(&mut self, i: &Insn) {
        self.add_with_flag(i, eflags::CF);
    }
    fn adox(&mut self, i: &Insn) {
        self.add_with_flag(i, eflags::OF);
    }
    fn andn(&mut self, i: &Insn) {
        let (x, y) = (self.read(i, 1), self.read(i, 2));
        let size = Self::size(i, 0);
        let r = self.sized((Builder::andnot, Builder::andnot32), size, y, x);
        let r = self.write(i, 0, r);
        self.flags_of_result(size, r);
    }
    fn blsr(&mut self, i: &Insn) {
        self.lowest_bit(i, Builder::and, true);
    }
    fn blsmsk(&mut self, i: &Insn) {
        self.lowest_bit(i, Builder::xor, true);
    }
    fn blsi(&mut self, i: &Insn) {
        self.lowest_bit(i, Builder::andnot, false);
    }
    fn bzhi(&mut self, i: &Insn) {
        self.zero_high(i);
    }
    fn bextr(&mut self, i: &Insn) {
        self.bit_field(i);
    }
    fn pext(&mut self, i: &Insn) {
        self.bits_by_mask(i, (Builder::extract, Builder::extract32));
    }
    fn pdep(&mut self, i: &Insn) {
        self.bits_by_mask(i, (Builder::deposit, Builder::deposit32));
    }
    fn shlx(&mut self, i: &Insn) {
        self.shift_without_flags(i, (Builder::shl, Builder::shl32));
    }
    fn sarx(&mut self, i: &Insn) {
        self.shift_without_flags(i, (Builder::sar, Builder::sar32));
    }
    fn shrx(&mut self, i: &Insn) {
        self.shift_without_flags(i, (Builder::shr, Builder::shr32));
    }
    fn rorx(&mut self, i: &Insn) {
        let (x, count) = (self.read(i, 1), self.read(i, 2));
        let r = self.sized((Builder::rotr, Builder::rotr32), Self::size(i, 0), x, count);
        self.write(i, 0, r);
    }
}

impl<'u> Translator<'_, 'u> {
    /// The general register that is operand `n`, if all of one is.
    fn operand_gpr(&mut self, i: &Insn, n: usize) -> Option<u8> {
        if i.memory.is_some() {
            return None;
        }
        match self.place(i, n) {
            Place::Gpr(n) => Some(n),
            _ => None,
        }
    }

    /// The second operand; a constant as comparisons want it.
    fn second(&mut self, i: &Insn) -> Operand {
        let value = self.read(i, 1);
        let size = Self::size(i, 0);
        match self.b.unit().as_const(value) {
            Some(_) if size < 4 => self.zx(value, size),
            _ => value,
        }
    }

    /// Whether a locked operation is to be atomic.
    pub(crate) fn is_atomic(&self, i: &Insn) -> bool {
        i.lock && self.flags & mode::SPLIT == 0
    }

    /// An address and an offset as one.
    pub(crate) fn at(&mut self, base: Operand, offset: i64) -> Operand {
        let offset = self.imm(offset);
        self.b.add(base, offset)
    }

    /// An atomic operation on the first operand, in memory: what was there.
    pub(crate) fn atomic(&mut self, i: &Insn, op: AmoOp, value: Operand) -> Operand {
        let size = Self::size(i, 0);
        let (base, offset) = self.address(i, size);
        let at = self.at(base, offset);
        self.b.amo(op, self.mem(size), at, value)
    }

    /// The first operand + the second + a carry.
    fn sum(&mut self, i: &Insn, kind: Kind, carry: Option<Operand>) {
        let size = Self::size(i, 0);
        let place = self.place(i, 0);
        let s = if place_is_memory(place) { self.second(i) } else { self.source(i) };
        let x = self.get(place, size);
        if place_is_memory(place) {
            let r = self.sum_of(size, x, s, carry);
            self.put(place, size, r);
            self.keep_carry(carry);
            return self.flags_from(kind, size, r, s);
        }
        self.keep_carry(carry);
        self.keep(CC_SRC, s);
        let r = self.sum_of(size, x, s, carry);
        let r = self.put(place, size, r);
        self.keep(CC_DST, r);
        self.set_cc(Cc::new(kind, size));
    }

    /// The second operand; a temporary if it comes from memory.
    fn source(&mut self, i: &Insn) -> Operand {
        self.second(i)
    }

    fn keep_carry(&mut self, carry: Option<Operand>) {
        if let Some(carry) = carry {
            self.keep(CC_SRC2, carry);
        }
    }

    fn sum_of(&mut self, size: u8, x: Operand, y: Operand, carry: Option<Operand>) -> Operand {
        let r = self.add_sized(size, x, y);
        carry.map_or(r, |carry| self.add_sized(size, r, carry))
    }

    /// The first operand − the second − a carry.
    fn difference(&mut self, i: &Insn, kind: Kind, carry: Option<Operand>) {
        let size = Self::size(i, 0);
        let place = self.place(i, 0);
        let s = self.second(i);
        let x = self.get(place, size);
        let minus = |t: &mut Self| {
            let r = t.sub_sized(size, x, s);
            carry.map_or(r, |carry| t.sub_sized(size, r, carry))
        };
        if place_is_memory(place) {
            let r = minus(self);
            self.put(place, size, r);
            self.keep_carry(carry);
            return self.flags_from(kind, size, x, s);
        }
        self.keep_carry(carry);
        self.flags_from(kind, size, x, s);
        let r = minus(self);
        self.put(place, size, r);
    }

    /// A logical operation.
    fn logic(&mut self, i: &Insn, ops: (Binary<'u>, Binary<'u>), amo: AmoOp) {
        let size = Self::size(i, 0);
        if self.is_atomic(i) {
            let value = self.read(i, 1);
            let old = self.atomic(i, amo, value);
            let r = self.sized(ops, size, old, value);
            return self.flags_of_result(size, r);
        }
        let place = self.place(i, 0);
        let s = self.read(i, 1);
        let x = self.get(place, size);
        let r = self.sized(ops, size, x, s);
        let r = self.put(place, size, r);
        self.flags_of_result(size, r);
    }

    /// One more or less; CF stays.
    fn step(&mut self, i: &Insn, kind: Kind, by: i64) {
        let size = Self::size(i, 0);
        let carry = self.carry();
        let by = self.imm(by);
        if self.is_atomic(i) {
            let old = self.atomic(i, AmoOp::Add, by);
            let r = self.add_sized(size, old, by);
            return self.flags_from(kind, size, r, carry);
        }
        let place = self.place(i, 0);
        let x = self.get(place, size);
        if place_is_memory(place) {
            let r = self.add_sized(size, x, by);
            self.put(place, size, r);
            return self.flags_from(kind, size, r, carry);
        }
        self.keep(CC_SRC, carry);
        let r = self.add_sized(size, x, by);
        let r = self.put(place, size, r);
        self.keep(CC_DST, r);
        self.set_cc(Cc::new(kind, size));
    }

    /// Bytes in reverse order.
    fn byte_swapped(&mut self, value: Operand, size: u8) -> Operand {
        match size {
            8 => self.b.bswap(value),
            4 => self.b.bswap32(value),
            _ => {
                let (value, shift) = (self.b.bswap32(value), self.b.imm(16));
                self.b.shr32(value, shift)
            }
        }
    }

    fn compare_exchange(&mut self, i: &Insn) {
        let size = Self::size(i, 0);
        let new = self.read(i, 1);
        let expected = self.x(gpr::RAX);
        let expected = self.b.copy(expected);
        let place = self.place(i, 0);
        let old = match place {
            Place::Memory(base, offset) if self.is_atomic(i) => {
                let at = self.at(base, offset);
                self.b.cas(self.mem(size), at, expected, new)
            }
            _ => {
                let old = self.get(place, size);
                self.b.copy(old)
            }
        };
        let (x, y) = (self.zx(old, size), self.zx(expected, size));
        let equal = self.b.setcond(Cond::Eq, x, y);
        let equal = self.b.copy(equal);
        if let (Place::Gpr(n), 4) = (place, size) {
            // All 64 bits stay if the comparison fails.
            let (new, whole) = (self.zx(new, 4), self.x(n));
            let new = self.b.select(equal, new, whole);
            self.put(place, 8, new);
        } else if !self.is_atomic(i) {
            let new = self.b.select(equal, new, old);
            self.put(place, size, new);
        }
        self.flags_from(Kind::Sub, size, expected, old);
        // The accumulator changes only if the comparison fails.
        if size == 4 {
            let rax = self.x(gpr::RAX);
            let old = self.zx(old, 4);
            let value = self.b.select(equal, rax, old);
            self.b.set_reg(Self::gpr(gpr::RAX), value);
        } else {
            // Which may have been the destination.
            let rax = self.x(gpr::RAX);
            let value = self.b.select(equal, rax, old);
            self.put(Place::Gpr(gpr::RAX), size, value);
        }
    }

    fn compare_exchange_pair(&mut self, i: &Insn, helper: HelperIndex, size: u8) {
        let (base, offset) = self.address(i, size);
        let at = self.at(base, offset);
        // ZF is put into the flags.
        let bits = self.all_flags();
        self.b.set_reg(Self::scratch(0), bits);
        let at = self.b.copy(at);
        let equal = self.call(helper, &[at]);
        let shift = self.b.imm(6);
        let zero = self.b.shl(equal, shift);
        let others = self.b.imm(!eflags::ZF);
        let old = self.b.reg(Self::scratch(0));
        let old = self.b.and(old, others);
        let bits = self.b.or(old, zero);
        self.flags_are(bits);
    }

    /// DF is part of the mode.
    fn set_direction(&mut self, set: bool) {
        if (self.flags & mode::DF != 0) == set {
            return;
        }
        let (old, bit) = (self.b.reg(EFLAGS), self.b.imm(eflags::DF));
        let new = if set { self.b.or(old, bit) } else { self.b.andnot(old, bit) };
        self.b.set_reg(EFLAGS, new);
        self.lookup_next();
    }

    /// EDX:EAX are the time-stamp counter.
    pub(crate) fn time_stamp(&mut self) {
        let time = self.call(HelperIndex::Tsc, &[]);
        let shift = self.b.imm(32);
        let high = self.b.shr(time, shift);
        self.b.set_reg(Self::gpr(gpr::RDX), high);
        let low = self.b.zext(time, 32);
        self.b.set_reg(Self::gpr(gpr::RAX), low);
    }

    /// A random number; CF tells that there is one.
    fn random(&mut self, i: &Insn) {
        let value = self.call(HelperIndex::Random, &[]);
        self.write(i, 0, value);
        let one = self.b.imm(eflags::CF);
        self.flags_are(one);
    }

    /// `adcx`, `adox`: a sum whose carry is in one flag.
    fn add_with_flag(&mut self, i: &Insn, flag: u64) {
        let size = Self::size(i, 0);
        let bits = self.all_flags();
        let bits = self.b.copy(bits);
        let shift = self.b.imm(flag.trailing_zeros().into());
        let one = self.b.imm(1);
        let carry = self.b.shr(bits, shift);
        let carry = self.b.and(carry, one);
        let (x, y) = (self.read(i, 0), self.read(i, 1));
        let (x, y) = (self.zx(x, size), self.zx(y, size));
        let half = self.b.add(x, y);
        let sum = self.b.add(half, carry);
        let out = if size == 8 {
            let first = self.b.setcond(Cond::Ltu, half, x);
            let second = self.b.setcond(Cond::Ltu, sum, half);
            self.b.or(first, second)
        } else {
            let shift = self.b.imm(32);
            self.b.shr(sum, shift)
        };
        let out = self.b.shl(out, shift);
        let others = self.b.imm(!flag);
        let bits = self.b.and(bits, others);
        let bits = self.b.or(bits, out);
        let sum = self.b.copy(sum);
        self.flags_are(bits);
        self.write(i, 0, sum);
    }
}

fn place_is_memory(place: Place) -> bool {
    matches!(place, Place::Memory(..))
}
