//! Lines of the test protocol.

#![no_main]

fuzz::target!(protocol);
