//! Guest memory accesses.
//!
//! The inline path looks the page up in the software TLB: the tag must equal the address without
//! its page offset but with the bits that alignment demands to be zero, so that a misaligned
//! access, a missing page and a page that needs care all fail the same comparison.

use super::alloc::Kept;
use super::asm::gpr::{RAX, RBP, RCX, RDX};
use super::asm::{Alu, Asm, Cc, Gpr, Mem, Patch, Rm, Width};
use super::lower::{Generator, Tail};
use super::thunks::core_disp;
use crate::CompileError;
use crate::layout::{Core, Loc, PAGE_BITS, Site, SiteKind, TLB_ENTRIES, TlbEntry};
use ir::{AmoOp, MemOp, Op, OpKind, Operand, Type};
use std::mem::{offset_of, size_of};

const _: () = assert!(size_of::<TlbEntry>() == 32, "the index computation counts on it");

impl Generator<'_> {
    pub(super) fn lower_memory(&mut self, op: &Op) -> Result<(), CompileError> {
        match op.kind {
            OpKind::Load | OpKind::Store if op.ty.is_vector() => self.lower_vector(op),
            OpKind::Load => self.load(op),
            OpKind::Store => self.store(op),
            OpKind::Amo => self.amo(op),
            OpKind::Cas => self.cas(op),
            _ => {
                self.asm.mfence();
                Ok(())
            }
        }
    }

    /// Base register and displacement of a + b; both may be constants.
    pub(super) fn address(&mut self, a: Operand, b: Operand) -> Result<(Gpr, i32), CompileError> {
        let base = self.int(a)?;
        if let Some(disp) = self.small_const(b) {
            return Ok((base, disp));
        }
        let offset = self.int(b)?;
        let sum = self.scratch()?;
        self.asm.lea(Width::W64, sum, Mem::indexed(base, offset, 0));
        Ok((sum, 0))
    }

    /// Looks up the page of base + disp for an access of `size` bytes, which takes the slow path when
    /// it is misaligned. On the main path `rcx` is what to add to the guest address; the returned
    /// jump is taken otherwise.
    fn tlb(&mut self, base: Gpr, disp: i32, size: u32, write: bool) -> Patch {
        let tag_mask = -(1 << PAGE_BITS) | (size as i32 - 1);
        self.tlb_masked(base, disp, (0, tag_mask), write)
    }

    /// The same for a vector, which takes the slow path when it crosses a page: then the page of its
    /// last byte is not the one that the entry of its first byte can hold.
    pub(super) fn tlb_vector(&mut self, mem: MemOp, base: Gpr, disp: i32, write: bool) -> Patch {
        if mem.must_align() {
            return self.tlb(base, disp, mem.size(), write);
        }
        self.tlb_masked(base, disp, (mem.size() as i32 - 1, -(1 << PAGE_BITS)), write)
    }

    /// Looks up the page of base + disp. What is compared with the tag is base + disp + `last`, and
    /// `tag_mask`.
    pub(super) fn tlb_masked(
        &mut self,
        base: Gpr,
        disp: i32,
        (last, tag_mask): (i32, i32),
        write: bool,
    ) -> Patch {
        let tag = if write { offset_of!(TlbEntry, write) } else { offset_of!(TlbEntry, read) };
        let set = offset_of!(Core, tlb)
            + usize::from(self.unit.mmu & 3) * TLB_ENTRIES * size_of::<TlbEntry>();
        let index_mask = ((TLB_ENTRIES - 1) << 5) as i32;
        let index_from = |asm: &mut Asm, address: Gpr| {
            asm.rorx(Width::W32, RCX, address.into(), (PAGE_BITS - 5) as u8);
            asm.alu_imm(Alu::And, Width::W32, RCX.into(), index_mask);
        };
        if last != 0 && disp == 0 {
            index_from(&mut self.asm, base);
            self.asm.lea(Width::W64, RAX, Mem::base(base, last));
        } else {
            match disp {
                0 => self.asm.mov(Width::W64, RAX, base),
                _ => self.asm.lea(Width::W64, RAX, Mem::base(base, disp)),
            }
            index_from(&mut self.asm, RAX);
            if last != 0 {
                self.asm.alu_imm(Alu::Add, Width::W64, RAX.into(), last);
            }
        }
        self.asm.alu_imm(Alu::And, Width::W64, RAX.into(), tag_mask);
        let entry = |field| Mem::indexed(RBP, RCX, core_disp(set + field));
        self.asm.alu(Alu::Cmp, Width::W64, RAX, entry(tag).into());
        let slow = self.asm.jcc(Cc::Ne);
        self.asm.load(Width::W64, RCX, entry(offset_of!(TlbEntry, addend)));
        slow
    }

    /// Ends an access: its slow path resumes here.
    pub(super) fn resume_here(&mut self, slow: Patch, site: Site, dst: Loc, least: Kept) {
        let site = Site { dst, ..site };
        let kept = self.alloc.kept().max(least);
        let resume = self.asm.here();
        self.tails.push(Tail::Slow { from: slow, site, resume, kept });
    }

    fn load(&mut self, op: &Op) -> Result<(), CompileError> {
        let mem = op.mem();
        let (base, disp) = self.address(op.a, op.b)?;
        // Located before the result may take over an operand's register.
        let site = self.site(op, SiteKind::Load(mem));
        if op.ty.is_float() {
            let d = self.define_float(op, None)?;
            let slow = self.fast_or_slow(mem, base, disp, false);
            if !mem.is_big_endian() {
                let at = Mem::indexed(base, RCX, disp);
                self.asm.vload(op.ty == Type::F64, d, at);
            }
            self.resume_here(slow, site, d.into(), Kept::Floats);
        } else {
            let d = self.define_int(op, Some(op.a))?;
            let slow = self.fast_or_slow(mem, base, disp, false);
            if !mem.is_big_endian() {
                self.extended(mem, d, Mem::indexed(base, RCX, disp).into());
            }
            self.resume_here(slow, site, d.into(), Kept::Nothing);
        }
        self.defined(op);
        Ok(())
    }

    /// The lookup, or, for accesses without a fast path, a jump to the slow one.
    fn fast_or_slow(&mut self, mem: MemOp, base: Gpr, disp: i32, write: bool) -> Patch {
        if mem.is_big_endian() {
            return self.asm.jmp();
        }
        self.tlb(base, disp, mem.size(), write)
    }

    /// d = what an access reads, extended as it says.
    fn extended(&mut self, mem: MemOp, d: Gpr, from: Rm) {
        self.asm.mov_extended(mem.size(), mem.is_signed(), d, from);
    }

    fn store(&mut self, op: &Op) -> Result<(), CompileError> {
        let mem = op.mem();
        let (base, disp) = self.address(op.a, op.b)?;
        if op.ty.is_float() {
            let value = self.float(op.c)?;
            let site = self.site(op, SiteKind::Store(mem));
            let slow = self.fast_or_slow(mem, base, disp, true);
            if !mem.is_big_endian() {
                self.asm.vstore(op.ty == Type::F64, Mem::indexed(base, RCX, disp), value);
            }
            self.resume_here(slow, site, Loc::None, Kept::Floats);
            return Ok(());
        }
        let constant = self.small_const(op.c).filter(|_| mem.size() >= 4);
        let value = match constant {
            Some(_) => RAX,
            None => self.int(op.c)?,
        };
        let site = self.site(op, SiteKind::Store(mem));
        let slow = self.fast_or_slow(mem, base, disp, true);
        if !mem.is_big_endian() {
            let at = Mem::indexed(base, RCX, disp);
            match (mem.size(), constant) {
                (4, Some(v)) => self.asm.store_imm(Width::W32, at, v),
                (_, Some(v)) => self.asm.store_imm(Width::W64, at, v),
                (1, None) => self.asm.store8(at, value),
                (2, None) => self.asm.store16(at, value),
                (4, None) => self.asm.store(Width::W32, at, value),
                (_, None) => self.asm.store(Width::W64, at, value),
            }
        }
        self.resume_here(slow, site, Loc::None, Kept::Nothing);
        Ok(())
    }

    fn amo(&mut self, op: &Op) -> Result<(), CompileError> {
        let (mem, amo) = (op.mem(), AmoOp::from_code(op.aux >> MemOp::BITS));
        let size = mem.size();
        if !matches!(amo, AmoOp::Add | AmoOp::Swap) {
            self.claim(RDX)?;
        }
        let (base, value) = (self.int(op.a)?, self.int(op.b)?);
        let site = self.site(op, SiteKind::Amo(amo, mem));
        let d = self.define_int(op, None)?;
        let slow = self.fast_or_slow(mem, base, 0, true);
        if !mem.is_big_endian() {
            let at = Mem::indexed(base, RCX, 0);
            match amo {
                AmoOp::Add => {
                    self.asm.mov(Width::W64, RAX, value);
                    self.asm.lock_xadd(size, at, RAX);
                }
                AmoOp::Swap => {
                    self.asm.mov(Width::W64, RAX, value);
                    self.asm.xchg(size, at, RAX);
                }
                _ => self.amo_loop(amo, mem, at, value),
            }
            self.extended(mem, d, RAX.into());
        }
        self.resume_here(slow, site, d.into(), Kept::Nothing);
        self.defined(op);
        Ok(())
    }

    /// rax = old value of memory at `at`, which becomes old `amo` value. Uses rdx.
    fn amo_loop(&mut self, amo: AmoOp, mem: MemOp, at: Mem, value: Gpr) {
        let w = Width::of(mem.size());
        let signed = matches!(amo, AmoOp::Min | AmoOp::Max);
        let narrow = mem.size() < 4;
        self.extended(if signed { signed_of(mem) } else { mem }, RAX, at.into());
        let again = self.asm.here();
        self.asm.mov(Width::W64, RDX, value);
        match amo {
            AmoOp::Xor => self.asm.alu(Alu::Xor, w, RDX, RAX.into()),
            AmoOp::And => self.asm.alu(Alu::And, w, RDX, RAX.into()),
            AmoOp::Or => self.asm.alu(Alu::Or, w, RDX, RAX.into()),
            _ => {
                if narrow {
                    // Compare in full registers: bring the value and what cmpxchg read to the
                    // same extension.
                    self.asm.mov_extended(mem.size(), signed, RDX, RDX.into());
                    self.asm.mov_extended(mem.size(), signed, RAX, RAX.into());
                }
                self.asm.alu(Alu::Cmp, w, RAX, RDX.into());
                let keep_old = match amo {
                    AmoOp::Min => Cc::L,
                    AmoOp::Max => Cc::G,
                    AmoOp::MinU => Cc::B,
                    _ => Cc::A,
                };
                self.asm.cmov(keep_old, w, RDX, RAX.into());
            }
        }
        self.asm.lock_cmpxchg(mem.size(), at, RDX);
        let retry = self.asm.jcc(Cc::Ne);
        self.asm.bind_to(retry, again);
    }

    fn cas(&mut self, op: &Op) -> Result<(), CompileError> {
        let mem = op.mem();
        let (base, expected, new) = (self.int(op.a)?, self.int(op.b)?, self.int(op.c)?);
        let site = self.site(op, SiteKind::Cas(mem));
        let d = self.define_int(op, None)?;
        let slow = self.fast_or_slow(mem, base, 0, true);
        if !mem.is_big_endian() {
            self.asm.mov(Width::W64, RAX, expected);
            self.asm.lock_cmpxchg(mem.size(), Mem::indexed(base, RCX, 0), new);
            self.extended(mem, d, RAX.into());
        }
        self.resume_here(slow, site, d.into(), Kept::Nothing);
        self.defined(op);
        Ok(())
    }
}

/// The sign-extending access of the same width.
fn signed_of(mem: MemOp) -> MemOp {
    match mem.size() {
        1 => MemOp::S8,
        2 => MemOp::S16,
        4 => MemOp::S32,
        _ => MemOp::U64,
    }
}
