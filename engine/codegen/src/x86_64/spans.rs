//! Which accesses to guest memory share one look into the software TLB.
//!
//! Accesses through the same base register, which is not assigned between them, at constant offsets
//! that are near each other, mostly lie in the same page: spilled registers, fields of structures.
//! The first one looks the page up for all of them, and what to add to guest addresses stays in a
//! host register. It is zero if not all lie in that page, or if it needs care; then each looks
//! for itself, out of line.

use ir::{Effects, Op, OpKind, Unit, Value};

/// Offsets from a base register, in bytes: from `low` up to `high`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) low: i32,
    pub(super) high: i32,
    /// Whether accesses follow that it is for, too.
    pub(super) shared: bool,
}

/// The longest span. The longer it is, the more of them lie across two pages.
const LONGEST: i32 = 256;

/// The spans of a unit's accesses.
#[derive(Default)]
pub(super) struct Spans {
    /// By operation: what is to be looked up there.
    of: Vec<Span>,
    /// By guest register that is a base: the span of the accesses that follow, if the first is
    /// the present generation.
    open: Vec<(u32, Span)>,
    generation: u32,
}

impl Spans {
    /// Begins a unit of so many operations.
    pub(super) fn begin(&mut self, ops: usize) {
        self.of.clear();
        self.of.resize(ops, Span::default());
        self.open.resize(256, (0, Span::default()));
        self.generation = self.generation.wrapping_add(1);
    }

    /// Takes note of an operation; the last one first.
    pub(super) fn note(&mut self, unit: &Unit, index: usize, op: &Op) {
        if let Value::Reg(r) = op.dst.value() {
            self.open[usize::from(r.0)].0 = self.generation.wrapping_sub(1);
        }
        match op.kind {
            OpKind::Load | OpKind::Store => {}
            OpKind::BranchIf | OpKind::ExitIf | OpKind::ExitFlags | OpKind::Insn => return,
            OpKind::Amo | OpKind::Cas | OpKind::Fence => return,
            // Helpers may change translations of addresses.
            _ if op.kind.effects().has(Effects::CONTROL)
                || op.kind.effects().has(Effects::FAULTS) =>
            {
                self.generation = self.generation.wrapping_add(1);
                return;
            }
            _ => return,
        }
        let mem = op.mem();
        // The shared look checks no alignment, and vectors do with their own.
        if mem.must_align() || mem.is_big_endian() || op.ty.is_vector() {
            return;
        }
        let Some((base, own)) = own_span(unit, op) else { return };
        let (generation, next) = &mut self.open[usize::from(base)];
        let span = match *generation == self.generation {
            true => own.with(*next).unwrap_or(own),
            false => own,
        };
        (*generation, *next) = (self.generation, span);
        self.of[index] = span;
    }

    /// What an access may share, with the guest register that is its base.
    pub(super) fn at(&self, unit: &Unit, index: usize, op: &Op) -> Option<(u8, Span, Span)> {
        let span = self.of[index];
        let (base, own) = own_span(unit, op)?;
        (span.high != span.low).then_some((base, own, span))
    }
}

/// The base register of an access and the bytes that it is for.
fn own_span(unit: &Unit, op: &Op) -> Option<(u8, Span)> {
    let Value::Reg(base) = op.a.value() else { return None };
    let low = i32::try_from(unit.as_const(op.b)?.cast_signed()).ok()?;
    let high = low.checked_add(op.mem().size() as i32)?;
    Some((base.0, Span { low, high, shared: false }))
}

impl Span {
    /// Whether all of `other` is in it.
    pub(super) fn has(self, other: Self) -> bool {
        self.low <= other.low && other.high <= self.high
    }

    /// Both, if that is not too long.
    fn with(self, next: Self) -> Option<Self> {
        let (low, high) = (self.low.min(next.low), self.high.max(next.high));
        let near = high.checked_sub(low).is_some_and(|len| len <= LONGEST);
        near.then_some(Self { low, high, shared: true })
    }
}
