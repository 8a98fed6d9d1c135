//! Disk images.

#![no_main]

fuzz::target!(image);
