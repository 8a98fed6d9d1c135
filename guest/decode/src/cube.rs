//! Sets of instruction words: a *cube* fixes some bits and leaves the others free.

/// The words whose bits in `mask` are those of `value`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cube {
    /// Bits that are fixed.
    pub mask: u32,
    /// Their values; zero outside `mask`.
    pub value: u32,
}

impl Cube {
    /// All words.
    pub const ALL: Self = Self { mask: 0, value: 0 };

    /// Tells whether `word` is in the set.
    pub fn contains(self, word: u32) -> bool {
        word & self.mask == self.value
    }

    /// The words in both sets.
    pub fn and(self, other: Self) -> Option<Self> {
        let both = self.mask & other.mask;
        ((self.value ^ other.value) & both == 0)
            .then_some(Self { mask: self.mask | other.mask, value: self.value | other.value })
    }

    /// This cube with one more bit fixed.
    fn with_bit(self, bit: u32, set: bool) -> Self {
        let one = 1 << bit;
        Self { mask: self.mask | one, value: self.value & !one | if set { one } else { 0 } }
    }
}

/// The bits set in `mask`, lowest first.
pub(crate) fn bits(mask: u32) -> impl Iterator<Item = u32> {
    (0..32).filter(move |b| mask >> b & 1 != 0)
}

/// Some word of `cube` that is in none of the `holes`.
pub fn witness(cube: Cube, holes: &[Cube]) -> Option<u32> {
    let Some((hole, rest)) = holes.split_first() else { return Some(cube.value) };
    if cube.and(*hole).is_none() {
        return witness(cube, rest);
    }
    // Everything outside the hole differs from it in a first bit.
    let mut inside = cube;
    for bit in bits(hole.mask & !cube.mask) {
        let set = hole.value >> bit & 1 != 0;
        if let Some(word) = witness(inside.with_bit(bit, !set), rest) {
            return Some(word);
        }
        inside = inside.with_bit(bit, set);
    }
    None
}

/// The words of `cube` without those in `holes`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Words {
    /// The outer set.
    pub cube: Cube,
    /// What is taken out of it.
    pub holes: Vec<Cube>,
}

impl Words {
    /// Tells whether `word` is in the set.
    pub fn contains(&self, word: u32) -> bool {
        self.cube.contains(word) && !self.holes.iter().any(|h| h.contains(word))
    }

    /// Some word of the set.
    pub fn any(&self) -> Option<u32> {
        witness(self.cube, &self.holes)
    }

    /// Some word in both sets.
    pub fn common(&self, other: &Self) -> Option<u32> {
        let cube = self.cube.and(other.cube)?;
        witness(cube, &[&self.holes[..], &other.holes[..]].concat())
    }

    /// Some word that is in this set but not in `other`.
    pub fn beyond(&self, other: &Self) -> Option<u32> {
        let outside = bits(other.cube.mask).find_map(|bit| {
            let flipped = Cube { mask: 1 << bit, value: !other.cube.value & 1 << bit };
            witness(self.cube.and(flipped)?, &self.holes)
        });
        outside
            .or_else(|| other.holes.iter().find_map(|h| witness(self.cube.and(*h)?, &self.holes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cube(pattern: &str) -> Cube {
        pattern.chars().fold(Cube::ALL, |c, ch| Cube {
            mask: c.mask << 1 | u32::from(ch != '-'),
            value: c.value << 1 | u32::from(ch == '1'),
        })
    }

    #[test]
    fn a_witness_is_inside_the_cube_and_outside_the_holes() {
        let holes = [cube("1100"), cube("1--1")];
        let word = witness(cube("1---"), &holes).unwrap();
        assert!(cube("1---").contains(word) && !holes.iter().any(|h| h.contains(word)));
    }

    #[test]
    fn holes_that_cover_the_cube_leave_nothing() {
        assert_eq!(witness(cube("1-"), &[cube("-1"), cube("-0")]), None);
        assert_eq!(witness(cube("10"), &[cube("1-")]), None);
    }

    #[test]
    fn containment_looks_at_bits_and_at_holes() {
        let small = Words { cube: cube("101"), holes: vec![] };
        let large = Words { cube: cube("1--"), holes: vec![cube("111")] };
        assert_eq!(small.beyond(&large), None);
        assert!(large.beyond(&small).is_some());
        let punched = Words { cube: cube("1--"), holes: vec![cube("101")] };
        assert_eq!(small.beyond(&punched), Some(0b101));
        assert_eq!(small.common(&punched), None);
    }
}
