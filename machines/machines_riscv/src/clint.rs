//! Core-local interrupts: timer and software interrupts of the harts, as CLINT or ACLINT.

use crate::harts::{Harts, LINE_MSI, LINE_MTI, LINE_SSI};
use device::{Part, RestoreError, SavedState, Shared, Value, Wire};
use machine::Builder;
use riscv::SoftwareEdge;
use std::sync::Arc;
use time::Counter;
use timer::aclint::SWI_LEN;
use timer::{Mswi, Mtimer, MtimerLayout, Sswi};

/// Machine software interrupts at `base`.
pub(crate) fn add_mswi(b: &mut Builder, base: u64, harts: &Harts) {
    let mswi = Shared::new(Mswi::new(harts.wires(LINE_MSI)));
    b.space.map_io("riscv.aclint.swi", base, SWI_LEN, Arc::new(mswi.clone()));
    b.part("/machine/mswi", mswi);
}

/// The machine timer at `base`.
pub(crate) fn add_mtimer(b: &mut Builder, base: u64, mtime: &Counter, harts: &Harts) {
    let layout = MtimerLayout::CLINT;
    let mtimer = Mtimer::new(layout, mtime.clone(), harts.wires(LINE_MTI));
    b.space.map_io("riscv.aclint.mtimer", base, layout.len, Arc::new(mtimer.clone()));
    b.part("/machine/mtimer", mtimer);
}

/// A CLINT at `base`: software interrupts, then the timer.
pub(crate) fn add_clint(b: &mut Builder, base: u64, mtime: &Counter, harts: &Harts) {
    add_mswi(b, base, harts);
    add_mtimer(b, base + SWI_LEN, mtime, harts);
}

/// Supervisor software interrupts at `base`.
pub(crate) fn add_sswi(b: &mut Builder, base: u64, harts: &Harts) {
    let edges = harts.software.clone();
    let wire = |edge: &Arc<SoftwareEdge>| Wire::to(edge.clone(), LINE_SSI);
    let sswi = Shared::new(Sswi::new(edges.iter().map(wire).collect()));
    b.space.map_io("riscv.aclint.swi", base, SWI_LEN, Arc::new(sswi.clone()));
    b.part("/machine/sswi-edges", Edges(edges));
    b.part("/machine/sswi", sswi);
}

/// Edges on their way to the harts.
struct Edges(Vec<Arc<SoftwareEdge>>);

#[derive(Default, SavedState)]
struct SavedEdges {
    #[n(1)]
    seen: Vec<bool>,
}

impl Part for Edges {
    fn reset(&self) {
        self.0.iter().for_each(|edge| edge.set_seen(false));
    }

    fn save(&self) -> Value {
        SavedEdges { seen: self.0.iter().map(|edge| edge.seen()).collect() }.save()
    }

    fn restore(&self, value: &Value) -> Result<(), RestoreError> {
        let mut saved = SavedEdges::default();
        saved.restore(value)?;
        if saved.seen.len() != self.0.len() {
            return Err(RestoreError::new("another number of harts").within("seen"));
        }
        self.0.iter().zip(saved.seen).for_each(|(edge, seen)| edge.set_seen(seen));
        Ok(())
    }
}
