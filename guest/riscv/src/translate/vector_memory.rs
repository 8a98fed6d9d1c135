//! V: loads and stores of elements that lie one after the other.

use super::Translator;
use super::vector_pieces::{ByHelper, Work};
use crate::helpers::HelperIndex;
use crate::state::VL;
use crate::state::flags::{self, Length};
use ir::Operand;

/// The bytes of the vector registers that an instruction moves: where, and how many.
type Run = (u32, u32);

/// `lumop` of `vl1r` and its kin, and of `vlm`.
const WHOLE: usize = 0x08;
const MASK: usize = 0x0b;

impl Translator<'_, '_> {
    /// `vle`, `vlm`, `vl1r` and its kin.
    pub(super) fn vector_load_run(&mut self) {
        let helper = HelperIndex::VectorLoad.id();
        if let Ok((fit, count)) = self.short_run(true) {
            let from = self.at_x(self.field(15));
            return self.b.vcopy_some_in((helper, self.insn), from, fit, count);
        }
        let Ok(run) = self.run(true) else { return self.vector_load() };
        let (insn, from) = (self.insn_bits(), self.at_x(self.field(15)));
        self.b.vcopy_in(helper, insn, from, run);
    }

    /// `vle…ff`, which may find `vl` to be shorter.
    pub(super) fn vector_load_run_first(&mut self) {
        let Ok(run) = self.run(true) else { return self.vector_load_first() };
        let vtype = flags::vtype(self.flags);
        let vlmax = self.hart.vlmax(vtype).unwrap_or_default();
        let (insn, from) = (self.insn_bits(), self.at_x(self.field(15)));
        let lost = self.b.vcopy_in_part(HelperIndex::VectorLoad.id(), insn, from, run);
        let vlmax = self.b.imm(vlmax);
        let vl = self.b.sub(vlmax, lost);
        self.b.set_reg(VL, vl);
        let short = flags::with_vector(self.flags, Length::Short, vtype);
        self.b.exit_flags(lost, self.next, short);
    }

    /// `vse`, `vsm`, `vs1r` and its kin.
    pub(super) fn vector_store_run(&mut self) {
        let helper = HelperIndex::VectorStore.id();
        if let Ok((fit, count)) = self.short_run(false) {
            let to = self.at_x(self.field(15));
            return self.b.vcopy_some_out((helper, self.insn), to, fit, count);
        }
        let Ok(run) = self.run(false) else { return self.vector_store() };
        let (insn, to) = (self.insn_bits(), self.at_x(self.field(15)));
        self.b.vcopy_out(helper, insn, to, run);
    }

    /// What a unit-stride instruction moves, if that is always the same.
    fn run(&self, loads: bool) -> Result<Run, ByHelper> {
        let work = self.work()?;
        let (shape, eew) = (&work.shape, Self::memory_eew(&work));
        let (registers, first) = (shape.field(29, 3) + 1, shape.vd());
        let len = match shape.vs2() {
            WHOLE => {
                let aligned = registers.is_power_of_two() && first.is_multiple_of(registers);
                shape.require(aligned && eew <= shape.elen)?;
                (registers * shape.vlenb) as u32
            }
            _ if work.short => return Err(ByHelper),
            MASK => work.vlmax / 8,
            _ => Self::group_bytes(&work, loads)?,
        };
        let whole = matches!(len, 4 | 8) || len > 0 && len.is_multiple_of(16);
        whole.then_some(((first * shape.vlenb) as u32, len)).ok_or(ByHelper)
    }

    /// The same for one that moves `vl` elements: where, how many bytes there may be, and are.
    fn short_run(&mut self, loads: bool) -> Result<((u16, u16), Operand), ByHelper> {
        let work = self.work()?;
        if !work.short || matches!(work.shape.vs2(), WHOLE | MASK) {
            return Err(ByHelper);
        }
        let fit = Self::group_bytes(&work, loads)?;
        let place = (work.shape.vd() * work.shape.vlenb) as u32;
        let (Ok(place), Ok(fit)) = (place.try_into(), fit.try_into()) else {
            return Err(ByHelper);
        };
        if fit != 16 && (fit == 0 || fit % 32 != 0) {
            return Err(ByHelper);
        }
        let eew = self.imm(Self::memory_eew(&work).into());
        let vl = self.b.reg(VL);
        Ok(((place, fit), self.b.shl(vl, eew)))
    }

    /// Width of the elements in memory: log2 of bytes.
    fn memory_eew(work: &Work) -> i32 {
        if work.shape.funct3() == 0 { 0 } else { work.shape.funct3() as i32 - 4 }
    }

    /// How many bytes the whole register group of a plain unit-stride instruction has.
    fn group_bytes(work: &Work, loads: bool) -> Result<u32, ByHelper> {
        let (shape, eew) = (&work.shape, Self::memory_eew(work));
        shape.require(shape.field(29, 3) == 0 && shape.unmasked())?;
        let group = if loads { shape.dest(eew) } else { shape.group(shape.vd(), eew) };
        shape.require(group?.count <= 8)?;
        Ok(work.vlmax << eew)
    }
}
