//! What a debugger sends.

#![no_main]

fuzz::target!(debugger);
