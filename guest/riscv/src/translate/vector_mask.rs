//! V: masks, as integers of 64 bits.

use super::Translator;
use super::vector_pieces::{ByHelper, Done, Work};
use ir::{Builder, Operand};

/// Bits of a mask that are near the first one that is set.
#[derive(Clone, Copy)]
pub(super) enum First {
    Before,
    Including,
    Only,
}

impl<'u> Translator<'_, 'u> {
    /// vd.mask[i] = op(vs2.mask[i], vs1.mask[i])
    pub(super) fn mask_logic(&mut self, op: fn(&mut Builder<'u>, Operand, Operand) -> Operand) {
        self.translated(|t| {
            let work = t.work()?;
            let shape = work.shape;
            for word in 0..Self::mask_words(&work) {
                let a = t.mask_bits(&work, shape.vs2(), word);
                let b = t.mask_bits(&work, shape.vs1(), word);
                let bits = op(t.b, a, b);
                let below = t.word_below(&work, word);
                t.put_mask(&work, shape.vd(), word, (below, bits));
            }
            Ok(())
        });
    }

    /// The bits of vs2 that are active.
    fn active_bits(&mut self, work: &Work, word: u32) -> Operand {
        let bits = self.mask_bits(work, work.shape.vs2(), word);
        match self.word_active(work, word) {
            Some(active) => self.b.and(bits, active),
            None => bits,
        }
    }

    /// `vcpop.m`
    pub(super) fn mask_count(&mut self) {
        let Ok(work) = self.work() else { return self.vector_to_x() };
        let mut sum = self.b.imm(0);
        for word in 0..Self::mask_words(&work) {
            let bits = self.active_bits(&work, word);
            let count = self.b.popcnt(bits);
            sum = self.b.add(sum, count);
        }
        self.set_x(self.field(7), sum);
    }

    /// `vfirst.m`
    pub(super) fn mask_first(&mut self) {
        let Ok(work) = self.work() else { return self.vector_to_x() };
        let mut first = self.imm(-1);
        for word in (0..Self::mask_words(&work)).rev() {
            let bits = self.active_bits(&work, word);
            let at = self.b.ctz(bits);
            let base = self.b.imm(u64::from(word * 64));
            let at = self.b.add(at, base);
            first = self.b.select(bits, at, first);
        }
        self.set_x(self.field(7), first);
    }

    /// `vmsbf.m`, `vmsif.m`, `vmsof.m`
    pub(super) fn mask_around(&mut self, which: First) {
        self.translated(|t| t.mask_around_first(which));
    }

    fn mask_around_first(&mut self, which: First) -> Done {
        let work = self.work()?;
        let (vd, vs2) = (work.shape.vd(), work.shape.vs2());
        work.shape.require(vd != vs2 && (work.shape.unmasked() || vd != 0))?;
        if Self::mask_words(&work) > 1 {
            return Err(ByHelper);
        }
        let bits = self.active_bits(&work, 0);
        let one = self.b.imm(1);
        let less = self.b.sub(bits, one);
        let value = match which {
            First::Before => self.b.andnot(less, bits),
            First::Including => self.b.xor(less, bits),
            First::Only => self.b.andnot(bits, less),
        };
        let active = self.word_active(&work, 0);
        self.put_mask(&work, vd, 0, (active, value));
        Ok(())
    }
}
