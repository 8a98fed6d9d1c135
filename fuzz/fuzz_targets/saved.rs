//! Saved states.

#![no_main]

fuzz::target!(saved);
