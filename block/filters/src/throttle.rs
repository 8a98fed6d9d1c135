//! `throttle`: requests wait until their group lets them go.

use std::io;
use std::sync::Arc;

use graph::throttle::{Direction, Group, Member};
use graph::{Node, NodeInfo, WriteFlags, ZeroFlags};

use crate::passing::{Filter, Passing, described};

struct Throttle {
    below: Arc<dyn Node>,
    member: Member,
}

/// A node whose requests to `below` share the limits of `group` with its other members.
pub fn throttle(below: Arc<dyn Node>, group: &Arc<Group>) -> Arc<dyn Node> {
    Arc::new(Passing(Throttle { below, member: group.join() }))
}

impl Filter for Throttle {
    fn driver(&self) -> &'static str {
        "throttle"
    }

    fn below(&self) -> &Arc<dyn Node> {
        &self.below
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.member.admit(Direction::Read, buf.len() as u64);
        self.below.read_at(offset, buf)
    }

    fn write_at(&self, offset: u64, buf: &[u8], flags: WriteFlags) -> io::Result<()> {
        self.member.admit(Direction::Write, buf.len() as u64);
        self.below.write_at(offset, buf, flags)
    }

    fn write_zeroes(&self, offset: u64, len: u64, flags: ZeroFlags) -> io::Result<()> {
        self.member.admit(Direction::Write, len);
        self.below.write_zeroes(offset, len, flags)
    }

    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        self.member.admit(Direction::Write, len);
        self.below.discard(offset, len)
    }

    fn hasten(&self, on: bool) {
        self.member.hasten(on);
    }

    fn info(&self) -> NodeInfo {
        let filename = format!(
            "json:{{\"throttle-group\": \"{}\", \"driver\": \"throttle\", \"file\": {}}}",
            self.member.group().name(),
            described(&*self.below)
        );
        let cluster_size = self.below.info().cluster_size;
        NodeInfo { driver: "throttle", filename, cluster_size, ..NodeInfo::default() }
    }
}
