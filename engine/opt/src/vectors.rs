//! What is known of the guest's vector registers, which are bytes of its state.

use ir::{Lane, Op, OpKind, Operand, Type, Unit};

/// Bytes of the vector registers: the first, and the one after the last.
type Place = (u64, u64);

/// Where a `VGet` or `VPut` goes.
pub(crate) fn place(unit: &Unit, op: &Op) -> Place {
    let at = unit.as_const(op.a).unwrap_or(0);
    (at, at + op.ty.bytes() as u64)
}

fn overlap(a: Place, b: Place) -> bool {
    a.0 < b.1 && b.0 < a.1
}

/// Vectors that are in temporaries, too.
#[derive(Debug, Default)]
pub(crate) struct Held {
    /// The one used last comes last.
    list: Vec<(Place, Operand)>,
}

/// As many as there are registers, but for a few.
const HELD: usize = 12;

impl Held {
    /// Any of them may have been written, and temporaries are gone.
    pub(crate) fn forget(&mut self) {
        self.list.clear();
    }

    /// A `VPut` writes `value`.
    pub(crate) fn put(&mut self, place: Place, value: Operand) {
        self.list.retain(|held| !overlap(held.0, place));
        self.hold(place, value);
    }

    fn hold(&mut self, place: Place, value: Operand) {
        if self.list.len() >= HELD {
            self.list.remove(0);
        }
        self.list.push((place, value));
    }

    fn find(&mut self, place: Place) -> Option<Operand> {
        let index = self.list.iter().rposition(|held| held.0 == place)?;
        let held = self.list.remove(index);
        self.list.push(held);
        Some(held.1)
    }

    /// The temporary that has what a `VGet` reads, if there is one. If it can be made from others,
    /// that becomes the operation.
    pub(crate) fn get(&mut self, place: Place, op: &mut Op) -> Option<Operand> {
        let found = self.find(place);
        if found.is_none() {
            self.assemble(place, op);
            self.hold(place, op.dst);
        }
        found
    }

    /// A half of a vector that is there, or the two that are its halves.
    fn assemble(&mut self, (at, end): Place, op: &mut Op) {
        if op.ty == Type::V256 {
            if let Some(low) = self.find((at, at + 16))
                && let Some(high) = self.find((at + 16, end))
            {
                *op = Op { kind: OpKind::VJoin, a: low, b: high, ..*op };
            }
            return;
        }
        for (half, from) in [(0, Some(at)), (1, at.checked_sub(16))] {
            if let Some(from) = from
                && let Some(whole) = self.find((from, from + 32))
            {
                let aux = Lane::B8.with(half);
                *op = Op { kind: OpKind::VHalf, ty: Type::V256, aux, a: whole, ..*op };
                return;
            }
        }
    }
}

/// Bytes that are written again before anybody looks.
#[derive(Debug, Default)]
pub(crate) struct Overwritten {
    places: Vec<Place>,
}

impl Overwritten {
    /// Anybody may look here.
    pub(crate) fn observe(&mut self) {
        self.places.clear();
    }

    /// A `VGet` looks.
    pub(crate) fn get(&mut self, place: Place) {
        self.places.retain(|p| !overlap(*p, place));
    }

    /// Whether a `VPut` writes for nobody; if not, what comes before it may.
    pub(crate) fn put(&mut self, place: Place) -> bool {
        let dead = self.places.iter().any(|p| p.0 <= place.0 && place.1 <= p.1);
        if !dead {
            self.places.push(place);
        }
        dead
    }
}
