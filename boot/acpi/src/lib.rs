//! ACPI tables (ACPI 6.6), and the way a firmware gets them through fw_cfg.
//!
//! Boards describe themselves with [`aml`] terms and [`table`] bodies; [`files`] puts the tables one
//! behind the other and lists what the firmware must do to them: give them addresses, and after
//! that checksums.

pub mod aml;
mod files;
pub mod resource;
pub mod table;

pub use files::files;

#[cfg(test)]
mod tests;
