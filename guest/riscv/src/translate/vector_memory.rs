//! V: loads and stores of elements that lie one after the other.

use super::Translator;
use super::vector_pieces::{ByHelper, Work};
use crate::helpers::HelperIndex;
use crate::state::VL;
use crate::state::flags::{self, Length};

/// The bytes of the vector registers that an instruction moves: where, and how many.
type Run = (u32, u32);

impl Translator<'_, '_> {
    /// `vle`, `vlm`, `vl1r` and its kin.
    pub(super) fn vector_load_run(&mut self) {
        let Ok(run) = self.run(true) else { return self.vector_load() };
        let (insn, from) = (self.insn_bits(), self.at_x(self.field(15)));
        self.b.vcopy_in(HelperIndex::VectorLoad.id(), insn, from, run);
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
        let Ok(run) = self.run(false) else { return self.vector_store() };
        let (insn, to) = (self.insn_bits(), self.at_x(self.field(15)));
        self.b.vcopy_out(HelperIndex::VectorStore.id(), insn, to, run);
    }

    /// What a unit-stride instruction moves, if that is always the same.
    fn run(&self, loads: bool) -> Result<Run, ByHelper> {
        const WHOLE: usize = 0x08;
        const MASK: usize = 0x0b;
        let Work { shape, vlmax, short } = self.work()?;
        let eew = if shape.funct3() == 0 { 0 } else { shape.funct3() as i32 - 4 };
        let (registers, first) = (shape.field(29, 3) + 1, shape.vd());
        let len = match shape.vs2() {
            WHOLE => {
                let aligned = registers.is_power_of_two() && first.is_multiple_of(registers);
                shape.require(aligned && eew <= shape.elen)?;
                (registers * shape.vlenb) as u32
            }
            _ if short => return Err(ByHelper),
            MASK => vlmax / 8,
            _ => {
                shape.require(registers == 1 && shape.unmasked())?;
                let group = if loads { shape.dest(eew) } else { shape.group(first, eew) };
                shape.require(group?.count <= 8)?;
                vlmax << eew
            }
        };
        let whole = matches!(len, 4 | 8) || len > 0 && len.is_multiple_of(16);
        whole.then_some(((first * shape.vlenb) as u32, len)).ok_or(ByHelper)
    }
}
