//! RISC-V instructions.

#![no_main]

fuzz::target!(instructions);
