//! Command lines.

#![no_main]

fuzz::target!(command);
