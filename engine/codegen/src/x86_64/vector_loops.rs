//! Vectors that a loop reads from the state at each turn, in registers for as long as it runs.
//!
//! The state stays exact: what the loop writes goes to both. So nothing has to be written back, at no exit
//! and at no slow path, and only the way through memory from one turn to the next is saved.

use super::asm::Xmm;
use super::lower::Generator;
use super::vector::wide;
use ir::{Op, OpKind, Type};

/// A vector of the state, and the register that has a copy.
#[derive(Clone, Copy, Debug)]
pub(super) struct HeldPlace {
    at: u64,
    ty: Type,
    host: Xmm,
}

/// The bytes that an operation reads or writes.
fn overlaps(a: (u64, Type), b: (u64, Type)) -> bool {
    a.0 < b.0 + b.1.bytes() as u64 && b.0 < a.0 + a.1.bytes() as u64
}

impl Generator<'_> {
    fn place(&self, op: &Op) -> (u64, Type) {
        (self.unit.as_const(op.a).unwrap_or(0), op.ty)
    }

    /// Loads what the loop reads, before its top. What it writes in another width it does not hold, nor
    /// anything if it copies memory to the state.
    pub(super) fn hold_vectors(&mut self, hosts: &[u8]) {
        let ops = &self.unit.ops;
        let copies = [OpKind::VCopyIn, OpKind::VCopySomeIn];
        if ops.iter().any(|op| copies.contains(&op.kind)) {
            return;
        }
        let of = |kind: OpKind| ops.iter().filter(move |op| op.kind == kind);
        let written: Vec<_> = of(OpKind::VPut).map(|op| self.place(op)).collect();
        let mut wanted: Vec<(u64, Type)> = Vec::new();
        for place in of(OpKind::VGet).map(|op| self.place(op)) {
            let torn = written.iter().any(|put| *put != place && overlaps(*put, place));
            if !torn && !wanted.contains(&place) {
                wanted.push(place);
            }
        }
        if wanted.len() > hosts.len() {
            // The loop's own values need the registers more.
            return;
        }
        for (at, ty) in wanted {
            let Some(host) = self.alloc.hold_place(hosts) else { return };
            let host = Xmm(host);
            let from = super::thunks::state_mem(self.vector_bytes(at, ty.bytes() as u64));
            self.asm.vector_load(ty == Type::V256, host, from);
            self.places.push(HeldPlace { at, ty, host });
        }
    }

    /// The register that has a copy of what an operation reads or writes.
    pub(super) fn held_vector(&self, op: &Op) -> Option<Xmm> {
        let place = self.place(op);
        debug_assert_eq!(wide(op), place.1 == Type::V256, "types are widths");
        self.places.iter().find(|held| (held.at, held.ty) == place).map(|held| held.host)
    }
}
