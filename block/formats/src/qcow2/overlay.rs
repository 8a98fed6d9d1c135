//! Being the upper one of two images: another backing file, and giving everything back.

use std::io;

use graph::{Overlay, Sharing};

use super::header::MAX_BACKING_NAME;
use super::{Qcow2, lock};

impl Overlay for Qcow2 {
    fn record_backing(&self, name: Option<&str>, format: Option<&str>) -> io::Result<()> {
        let refuse = |text: &str| Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        self.writable(0, 0)?;
        let _one_at_a_time = lock(&self.changing);
        let name = name.filter(|name| !name.is_empty());
        if name.is_some_and(|name| name.len() > MAX_BACKING_NAME as usize) {
            return refuse("Backing file name too long");
        }
        if name.is_some() && self.raw_data() {
            return refuse("A raw external data file cannot have a backing file above it");
        }
        let format = format.filter(|_| name.is_some());
        self.update_header(|header| {
            header.backing_file = name.map(str::to_owned);
            header.backing_format = format.map(str::to_owned);
        })
    }

    /// The order is that of shrinking: entries, then counts; then tables move to the front as in
    /// `aside.rs`, so that little is left when the file is cut.
    fn make_empty(&self) -> io::Result<()> {
        self.writable(0, 0)?;
        let _one_at_a_time = lock(&self.changing);
        {
            let _all = self.ranges.lock(0, u64::MAX, Sharing::Exclusive);
            let end = self.disk_size();
            self.bitmaps.note(0, end);
            self.unmap_held(0, end.next_multiple_of(self.layout.cluster))?;
            if self.layout.external && self.discard {
                self.data.discard(0, end.min(self.data.size()))?;
            }
            self.write_back()?;
            let old = self.set_aside();
            old.and_then(|old| self.adopt(old, |_| ())).inspect_err(|_| self.abandon())?;
        }
        self.write_back()?;
        if self.layout.external { Ok(()) } else { self.cut_file() }
    }
}
