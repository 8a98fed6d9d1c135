//! Tables of two levels: a first table of second tables of clusters, with entries of 64 bits.

use std::io;

use graph::Node;

use super::codec::{damaged, grow};
use super::{Place, Step, Tables};

/// Byte order of entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Big,
    Little,
}

/// Where the tables are.
#[derive(Clone, Debug)]
pub(crate) struct TwoLevel {
    /// Offset of the first table.
    pub l1: u64,
    /// Entries of a second table, and what one takes of the file.
    pub l2_entries: u64,
    pub l2_len: u64,
    /// Bytes per cluster.
    pub cluster: u64,
    pub order: Order,
    /// Where the next cluster or table goes, if that is behind the file's end.
    pub next: u64,
}

impl TwoLevel {
    /// Bytes of the disk that one second table covers.
    pub fn covered(&self) -> u64 {
        self.cluster * self.l2_entries
    }

    /// Reads an entry.
    pub fn get(&self, tables: &mut Tables, file: &dyn Node, at: u64) -> io::Result<u64> {
        let entry = tables.get(file, at)?;
        Ok(match self.order {
            Order::Big => u64::from_be_bytes(entry),
            Order::Little => u64::from_le_bytes(entry),
        })
    }

    fn put(
        &self,
        tables: &mut Tables,
        file: &dyn Node,
        at: u64,
        entry: u64,
        step: Step,
    ) -> io::Result<()> {
        let bytes = match self.order {
            Order::Big => entry.to_be_bytes(),
            Order::Little => entry.to_le_bytes(),
        };
        tables.put(file, at, &bytes, step)
    }

    /// Offset of the second table for `guest`; 0 if there is none.
    pub fn table(&self, tables: &mut Tables, file: &dyn Node, guest: u64) -> io::Result<u64> {
        let at = self.get(tables, file, self.l1 + guest / self.covered() * 8)?;
        match at.checked_add(self.l2_len) {
            Some(end) if end <= file.size() => Ok(at),
            _ if at == 0 => Ok(0),
            _ => Err(damaged(format!("the L2 table at {at:#x} is outside the file"))),
        }
    }

    /// The entry of a second table for `guest`.
    pub fn entry(
        &self,
        tables: &mut Tables,
        file: &dyn Node,
        table: u64,
        guest: u64,
    ) -> io::Result<u64> {
        self.get(tables, file, table + guest / self.cluster % self.l2_entries * 8)
    }

    /// What is at `guest`, and for how many bytes; `meaning` is told the entry, which is not zero, and
    /// the distance from the cluster's begin.
    pub fn lookup(
        &self,
        tables: &mut Tables,
        file: &dyn Node,
        guest: u64,
        meaning: impl FnOnce(u64, u64) -> io::Result<Place>,
    ) -> io::Result<(Place, u64)> {
        let table = self.table(tables, file, guest)?;
        if table == 0 {
            return Ok((Place::Unallocated, self.covered() - guest % self.covered()));
        }
        let within = guest % self.cluster;
        let place = match self.entry(tables, file, table, guest)? {
            0 => Place::Unallocated,
            entry => meaning(entry, within)?,
        };
        Ok((place, self.cluster - within))
    }

    /// Reserves bytes behind the end of the file.
    pub fn reserve(&mut self, file: &dyn Node, len: u64, alignment: u64) -> io::Result<u64> {
        let end = self.next.max(file.size());
        let at = end.checked_next_multiple_of(alignment).filter(|at| *at < 1 << 62);
        let at = at.ok_or_else(|| damaged("the file is too large"))?;
        self.next = at + len;
        Ok(at)
    }

    /// Changes the entry for `guest`; makes the second table if there is none.
    pub fn set(
        &mut self,
        tables: &mut Tables,
        file: &dyn Node,
        guest: u64,
        entry: u64,
    ) -> io::Result<()> {
        let mut table = self.table(tables, file, guest)?;
        if table == 0 {
            table = self.reserve(file, self.l2_len, self.cluster)?;
            // What lies behind the file's end is zero, as an empty table is.
            grow(file, table + self.l2_len)?;
            let at = self.l1 + guest / self.covered() * 8;
            self.put(tables, file, at, table, Step::Roots)?;
        }
        let at = table + guest / self.cluster % self.l2_entries * 8;
        self.put(tables, file, at, entry, Step::Leaves)
    }
}
