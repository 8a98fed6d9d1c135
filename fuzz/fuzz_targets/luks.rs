//! LUKS volumes.

#![no_main]

fuzz::target!(luks);
