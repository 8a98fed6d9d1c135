//! What the work of jobs is made of: pieces of a disk that are carried by several threads while
//! others use it.

mod chain;
mod fence;
mod pump;
mod transfer;

pub(crate) use chain::{Layers, Outlook, backing, reads_zero};
pub(crate) use fence::Fence;
pub(crate) use pump::{Load, Mishap, Piece, Policies, Pump, drive};
pub(crate) use transfer::{BUFFER, Sided, Transfer, ZEROES};
