//! Disk images of every format.

#![no_main]

fuzz::target!(disks);
