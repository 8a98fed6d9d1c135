//! Exports of kind `fuse`: a node over a file of the host.

use crate::daemon::{Daemon, refused};
use crate::exports::Export;
use fuse::{AllowOther, Mounted, Options, Rules};
use graph::{Edge, Node};
use qmp::{Arguments, Error};
use std::sync::Arc;

struct Shown(Mounted);

impl Export for Shown {
    fn close_if_unused(&self) -> bool {
        let unused = !self.0.is_used();
        if unused {
            self.0.close();
        }
        unused
    }

    fn close(&self) {
        self.0.close();
    }
}

/// Mounts the node.
pub(crate) fn open(
    _: &Daemon,
    arguments: &Arguments,
    edge: &Arc<Edge>,
) -> Result<Box<dyn Export>, Error> {
    let on = |key: &str| arguments.switch(key).unwrap_or(false);
    let word = arguments.text_if("allow-other");
    let allowed = AllowOther::TABLE.iter().find(|(name, _)| Some(*name) == word);
    let options = Options {
        mountpoint: arguments.text("mountpoint").to_owned(),
        rules: Rules { writable: on("writable"), growable: on("growable") },
        allow_other: allowed.map(|(_, mode)| *mode).unwrap_or_default(),
    };
    let node = Arc::clone(edge) as Arc<dyn Node>;
    Ok(Box::new(Shown(Mounted::new(node, &options).map_err(refused)?)))
}
