//! Headers of programs.

#![no_main]

fuzz::target!(program);
