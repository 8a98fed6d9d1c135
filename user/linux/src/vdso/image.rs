//! An ELF shared object of a few functions (System V ABI, chapters “Object Files” and “Dynamic Linking”).

use super::unwind::{self, Covered, Rules};

/// A function.
pub struct Function {
    /// Its name; none if only the system itself leads there.
    pub name: Option<&'static str>,
    /// Another name, which programs may have for themselves.
    pub alias: Option<&'static str>,
    /// Its version, by its place among all, from 0.
    pub version: u16,
    /// Its code.
    pub code: Vec<u8>,
    /// How to unwind from it.
    pub rules: Rules,
}

/// What a shared object is made of.
pub struct Library {
    /// ELF machine number.
    pub machine: u16,
    /// Flags of the machine.
    pub flags: u32,
    /// Whether addresses have 64 bits.
    pub wide: bool,
    /// Its name.
    pub name: &'static str,
    /// Names of versions.
    pub versions: &'static [&'static str],
    /// What fills the room between functions.
    pub filler: &'static [u8],
    /// Its functions.
    pub functions: Vec<Function>,
}

/// A shared object that was made.
pub struct Built {
    /// The file, which is also what lies in memory.
    pub image: Vec<u8>,
    /// Where each function begins.
    pub places: Vec<u64>,
}

/// Functions begin at multiples of this, with room before them: a return address of a signal handler
/// is looked for by the address before it.
const ALIGN: usize = 16;

const DYN: u64 = 3;
const SHF_ALLOC: u64 = 2;
const SHF_EXEC: u64 = 4;

/// Kinds of sections.
mod section {
    pub(super) const PROGBITS: u64 = 1;
    pub(super) const STRTAB: u64 = 3;
    pub(super) const HASH: u64 = 5;
    pub(super) const DYNAMIC: u64 = 6;
    pub(super) const DYNSYM: u64 = 11;
    pub(super) const VERDEF: u64 = 0x6fff_fffd;
    pub(super) const VERSYM: u64 = 0x6fff_ffff;
}

/// A section that was laid out.
struct Section {
    name: &'static str,
    kind: u64,
    at: usize,
    bytes: Vec<u8>,
    link: u64,
    info: u64,
    entry: u64,
}

/// Numbers of one file, least significant byte first.
struct Out {
    bytes: Vec<u8>,
    wide: bool,
}

impl Out {
    fn half(&mut self, value: u64) -> &mut Self {
        self.bytes.extend_from_slice(&(value as u16).to_le_bytes());
        self
    }

    fn word(&mut self, value: u64) -> &mut Self {
        self.bytes.extend_from_slice(&(value as u32).to_le_bytes());
        self
    }

    /// An address, or what is as long as one.
    fn long(&mut self, value: u64) -> &mut Self {
        let len = if self.wide { 8 } else { 4 };
        self.bytes.extend_from_slice(&value.to_le_bytes()[..len]);
        self
    }
}

/// Names, each with a zero.
struct Strings(Vec<u8>);

impl Strings {
    fn add(&mut self, name: &str) -> u64 {
        let at = self.0.len() as u64;
        self.0.extend_from_slice(name.as_bytes());
        self.0.push(0);
        at
    }
}

/// The hash function of symbol names.
fn hash(name: &str) -> u64 {
    name.bytes()
        .fold(0u32, |hash, byte| {
            let hash = (hash << 4).wrapping_add(byte.into());
            let high = hash & 0xf000_0000;
            (hash ^ high >> 24) & !high
        })
        .into()
}

/// A symbol: its name, its function, whether it is the function's own name.
type Symbol = (&'static str, usize, bool);

impl Library {
    fn out(&self) -> Out {
        Out { bytes: Vec::new(), wide: self.wide }
    }

    fn word(&self) -> usize {
        if self.wide { 8 } else { 4 }
    }

    fn symbols(&self) -> Vec<Symbol> {
        let all = self.functions.iter().enumerate();
        all.flat_map(|(n, function)| {
            let alias = function.alias.map(|name| (name, n, false));
            function.name.map(|name| (name, n, true)).into_iter().chain(alias)
        })
        .collect()
    }

    /// The code: bytes, and where each function begins.
    fn text(&self) -> (Vec<u8>, Vec<u64>) {
        let (mut text, mut places) = (Vec::new(), Vec::new());
        for function in &self.functions {
            let end = (text.len() + 1).next_multiple_of(ALIGN);
            let fill = self.filler.iter().copied().cycle().take(end - text.len());
            let fill: Vec<u8> = fill.collect();
            text.extend(fill);
            places.push(text.len() as u64);
            text.extend_from_slice(&function.code);
        }
        (text, places)
    }

    /// `.hash` with one bucket.
    fn hash(count: usize) -> Vec<u8> {
        let mut out = Out { bytes: Vec::new(), wide: false };
        out.word(1).word(count as u64 + 1).word(if count == 0 { 0 } else { 1 });
        out.word(0);
        for n in 1..=count {
            out.word(if n == count { 0 } else { n as u64 + 1 });
        }
        out.bytes
    }

    /// `.gnu.version_d`: the object's own name, then its versions.
    fn definitions(&self, strings: &mut Strings) -> Vec<u8> {
        const BASE: u64 = 1;
        let mut out = self.out();
        let names = [self.name].into_iter().chain(self.versions.iter().copied());
        let last = self.versions.len();
        for (n, name) in names.enumerate() {
            let next = if n == last { 0 } else { 28 };
            out.half(1).half(if n == 0 { BASE } else { 0 }).half(n as u64 + 1).half(1);
            out.word(hash(name)).word(20).word(next);
            out.word(strings.add(name)).word(0);
        }
        out.bytes
    }

    fn symbol_table(
        &self,
        symbols: &[Symbol],
        names: &[u64],
        text: (u64, u64),
        places: &[u64],
    ) -> Vec<u8> {
        const FUNCTION: u64 = 2;
        const GLOBAL: u64 = 1 << 4;
        const WEAK: u64 = 2 << 4;
        let mut out = self.out();
        out.bytes.resize(if self.wide { 24 } else { 16 }, 0);
        for ((_, n, own), name) in symbols.iter().zip(names) {
            let info = FUNCTION | if *own { GLOBAL } else { WEAK };
            let (value, len) = (text.0 + places[*n], self.functions[*n].code.len() as u64);
            match self.wide {
                true => out.word(*name).half(info).half(text.1).long(value).long(len),
                false => out.word(*name).long(value).long(len).half(info).half(text.1),
            };
        }
        out.bytes
    }

    /// Makes the file.
    pub fn build(&self) -> Built {
        let symbols = self.symbols();
        let mut strings = Strings(vec![0]);
        let names: Vec<u64> = symbols.iter().map(|(name, ..)| strings.add(name)).collect();
        let soname = strings.add(self.name);
        let definitions = self.definitions(&mut strings);
        let versions: Vec<u8> = [0u16]
            .into_iter()
            .chain(symbols.iter().map(|(_, n, _)| self.functions[*n].version + 2))
            .flat_map(u16::to_le_bytes)
            .collect();
        let (text, places) = self.text();
        let symbol_len = if self.wide { 24 } else { 16 };
        let (word, count) = (self.word(), symbols.len());
        const DYNAMICS: usize = 10;

        // Everything in its place; what holds addresses is filled in afterwards.
        let mut sections: Vec<Section> = Vec::new();
        let mut at = if self.wide { 64 + 3 * 56 } else { 52 + 3 * 32 };
        let mut add = |name, kind, bytes: Vec<u8>, links: [u64; 3]| {
            at = usize::next_multiple_of(at, if name == ".text" { ALIGN } else { 8 });
            let [link, info, entry] = links;
            let section = Section { name, kind, at, bytes, link, info, entry };
            at += section.bytes.len();
            sections.push(section);
        };
        let covered = |start: u64| -> Vec<Covered<'_>> {
            let cover = |(function, place): (&'_ Function, &u64)| {
                let before = if function.rules.signal { 1 } else { 0 };
                (start + place - before, function.code.len() as u64 + before)
            };
            let ranges = self.functions.iter().zip(&places).map(cover);
            self.functions
                .iter()
                .zip(ranges)
                .map(|(function, (start, len))| Covered { start, len, rules: &function.rules })
                .collect()
        };
        let rules = covered(0);
        let (frame_len, ruled) = (unwind::frames(&rules, 0, word).0.len(), rules.len());
        add(".hash", section::HASH, Self::hash(count), [2, 0, 4]);
        let table = vec![0; symbol_len * (count + 1)];
        add(".dynsym", section::DYNSYM, table, [3, 1, symbol_len as u64]);
        add(".dynstr", section::STRTAB, strings.0.clone(), [0; 3]);
        add(".gnu.version", section::VERSYM, versions, [2, 0, 2]);
        let defined = self.versions.len() as u64 + 1;
        add(".gnu.version_d", section::VERDEF, definitions, [3, defined, 0]);
        add(".dynamic", section::DYNAMIC, vec![0; DYNAMICS * 2 * word], [3, 0, 2 * word as u64]);
        add(".eh_frame_hdr", section::PROGBITS, vec![0; unwind::index_len(ruled)], [0; 3]);
        add(".eh_frame", section::PROGBITS, vec![0; frame_len], [0; 3]);
        add(".text", section::PROGBITS, text, [0; 3]);
        let end = at;

        let laid: Vec<(&str, u64)> =
            sections.iter().map(|section| (section.name, section.at as u64)).collect();
        let place = |name| {
            let found = laid.iter().position(|(other, _)| *other == name);
            let n = found.expect("it was laid out above");
            (laid[n].1, n as u64 + 1)
        };
        let text = place(".text");
        let functions = covered(text.0);
        let (frames, records) = unwind::frames(&functions, place(".eh_frame").0, word);
        let index =
            unwind::index(&functions, &records, place(".eh_frame_hdr").0, place(".eh_frame").0);
        let table = self.symbol_table(&symbols, &names, text, &places);
        let dynamic = self.dynamic([
            (14, soname),
            (4, place(".hash").0),
            (5, place(".dynstr").0),
            (6, place(".dynsym").0),
            (10, strings.0.len() as u64),
            (11, symbol_len as u64),
            (0x6fff_fff0, place(".gnu.version").0),
            (0x6fff_fffc, place(".gnu.version_d").0),
            (0x6fff_fffd, defined),
            (0, 0),
        ]);
        for (name, bytes) in [
            (".dynsym", table),
            (".dynamic", dynamic),
            (".eh_frame", frames),
            (".eh_frame_hdr", index),
        ] {
            let n = place(name).1 as usize - 1;
            sections[n].bytes = bytes;
        }
        let image = self.file(&sections, end);
        let places = places.iter().map(|place| text.0 + place).collect();
        Built { image, places }
    }

    fn dynamic<const N: usize>(&self, entries: [(u64, u64); N]) -> Vec<u8> {
        let mut out = self.out();
        for (kind, value) in entries {
            out.long(kind).long(value);
        }
        out.bytes
    }

    /// Headers, sections, their names and their table; the first `end` bytes are for memory.
    fn file(&self, sections: &[Section], end: usize) -> Vec<u8> {
        let mut names = Strings(vec![0]);
        let named: Vec<u64> = sections.iter().map(|section| names.add(section.name)).collect();
        let own = names.add(".shstrtab");
        let table = (end + names.0.len()).next_multiple_of(8);
        let mut out = self.headers(sections, end, table);
        for section in sections {
            out.bytes.resize(section.at, 0);
            out.bytes.extend_from_slice(&section.bytes);
        }
        out.bytes.extend_from_slice(&names.0);
        out.bytes.resize(table, 0);
        self.section(&mut out, [0; 10]);
        for (section, name) in sections.iter().zip(named) {
            let (at, len) = (section.at as u64, section.bytes.len() as u64);
            let code = if section.name == ".text" { SHF_EXEC } else { 0 };
            let (align, flags) = (if code == 0 { 8 } else { ALIGN as u64 }, SHF_ALLOC | code);
            let Section { kind, link, info, entry, .. } = *section;
            self.section(&mut out, [name, kind, flags, at, at, len, link, info, align, entry]);
        }
        let (at, len) = (end as u64, names.0.len() as u64);
        self.section(&mut out, [own, section::STRTAB, 0, 0, at, len, 0, 0, 1, 0]);
        out.bytes
    }

    fn section(&self, out: &mut Out, fields: [u64; 10]) {
        let [name, kind, flags, address, at, len, link, info, align, entry] = fields;
        out.word(name).word(kind).long(flags).long(address).long(at).long(len);
        out.word(link).word(info).long(align).long(entry);
    }

    fn headers(&self, sections: &[Section], end: usize, table: usize) -> Out {
        const READ: u64 = 4;
        const EXEC: u64 = 1;
        let mut out = self.out();
        out.bytes.extend_from_slice(b"\x7fELF");
        out.bytes.extend([if self.wide { 2 } else { 1 }, 1, 1]);
        out.bytes.resize(16, 0);
        let (header, program, section) = if self.wide { (64, 56, 64) } else { (52, 32, 40) };
        out.half(DYN).half(self.machine.into()).word(1).long(0).long(header).long(table as u64);
        out.word(self.flags.into()).half(header).half(program).half(3);
        out.half(section).half(sections.len() as u64 + 2).half(sections.len() as u64 + 1);
        let range = |name| {
            let found = sections.iter().find(|section| section.name == name);
            found.map_or((0, 0), |section| (section.at as u64, section.bytes.len() as u64))
        };
        // What is mapped, the table for linkers, the table for unwinders.
        let segments = [
            (1, READ | EXEC, (0, end as u64), 4096),
            (2, READ, range(".dynamic"), 8),
            (0x6474_e550, READ, range(".eh_frame_hdr"), 4),
        ];
        for (kind, flags, (at, len), align) in segments {
            out.word(kind);
            if self.wide {
                out.word(flags);
            }
            out.long(at).long(at).long(at).long(len).long(len);
            if !self.wide {
                out.word(flags);
            }
            out.long(align);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_hash_as_linkers_hash_them() {
        // System V ABI: the function itself; GNU ld's tables have these values.
        assert_eq!(hash("LINUX_2.6"), 0x03ae_75f6);
        assert_eq!(hash(""), 0);
    }

    #[test]
    fn every_object_is_one_that_loaders_take() {
        for abi in crate::abi::ABIS {
            let library = (abi.vdso)();
            let Built { image, places } = library.build();
            let mut read = |at: u64, bytes: &mut [u8]| {
                let at = at as usize;
                let len = bytes.len().min(image.len().saturating_sub(at));
                bytes[..len].copy_from_slice(&image[at..at + len]);
                Ok::<_, std::io::Error>(len)
            };
            let program = elf::program::Program::read(&mut read).unwrap();
            assert!(abi.runs(&program.flavour), "{}", abi.name);
            assert_eq!(program.span().0, 0);
            for (place, function) in places.iter().zip(&library.functions) {
                let at = *place as usize;
                assert_eq!(image[at..at + function.code.len()], function.code);
                // A return address is looked for by the address before it.
                assert!(at.is_multiple_of(ALIGN) && !function.code.is_empty());
            }
        }
    }
}
