//! Writing: in place where the cluster is ours, else to new clusters that are linked afterwards.
//!
//! Order inside one request: allocate (counts are raised in memory), write the data together with
//! the copied edges of partly written clusters, change the L2 entries in memory, queue the old
//! clusters for freeing. `commit.rs` says when these changes reach the file.
//!
//! Locks: a range lock on guest clusters is held over the whole request, shared for writes in
//! place and exclusive for everything that changes an entry; the metadata mutex only over table
//! accesses, so that data of different clusters moves in parallel.

use std::io;

use graph::{Event, Node, SECTOR, Sharing, ZeroFlags};

use super::Qcow2;
use super::layout::Entry;
use super::meta::{Meta, Run};

/// Largest piece that is assembled in memory to save small writes.
const ASSEMBLE: u64 = 256 << 10;

/// A piece of a write request that gets new or newly used host clusters.
struct Piece {
    /// Guest offsets of the data.
    start: u64,
    end: u64,
    /// Where the first touched cluster is (to be) stored.
    run: Run,
    /// The host clusters were allocated for this piece.
    allocated: bool,
    /// Guest offsets that get content of their own: the data plus the edges around it.
    from: u64,
    to: u64,
    /// Entries before the change, one per cluster.
    old: Vec<Entry>,
}

impl Qcow2 {
    /// Writes `buf` at `guest`, inside the disk.
    pub(super) fn write_data(&self, guest: u64, buf: &[u8]) -> io::Result<()> {
        let end = guest + buf.len() as u64;
        if self.crypt.is_some() && !(guest.is_multiple_of(SECTOR) && end.is_multiple_of(SECTOR)) {
            return self.write_parts_of_sectors(guest, buf);
        }
        {
            let _range = self.hold(guest, end, Sharing::Shared);
            if self.write_in_place(guest, buf)? {
                return Ok(());
            }
        }
        let _range = self.hold(guest, end, Sharing::Exclusive);
        self.write_pieces(guest, buf)
    }

    /// Writes with the range held.
    fn write_pieces(&self, guest: u64, buf: &[u8]) -> io::Result<()> {
        let end = guest + buf.len() as u64;
        let mut at = guest;
        while at < end {
            self.commit_if_crowded()?;
            let rest = &buf[(at - guest) as usize..];
            at += self.write_piece(at, rest)?;
        }
        Ok(())
    }

    /// Encrypted sectors change as a whole: those that are written in part are read first.
    fn write_parts_of_sectors(&self, guest: u64, buf: &[u8]) -> io::Result<()> {
        let from = guest - guest % SECTOR;
        let to = (guest + buf.len() as u64).next_multiple_of(SECTOR);
        let _range = self.hold(from, to, Sharing::Exclusive);
        let mut sectors = vec![0; (to - from) as usize];
        self.read_held(from, &mut sectors)?;
        let skip = (guest - from) as usize;
        sectors[skip..skip + buf.len()].copy_from_slice(buf);
        self.write_pieces(from, &sectors)
    }

    /// Writes if every byte has its place already; `false` without writing otherwise.
    fn write_in_place(&self, guest: u64, buf: &[u8]) -> io::Result<bool> {
        let end = guest + buf.len() as u64;
        let mut places = Vec::new();
        let mut at = guest;
        {
            let mut meta = self.meta();
            while at < end {
                let Some((host, len)) = self.place_of(&mut meta, at, end)? else {
                    return Ok(false);
                };
                places.push((host, len));
                at += len;
            }
        }
        let mut done = 0;
        for (host, len) in places {
            let part = &buf[done..done + len as usize];
            self.store_data(host, guest + done as u64, part)?;
            done += len as usize;
        }
        Ok(true)
    }

    /// The host place of the bytes from `guest` on, if they may be written in place.
    fn place_of(&self, meta: &mut Meta, guest: u64, end: u64) -> io::Result<Option<(u64, u64)>> {
        self.place_in(&*self.file, meta, guest, end).map_err(|e| self.note_damage(e))
    }

    /// The same, reading table slices that are not in memory from `file`.
    pub(super) fn place_in(
        &self,
        file: &dyn Node,
        meta: &mut Meta,
        guest: u64,
        end: u64,
    ) -> io::Result<Option<(u64, u64)>> {
        let cluster = self.layout.cluster;
        let mut found: Option<(u64, u64)> = None;
        let mut at = guest;
        while at < end {
            let stop = (at - at % cluster + cluster).min(end);
            let entry = meta.entry(file, at)?;
            let subs = self.layout.subs_of(at % cluster, (stop - 1) % cluster + 1);
            let host = match entry.host {
                Some(host) if entry.copied && entry.data & subs == subs => host + at % cluster,
                _ => break,
            };
            meta.forbid_data(host - host % cluster)?;
            match &mut found {
                None => found = Some((host, stop - at)),
                Some((first, len)) if *first + *len == host => *len += stop - at,
                Some(_) => break,
            }
            at = stop;
        }
        Ok(found)
    }

    /// Writes the first part of `buf`; returns how many bytes.
    fn write_piece(&self, guest: u64, buf: &[u8]) -> io::Result<u64> {
        let end = guest + buf.len() as u64;
        let piece = {
            let mut meta = self.meta();
            if let Some((host, len)) = self.place_of(&mut meta, guest, end)? {
                drop(meta);
                self.store_data(host, guest, &buf[..len as usize])?;
                return Ok(len);
            }
            self.plan_piece(&mut meta, guest, end).map_err(|e| self.note_damage(e))?
        };
        let len = piece.end - piece.start;
        if let Err(e) = self.store_piece(&piece, &buf[..len as usize]) {
            if piece.allocated && !self.layout.external {
                self.meta().release(&*self.file, piece.run)?;
            }
            return Err(e);
        }
        self.link_piece(&mut self.meta(), &piece)?;
        Ok(len)
    }

    /// Finds a place for as many bytes as one run of host clusters takes.
    fn plan_piece(&self, meta: &mut Meta, guest: u64, end: u64) -> io::Result<Piece> {
        let layout = self.layout;
        let first = guest - guest % layout.cluster;
        meta.own_l2(&*self.file, guest)?;
        let entry = self.entry_of(meta, guest)?;
        if let Some(host) = entry.host.filter(|_| entry.copied) {
            // The cluster is ours but these subclusters have no content yet.
            meta.forbid_data(host)?;
            let stop = (first + layout.cluster).min(end);
            let (from, to) = self.edges(&entry, guest, stop);
            let run = Run { host, clusters: 1, fresh: false };
            let old = vec![entry];
            return Ok(Piece { start: guest, end: stop, run, allocated: false, from, to, old });
        }
        let table_end = (layout.l2_entries - layout.l2_index(guest)) * layout.cluster + first;
        let mut old = Vec::new();
        let mut at = first;
        while at < end.min(table_end) {
            let entry = self.entry_of(meta, at)?;
            if entry.copied {
                break;
            }
            old.push(entry);
            at += layout.cluster;
        }
        let run = if layout.external {
            Run { host: first, clusters: old.len() as u64, fresh: false }
        } else {
            meta.allocate(&*self.file, old.len() as u64)?
        };
        old.truncate(run.clusters as usize);
        let stop = (first + run.clusters * layout.cluster).min(end);
        let from = self.edges(&old[0], guest, stop.min(first + layout.cluster)).0;
        let last = old.len() - 1;
        let last_start = (first + last as u64 * layout.cluster).max(guest);
        let to = self.edges(&old[last], last_start, stop).1;
        Ok(Piece { start: guest, end: stop, run, allocated: true, from, to, old })
    }

    /// Widens a range inside one cluster to what must get content when it is written: touched
    /// subclusters without content, or the whole cluster if it moves away from stored content.
    fn edges(&self, entry: &Entry, start: u64, end: u64) -> (u64, u64) {
        let layout = self.layout;
        let first = start - start % layout.cluster;
        let moves = entry.packed.is_some() || (entry.data != 0 && !entry.copied);
        if moves {
            return (first, first + layout.cluster);
        }
        let sub = layout.sub();
        let has_data = |at: u64| entry.data >> ((at % layout.cluster) / sub) & 1 != 0;
        let from = if has_data(start) { start } else { start - start % sub };
        let to = if has_data(end - 1) { end } else { end.next_multiple_of(sub) };
        (from, to)
    }

    /// Writes the data of a piece and its edges to their host place.
    fn store_piece(&self, piece: &Piece, buf: &[u8]) -> io::Result<()> {
        let cluster = self.layout.cluster;
        let base = piece.start - piece.start % cluster;
        let host = |guest: u64| piece.run.host + (guest - base);
        let head = (piece.from, piece.start);
        // The guest's end need not be a cluster's: beyond it there is nothing to copy.
        let tail = (piece.end, piece.to);
        let needed = |(from, to): (u64, u64)| -> io::Result<bool> {
            if from == to {
                return Ok(false);
            }
            let inside = to.min(self.disk_size()).saturating_sub(from);
            Ok(!piece.run.fresh
                || self.crypt.is_some()
                || !self.reads_zero(&mut self.meta(), from, inside)?)
        };
        let (with_head, with_tail) = (needed(head)?, needed(tail)?);
        if !with_head && !with_tail {
            return self.store_data(host(piece.start), piece.start, buf);
        }
        let edge = |(from, to): (u64, u64)| -> io::Result<Vec<u8>> {
            let mut bytes = vec![0; (to - from) as usize];
            let inside = to.min(self.disk_size()).saturating_sub(from) as usize;
            self.read_held(from, &mut bytes[..inside])?;
            Ok(bytes)
        };
        self.data.event(Event::CowRead);
        let head_bytes = if with_head { edge(head)? } else { Vec::new() };
        let tail_bytes = if with_tail { edge(tail)? } else { Vec::new() };
        let start = piece.start - head_bytes.len() as u64;
        self.data.event(Event::CowWrite);
        if buf.len() as u64 <= ASSEMBLE {
            let whole = [&head_bytes, buf, &tail_bytes].concat();
            return self.store_data(host(start), start, &whole);
        }
        for (at, bytes) in [(start, &head_bytes[..]), (piece.start, buf), (piece.end, &tail_bytes)]
        {
            if !bytes.is_empty() {
                self.store_data(host(at), at, bytes)?;
            }
        }
        Ok(())
    }

    /// Makes the tables refer to a piece whose content is in the file.
    fn link_piece(&self, meta: &mut Meta, piece: &Piece) -> io::Result<()> {
        let layout = self.layout;
        let first = piece.start - piece.start % layout.cluster;
        meta.own_l2(&*self.file, piece.start).map_err(|e| self.note_damage(e))?;
        for (i, old) in piece.old.iter().enumerate() {
            let at = first + i as u64 * layout.cluster;
            let from = piece.from.max(at) - at;
            let to = piece.to.min(at + layout.cluster) - at;
            let filled = layout.subs_of(from, to);
            let keeps = if piece.allocated { 0 } else { old.data };
            let entry = Entry {
                host: Some(piece.run.host + i as u64 * layout.cluster),
                copied: true,
                packed: None,
                data: keeps | filled,
                zero: old.zero & !filled,
            };
            meta.set_entry(&*self.file, at, entry)?;
            if piece.allocated {
                meta.free_entry(old);
            }
        }
        Ok(())
    }

    /// Makes a range read as zeroes: whole clusters by their entries, the rest by writing. What read as zeroes
    /// because nothing was there is zero by itself from then on, whatever comes to lie below the image later.
    pub(super) fn zero_range(&self, guest: u64, len: u64, flags: ZeroFlags) -> io::Result<()> {
        let end = guest + len;
        let (from, to) = self.whole_clusters(guest, end);
        if from >= to {
            return self.zero_parts(guest, end);
        }
        self.zero_parts(guest, from)?;
        let marks = self.marks_zeroes();
        self.each_table(from, to, marks, |this, meta, at| {
            this.zero_cluster(meta, at, flags.unmap, marks)
        })?;
        if to < end { self.zero_parts(to, end) } else { Ok(()) }
    }

    /// The whole clusters of a range; the last counts as whole if the disk ends inside it.
    fn whole_clusters(&self, from: u64, to: u64) -> (u64, u64) {
        let cluster = self.layout.cluster;
        let to = if to == self.disk_size() { to.next_multiple_of(cluster) } else { to };
        (from.next_multiple_of(cluster), to - to % cluster)
    }

    /// Whether entries can say that nothing below them shows through.
    fn marks_zeroes(&self) -> bool {
        self.layout.zero_flag && !self.raw_data()
    }

    /// Makes parts of clusters read as zeroes: where they do already, by their entries.
    fn zero_parts(&self, from: u64, to: u64) -> io::Result<()> {
        self.write_zero_bytes(from, to)?;
        let cluster = self.layout.cluster;
        let mut at = from;
        while self.marks_zeroes() && at < to {
            let start = at - at % cluster;
            let stop = (start + cluster).min(to);
            let _range = self.hold(at, stop, Sharing::Exclusive);
            self.mark_zero(&mut self.meta(), start, at - start, stop - start)?;
            at = stop;
        }
        Ok(())
    }

    /// Marks the subclusters that `[from, to)`, offsets inside the cluster at `guest`, touches as zero, if they
    /// have no data and read as zeroes.
    fn mark_zero(&self, meta: &mut Meta, guest: u64, from: u64, to: u64) -> io::Result<()> {
        let (layout, old) = (self.layout, self.entry_of(meta, guest)?);
        if old.packed.is_some() {
            return Ok(());
        }
        let mut entry = old;
        for sub in 0..layout.subs {
            let bit = 1 << sub;
            if layout.subs_of(from, to) & bit & !old.data & !old.zero == 0 {
                continue;
            }
            let at = guest + u64::from(sub) * layout.sub();
            let inside = (at + layout.sub()).min(self.disk_size()).saturating_sub(at);
            if self.reads_zero(meta, at, inside)? {
                entry.zero |= bit;
            }
        }
        if entry != old {
            meta.own_l2(&*self.file, guest)?;
            meta.set_entry(&*self.file, guest, entry)?;
        }
        Ok(())
    }

    /// Forgets whole clusters inside a range.
    pub(super) fn discard_range(&self, guest: u64, len: u64) -> io::Result<()> {
        let (from, to) = self.whole_clusters(guest, guest + len);
        if from >= to {
            return Ok(());
        }
        self.each_table(from, to, false, |this, meta, at| {
            if !this.layout.zero_flag && this.has_backing_at(at) {
                // Without a zero flag the backing file would show through.
                return Ok(true);
            }
            this.zero_cluster(meta, at, true, false)
        })
    }

    /// Calls `change` for each cluster of a range, holding the locks for one L2 table at a time.
    /// Clusters for which it returns `false` get zeroes written instead. Where no table is, and none is to be
    /// `made`, and nothing is below, there is nothing to change.
    fn each_table(
        &self,
        from: u64,
        to: u64,
        made: bool,
        change: impl Fn(&Self, &mut Meta, u64) -> io::Result<bool>,
    ) -> io::Result<()> {
        let covered = self.layout.l2_entries * self.layout.cluster;
        let mut at = from;
        while at < to {
            self.commit_if_crowded()?;
            let stop = (at - at % covered).saturating_add(covered).min(to);
            let mut by_hand = Vec::new();
            {
                let _range = self.hold(at, stop, Sharing::Exclusive);
                let mut meta = self.meta();
                if made || meta.has_l2(at) || self.has_backing_at(at) {
                    for guest in (at..stop).step_by(self.layout.cluster as usize) {
                        if !change(self, &mut meta, guest).map_err(|e| self.note_damage(e))? {
                            by_hand.push(guest);
                        }
                    }
                }
            }
            for guest in by_hand {
                self.write_zero_bytes(guest, (guest + self.layout.cluster).min(self.disk_size()))?;
            }
            at = stop;
        }
        Ok(())
    }

    /// Makes one cluster read as zeroes by its entry; `false` if only writing can. One that reads as zeroes because
    /// nothing is there stays as it is, unless `marks`.
    fn zero_cluster(
        &self,
        meta: &mut Meta,
        guest: u64,
        unmap: bool,
        marks: bool,
    ) -> io::Result<bool> {
        let layout = self.layout;
        let old = self.entry_of(meta, guest)?;
        let all = layout.all_subs();
        if let Some(host) = old.host.filter(|_| self.raw_data()) {
            // The file must read as zeroes by itself.
            let inside = (guest + layout.cluster).min(self.disk_size()) - guest;
            self.data.write_zeroes(host, inside, ZeroFlags { unmap, fua: false })?;
            return Ok(true);
        }
        if old.packed.is_none() && old.data == 0 && (!marks || old.zero == all) {
            let inside = (guest + layout.cluster).min(self.disk_size()) - guest;
            let zero_already = self.reads_zero(meta, guest, inside)?;
            if zero_already && (old.host.is_none() || !unmap) {
                return Ok(true);
            }
        }
        let backed = self.has_backing_at(guest);
        if !layout.zero_flag && (backed || !unmap) {
            return Ok(false);
        }
        let keeps = !unmap && old.copied;
        let entry = Entry {
            host: old.host.filter(|_| keeps),
            copied: keeps,
            packed: None,
            data: 0,
            zero: if layout.zero_flag { all } else { 0 },
        };
        meta.own_l2(&*self.file, guest)?;
        meta.set_entry(&*self.file, guest, entry)?;
        if !keeps {
            meta.free_entry(&old);
            if let Some(host) = old.host.filter(|_| layout.external && self.discard) {
                // Whatever the entry says after a crash: old content or zeroes.
                self.data.discard(host, layout.cluster)?;
            }
        }
        Ok(true)
    }

    /// Whether the external data file must be a raw image of the disk.
    pub(super) fn raw_data(&self) -> bool {
        self.layout.external && self.header().autoclear & super::header::AUTOCLEAR_RAW_DATA != 0
    }

    /// Writes zeroes where something else is.
    pub(super) fn write_zero_bytes(&self, from: u64, to: u64) -> io::Result<()> {
        let mut at = from;
        let mut zeroes = Vec::new();
        while at < to {
            let (zero, len) = {
                let mut meta = self.meta();
                let most = (to - at).min(1 << 20);
                let (source, len) = self.resolve(&mut meta, at, most)?;
                (self.is_zero(&source, at), len)
            };
            if !zero {
                zeroes.resize(zeroes.len().max(len as usize), 0);
                self.write_data(at, &zeroes[..len as usize])?;
            }
            at += len;
        }
        Ok(())
    }
}
