//! Compiles the instruction specification.

use std::process::ExitCode;

fn main() -> ExitCode {
    decode::build("spec", "crate::disasm", "insn.rs")
}
