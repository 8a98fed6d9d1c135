//! Copies between memory and the guest's vector registers, with one look at the TLB.

use super::alloc::Kept;
use super::asm::gpr::{RAX, RBP, RCX};
use super::asm::{Alu, Cc, Gpr, Mem, Width, Xmm};
use super::lower::Generator;
use super::memory::Reach;
use super::thunks::{core_disp, core_mem, state_mem};
use super::vector::{PBLENDVB, constant_at, m0f, m3a};
use crate::CompileError;
use crate::layout::{Loc, Site, SiteKind, VectorConsts};
use ir::Op;
use std::mem::offset_of;

const X0: Xmm = Xmm(0);
const X1: Xmm = Xmm(1);

impl Generator<'_> {
    /// `VCopyIn`, and `VCopyOut` if it writes memory.
    pub(super) fn vector_copy(&mut self, op: &Op, write: bool) -> Result<(), CompileError> {
        let base = self.int(op.a)?;
        let place = self.unit.as_const(op.b).unwrap_or(u64::MAX);
        let (at, len) = (place & u64::from(u32::MAX), place >> 32);
        let state = self.vector_bytes(at, len);
        let site = self.site(op, SiteKind::Call(op.aux));
        let [a, b, c] = site.args;
        let site = Site { args: [c, a, b], ..site };
        let result = match op.dst.is_none() {
            true => None,
            false => Some(self.define_int(op, None)?),
        };
        let reach = self.reach_bytes(base, len, write);
        let mut done = 0;
        while done < len as u32 {
            let (memory, state) =
                (self.reached(&reach, base, done as i32), state_mem(state + done));
            let (from, to) = if write { (state, memory) } else { (memory, state) };
            let step = match len as u32 - done {
                left @ (4 | 8) => {
                    self.asm.vload(left == 8, X0, from);
                    self.asm.vstore(left == 8, to, X0);
                    left
                }
                // Parts of what is stored as a whole can be read at once, not the other way round.
                left if left >= 64 && !write && self.target.host.avx512 => {
                    self.asm.vmov512(false, X0, from);
                    self.asm.vmov512(true, X0, to);
                    64
                }
                left => {
                    let wide = left >= 32;
                    self.asm.vector_load(wide, X0, from);
                    self.asm.vector_store(wide, to, X0);
                    if wide { 32 } else { 16 }
                }
            };
            done += step;
        }
        if let Some(result) = result {
            self.asm.mov_imm(result, 0);
        }
        self.resume_here(reach, site, result.map_or(Loc::None, Loc::from), Kept::Nothing);
        self.defined(op);
        Ok(())
    }

    /// `VCopySomeIn`, and `VCopySomeOut` if it writes memory: as many whole vectors as there are, then
    /// a part of one. All that fits lies in one page, so loads may read it all.
    pub(super) fn vector_copy_some(&mut self, op: &Op, write: bool) -> Result<(), CompileError> {
        let (base, count) = (self.int(op.a)?, self.int(op.c)?);
        let place = self.unit.as_const(op.b).unwrap_or(u64::MAX);
        let (at, fit) = (place & 0xffff, place >> 16 & 0xffff);
        let state = self.vector_bytes(at, fit);
        let site = self.site(op, SiteKind::Call(op.aux));
        let [a, _, c] = site.args;
        let imms = [site.imms[0], place >> 32, site.imms[2]];
        let site = Site { args: [Loc::Imm(1), a, c], imms, ..site };
        let registers = self.scratch()?;
        let reach = self.reach_bytes(base, fit, write);
        match reach {
            Reach::Direct(..) => self.asm.mov(Width::W64, RCX, base),
            _ => self.asm.lea(Width::W64, RCX, Mem::indexed(base, RCX, 0)),
        }
        self.asm.mov(Width::W64, RAX, count);
        self.asm.mov_imm(registers, fit);
        self.asm.alu(Alu::Cmp, Width::W64, RAX, registers.into());
        self.asm.cmov(Cc::A, Width::W64, RAX, registers.into());
        self.asm.lea(Width::W64, registers, state_mem(state));
        let (from, to) = if write { (registers, RCX) } else { (RCX, registers) };
        let step = fit.min(32) as i32;
        let again = self.asm.here();
        self.asm.alu_imm(Alu::Cmp, Width::W32, RAX.into(), step);
        let part = self.asm.jcc(Cc::B);
        let (source, target) = self.copied((from, to));
        self.asm.vector_load(step == 32, X0, source);
        self.asm.vector_store(step == 32, target, X0);
        self.advance((from, to), step);
        self.asm.alu_imm(Alu::Sub, Width::W32, RAX.into(), step);
        let next = self.asm.jmp();
        self.asm.bind_to(next, again);
        self.asm.bind(part);
        if self.target.host.avx512 {
            self.copy_part((from, to), step == 32, write);
        } else if write {
            self.store_part((from, to), step);
        } else {
            self.load_part((from, to), step == 32);
        }
        self.resume_here(reach, site, Loc::None, Kept::Nothing);
        Ok(())
    }

    /// What registers point at, of which `rcx` is the one that points into guest memory.
    fn copied(&self, (from, to): (Gpr, Gpr)) -> (Mem, Mem) {
        let of = |r: Gpr| if r == RCX { self.guest_mem(r, 0) } else { Mem::base(r, 0) };
        (of(from), of(to))
    }

    fn advance(&mut self, (from, to): (Gpr, Gpr), by: i32) {
        self.asm.alu_imm(Alu::Add, Width::W64, from.into(), by);
        self.asm.alu_imm(Alu::Add, Width::W64, to.into(), by);
    }

    /// The first eax bytes of a vector and not one more, in a host with masks.
    fn copy_part(&mut self, (from, to): (Gpr, Gpr), wide: bool, write: bool) {
        let (source, target) = self.copied((from, to));
        self.asm.mask_of(RAX, core_mem(constant_at(offset_of!(VectorConsts, window))));
        if write {
            self.asm.vector_load(wide, X0, source);
            self.asm.vmov_masked(wide, true, X0, target);
        } else {
            // All of it is stored, so that it can be read at once.
            self.asm.vector_load(wide, X0, target);
            self.asm.vmov_masked(wide, false, X0, source);
            self.asm.vector_store(wide, target, X0);
        }
    }

    /// The first eax bytes of a vector; the others of the destination stay as they are.
    fn load_part(&mut self, (from, to): (Gpr, Gpr), wide: bool) {
        let ones_end = constant_at(offset_of!(VectorConsts, window)) + 32;
        self.asm.test(Width::W32, RAX, RAX);
        let nothing = self.asm.jcc(Cc::E);
        self.asm.group3(Width::W64, 3, RAX.into());
        self.asm.vector_load(wide, X1, Mem::indexed(RBP, RAX, core_disp(ones_end)));
        let (source, target) = self.copied((from, to));
        self.asm.vector_load(wide, X0, target);
        self.asm.v(wide, PBLENDVB, X0, X0, source);
        self.asm.imm8(X1.0 << 4);
        self.asm.vector_store(wide, target, X0);
        self.asm.bind(nothing);
    }

    /// The first eax bytes of a vector and not one more: by powers of two.
    fn store_part(&mut self, (from, to): (Gpr, Gpr), whole: i32) {
        for size in [16, 8, 4, 2, 1] {
            if size >= whole {
                continue;
            }
            self.asm.test_imm(RAX, size);
            let skip = self.asm.jcc(Cc::E);
            let (source, target) = self.copied((from, to));
            match size {
                16 => {
                    self.asm.vector_load(false, X0, source);
                    self.asm.vector_store(false, target, X0);
                }
                8 | 4 => {
                    self.asm.vload(size == 8, X0, source);
                    self.asm.vstore(size == 8, target, X0);
                }
                _ => {
                    // vpinsr and vpextr, of a word or a byte.
                    let (insert, extract) = match size {
                        2 => (m0f(0xc4), m3a(0x15)),
                        _ => (m3a(0x20), m3a(0x14)),
                    };
                    self.asm.v(false, insert, X0, X0, source);
                    self.asm.imm8(0);
                    self.asm.v(false, extract, X0, Xmm(0), target);
                    self.asm.imm8(0);
                }
            }
            if size > 1 {
                self.advance((from, to), size);
            }
            self.asm.bind(skip);
        }
    }
}
