//! Device trees.

#![no_main]

fuzz::target!(tree);
