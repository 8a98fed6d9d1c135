//! `quorum`: one disk on several nodes, of which a majority decides.
//!
//! A write succeeds if as many children as the threshold say so. A read asks all of them and takes what
//! the most agree on, if those are enough; children that disagree are reported and, if wanted, corrected.

use std::io;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use graph::{
    Child, Extent, ExtentKind, Limits, Node, NodeInfo, OpenError, Role, Siblings, WriteFlags,
    ZeroFlags,
};

use crate::blkverify::difference;
use crate::passing::{described, no_resize};

/// How reads are done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReadPattern {
    /// All children are asked, and they vote.
    #[default]
    Quorum,
    /// The first child that can answer does.
    Fifo,
}

impl ReadPattern {
    /// Every pattern by its name.
    pub const TABLE: &[(&str, Self)] = &[("quorum", Self::Quorum), ("fifo", Self::Fifo)];
}

/// What a quorum does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QuorumOptions {
    /// Children that must agree.
    pub threshold: u64,
    /// Any difference of two children is an error.
    pub blkverify: bool,
    /// Children that disagree get what the others have.
    pub rewrite_corrupted: bool,
    /// How reads are done.
    pub pattern: ReadPattern,
}

/// What a child was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuorumOp {
    /// To read.
    Read,
    /// To write.
    Write,
    /// To make writes stable.
    Flush,
}

/// Something that the user should know of a quorum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QuorumEvent {
    /// `QUORUM_FAILURE`: not enough children agree on a range.
    Failure {
        /// First byte.
        offset: u64,
        /// Bytes.
        len: u64,
    },
    /// `QUORUM_REPORT_BAD`: a child failed or disagrees.
    Bad {
        /// Its number.
        child: u32,
        /// What it was asked for.
        op: QuorumOp,
        /// First byte.
        offset: u64,
        /// Bytes.
        len: u64,
        /// What it said, if it said anything; else it is outvoted.
        error: Option<String>,
    },
}

/// Who hears of the events of a quorum.
pub type QuorumListener = Arc<dyn Fn(&QuorumEvent) + Send + Sync>;

/// A child by its number.
type Numbered = (u32, Arc<dyn Node>);

/// The children, and the number of the next one.
struct Family {
    /// Never empty.
    children: Vec<Numbered>,
    next: u32,
}

struct Quorum {
    family: RwLock<Family>,
    options: QuorumOptions,
    listener: Option<QuorumListener>,
}

/// A node on several others.
///
/// # Errors
/// `Option` with QEMU's text for options that contradict each other.
pub fn quorum(
    children: Vec<Arc<dyn Node>>,
    options: QuorumOptions,
    listener: Option<QuorumListener>,
) -> Result<Arc<dyn Node>, OpenError> {
    let refuse = |text: &str| Err(OpenError::Option(text.to_owned()));
    if children.is_empty() {
        return refuse("Number of provided children must be 1 or more");
    }
    if options.threshold < 1 {
        return refuse("Parameter 'vote-threshold' expects a value >= 1");
    }
    if options.threshold > children.len() as u64 {
        return refuse("threshold may not exceed children count");
    }
    if options.blkverify && (children.len() != 2 || options.threshold != 2) {
        return refuse(
            "blkverify=on can only be set if there are exactly two files and vote-threshold is 2",
        );
    }
    if options.rewrite_corrupted && options.blkverify {
        return refuse("rewrite-corrupted=on cannot be used with blkverify=on");
    }
    let size = children[0].size();
    if children.iter().any(|child| child.size() != size) {
        return refuse("Could not refresh total sector count: Input/output error");
    }
    let children: Vec<_> = (0..).zip(children).collect();
    let family = RwLock::new(Family { next: children.len() as u32, children });
    Ok(Arc::new(Quorum { family, options, listener }))
}

/// Text for an operation that a quorum with `blkverify=on` refuses.
const FIXED: &str = "Cannot add a child to a quorum in blkverify mode";

impl Siblings for Quorum {
    fn next(&self) -> Result<u32, OpenError> {
        match self.options.blkverify {
            true => Err(OpenError::Option(FIXED.to_owned())),
            false => Ok(self.family().next),
        }
    }

    fn adopt(&self, number: u32, child: Arc<dyn Node>) {
        let mut family = self.family.write().unwrap_or_else(PoisonError::into_inner);
        family.children.push((number, child));
        family.next = number.saturating_add(1);
    }

    fn release(&self, number: u32) -> Result<(), OpenError> {
        let mut family = self.family.write().unwrap_or_else(PoisonError::into_inner);
        let threshold = self.options.threshold;
        if family.children.len() as u64 <= threshold {
            return Err(OpenError::Option(format!(
                "The number of children cannot be lower than the vote threshold {threshold}"
            )));
        }
        family.children.retain(|(known, _)| *known != number);
        if number.checked_add(1) == Some(family.next) {
            family.next = number;
        }
        Ok(())
    }
}

impl Quorum {
    fn family(&self) -> RwLockReadGuard<'_, Family> {
        self.family.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn report(&self, event: &QuorumEvent) {
        if let Some(listener) = &self.listener {
            listener(event);
        }
    }

    fn bad(&self, child: u32, op: QuorumOp, (offset, len): (u64, u64), error: Option<&io::Error>) {
        let error = error.map(graph::host_text);
        self.report(&QuorumEvent::Bad { child, op, offset, len, error });
    }

    /// Does something with every child at the same time; their results in order.
    fn each<T: Send>(family: &Family, act: impl Fn(&dyn Node) -> T + Sync) -> Vec<T> {
        let act = &act;
        std::thread::scope(|scope| {
            let others = family.children[1..].iter();
            let others: Vec<_> =
                others.map(|(_, child)| scope.spawn(move || act(&**child))).collect();
            let first = act(&*family.children[0].1);
            let join = |t: std::thread::ScopedJoinHandle<'_, T>| t.join().expect("it only calls");
            std::iter::once(first).chain(others.into_iter().map(join)).collect()
        })
    }

    /// Whether enough children succeeded; else the error that most of them have.
    fn vote(
        &self,
        family: &Family,
        op: QuorumOp,
        range: (u64, u64),
        results: Vec<io::Result<()>>,
    ) -> io::Result<()> {
        for ((child, _), result) in family.children.iter().zip(&results) {
            if let Err(error) = result {
                self.bad(*child, op, range, Some(error));
            }
        }
        let good = results.iter().filter(|r| r.is_ok()).count() as u64;
        if good >= self.options.threshold {
            return Ok(());
        }
        self.report(&QuorumEvent::Failure { offset: range.0, len: range.1 });
        let mut errors: Vec<io::Error> = results.into_iter().filter_map(Result::err).collect();
        let count = |kind| errors.iter().filter(|e| e.kind() == kind).count();
        let most = (0..errors.len()).max_by_key(|at| (count(errors[*at].kind()), usize::MAX - at));
        Err(most.map_or_else(|| io::ErrorKind::Other.into(), |at| errors.swap_remove(at)))
    }

    fn read_first(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let mut last = Ok(());
        for (number, child) in &self.family().children {
            last = child.read_at(offset, buf);
            match &last {
                Ok(()) => break,
                Err(e) => self.bad(*number, QuorumOp::Read, (offset, buf.len() as u64), Some(e)),
            }
        }
        last
    }

    fn read_voted(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let range = (offset, buf.len() as u64);
        let family = self.family();
        let number = |at: usize| family.children[at].0;
        let read = |child: &dyn Node| {
            let mut bytes = vec![0; range.1 as usize];
            child.read_at(offset, &mut bytes).map(|()| bytes)
        };
        let answers = Self::each(&family, read);
        let good: Vec<(usize, &Vec<u8>)> =
            answers.iter().enumerate().filter_map(|(n, a)| Some((n, a.as_ref().ok()?))).collect();
        if (good.len() as u64) < self.options.threshold {
            let results = answers.into_iter().map(|answer| answer.map(drop)).collect();
            return self.vote(&family, QuorumOp::Read, range, results);
        }
        for (at, answer) in answers.iter().enumerate() {
            if let Err(error) = answer {
                self.bad(number(at), QuorumOp::Read, range, Some(error));
            }
        }
        if self.options.blkverify
            && let Some(at) = difference(good[0].1, good[1].1)
        {
            return Err(io::Error::other(format!(
                "quorum: offset={offset} bytes={} contents mismatch at offset {}",
                range.1,
                offset + at as u64
            )));
        }
        let votes = |bytes: &Vec<u8>| good.iter().filter(|(_, b)| *b == bytes).count();
        let first = good.iter().map(|(n, b)| (votes(b), *n, *b));
        // Of equals the first.
        let winner = first.max_by_key(|(votes, n, _)| (*votes, usize::MAX - n));
        let Some((votes, _, winner)) = winner else { return Err(io::ErrorKind::Other.into()) };
        if votes as u64 != good.len() as u64 {
            for (at, _) in good.iter().filter(|(_, b)| *b != winner) {
                self.bad(number(*at), QuorumOp::Read, range, None);
            }
        }
        if (votes as u64) < self.options.threshold {
            self.report(&QuorumEvent::Failure { offset, len: range.1 });
            return Err(io::Error::from_raw_os_error(5));
        }
        if self.options.rewrite_corrupted {
            for (at, _) in good.iter().filter(|(_, b)| *b != winner) {
                // What cannot be corrected is outvoted again next time.
                let _ = family.children[*at].1.write_at(offset, winner, WriteFlags::default());
            }
        }
        buf.copy_from_slice(winner);
        Ok(())
    }
}

impl Node for Quorum {
    fn size(&self) -> u64 {
        self.family().children[0].1.size()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        match self.options.pattern {
            ReadPattern::Fifo => self.read_first(offset, buf),
            ReadPattern::Quorum => self.read_voted(offset, buf),
        }
    }

    fn write_at(&self, offset: u64, buf: &[u8], flags: WriteFlags) -> io::Result<()> {
        let family = self.family();
        let results = Self::each(&family, |child| child.write_at(offset, buf, flags));
        self.vote(&family, QuorumOp::Write, (offset, buf.len() as u64), results)
    }

    fn write_zeroes(&self, offset: u64, len: u64, flags: ZeroFlags) -> io::Result<()> {
        let family = self.family();
        let results = Self::each(&family, |child| child.write_zeroes(offset, len, flags));
        self.vote(&family, QuorumOp::Write, (offset, len), results)
    }

    /// Children may make different content of what is discarded: nothing is.
    fn discard(&self, _offset: u64, _len: u64) -> io::Result<()> {
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        let family = self.family();
        let results = Self::each(&family, |child| child.flush());
        self.vote(&family, QuorumOp::Flush, (0, family.children[0].1.size()), results)
    }

    /// Zeroes where all children say so; else somebody has data.
    fn block_status(&self, offset: u64, len: u64) -> io::Result<Extent> {
        let mut len = len;
        let mut zero = true;
        for (_, child) in &self.family().children {
            let status = graph::status_above(child, None, offset, len)?;
            let here = matches!(status.kind, ExtentKind::Zero | ExtentKind::Unallocated);
            if !here {
                let kind = ExtentKind::Data;
                return Ok(Extent { kind, len: status.len.min(len), host_offset: None });
            }
            zero &= here;
            len = len.min(status.len);
        }
        let kind = if zero { ExtentKind::Zero } else { ExtentKind::Data };
        Ok(Extent { kind, len, host_offset: None })
    }

    fn truncate(&self, _size: u64) -> io::Result<()> {
        Err(no_resize())
    }

    fn read_only(&self) -> bool {
        self.family().children.iter().any(|(_, child)| child.read_only())
    }

    fn limits(&self) -> Limits {
        let family = self.family();
        let all = family.children.iter().map(|(_, child)| child.limits());
        all.reduce(|a, b| Limits {
            request_alignment: a.request_alignment.max(b.request_alignment),
            logical_block: a.logical_block.max(b.logical_block),
            physical_block: a.physical_block.max(b.physical_block),
            discard_granularity: a.discard_granularity.max(b.discard_granularity),
        })
        .unwrap_or_default()
    }

    fn children(&self) -> Vec<Child> {
        let family = self.family();
        let child = |(n, node): &Numbered| Child { role: Role::Member(*n), node: Arc::clone(node) };
        let mut children: Vec<Child> = family.children.iter().map(child).collect();
        children.reverse();
        children
    }

    fn info(&self) -> NodeInfo {
        let family = self.family();
        let children = family.children.iter().map(|(_, node)| described(&**node));
        let children: Vec<String> = children.collect();
        let filename = format!(
            "json:{{\"children\": [{}], \"driver\": \"quorum\", \"vote-threshold\": \"{}\"}}",
            children.join(", "),
            self.options.threshold
        );
        NodeInfo { driver: "quorum", filename, ..NodeInfo::default() }
    }

    fn siblings(&self) -> Option<&dyn Siblings> {
        Some(self)
    }
}
