//! Units of IR, compiled and interpreted.

#![no_main]

fuzz::target!(units);
