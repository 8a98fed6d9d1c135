//! Passes over a unit of IR: what the guest's code says twice, or for nobody, is not said to the
//! code generator.
//!
//! Two passes, each one walk over the operations, so that cold code can afford them:
//!
//! - [`forward`]: what is known of values. Constants and copies through guest registers, extensions
//!   that change nothing, pairs of shifts that are an extension, results that are there already;
//!   vectors that are read from the state while a temporary has them.
//! - [`backward`]: what is wanted of values. Results that nobody reads, writes of guest registers
//!   or bytes of vector registers that are overwritten before anything can observe them, extensions whose upper bits nobody
//!   demands, rotations made of two shifts.
//!
//! A unit means the same before and after, for every executor: guest registers hold what they did
//! wherever they can be observed, which is at exits, branches, helpers, and at whatever may fault.

mod backward;
mod facts;
mod forward;
mod vectors;

use ir::{RegInfo, Unit};

/// Optimises units; it keeps its memory from one to the next.
#[derive(Debug, Default)]
pub struct Optimiser {
    forward: forward::Forward,
    backward: backward::Backward,
}

impl Optimiser {
    /// Rewrites a unit that holds what [`Unit::verify`] checks; it still does afterwards.
    pub fn run(&mut self, unit: &mut Unit, regs: &[RegInfo]) {
        self.forward.run(unit, regs);
        self.backward.run(unit, self.forward.rotations());
    }
}
