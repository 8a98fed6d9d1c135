//! SMBIOS tables (DMTF DSP0134, 3.7): what a machine says of its maker and parts.

/// Strings and identity of the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// Its firmware (type 0), if anything is said of it.
    pub firmware: Option<Firmware>,
    /// The machine as a product (type 1).
    pub system: Product,
    /// Its board (type 2), if anything is said of it.
    pub board: Option<Product>,
    /// Its chassis (type 3).
    pub chassis: Product,
    /// UUID, in the order in which it is written; zero for none.
    pub uuid: [u8; 16],
    /// Texts for whoever reads them (type 11).
    pub oem_strings: Vec<String>,
    /// Its processors (type 4).
    pub processors: Processors,
    /// RAM: first address and bytes (types 16, 17 and 19).
    pub ram: (u64, u64),
}

/// Texts about the firmware.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Firmware {
    /// Who made it.
    pub vendor: String,
    /// Its version.
    pub version: String,
    /// When it was released, as mm/dd/yyyy.
    pub date: String,
    /// Its release, major and minor; 255 for none.
    pub release: [u8; 2],
    /// Whether it is UEFI.
    pub uefi: bool,
}

/// Texts about a product. Empty ones are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Product {
    /// Who made it.
    pub manufacturer: String,
    /// What it is.
    pub product: String,
    /// Its version.
    pub version: String,
    /// Its number.
    pub serial: String,
    /// The number that its owner gave it.
    pub asset: String,
    /// Number of its model.
    pub sku: String,
    /// What it belongs to; of a board, where it is.
    pub family: String,
}

/// Sockets that are alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Processors {
    /// How many.
    pub sockets: u16,
    /// Cores in each.
    pub cores: u16,
    /// Threads in each.
    pub threads: u16,
    /// Family, as the specification numbers those beyond 255.
    pub family: u16,
}

/// The anchor and the tables, as fw_cfg offers them to firmware.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tables {
    /// `etc/smbios/smbios-anchor`; the firmware adds address and checksum.
    pub anchor: Vec<u8>,
    /// `etc/smbios/smbios-tables`.
    pub tables: Vec<u8>,
}

/// "Unknown" in several enumerations, and "None".
const UNKNOWN: u8 = 2;
/// "Other", and a chassis that is nothing else.
const OTHER: u8 = 1;
/// "Safe": state of a chassis.
const SAFE: u8 = 3;
/// The family stands in the second field.
const FAMILY_2: u8 = 0xfe;
/// Largest module of memory.
const MODULE: u64 = 16 << 30;
/// Speed that processors are said to have, in MHz.
const MHZ: u16 = 2000;

/// One structure: type, handle, fields and texts.
struct Structure {
    bytes: Vec<u8>,
    texts: Vec<String>,
}

impl Structure {
    fn new(kind: u8, handle: u16) -> Self {
        let [low, high] = handle.to_le_bytes();
        Self { bytes: vec![kind, 0, low, high], texts: Vec::new() }
    }

    fn put(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend(bytes);
        self
    }

    fn word(self, value: u16) -> Self {
        self.put(&value.to_le_bytes())
    }

    fn dword(self, value: u32) -> Self {
        self.put(&value.to_le_bytes())
    }

    fn qword(self, value: u64) -> Self {
        self.put(&value.to_le_bytes())
    }

    /// The number of a text, which is put behind the fields; 0 for none.
    fn text(mut self, text: &str) -> Self {
        let number = match text {
            "" => 0,
            _ => {
                self.texts.push(text.to_owned());
                u8::try_from(self.texts.len()).unwrap_or(0)
            }
        };
        self.put(&[number])
    }

    fn finish(mut self, out: &mut Vec<u8>) {
        self.bytes[1] = self.bytes.len() as u8;
        out.extend(self.bytes);
        for text in &self.texts {
            out.extend(text.bytes().chain([0]));
        }
        out.extend(if self.texts.is_empty() { &[0, 0][..] } else { &[0] });
    }
}

impl Machine {
    /// The tables.
    pub fn tables(&self) -> Tables {
        let mut tables = Vec::new();
        let mut count = 0;
        let mut add = |structure: Structure| {
            structure.finish(&mut tables);
            count += 1;
        };
        self.firmware.iter().for_each(|firmware| add(firmware.structure()));
        add(self.system());
        self.board.iter().for_each(|board| add(self::board(board)));
        add(self.chassis());
        for socket in 0..self.processors.sockets {
            add(self.processor(socket));
        }
        if !self.oem_strings.is_empty() {
            add(oem_strings(&self.oem_strings));
        }
        self.memory().into_iter().for_each(&mut add);
        // "No errors detected" at the last boot.
        add(Structure::new(32, 0x2000).put(&[0; 7]));
        add(Structure::new(127, 0x7f00));
        Tables { anchor: anchor(tables.len() as u32), tables }
    }

    fn system(&self) -> Structure {
        const POWER_SWITCH: u8 = 6;
        let p = &self.system;
        let mut uuid = self.uuid;
        // The first three fields are little-endian.
        uuid[..4].reverse();
        uuid[4..6].reverse();
        uuid[6..8].reverse();
        let s = Structure::new(1, 0x100).text(&p.manufacturer).text(&p.product).text(&p.version);
        s.text(&p.serial).put(&uuid).put(&[POWER_SWITCH]).text(&p.sku).text(&p.family)
    }

    fn chassis(&self) -> Structure {
        let p = &self.chassis;
        let s = Structure::new(3, 0x300).text(&p.manufacturer).put(&[OTHER]).text(&p.version);
        let s = s.text(&p.serial).text(&p.asset).put(&[SAFE, SAFE, SAFE, UNKNOWN]);
        s.dword(0).put(&[0, 0, 0, 0]).text(&p.sku)
    }

    fn processor(&self, socket: u16) -> Structure {
        const CENTRAL: u8 = 3;
        /// The socket is populated, the processor enabled.
        const ENABLED: u8 = 0x41;
        let Processors { cores, threads, family, .. } = self.processors;
        let short = |count: u16| u8::try_from(count).unwrap_or(0xff);
        let s = Structure::new(4, 0x400 + socket).text(&format!("CPU {socket}"));
        let s = s.put(&[CENTRAL, FAMILY_2]).text(&self.system.manufacturer).qword(0);
        let s = s.text(&self.system.version).put(&[0]).word(0).word(MHZ).word(MHZ);
        let s = s.put(&[ENABLED, OTHER]).word(0xffff).word(0xffff).word(0xffff);
        let s = s.put(&[0, 0, 0]).put(&[short(cores), short(cores), short(threads)]);
        s.word(UNKNOWN.into()).word(family).word(cores).word(cores).word(threads)
    }

    /// The array of memory, its modules, and where it is mapped.
    fn memory(&self) -> Vec<Structure> {
        const SYSTEM_MEMORY: u8 = 3;
        const MULTI_BIT_ECC: u8 = 6;
        const NO_ERRORS: u16 = 0xfffe;
        const ARRAY: u16 = 0x1000;
        let (base, len) = self.ram;
        let modules = len.div_ceil(MODULE).max(1);
        let kib = len >> 10;
        let (short, long) = match u32::try_from(kib).ok().filter(|kib| *kib < 1 << 31) {
            Some(kib) => (kib, 0),
            None => (1 << 31, len),
        };
        let array = Structure::new(16, ARRAY)
            .put(&[OTHER, SYSTEM_MEMORY, MULTI_BIT_ECC])
            .dword(short)
            .word(NO_ERRORS)
            .word(modules as u16)
            .qword(long);
        let mut all = vec![array];
        for number in 0..modules {
            all.push(module(number as u16, (len - number * MODULE).min(MODULE), ARRAY));
        }
        let last = base.saturating_add(len.saturating_sub(1));
        let (from, to) = (base >> 10, last >> 10);
        let map = Structure::new(19, 0x1300);
        all.push(match u32::try_from(to) {
            Ok(to) if to != u32::MAX => {
                map.dword(from as u32).dword(to).word(ARRAY).put(&[1]).qword(0).qword(0)
            }
            _ => map.dword(u32::MAX).dword(u32::MAX).word(ARRAY).put(&[1]).qword(base).qword(last),
        });
        all
    }
}

/// A module of memory with `len` bytes.
fn module(number: u16, len: u64, array: u16) -> Structure {
    const NO_ERRORS: u16 = 0xfffe;
    const DIMM: u8 = 9;
    const RAM: u8 = 7;
    /// The size is in the extended field.
    const EXTENDED: u16 = 0x7fff;
    let mib = len.div_ceil(1 << 20);
    let (short, long) = match u16::try_from(mib).ok().filter(|mib| *mib < EXTENDED) {
        Some(mib) => (mib, 0),
        None => (EXTENDED, mib as u32),
    };
    let s = Structure::new(17, 0x1100 + number).word(array).word(NO_ERRORS);
    let s = s.word(0xffff).word(0xffff).word(short).put(&[DIMM, 0]);
    let s = s.text(&format!("DIMM {number}")).text("").put(&[RAM]).word(UNKNOWN.into());
    let s = s.word(0).text("QEMU").put(&[0, 0, 0, 0]);
    s.dword(long).word(0).word(0).word(0).word(0)
}

fn board(p: &Product) -> Structure {
    const HOSTING: u8 = 1;
    const MOTHERBOARD: u8 = 0x0a;
    let s = Structure::new(2, 0x200).text(&p.manufacturer).text(&p.product).text(&p.version);
    let s = s.text(&p.serial).text(&p.asset).put(&[HOSTING]).text(&p.family);
    s.word(0x300).put(&[MOTHERBOARD, 0])
}

fn oem_strings(texts: &[String]) -> Structure {
    let mut structure = Structure::new(11, 0xe00).put(&[texts.len().min(255) as u8]);
    structure.texts = texts.iter().take(255).cloned().collect();
    structure
}

impl Firmware {
    fn structure(&self) -> Structure {
        /// "Characteristics are not supported"; the machine is virtual; UEFI.
        const NO_CHARACTERISTICS: u64 = 8;
        const VIRTUAL: u8 = 0x10;
        const UEFI: u8 = 8;
        let extension = VIRTUAL | if self.uefi { UEFI } else { 0 };
        let s = Structure::new(0, 0).text(&self.vendor).text(&self.version).word(0xe800);
        let s = s.text(&self.date).put(&[0]).qword(NO_CHARACTERISTICS).put(&[0, extension]);
        s.put(&self.release).put(&[0xff, 0xff])
    }
}

/// The entry point of version 3.0.
fn anchor(len: u32) -> Vec<u8> {
    const LEN: u8 = 24;
    [&b"_SM3_"[..], &[0, LEN, 3, 0, 0, 1, 0], &len.to_le_bytes(), &[0; 8]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Machine {
        let text = |text: &str| text.to_owned();
        Machine {
            system: Product {
                manufacturer: text("QEMU"),
                product: text("QEMU Virtual Machine"),
                version: text("virt"),
                ..Product::default()
            },
            chassis: Product {
                manufacturer: text("QEMU"),
                version: text("virt"),
                ..Product::default()
            },
            uuid: *b"\x12\x34\x56\x78\x12\x34\x12\x34\x12\x34\x12\x34\x56\x78\x9a\xbc",
            processors: Processors { sockets: 1, cores: 2, threads: 2, family: 0x201 },
            ram: (0x8000_0000, 1 << 30),
            ..Machine::default()
        }
    }

    /// Structures as (type, fields, texts).
    fn parse(mut tables: &[u8]) -> Vec<(u8, Vec<u8>, Vec<String>)> {
        let mut found = Vec::new();
        while let [kind, len, ..] = *tables {
            let (fields, rest) = tables.split_at(len.into());
            let end = rest.windows(2).position(|pair| pair == [0, 0]).unwrap();
            let texts = rest[..end].split(|b| *b == 0).filter(|t| !t.is_empty());
            let texts = texts.map(|t| String::from_utf8_lossy(t).into_owned()).collect();
            found.push((kind, fields.to_vec(), texts));
            tables = &rest[end + 2..];
        }
        found
    }

    #[test]
    fn structures_have_the_lengths_of_the_specification() {
        let mut machine = machine();
        machine.firmware = Some(Firmware { vendor: "x".into(), ..Firmware::default() });
        machine.board = Some(Product::default());
        machine.oem_strings = vec!["a".into(), "b".into()];
        let Tables { anchor, tables } = machine.tables();
        let found = parse(&tables);
        let lengths: Vec<_> = found.iter().map(|(kind, fields, _)| (*kind, fields.len())).collect();
        let want = [
            (0, 24),
            (1, 27),
            (2, 15),
            (3, 22),
            (4, 48),
            (11, 5),
            (16, 23),
            (17, 40),
            (19, 31),
            (32, 11),
            (127, 4),
        ];
        assert_eq!(lengths, want);
        assert_eq!(anchor.len(), 24);
        assert_eq!(anchor[12..16], (tables.len() as u32).to_le_bytes());
        assert_eq!(found[1].2, ["QEMU", "QEMU Virtual Machine", "virt"]);
        assert_eq!(found[1].1[8..16], [0x78, 0x56, 0x34, 0x12, 0x34, 0x12, 0x34, 0x12]);
        assert_eq!(found[5].2, ["a", "b"]);
    }

    #[test]
    fn large_memory_takes_the_long_fields() {
        let large = Machine { ram: (0x8000_0000, 5 << 40), ..machine() };
        let found = parse(&large.tables().tables);
        let of = |kind: u8| found.iter().filter(move |s| s.0 == kind).map(|s| &s.1);
        let array = of(16).next().unwrap();
        assert_eq!(array[7..11], (1u32 << 31).to_le_bytes());
        assert_eq!(array[15..], (5u64 << 40).to_le_bytes());
        assert_eq!(of(17).count(), 320);
        let map = of(19).next().unwrap();
        assert_eq!(map[4..8], [0xff; 4]);
        assert_eq!(map[15..23], 0x8000_0000u64.to_le_bytes());
        let small = Machine { ram: (0x8000_0000, 128 << 20), ..machine() };
        let found = parse(&small.tables().tables);
        let module = found.iter().find(|s| s.0 == 17).unwrap();
        assert_eq!(module.1[12..14], 128u16.to_le_bytes());
    }
}
