//! SFTP servers.

#![no_main]

fuzz::target!(lent);
