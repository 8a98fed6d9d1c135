//! x86 instructions.

#![no_main]

fuzz::target!(x86);
