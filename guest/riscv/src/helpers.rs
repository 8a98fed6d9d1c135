//! The table of functions that translated code calls.
//!
//! A row makes both the identifier ([`HelperIndex`]) and the entry of [`HELPERS`], so that they
//! cannot drift apart. Arguments and results are described at the functions.

use crate::hart::Riscv;
use crate::{helpers_atomic as atomic, helpers_bits as bits, helpers_crypto as crypto};
use crate::{helpers_float as float, helpers_sys as sys, vector};

isa::helpers! { Riscv;
    // Control and status registers, privileged instructions: helpers_sys.rs.
    /// A CSR instruction (instruction, operand): the old value. Not for fflags, frm, fcsr.
    Csr "csr" sys::csr, float: false;
    /// The same for CSRs 1 to 3.
    CsrFloat "csr_float" sys::csr, float: true;
    /// Illegal instruction (instruction bits).
    Illegal "illegal" sys::illegal, float: false;
    /// Fetches the halfword at (address) again, to take the exception of doing so.
    FetchFault "fetch_fault" sys::fetch_fault, float: false;
    /// Exception (cause, tval).
    Raise "raise" sys::raise, float: false;
    /// `ecall` ().
    Ecall "ecall" sys::ecall, float: false;
    /// `mret` (instruction); the pc is set.
    Mret "mret" sys::mret, float: false;
    /// `sret` (instruction); the pc is set.
    Sret "sret" sys::sret, float: false;
    /// Checks that `wfi` (instruction) is allowed.
    Wfi "wfi" sys::wfi, float: false;
    /// `wrs.nto`, `wrs.sto` (instruction, set of translations).
    Wrs "wrs" atomic::wrs, float: false;
    /// `sfence.vma`, `sinval.vma` (instruction, rs1's value, rs2's value).
    SfenceVma "sfence_vma" sys::sfence_vma, float: false;
    /// `sfence.w.inval`, `sfence.inval.ir` (instruction): checks the privilege.
    SfenceInval "sfence_inval" sys::sfence_inval, float: false;
    /// `cbo.zero` (instruction, address).
    CboZero "cbo_zero" sys::cbo_zero, float: false;
    /// `cbo.clean`, `cbo.flush`, `cbo.inval` (instruction, address).
    Cbo "cbo" sys::cbo, float: false;
    /// Marks the floating-point unit dirty ().
    DirtyFloat "dirty_float" sys::dirty_float, float: false;
    /// Marks the vector unit dirty ().
    DirtyVector "dirty_vector" sys::dirty_vector, float: false;

    // Computation: helpers_float.rs, helpers_bits.rs, helpers_crypto.rs, …_atomic.rs.
    /// A floating-point instruction (instruction, rounding mode): its result.
    Float "float" float::float, float: true;
    /// `clmul` (instruction, rs1, rs2).
    Clmul "clmul" bits::clmul, float: false, quiet: true;
    /// `clmulh` (instruction, rs1, rs2).
    Clmulh "clmulh" bits::clmulh, float: false, quiet: true;
    /// `clmulr` (instruction, rs1, rs2).
    Clmulr "clmulr" bits::clmulr, float: false, quiet: true;
    /// `zip` (instruction, rs1).
    Zip "zip" bits::zip, float: false, quiet: true;
    /// `unzip` (instruction, rs1).
    Unzip "unzip" bits::unzip, float: false, quiet: true;
    /// `xperm4` (instruction, rs1, rs2).
    Xperm4 "xperm4" crypto::xperm4, float: false, quiet: true;
    /// `xperm8` (instruction, rs1, rs2).
    Xperm8 "xperm8" crypto::xperm8, float: false, quiet: true;
    /// `aes32esi` and its kin (instruction, rs1, rs2).
    Aes32 "aes32" crypto::aes32, float: false, quiet: true;
    /// `aes64es` and its kin (instruction, rs1, rs2).
    Aes64 "aes64" crypto::aes64, float: false, quiet: true;
    /// `aes64im` (instruction, rs1).
    Aes64Im "aes64im" crypto::aes64im, float: false, quiet: true;
    /// `aes64ks1i` (instruction, rs1).
    Aes64Ks1 "aes64ks1" crypto::aes64ks1, float: false, quiet: true;
    /// `sm4ed`, `sm4ks` (instruction, rs1, rs2).
    Sm4 "sm4" crypto::sm4, float: false, quiet: true;
    /// `amocas.q` (instruction, address, set of translations).
    AmocasQ "amocas_q" atomic::amocas_q, float: false;

    // Vectors: vector/.
    /// `vsetvli` and its kin (instruction, rs1, rs2): the new length.
    VectorConfigure "vector_configure" vector::configure, float: false;
    /// An integer, fixed-point, mask or permutation instruction (instruction, rs1): for rd.
    Vector "vector" vector::operate, float: false, quiet: true;
    /// A floating-point instruction (instruction, bits of rs1): for rd.
    VectorFloat "vector_float" vector::operate_float, float: true, quiet: true;
    /// A load (instruction, rs1, rs2).
    VectorLoad "vector_load" vector::load, float: false, quiet: true;
    /// A load that may shorten `vl` (instruction, rs1, rs2).
    VectorLoadFirst "vector_load_first" vector::load, float: false;
    /// A store (instruction, rs1, rs2).
    VectorStore "vector_store" vector::store, float: false, quiet: true;
    /// A cryptographic instruction (instruction).
    VectorCrypto "vector_crypto" vector::operate_crypto, float: false, quiet: true;
}
