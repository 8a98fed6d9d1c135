//! RISC-V guest: RV32 and RV64 with the extensions listed in `spec/`.

pub mod decode;
pub mod disasm;
