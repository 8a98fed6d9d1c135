//! Guest memory accesses.
//!
//! In user mode they are made as they are: what faults on the host leads to the slow path
//! ([`FaultRange`](crate::FaultRange)). Elsewhere the inline path looks the page up in the software TLB: the tag must equal the address without
//! its page offset but with the bits that alignment demands to be zero, so that a misaligned
//! access, a missing page and a page that needs care all fail the same comparison.

use super::alloc::{Class, Kept};
use super::asm::gpr::{RAX, RBP, RCX, RDX};
use super::asm::{Alu, Cc, Gpr, Mem, Patch, Rm, Width, Xmm};
use super::lower::{Generator, MayFault, Tail};
use super::spans::Span;
use super::thunks::core_disp;
use crate::layout::{Core, Loc, PAGE_BITS, Site, SiteKind, TLB_ENTRIES, TlbEntry};
use crate::{CompileError, Memory};
use ir::{AmoOp, MemOp, Op, OpKind, Operand};
use std::mem::{offset_of, size_of};

const _: () = assert!(size_of::<TlbEntry>() == 32, "the index computation counts on it");

/// An access to guest memory, its operands in host registers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Access {
    what: What,
    mem: MemOp,
    base: Gpr,
    disp: i32,
}

/// What an access does.
#[derive(Clone, Copy, Debug)]
enum What {
    Load(Gpr),
    LoadFloat(Xmm),
    Store(Gpr),
    StoreConst(i32),
    StoreFloat(Xmm),
}

impl Access {
    fn writes(&self) -> bool {
        !matches!(self.what, What::Load(_) | What::LoadFloat(_))
    }
}

/// What leads from an access to its slow path.
#[derive(Debug)]
#[must_use]
pub(super) enum Reach {
    /// A jump that is taken unless the TLB has the page; what to add to guest addresses is in `rcx`.
    Tlb(Patch),
    /// The access itself, which begins here, when the host faults; a jump if it is misaligned and may
    /// not be.
    Direct(usize, Option<Patch>),
    /// There is no fast path.
    Slow(Patch),
}

/// How an access gets at its page.
#[derive(Clone, Copy, Debug)]
enum Look {
    /// For itself.
    Alone,
    /// For others in a span as well, which find in the register what to add to their addresses.
    First(Gpr, Span),
    /// By what the register holds.
    Again(Gpr),
}

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

    /// The way to a vector, which is the slow one through the TLB when it crosses a page: then the page
    /// of its last byte is not the one that the entry of its first byte can hold.
    pub(super) fn reach_vector(&mut self, mem: MemOp, base: Gpr, disp: i32, write: bool) -> Reach {
        if self.is_direct() {
            return self.directly(base, disp, mem.must_align().then(|| mem.size()));
        }
        Reach::Tlb(match mem.must_align() {
            true => self.tlb(base, disp, mem.size(), write),
            false => self.tlb_masked(base, disp, (mem.size() as i32 - 1, -(1 << PAGE_BITS)), write),
        })
    }

    /// The way to `len` bytes from base on, at any alignment.
    pub(super) fn reach_bytes(&mut self, base: Gpr, len: u64, write: bool) -> Reach {
        if self.is_direct() {
            return self.directly(base, 0, None);
        }
        Reach::Tlb(self.tlb_masked(base, 0, (len as i32 - 1, -(1 << PAGE_BITS)), write))
    }

    /// Whether guest memory is reached without the TLB.
    pub(super) fn is_direct(&self) -> bool {
        self.target.memory != Memory::Tlb
    }

    /// Begins a direct access; one of `aligned` bytes takes the slow path when it is misaligned.
    fn directly(&mut self, base: Gpr, disp: i32, aligned: Option<u32>) -> Reach {
        let misaligned = aligned.filter(|size| *size > 1).map(|size| {
            match disp {
                0 => self.asm.mov(Width::W32, RAX, base),
                _ => self.asm.lea(Width::W32, RAX, Mem::base(base, disp)),
            }
            self.asm.test_imm(RAX, size as i32 - 1);
            self.asm.jcc(Cc::Ne)
        });
        Reach::Direct(self.asm.here(), misaligned)
    }

    /// A guest address as an operand, without the TLB.
    pub(super) fn guest_mem(&self, base: Gpr, disp: i32) -> Mem {
        match self.target.memory {
            Memory::Window => Mem::base(base, disp).in_gs(),
            Memory::Tlb | Memory::Direct => Mem::base(base, disp),
        }
    }

    /// The operand of an access by this way.
    pub(super) fn reached(&self, reach: &Reach, base: Gpr, disp: i32) -> Mem {
        match reach {
            Reach::Direct(..) => self.guest_mem(base, disp),
            Reach::Tlb(_) | Reach::Slow(_) => Mem::indexed(base, RCX, disp),
        }
    }

    /// Looks up the page of base + disp. What is compared with the tag is base + disp + `last`, and
    /// `tag_mask`.
    fn tlb_masked(
        &mut self,
        base: Gpr,
        disp: i32,
        (last, tag_mask): (i32, i32),
        write: bool,
    ) -> Patch {
        let rotate = (PAGE_BITS - 5) as u8;
        if last != 0 && disp == 0 {
            self.asm.rorx(Width::W32, RCX, base.into(), rotate);
            self.asm.lea(Width::W64, RAX, Mem::base(base, last));
        } else {
            match disp {
                0 => self.asm.mov(Width::W64, RAX, base),
                _ => self.asm.lea(Width::W64, RAX, Mem::base(base, disp)),
            }
            self.asm.rorx(Width::W32, RCX, RAX.into(), rotate);
            if last != 0 {
                self.asm.alu_imm(Alu::Add, Width::W64, RAX.into(), last);
            }
        }
        let slow = self.compare_tag(tag_mask, write);
        self.asm.load(Width::W64, RCX, self.entry(offset_of!(TlbEntry, addend)));
        slow
    }

    /// rcx = the entry that rotated bits of an address lead to; the jump is taken if its tag is not
    /// the address in rax, masked.
    fn compare_tag(&mut self, tag_mask: i32, write: bool) -> Patch {
        let tag = if write { offset_of!(TlbEntry, write) } else { offset_of!(TlbEntry, read) };
        let index_mask = ((TLB_ENTRIES - 1) << 5) as i32;
        self.asm.alu_imm(Alu::And, Width::W32, RCX.into(), index_mask);
        self.asm.alu_imm(Alu::And, Width::W64, RAX.into(), tag_mask);
        self.asm.alu(Alu::Cmp, Width::W64, RAX, self.entry(tag).into());
        self.asm.jcc(Cc::Ne)
    }

    /// A field of the entry that rcx leads to.
    fn entry(&self, field: usize) -> Mem {
        let set = offset_of!(Core, tlb)
            + usize::from(self.unit.mmu & 3) * TLB_ENTRIES * size_of::<TlbEntry>();
        Mem::indexed(RBP, RCX, core_disp(set + field))
    }

    /// Ends an access: its slow path resumes here.
    pub(super) fn resume_here(&mut self, reach: Reach, site: Site, dst: Loc, least: Kept) {
        let site = Site { dst, ..site };
        let kept = self.alloc.kept().max(least);
        let resume = self.asm.here();
        let slow = match reach {
            Reach::Tlb(slow) | Reach::Slow(slow) => Some(slow),
            Reach::Direct(start, misaligned) => {
                self.may_fault(start, site, kept);
                misaligned
            }
        };
        if let Some(from) = slow {
            self.tails.push(Tail::Slow { from, site, resume, kept });
        }
    }

    /// What was emitted from `start` on may fault on the host: then the slow path serves the site, and
    /// goes on here.
    fn may_fault(&mut self, start: usize, site: Site, kept: Kept) {
        let resume = self.target.origin + self.asm.here() as u64;
        let (start, end) = (start as u32, self.asm.here() as u32);
        self.may_fault.push(MayFault { start, end, site: Site { resume, ..site }, kept });
    }

    fn load(&mut self, op: &Op) -> Result<(), CompileError> {
        let mem = op.mem();
        let (base, disp) = self.address(op.a, op.b)?;
        let look = self.choose_look(op, false);
        // Located before the result may take over an operand's register.
        let site = self.site(op, SiteKind::Load(mem));
        let (what, dst, least) = if op.ty.is_float() {
            let d = self.define_float(op, None)?;
            (What::LoadFloat(d), d.into(), Kept::Floats)
        } else {
            let d = self.define_int(op, Some(op.a))?;
            (What::Load(d), d.into(), Kept::Nothing)
        };
        self.access(Access { what, mem, base, disp }, look, Site { dst, ..site }, least);
        self.defined(op);
        Ok(())
    }

    fn store(&mut self, op: &Op) -> Result<(), CompileError> {
        let mem = op.mem();
        let (base, disp) = self.address(op.a, op.b)?;
        let (what, least) = if op.ty.is_float() {
            (What::StoreFloat(self.float(op.c)?), Kept::Floats)
        } else if let Some(value) = self.small_const(op.c).filter(|_| mem.size() >= 4) {
            (What::StoreConst(value), Kept::Nothing)
        } else {
            (What::Store(self.int(op.c)?), Kept::Nothing)
        };
        let look = self.choose_look(op, true);
        let site = self.site(op, SiteKind::Store(mem));
        self.access(Access { what, mem, base, disp }, look, site, least);
        Ok(())
    }

    /// How an access gets at its page; takes a register for what it finds if others follow.
    fn choose_look(&mut self, op: &Op, write: bool) -> Look {
        if self.is_direct() {
            return Look::Alone;
        }
        let Some((base, own, span)) = self.spans.at(self.unit, self.at as usize, op) else {
            return Look::Alone;
        };
        if let Some(found) = self.alloc.addend(base, own, write) {
            self.alloc.lock(Class::Int, found.host);
            if !span.shared {
                // Stays locked until the end of the operation.
                self.alloc.forget_addends(|addend| addend.base == base);
            }
            return Look::Again(Gpr(found.host));
        }
        if !span.shared {
            return Look::Alone;
        }
        match self.alloc.take_addend(base, span, write) {
            Some(host) => Look::First(Gpr(host), span),
            None => Look::Alone,
        }
    }

    /// Emits an access, and what leads to its slow path.
    fn access(&mut self, access: Access, look: Look, site: Site, least: Kept) {
        if access.mem.is_big_endian() || self.is_direct() {
            let reach = self.reach(access.mem, access.base, access.disp, access.writes());
            if let Reach::Direct(..) = reach {
                self.emit_access(&access, None);
            }
            return self.resume_here(reach, site, site.dst, least);
        }
        let kept = self.alloc.kept().max(least);
        let (from, addend) = match look {
            Look::Alone => (self.look_up(&access), RCX),
            Look::First(addend, span) => {
                (self.look_up_span(access.base, span, access.writes(), addend), addend)
            }
            Look::Again(addend) => {
                self.asm.test(Width::W64, addend, addend);
                (self.asm.jcc(Cc::E), addend)
            }
        };
        self.emit_access(&access, Some(addend));
        let resume = self.asm.here();
        self.tails.push(match look {
            Look::Alone => Tail::Slow { from, site, resume, kept },
            Look::First(addend, _) => Tail::SlowSpan { from, site, resume, kept, addend },
            Look::Again(_) => Tail::Single { from, access, site, resume, kept },
        });
    }

    /// Looks up the page of one access: `rcx` is what to add to its address unless the jump is taken.
    pub(super) fn look_up(&mut self, access: &Access) -> Patch {
        self.tlb(access.base, access.disp, access.mem.size(), access.writes())
    }

    /// Looks up the page of a span from `base`; what to add to addresses is in `addend` unless the
    /// jump is taken, as it is when the span lies across two pages: then the page of its last
    /// byte is not the one that the entry of its first byte can hold.
    fn look_up_span(&mut self, base: Gpr, span: Span, write: bool, addend: Gpr) -> Patch {
        let from = match span.low {
            0 => base,
            low => {
                self.asm.lea(Width::W32, RCX, Mem::base(base, low));
                RCX
            }
        };
        self.asm.rorx(Width::W32, RCX, from.into(), (PAGE_BITS - 5) as u8);
        self.asm.lea(Width::W64, RAX, Mem::base(base, span.high - 1));
        let found = self.compare_tag(-(1 << PAGE_BITS), write);
        self.asm.load(Width::W64, addend, self.entry(offset_of!(TlbEntry, addend)));
        found
    }

    /// Emits the access itself; `addend` has what to add to the guest address.
    pub(super) fn emit_access(&mut self, access: &Access, addend: Option<Gpr>) {
        let Access { what, mem, base, disp } = *access;
        let at = match addend {
            Some(addend) => Mem::indexed(base, addend, disp),
            None => self.guest_mem(base, disp),
        };
        let w = Width::of(mem.size());
        match (what, mem.size()) {
            (What::Load(d), _) => self.extended(mem, d, at.into()),
            (What::LoadFloat(d), size) => self.asm.vload(size == 8, d, at),
            (What::StoreFloat(value), size) => self.asm.vstore(size == 8, at, value),
            (What::StoreConst(value), _) => self.asm.store_imm(w, at, value),
            (What::Store(value), 1) => self.asm.store8(at, value),
            (What::Store(value), 2) => self.asm.store16(at, value),
            (What::Store(value), _) => self.asm.store(w, at, value),
        }
    }

    /// The way to an access of integers or floats.
    fn reach(&mut self, mem: MemOp, base: Gpr, disp: i32, write: bool) -> Reach {
        if mem.is_big_endian() {
            return Reach::Slow(self.asm.jmp());
        }
        if self.is_direct() {
            return self.directly(base, disp, mem.must_align().then(|| mem.size()));
        }
        Reach::Tlb(self.tlb(base, disp, mem.size(), write))
    }

    /// d = what an access reads, extended as it says.
    fn extended(&mut self, mem: MemOp, d: Gpr, from: Rm) {
        self.asm.mov_extended(mem.size(), mem.is_signed(), d, from);
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
        let reach = self.reach(mem.aligned(), base, 0, true);
        if !mem.is_big_endian() {
            let at = self.reached(&reach, base, 0);
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
        self.resume_here(reach, site, d.into(), Kept::Nothing);
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
        let reach = self.reach(mem.aligned(), base, 0, true);
        if !mem.is_big_endian() {
            let at = self.reached(&reach, base, 0);
            self.asm.mov(Width::W64, RAX, expected);
            self.asm.lock_cmpxchg(mem.size(), at, new);
            self.extended(mem, d, RAX.into());
        }
        self.resume_here(reach, site, d.into(), Kept::Nothing);
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
