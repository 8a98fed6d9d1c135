//! Clients and servers of network block devices.

#![no_main]

fuzz::target!(network);
