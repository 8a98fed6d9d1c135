//! The commands, each in its file.

mod amend;
mod bench;
mod bitmap;
mod check;
mod commit;
pub(crate) mod compare;
pub(crate) mod convert;
mod create;
mod dd;
pub(crate) mod info;
mod map;
mod measure;
mod rebase;
mod resize;
mod snapshot;

use crate::Command;

/// Every command, in alphabetical order.
pub(crate) static COMMANDS: &[Command] = &[
    amend::COMMAND,
    bench::COMMAND,
    bitmap::COMMAND,
    check::COMMAND,
    commit::COMMAND,
    compare::COMMAND,
    convert::COMMAND,
    create::COMMAND,
    dd::COMMAND,
    info::COMMAND,
    map::COMMAND,
    measure::COMMAND,
    rebase::COMMAND,
    resize::COMMAND,
    snapshot::COMMAND,
];
