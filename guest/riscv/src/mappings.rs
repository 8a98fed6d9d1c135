//! The mappings of a page table as text, in the form of QEMU's `info mem`.
//!
//! Neighbours with the same rights that continue each other are one line. Naturally aligned
//! power-of-two leaves (Svnapot) are shown entry by entry. A hostile page table can describe more
//! mappings than anybody reads: the list ends after a bounded number of tables.

use crate::model::SatpMode;
use std::fmt::Write;

/// Tables that are looked into.
const MAX_TABLES: u32 = 1 << 14;
/// Address bits of an entry's page number: 44 of the 54 above the flags.
const PPN: u64 = (1 << 44) - 1;
const FLAGS: [(u64, char); 7] = [
    (1 << 1, 'r'),
    (1 << 2, 'w'),
    (1 << 3, 'x'),
    (1 << 4, 'u'),
    (1 << 5, 'g'),
    (1 << 6, 'a'),
    (1 << 7, 'd'),
];
const VALID: u64 = 1;
const LEAF: u64 = 0b1110;

/// Text of `info mem` for this value of `satp`. `read` gives the little-endian number of so many
/// bytes (4 or 8) at a guest-physical address.
pub fn list(rv32: bool, satp: u64, read: &mut dyn FnMut(u64, u32) -> Option<u64>) -> String {
    let mode = if rv32 {
        if satp >> 31 & 1 != 0 { SatpMode::Sv32 } else { SatpMode::Bare }
    } else {
        SatpMode::from_code(satp >> 60).unwrap_or(SatpMode::Bare)
    };
    let (levels, bits, size) = match mode {
        SatpMode::Bare => return "No translation or protection\n".to_owned(),
        SatpMode::Sv32 => (2, 10, 4),
        SatpMode::Sv39 => (3, 9, 8),
        SatpMode::Sv48 => (4, 9, 8),
        SatpMode::Sv57 => (5, 9, 8),
    };
    let head = "vaddr            paddr            size             attr\n\
                ---------------- ---------------- ---------------- -------\n";
    let mut list = List { text: head.to_owned(), last: None, tables: 0, bits, size, read };
    let root = if rv32 { satp & 0x3f_ffff } else { satp & PPN } << 12;
    list.table(root, 0, levels - 1, 12 + levels * bits);
    list.flush();
    if list.tables > MAX_TABLES {
        list.text.push_str("(stopped: there are more page tables)\n");
    }
    list.text
}

/// A run of pages.
struct Run {
    gva: u64,
    gpa: u64,
    len: u64,
    flags: u64,
}

struct List<'a> {
    text: String,
    last: Option<Run>,
    tables: u32,
    /// Address bits that a table resolves.
    bits: u32,
    /// Bytes of an entry.
    size: u32,
    read: &'a mut dyn FnMut(u64, u32) -> Option<u64>,
}

impl List<'_> {
    /// The table at `at`, whose first entry is for `gva`. Addresses have `width` bits.
    fn table(&mut self, at: u64, gva: u64, level: u32, width: u32) {
        self.tables += 1;
        if self.tables > MAX_TABLES {
            return;
        }
        let shift = 12 + level * self.bits;
        for index in 0..1u64 << self.bits {
            let Some(pte) = (self.read)(at.wrapping_add(index * u64::from(self.size)), self.size)
            else {
                continue;
            };
            if pte & VALID == 0 {
                continue;
            }
            let (gva, gpa) = (gva | index << shift, (pte >> 10 & PPN) << 12);
            if pte & LEAF != 0 {
                let unused = 64 - width;
                let gva = ((gva << unused).cast_signed() >> unused).cast_unsigned();
                self.leaf(Run { gva, gpa, len: 1 << shift, flags: pte & 0xfe });
            } else if level > 0 {
                self.table(gpa, gva, level - 1, width);
            }
        }
    }

    fn leaf(&mut self, new: Run) {
        if let Some(run) = &mut self.last
            && run.flags == new.flags
            && run.gva.wrapping_add(run.len) == new.gva
            && run.gpa.wrapping_add(run.len) == new.gpa
        {
            run.len += new.len;
            return;
        }
        self.flush();
        self.last = Some(new);
    }

    fn flush(&mut self) {
        let Some(Run { gva, gpa, len, flags }) = self.last.take() else { return };
        let rights: String =
            FLAGS.iter().map(|(bit, c)| if flags & bit != 0 { *c } else { '-' }).collect();
        // A string takes every write.
        let _ = writeln!(self.text, "{gva:016x} {gpa:016x} {len:016x} {rights}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    const HEAD: usize = 2;

    fn lines(rv32: bool, satp: u64, entries: &[(u64, u64)]) -> Vec<String> {
        let memory: BTreeMap<u64, u64> = entries.iter().copied().collect();
        let mut read = |at: u64, _| memory.get(&at).copied();
        list(rv32, satp, &mut read).lines().skip(HEAD).map(str::to_owned).collect()
    }

    fn pte(gpa: u64, flags: u64) -> u64 {
        gpa >> 12 << 10 | flags
    }

    #[test]
    fn mappings_are_listed_as_the_monitor_shows_them() {
        let (root, l1, l0) = (0x8000_1000, 0x8000_2000, 0x8000_3000);
        let entries = [
            (root, pte(l1, 1)),
            (root + 16, pte(0x8000_0000, 0xef)),
            (root + 8 * 511, pte(0x4000_0000, 0x5b)),
            (l1, pte(l0, 1)),
            (l1 + 8, pte(0x8020_0000, 0xc7)),
            (l1 + 16, pte(0x8040_0000, 0xc7)),
            (l0 + 8 * 4, pte(0x8001_0000, 0x57)),
            (l0 + 8 * 5, pte(0x8001_1000, 0x57)),
            (l0 + 8 * 6, pte(0x8001_2000, 0xd7)),
            (l0 + 8 * 7, 1 << 63 | pte(0x8002_8000, 0xc7)),
        ];
        let expected = [
            "0000000000004000 0000000080010000 0000000000002000 rw-u-a-",
            "0000000000006000 0000000080012000 0000000000001000 rw-u-ad",
            "0000000000007000 0000000080028000 0000000000001000 rw---ad",
            "0000000000200000 0000000080200000 0000000000400000 rw---ad",
            "0000000080000000 0000000080000000 0000000040000000 rwx-gad",
            "ffffffffc0000000 0000000040000000 0000000040000000 r-xu-a-",
        ];
        assert_eq!(lines(false, 8 << 60 | root >> 12, &entries), expected);
        let entries = [(root + 4 * 512, pte(0x8000_0000, 0xcf))];
        let expected = ["ffffffff80000000 0000000080000000 0000000000400000 rwx--ad"];
        assert_eq!(lines(true, 1 << 31 | root >> 12, &entries), expected);
        assert!(list(false, 0, &mut |_, _| None).starts_with("No translation"));
    }

    #[test]
    fn a_table_that_contains_itself_ends() {
        let root = 0x8000_0000;
        let entries: Vec<_> = (0..512).map(|i| (root + 8 * i, pte(root, 1))).collect();
        let all = lines(false, 10 << 60 | root >> 12, &entries);
        assert_eq!(all, ["(stopped: there are more page tables)"]);
    }
}
