//! Messages of a client of the monitor for programs.

#![no_main]

fuzz::target!(qmp);
