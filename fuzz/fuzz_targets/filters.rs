//! Rules of error injection, and requests to an exported file.

#![no_main]

fuzz::target!(filters);
