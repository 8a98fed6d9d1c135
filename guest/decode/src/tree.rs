//! The decision tree: which lines are left after looking at a few bits.

use crate::spec::{Line, Spec};

/// Decision tree over the words of a specification.
#[derive(Debug)]
pub enum Tree {
    /// Lines to try in this order.
    Leaf(Vec<usize>),
    /// Looks at `word >> shift & mask`.
    Switch {
        /// Lowest bit looked at.
        shift: u32,
        /// Ones for each bit looked at.
        mask: u32,
        /// Value and what follows.
        arms: Vec<(u32, Tree)>,
        /// Every other value.
        rest: Box<Tree>,
    },
}

/// Widest field that one switch looks at.
const MAX_BITS: u32 = 8;

impl Tree {
    /// Builds the tree of all lines.
    pub fn of(spec: &Spec) -> Self {
        let depth = |mut i: usize| {
            let mut n = 0;
            while let Some(&next) = spec.lines[i].over.first() {
                (i, n) = (next, n + 1);
                if n > spec.lines.len() {
                    break;
                }
            }
            n
        };
        let mut lines: Vec<usize> = (0..spec.lines.len()).collect();
        lines.sort_by_key(|i| std::cmp::Reverse(depth(*i)));
        build(&spec.lines, lines, 0)
    }

    /// The lines to try for a word.
    pub fn candidates(&self, word: u32) -> &[usize] {
        match self {
            Self::Leaf(lines) => lines,
            Self::Switch { shift, mask, arms, rest } => {
                let value = word >> shift & mask;
                let arm = arms.iter().find(|(v, _)| *v == value).map(|(_, tree)| tree);
                arm.unwrap_or(rest).candidates(word)
            }
        }
    }
}

fn build(lines: &[Line], set: Vec<usize>, seen: u32) -> Tree {
    if set.len() <= 1 {
        return Tree::Leaf(set);
    }
    let Some((shift, mask)) = best(lines, &set, seen) else { return Tree::Leaf(set) };
    let field = mask << shift;
    let mut values: Vec<u32> = set
        .iter()
        .map(|i| lines[*i].words.cube)
        .filter(|c| c.mask & field == field)
        .map(|c| c.value >> shift & mask)
        .collect();
    values.sort_unstable();
    values.dedup();
    let arm = |value: u32| {
        let possible = |i: &usize| {
            let c = lines[*i].words.cube;
            (c.value ^ value << shift) & c.mask & field == 0
        };
        let left = set.iter().copied().filter(possible).collect();
        (value, build(lines, left, seen | field))
    };
    let arms = values.into_iter().map(arm).collect();
    let open = set.iter().copied().filter(|i| lines[*i].words.cube.mask & field != field);
    let rest = Box::new(build(lines, open.collect(), seen | field));
    Tree::Switch { shift, mask, arms, rest }
}

/// Sets of lines this small are tried one after the other rather than split unevenly.
const FEW: usize = 3;

/// The field to look at: leaves the fewest lines in the worst case. A field that all lines fix comes
/// first, since it copies no line into several arms.
fn best(lines: &[Line], set: &[usize], seen: u32) -> Option<(u32, u32)> {
    let fields = || {
        (1..=MAX_BITS).flat_map(move |len| {
            let mask = (1_u32 << len) - 1;
            (0..=32 - len).map(move |shift| (shift, mask)).filter(move |(s, m)| seen & m << s == 0)
        })
    };
    let cost = |(shift, mask): (u32, u32)| (spread(lines, set, shift, mask), mask, shift);
    let full = fields().map(cost).filter(|(s, ..)| s.open == 0 && s.most < set.len());
    if let Some((_, mask, shift)) = full.min_by_key(|(s, mask, _)| (s.most, *mask)) {
        return Some((shift, mask));
    }
    if set.len() <= FEW {
        return None;
    }
    let some = fields().map(cost).filter(|(s, ..)| s.most > 0 && s.most + s.open < set.len());
    let cheap = some.min_by_key(|(s, mask, _)| (s.open * s.values + set.len(), s.most, *mask));
    cheap.map(|(_, mask, shift)| (shift, mask))
}

/// How a field splits a set of lines.
struct Spread {
    /// Lines that share a value, at most.
    most: usize,
    /// Different values.
    values: usize,
    /// Lines that do not fix all of the field.
    open: usize,
}

fn spread(lines: &[Line], set: &[usize], shift: u32, mask: u32) -> Spread {
    let field = mask << shift;
    let mut count = vec![0_usize; mask as usize + 1];
    let mut open = 0;
    for i in set {
        let cube = lines[*i].words.cube;
        match cube.mask & field == field {
            true => count[(cube.value >> shift & mask) as usize] += 1,
            false => open += 1,
        }
    }
    let values = count.iter().filter(|n| **n > 0).count();
    Spread { most: count.into_iter().max().unwrap_or(0), values, open }
}
