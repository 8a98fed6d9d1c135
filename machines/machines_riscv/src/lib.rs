//! RISC-V boards.
