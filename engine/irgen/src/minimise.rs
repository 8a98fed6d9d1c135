//! Drops from a unit what a difference does not need.

use ir::{Const, Op, OpKind, Operand, Type, Unit, Value};

/// The smallest unit found for which `differs` still holds.
pub fn minimise(unit: &Unit, mut differs: impl FnMut(&Unit) -> bool) -> Unit {
    let mut best = unit.clone();
    let mut still = |candidate: Unit, best: &mut Unit| {
        let better = candidate.verify().is_ok() && differs(&candidate);
        if better {
            *best = candidate;
        }
        better
    };
    loop {
        let before = best.clone();
        let mut len = best.ops.len() / 2;
        while len > 0 {
            let mut at = 0;
            while at + len < best.ops.len() {
                let mut candidate = best.clone();
                candidate.ops.drain(at..at + len);
                if !still(candidate, &mut best) {
                    at += len.max(1);
                }
            }
            len /= 2;
        }
        for at in 0..best.ops.len() {
            for simpler in simpler(&best, at) {
                if still(simpler, &mut best) {
                    break;
                }
            }
        }
        if best.ops == before.ops {
            return best;
        }
    }
}

/// The unit with a simpler operation in place of one: a constant result, or a constant operand.
fn simpler(unit: &Unit, at: usize) -> Vec<Unit> {
    let op = unit.ops[at];
    let mut list = Vec::new();
    let with = |op: Op, value: u64| {
        let mut unit = unit.clone();
        unit.consts.push(value);
        unit.ops[at] = op;
        unit
    };
    let fresh: Operand = Const(unit.consts.len() as u32).into();
    let vector = op.result_vector();
    if let Some(ty) = vector
        && op.kind != OpKind::VSplat
    {
        let (kind, aux, none) = (OpKind::VSplat, ir::Lane::B64.with(0), Operand::NONE);
        for value in [0, 0x0123_4567_89ab_cdef] {
            let splat = Op { kind, ty, aux, dst: op.dst, a: fresh, b: none, c: none };
            list.push(with(splat, value));
        }
    } else if op.kind != OpKind::Mov && !op.dst.is_none() && vector.is_none() {
        let ty = if op.result_is_float() { Type::F64 } else { Type::I64 };
        let none = Operand::NONE;
        for value in [0, 1] {
            let mov = Op { kind: OpKind::Mov, ty, aux: 0, dst: op.dst, a: fresh, b: none, c: none };
            list.push(with(mov, value));
        }
    }
    for index in 0..op.kind.arity() {
        let mut changed = op;
        let operand =
            [&mut changed.a, &mut changed.b, &mut changed.c][index..].first_mut().map(|o| {
                let old = **o;
                **o = fresh;
                old
            });
        if let Some(Value::Temp(_)) = operand.map(Operand::value) {
            list.push(with(changed, 1));
        }
    }
    list
}
