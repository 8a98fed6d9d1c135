//! Images on hosts that are reached by ssh: a node that speaks SFTP to the user's own ssh client.
//!
//! The client is started as `ssh … -s HOST sftp`, so that keys, agents, jump hosts and everything in the
//! user's configuration work as they do by hand; it is never asked to prompt. Sources:
//! draft-ietf-secsh-filexfer-02 (SFTP version 3), OpenSSH's PROTOCOL (`fsync@openssh.com`), and QEMU's
//! manual on the options of its `ssh` driver. Not here: host keys given as fingerprints.

mod command;
mod node;
mod session;
mod wire;

pub use command::{HostKey, Options};
pub use node::Ssh;
