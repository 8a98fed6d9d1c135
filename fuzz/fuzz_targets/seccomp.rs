//! Filters of system calls that a program brings.

#![no_main]

fuzz::target!(seccomp);
