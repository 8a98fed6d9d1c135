//! Requests that need no change of metadata: where their bytes are.

use graph::{Aio, Plain};

use super::Qcow2;
use super::read::{Cached, Source};

impl Qcow2 {
    /// Finds the bytes of a request, with the guest clusters held, if tables that are in memory say that
    /// they are stored as they are.
    pub(super) fn find_plain(&self, guest: u64, len: u64, write: bool, into: &mut Plain) -> bool {
        if self.data.aio() == Aio::Threads || self.crypt.is_some() {
            return false;
        }
        let end = guest + len;
        let cluster = self.layout.cluster;
        let (first, last) = (guest - guest % cluster, end.next_multiple_of(cluster));
        let Some(held) = self.ranges.try_hold(first, last, graph::Sharing::Shared) else {
            return false;
        };
        into.hold(held);
        if write { self.plain_write(guest, end, into) } else { self.plain_read(guest, end, into) }
    }

    fn plain_read(&self, guest: u64, end: u64, into: &mut Plain) -> bool {
        let file = Cached(&*self.file);
        let mut at = guest;
        while at < end {
            let Ok(mut meta) = self.meta.try_lock() else { return false };
            let Ok((source, len)) = self.resolve_with(&file, &mut meta, at, end - at) else {
                return false;
            };
            drop(meta);
            let found = match (source, &self.backing) {
                (Source::Data(host), _) => self.data.plain(host, len, false, into),
                (Source::Zero, _) => {
                    into.zeroes(len);
                    true
                }
                (Source::Backing, Some(backing)) if backing.present() => {
                    at + len <= backing.size() && backing.plain(at, len, false, into)
                }
                (Source::Backing, _) => {
                    into.zeroes(len);
                    true
                }
                (Source::Packed(..), _) => false,
            };
            if !found {
                return false;
            }
            at += len;
        }
        true
    }

    fn plain_write(&self, guest: u64, end: u64, into: &mut Plain) -> bool {
        let file = Cached(&*self.file);
        let mut at = guest;
        while at < end {
            let Ok(mut meta) = self.meta.try_lock() else { return false };
            let Ok(Some((host, len))) = self.place_in(&file, &mut meta, at, end) else {
                return false;
            };
            drop(meta);
            if !self.data.plain(host, len, true, into) {
                return false;
            }
            at += len;
        }
        true
    }
}
