//! Lines of the human monitor.

#![no_main]

fuzz::target!(monitor);
