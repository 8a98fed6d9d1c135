//! V: instructions are calls of helpers in `vector/`, which find in the instruction and the state
//! what to do, unless the mode says enough to translate them.

use super::Translator;
use super::float::Sign;
use super::vector_float::Fused;
use super::vector_integer::MulAdd;
use super::vector_mask::First;
use super::vector_reduce::Neutral;
use super::vector_widen::{Read, both};
use crate::decode::{
    V1, V1U, VBf16, VFixed, VFloat, VI, VIU, VInteger, VLoad, VLoadIndexed, VLoadStrided,
    VLoadWhole, VMask, VMemory, VMoveWhole, VPermute, VReduction, VStore, VStoreIndexed,
    VStoreMask, VStoreStrided, VStoreWhole, VV, VVU, VX, VXU, VfromI, VfromV, VfromX, Vid, XfromV,
    XfromVm, Zvb, Zvk,
};
use crate::helpers::HelperIndex;
use crate::state;
use crate::state::flags::{self, Length};
use ir::{Builder, Cond, ExitKind, FpCond, OpKind, Operand, Rounding, Type};

/// Methods of a trait by what they do with the instruction.
macro_rules! instructions {
    ($($trait:ident { $($how:ident $(($($arg:expr),*))? {
        $($name:ident $form:ty),* $(,)?
    })* })*) => { $(
        impl $trait for Translator<'_, '_> { $(
            instructions!(@ $how ($($($arg),*)?) $($name $form)*);
        )* }
    )* };
    (@ $how:ident $args:tt $($name:ident $form:ty)*) => { $(
        instructions!(@@ $how $args $name $form);
    )* };
    (@@ $how:ident ($($arg:expr),*) $name:ident $form:ty) => {
        fn $name(&mut self, _: $form) {
            self.$how($($arg),*);
        }
    };
}

instructions! {
    VInteger {
    vector_binary(OpKind::VAdd) {
        vadd_vv VV, vadd_vx VX, vadd_vi VI,
    }
    vector_binary(OpKind::VSub) {
        vsub_vv VV, vsub_vx VX,
    }
    vector_reverse(OpKind::VSub) {
        vrsub_vx VX, vrsub_vi VI,
    }
    vector_binary(OpKind::VMinU) {
        vminu_vv VV, vminu_vx VX,
    }
    vector_binary(OpKind::VMin) {
        vmin_vv VV, vmin_vx VX,
    }
    vector_binary(OpKind::VMaxU) {
        vmaxu_vv VV, vmaxu_vx VX,
    }
    vector_binary(OpKind::VMax) {
        vmax_vv VV, vmax_vx VX,
    }
    vector_logic(OpKind::VAnd) {
        vand_vv VV, vand_vx VX, vand_vi VI,
    }
    vector_logic(OpKind::VOr) {
        vor_vv VV, vor_vx VX, vor_vi VI,
    }
    vector_logic(OpKind::VXor) {
        vxor_vv VV, vxor_vx VX, vxor_vi VI,
    }
    vector_operate {
        vadc_vvm VVU, vadc_vxm VXU, vadc_vim VIU, vmadc_vvm VVU, vmadc_vxm VXU, vmadc_vim VIU,
        vmadc_vv VVU, vmadc_vx VXU, vmadc_vi VIU, vsbc_vvm VVU, vsbc_vxm VXU, vmsbc_vvm VVU,
        vmsbc_vxm VXU, vmsbc_vv VVU, vmsbc_vx VXU, vdivu_vv VV, vdivu_vx VX, vdiv_vv VV, vdiv_vx VX,
        vremu_vv VV, vremu_vx VX, vrem_vv VV, vrem_vx VX, vmulhsu_vv VV, vmulhsu_vx VX,
    }
    vector_narrow(OpKind::VShr, OpKind::VShrBy) {
        vnsrl_wv VV, vnsrl_wx VX, vnsrl_wi VI,
    }
    vector_narrow(OpKind::VSar, OpKind::VSarBy) {
        vnsra_wv VV, vnsra_wx VX, vnsra_wi VI,
    }
    vector_binary(OpKind::VMulHighU) {
        vmulhu_vv VV, vmulhu_vx VX,
    }
    vector_binary(OpKind::VMulHigh) {
        vmulh_vv VV, vmulh_vx VX,
    }
    vector_widen(OpKind::VAdd, both(false)) {
        vwaddu_vv VV, vwaddu_vx VX,
    }
    vector_widen(OpKind::VAdd, both(true)) {
        vwadd_vv VV, vwadd_vx VX,
    }
    vector_widen(OpKind::VSub, both(false)) {
        vwsubu_vv VV, vwsubu_vx VX,
    }
    vector_widen(OpKind::VSub, both(true)) {
        vwsub_vv VV, vwsub_vx VX,
    }
    vector_widen(OpKind::VAdd, Read { wide: true, ..both(false) }) {
        vwaddu_wv VV, vwaddu_wx VX,
    }
    vector_widen(OpKind::VAdd, Read { wide: true, ..both(true) }) {
        vwadd_wv VV, vwadd_wx VX,
    }
    vector_widen(OpKind::VSub, Read { wide: true, ..both(false) }) {
        vwsubu_wv VV, vwsubu_wx VX,
    }
    vector_widen(OpKind::VSub, Read { wide: true, ..both(true) }) {
        vwsub_wv VV, vwsub_wx VX,
    }
    vector_widen(OpKind::VMul, both(false)) {
        vwmulu_vv VV, vwmulu_vx VX,
    }
    vector_widen(OpKind::VMul, Read { second_signed: false, ..both(true) }) {
        vwmulsu_vv VV, vwmulsu_vx VX,
    }
    vector_widen(OpKind::VMul, both(true)) {
        vwmul_vv VV, vwmul_vx VX,
    }
    vector_widen_accumulate(both(false)) {
        vwmaccu_vv VV, vwmaccu_vx VX,
    }
    vector_widen_accumulate(both(true)) {
        vwmacc_vv VV, vwmacc_vx VX,
    }
    vector_widen_accumulate(Read { second_signed: false, ..both(true) }) {
        vwmaccus_vx VX,
    }
    vector_widen_accumulate(Read { first_signed: false, ..both(true) }) {
        vwmaccsu_vv VV, vwmaccsu_vx VX,
    }
    vector_extend(3, false) {
        vzext_vf8 V1,
    }
    vector_extend(3, true) {
        vsext_vf8 V1,
    }
    vector_extend(2, false) {
        vzext_vf4 V1,
    }
    vector_extend(2, true) {
        vsext_vf4 V1,
    }
    vector_extend(1, false) {
        vzext_vf2 V1,
    }
    vector_extend(1, true) {
        vsext_vf2 V1,
    }
    vector_compare(Cond::Eq) {
        vmseq_vv VV, vmseq_vx VX, vmseq_vi VI,
    }
    vector_compare(Cond::Ne) {
        vmsne_vv VV, vmsne_vx VX, vmsne_vi VI,
    }
    vector_compare(Cond::Ltu) {
        vmsltu_vv VV, vmsltu_vx VX,
    }
    vector_compare(Cond::Lt) {
        vmslt_vv VV, vmslt_vx VX,
    }
    vector_compare(Cond::Leu) {
        vmsleu_vv VV, vmsleu_vx VX, vmsleu_vi VI,
    }
    vector_compare(Cond::Le) {
        vmsle_vv VV, vmsle_vx VX, vmsle_vi VI,
    }
    vector_compare(Cond::Gtu) {
        vmsgtu_vx VX, vmsgtu_vi VI,
    }
    vector_compare(Cond::Gt) {
        vmsgt_vx VX, vmsgt_vi VI,
    }
    vector_merge {
        vmerge_vvm VVU, vmerge_vxm VXU, vmerge_vim VIU, vmv_v_v VfromV, vmv_v_x VfromX,
        vmv_v_i VfromI,
    }
    vector_shift(OpKind::VShl, OpKind::VShlBy) {
        vsll_vv VV, vsll_vx VX, vsll_vi VI,
    }
    vector_shift(OpKind::VShr, OpKind::VShrBy) {
        vsrl_vv VV, vsrl_vx VX, vsrl_vi VI,
    }
    vector_shift(OpKind::VSar, OpKind::VSarBy) {
        vsra_vv VV, vsra_vx VX, vsra_vi VI,
    }
    vector_binary(OpKind::VMul) {
        vmul_vv VV, vmul_vx VX,
    }
    vector_mul_add(MulAdd::Multiply) {
        vmadd_vv VV, vmadd_vx VX,
    }
    vector_mul_add(MulAdd::MultiplyNegated) {
        vnmsub_vv VV, vnmsub_vx VX,
    }
    vector_mul_add(MulAdd::Accumulate) {
        vmacc_vv VV, vmacc_vx VX,
    }
    vector_mul_add(MulAdd::Deduct) {
        vnmsac_vv VV, vnmsac_vx VX,
    }
    }
    VFixed {
    vector_operate {
        vsaddu_vv VV, vsaddu_vx VX, vsaddu_vi VI, vsadd_vv VV, vsadd_vx VX, vsadd_vi VI,
        vssubu_vv VV, vssubu_vx VX, vssub_vv VV, vssub_vx VX, vsmul_vv VV, vsmul_vx VX, vssrl_vv VV,
        vssrl_vx VX, vssrl_vi VI, vssra_vv VV, vssra_vx VX, vssra_vi VI, vnclipu_wv VV,
        vnclipu_wx VX, vnclipu_wi VI, vnclip_wv VV, vnclip_wx VX, vnclip_wi VI, vaaddu_vv VV,
        vaaddu_vx VX, vaadd_vv VV, vaadd_vx VX, vasubu_vv VV, vasubu_vx VX, vasub_vv VV,
        vasub_vx VX,
    }
    }
    VFloat {
    float_binary(OpKind::VFAdd) {
        vfadd_vv VV, vfadd_vf VX,
    }
    float_binary(OpKind::VFSub) {
        vfsub_vv VV, vfsub_vf VX,
    }
    float_binary(OpKind::VFMin) {
        vfmin_vv VV, vfmin_vf VX,
    }
    float_binary(OpKind::VFMax) {
        vfmax_vv VV, vfmax_vf VX,
    }
    float_sign(Sign::Copy) {
        vfsgnj_vv VV, vfsgnj_vf VX,
    }
    float_sign(Sign::Negate) {
        vfsgnjn_vv VV, vfsgnjn_vf VX,
    }
    float_sign(Sign::Xor) {
        vfsgnjx_vv VV, vfsgnjx_vf VX,
    }
    float_compare(FpCond::EqQuiet, false, false) {
        vmfeq_vv VV, vmfeq_vf VX,
    }
    float_compare(FpCond::LeSignal, false, false) {
        vmfle_vv VV, vmfle_vf VX,
    }
    float_compare(FpCond::LtSignal, false, false) {
        vmflt_vv VV, vmflt_vf VX,
    }
    float_compare(FpCond::EqQuiet, false, true) {
        vmfne_vv VV, vmfne_vf VX,
    }
    float_compare(FpCond::LtSignal, true, false) {
        vmfgt_vf VX,
    }
    float_compare(FpCond::LeSignal, true, false) {
        vmfge_vf VX,
    }
    float_binary(OpKind::VFDiv) {
        vfdiv_vv VV, vfdiv_vf VX,
    }
    float_reverse(OpKind::VFDiv) {
        vfrdiv_vf VX,
    }
    float_binary(OpKind::VFMul) {
        vfmul_vv VV, vfmul_vf VX,
    }
    float_reverse(OpKind::VFSub) {
        vfrsub_vf VX,
    }
    float_fused(Fused { multiplies_dest: true, negated: (false, false) }) {
        vfmadd_vv VV, vfmadd_vf VX,
    }
    float_fused(Fused { multiplies_dest: true, negated: (true, true) }) {
        vfnmadd_vv VV, vfnmadd_vf VX,
    }
    float_fused(Fused { multiplies_dest: true, negated: (false, true) }) {
        vfmsub_vv VV, vfmsub_vf VX,
    }
    float_fused(Fused { multiplies_dest: true, negated: (true, false) }) {
        vfnmsub_vv VV, vfnmsub_vf VX,
    }
    float_fused(Fused { multiplies_dest: false, negated: (false, false) }) {
        vfmacc_vv VV, vfmacc_vf VX,
    }
    float_fused(Fused { multiplies_dest: false, negated: (true, true) }) {
        vfnmacc_vv VV, vfnmacc_vf VX,
    }
    float_fused(Fused { multiplies_dest: false, negated: (false, true) }) {
        vfmsac_vv VV, vfmsac_vf VX,
    }
    float_fused(Fused { multiplies_dest: false, negated: (true, false) }) {
        vfnmsac_vv VV, vfnmsac_vf VX,
    }
    float_widen(OpKind::VFAdd, false) {
        vfwadd_vv VV, vfwadd_vf VX,
    }
    float_widen(OpKind::VFSub, false) {
        vfwsub_vv VV, vfwsub_vf VX,
    }
    float_widen(OpKind::VFAdd, true) {
        vfwadd_wv VV, vfwadd_wf VX,
    }
    float_widen(OpKind::VFSub, true) {
        vfwsub_wv VV, vfwsub_wf VX,
    }
    float_widen(OpKind::VFMul, false) {
        vfwmul_vv VV, vfwmul_vf VX,
    }
    float_widen_fused((false, false)) {
        vfwmacc_vv VV, vfwmacc_vf VX,
    }
    float_widen_fused((true, true)) {
        vfwnmacc_vv VV, vfwnmacc_vf VX,
    }
    float_widen_fused((false, true)) {
        vfwmsac_vv VV, vfwmsac_vf VX,
    }
    float_widen_fused((true, false)) {
        vfwnmsac_vv VV, vfwnmsac_vf VX,
    }
    float_merge {
        vfmerge_vfm VXU, vfmv_v_f VfromX,
    }
    float_to_int(false, Rounding::Current) {
        vfcvt_xu_f_v V1,
    }
    float_to_int(true, Rounding::Current) {
        vfcvt_x_f_v V1,
    }
    float_from_int(false) {
        vfcvt_f_xu_v V1,
    }
    float_from_int(true) {
        vfcvt_f_x_v V1,
    }
    float_to_int(false, Rounding::TowardZero) {
        vfcvt_rtz_xu_f_v V1,
    }
    float_to_int(true, Rounding::TowardZero) {
        vfcvt_rtz_x_f_v V1,
    }
    vector_float {
        vfwcvt_xu_f_v V1, vfwcvt_x_f_v V1, vfwcvt_f_xu_v V1, vfwcvt_f_x_v V1, vfwcvt_rtz_xu_f_v V1,
        vfwcvt_rtz_x_f_v V1, vfncvt_xu_f_w V1, vfncvt_x_f_w V1, vfncvt_f_xu_w V1, vfncvt_f_x_w V1,
        vfncvt_f_f_w V1, vfncvt_rod_f_f_w V1, vfncvt_rtz_xu_f_w V1, vfncvt_rtz_x_f_w V1,
        vfrsqrt7_v V1, vfrec7_v V1, vfclass_v V1,
    }
    float_widen_float {
        vfwcvt_f_f_v V1,
    }
    float_root {
        vfsqrt_v V1,
    }
    float_from_scalar {
        vfmv_s_f VfromX,
    }
    float_to_scalar {
        vfmv_f_s XfromV,
    }
    }
    VMask {
    mask_logic(Builder::andnot) {
        vmandn_mm VVU,
    }
    mask_logic(Builder::and) {
        vmand_mm VVU,
    }
    mask_logic(Builder::or) {
        vmor_mm VVU,
    }
    mask_logic(Builder::xor) {
        vmxor_mm VVU,
    }
    mask_logic(|b, x, y| { let y = b.not(y); b.or(x, y) }) {
        vmorn_mm VVU,
    }
    mask_logic(|b, x, y| { let both = b.and(x, y); b.not(both) }) {
        vmnand_mm VVU,
    }
    mask_logic(|b, x, y| { let any = b.or(x, y); b.not(any) }) {
        vmnor_mm VVU,
    }
    mask_logic(|b, x, y| { let differs = b.xor(x, y); b.not(differs) }) {
        vmxnor_mm VVU,
    }
    mask_around(First::Before) {
        vmsbf_m V1,
    }
    mask_around(First::Only) {
        vmsof_m V1,
    }
    mask_around(First::Including) {
        vmsif_m V1,
    }
    vector_operate {
        viota_m V1,
    }
    vector_number {
        vid_v Vid,
    }
    mask_count {
        vcpop_m XfromVm,
    }
    mask_first {
        vfirst_m XfromVm,
    }
    }
    VMemory {
    vector_load_run {
        vlm_v VfromX, vle_v VLoad, vlre_v VLoadWhole,
    }
    vector_load {
        vlse_v VLoadStrided, vluxei_v VLoadIndexed, vloxei_v VLoadIndexed,
    }
    vector_load_run_first {
        vleff_v VLoad,
    }
    vector_store {
        vsse_v VStoreStrided, vsuxei_v VStoreIndexed, vsoxei_v VStoreIndexed,
    }
    vector_store_run {
        vsm_v VStoreMask, vse_v VStore, vsr_v VStoreWhole,
    }
    }
    VPermute {
    vector_to_scalar {
        vmv_x_s XfromV,
    }
    vector_from_scalar {
        vmv_s_x VfromX,
    }
    vector_move_whole {
        vmvr_v VMoveWhole,
    }
    vector_gather {
        vrgather_vv VV,
    }
    vector_operate {
        vrgather_vx VX, vrgather_vi VI, vrgatherei16_vv VV, vslideup_vx VX, vslidedown_vx VX,
        vcompress_vm VVU,
    }
    vector_slide_up {
        vslideup_vi VI,
    }
    vector_slide_down {
        vslidedown_vi VI,
    }
    vector_slide_one_up {
        vslide1up_vx VX,
    }
    vector_slide_one_down {
        vslide1down_vx VX,
    }
    vector_float {
        vfslide1up_vf VX, vfslide1down_vf VX,
    }
    }
    VReduction {
    vector_reduce(OpKind::VAdd, Neutral::Zero) {
        vredsum_vs VV,
    }
    vector_reduce(OpKind::VAnd, Neutral::Ones) {
        vredand_vs VV,
    }
    vector_reduce(OpKind::VOr, Neutral::Zero) {
        vredor_vs VV,
    }
    vector_reduce(OpKind::VXor, Neutral::Zero) {
        vredxor_vs VV,
    }
    vector_reduce(OpKind::VMinU, Neutral::Ones) {
        vredminu_vs VV,
    }
    vector_reduce(OpKind::VMin, Neutral::Greatest) {
        vredmin_vs VV,
    }
    vector_reduce(OpKind::VMaxU, Neutral::Zero) {
        vredmaxu_vs VV,
    }
    vector_reduce(OpKind::VMax, Neutral::Least) {
        vredmax_vs VV,
    }
    vector_reduce_wide(false) {
        vwredsumu_vs VV,
    }
    vector_reduce_wide(true) {
        vwredsum_vs VV,
    }
    vector_float {
        vfredusum_vs VV, vfredosum_vs VV, vfredmin_vs VV, vfredmax_vs VV, vfwredusum_vs VV,
        vfwredosum_vs VV,
    }
    }
    VBf16 {
    vector_float {
        vfncvtbf16_f_f_w V1, vfwcvtbf16_f_f_v V1, vfwmaccbf16_vv VV, vfwmaccbf16_vf VX,
    }
    }
    Zvb {
    vector_logic(OpKind::VAndNot) {
        vandn_vv VV, vandn_vx VX,
    }
    vector_operate {
        vbrev8_v V1, vrev8_v V1, vrol_vv VV, vrol_vx VX, vror_vv VV,
        vror_vx VX, vror_vi VI, vbrev_v V1, vclz_v V1, vctz_v V1, vcpop_v V1, vwsll_vv VV,
        vwsll_vx VX, vwsll_vi VI, vclmul_vv VV, vclmul_vx VX, vclmulh_vv VV, vclmulh_vx VX,
    }
    }
    Zvk {
    vector_crypto {
        vghsh_vv VVU, vgmul_vv V1U, vaesdf_vv V1U, vaesdf_vs V1U, vaesdm_vv V1U, vaesdm_vs V1U,
        vaesef_vv V1U, vaesef_vs V1U, vaesem_vv V1U, vaesem_vs V1U, vaesz_vs V1U, vaeskf1_vi VIU,
        vaeskf2_vi VIU, vsha2ms_vv VVU, vsha2ch_vv VVU, vsha2cl_vv VVU, vsm4k_vi VIU, vsm4r_vv V1U,
        vsm4r_vs V1U, vsm3me_vv VVU, vsm3c_vi VIU,
    }
    }
}

impl Translator<'_, '_> {
    /// Begins a vector instruction; all of them write vector state. False if the unit is off.
    pub(super) fn vector_on(&mut self) -> bool {
        match flags::vs(self.flags) {
            flags::OFF => {
                self.illegal();
                return false;
            }
            flags::CLEAN => {
                self.call_effect(HelperIndex::DirtyVector, &[]);
                self.marked = true;
            }
            _ => {}
        }
        true
    }

    /// Begins a vector instruction that a helper executes. Where the mode does not say what `vtype`
    /// is, or says that `vstart` is about to change, it is left behind.
    fn vector_begin(&mut self) -> bool {
        if !self.vector_on() {
            return false;
        }
        match flags::length(self.flags) {
            Length::Unknown => {
                let yes = self.imm(1);
                self.b.set_reg(state::VKNOWN, yes);
                self.marked = true;
            }
            Length::Odd => self.marked = true,
            Length::Full | Length::Short => {}
        }
        true
    }

    pub(super) fn field(&self, at: u32) -> u8 {
        (self.insn >> at & 31) as u8
    }

    /// The scalar operand of OP-V: rs1 where funct3 says so.
    fn vector_scalar(&mut self) -> Operand {
        if self.insn >> 14 & 1 != 0 { self.x(self.field(15)) } else { self.imm(0) }
    }

    pub(super) fn vector_operate(&mut self) {
        if self.vector_begin() {
            let (insn, x) = (self.insn_bits(), self.vector_scalar());
            self.call_effect(HelperIndex::Vector, &[insn, x]);
        }
    }

    fn vector_crypto(&mut self) {
        if self.vector_begin() {
            let insn = self.insn_bits();
            self.call_effect(HelperIndex::VectorCrypto, &[insn]);
        }
    }

    pub(super) fn vector_to_x(&mut self) {
        if self.vector_begin() {
            let insn = self.insn_bits();
            let value = self.call(HelperIndex::Vector, &[insn]);
            self.set_x(self.field(7), value);
        }
    }

    /// Calls the helper of floating-point instructions; `None` if a unit is off.
    fn vector_float_call(&mut self) -> Option<Operand> {
        if !self.fp_write() || !self.vector_begin() {
            return None;
        }
        let insn = self.insn_bits();
        let scalar = if self.insn >> 14 & 1 != 0 {
            let value = self.b.reg(Self::f_reg(self.field(15)));
            self.b.to_int(value, 64)
        } else {
            self.imm(0)
        };
        Some(self.call(HelperIndex::VectorFloat, &[insn, scalar]))
    }

    pub(super) fn vector_float(&mut self) {
        self.vector_float_call();
    }

    pub(super) fn vector_to_f(&mut self) {
        if let Some(bits) = self.vector_float_call() {
            let rd = self.field(7);
            let value = self.b.to_float(Type::F64, bits);
            self.b.set_float_reg(Self::f_reg(rd), value);
            self.boxed &= !(1 << rd);
        }
    }

    pub(super) fn vector_load(&mut self) {
        self.vector_memory(HelperIndex::VectorLoad);
    }

    pub(super) fn vector_load_first(&mut self) {
        self.vector_memory(HelperIndex::VectorLoadFirst);
    }

    pub(super) fn vector_store(&mut self) {
        self.vector_memory(HelperIndex::VectorStore);
    }

    /// The base, and the stride where there is one.
    fn vector_memory(&mut self, helper: HelperIndex) {
        if !self.vector_begin() {
            return;
        }
        let (insn, base) = (self.insn_bits(), self.x(self.field(15)));
        let strided = self.insn >> 26 & 3 == 2;
        let stride = if strided { self.x(self.field(20)) } else { self.imm(0) };
        self.call_effect(helper, &[insn, base, stride]);
        if helper == HelperIndex::VectorLoadFirst && !self.marked {
            self.exit_loop(ExitKind::Recheck, self.next);
        }
    }
}
