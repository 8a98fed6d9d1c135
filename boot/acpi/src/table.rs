//! Bodies of tables: what comes after the header that all have.

/// A table without its header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Its signature.
    pub signature: [u8; 4],
    /// Its revision.
    pub revision: u8,
    /// What follows the header.
    pub body: Vec<u8>,
}

impl Table {
    /// A table of these parts, one behind the other.
    pub fn new(signature: &[u8; 4], revision: u8, parts: &[Vec<u8>]) -> Self {
        Self { signature: *signature, revision, body: parts.concat() }
    }
}

/// Bytes of the header that all tables have.
pub const HEADER_LEN: usize = 36;
/// Where the FADT holds the address of the DSDT, from its start on.
pub(crate) const FADT_X_DSDT: usize = 140;

/// FADT of a machine without the fixed hardware of PCs ("Fixed ACPI Description Table"). `hypervisor`
/// is what it says of who runs the machine.
pub fn fadt(hypervisor: &[u8; 8]) -> Table {
    const HW_REDUCED_ACPI: u32 = 1 << 20;
    let mut body = vec![0; 276 - HEADER_LEN];
    let mut put = |at: usize, bytes: &[u8]| {
        body[at - HEADER_LEN..at - HEADER_LEN + bytes.len()].copy_from_slice(bytes);
    };
    put(112, &HW_REDUCED_ACPI.to_le_bytes());
    // Version 6.5.
    put(131, &[5]);
    put(268, hypervisor);
    Table { signature: *b"FACP", revision: 6, body }
}

/// MCFG: where the configuration space of the PCI buses is (PCI Firmware Specification 3.3).
pub fn mcfg(base: u64, first_bus: u8, last_bus: u8) -> Table {
    let buses = vec![0, 0, first_bus, last_bus, 0, 0, 0, 0];
    Table::new(b"MCFG", 1, &[vec![0; 8], base.to_le_bytes().to_vec(), buses])
}

/// A 16550 in memory, with byte registers, that is the firmware's console.
#[derive(Clone, Copy, Debug)]
pub struct SerialConsole {
    /// Its first address.
    pub base: u64,
    /// Kind of its interrupt; bit 4 is a RISC-V controller.
    pub interrupt_kind: u8,
    /// Its interrupt.
    pub interrupt: u32,
}

/// SPCR (Serial Port Console Redirection Table, revision 4): 115200 baud, 8 bits, no parity.
pub fn spcr(console: SerialConsole) -> Table {
    const INTERFACE_16550: u8 = 0x12;
    const BAUD_115200: u8 = 7;
    const TERMINAL_ANSI: u8 = 3;
    /// The table says nothing of the device's name.
    const NAME: &[u8; 2] = b".\0";
    let body = [
        vec![INTERFACE_16550, 0, 0, 0],
        register(32, 1, console.base),
        vec![console.interrupt_kind, 0],
        console.interrupt.to_le_bytes().to_vec(),
        vec![BAUD_115200, 0, 1, 0, TERMINAL_ANSI, 0],
        // No PCI device.
        vec![0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0],
        // Clock and exact rate: as they are.
        vec![0; 8],
        vec![NAME.len() as u8, 0, 88, 0],
        NAME.to_vec(),
    ];
    Table::new(b"SPCR", 4, &body)
}

/// A generic address structure for a register in memory.
fn register(bits: u8, access: u8, at: u64) -> Vec<u8> {
    [&[0, bits, 0, access][..], &at.to_le_bytes()].concat()
}

/// Entries of the MADT for RISC-V ("Multiple APIC Description Table").
pub mod madt {
    use super::Table;

    /// The table of these entries.
    pub fn table(entries: &[Vec<u8>]) -> Table {
        Table::new(b"APIC", 6, &[vec![0; 8], entries.concat()])
    }

    /// The interrupt controller of a hart.
    #[derive(Clone, Copy, Debug, Default)]
    pub struct Rintc {
        /// Number of the hart.
        pub hart: u64,
        /// Number of the processor in these tables.
        pub uid: u32,
        /// Which input of which external controller leads here: the controller in the top 8 bits.
        pub external: u32,
        /// The supervisor's interrupt file: first address and length; zero without IMSICs.
        pub imsic: (u64, u32),
    }

    impl Rintc {
        /// The entry.
        pub fn entry(&self) -> Vec<u8> {
            const ENABLED: u32 = 1;
            let (imsic, imsic_len) = self.imsic;
            [
                &[0x18, 36, 1, 0][..],
                &ENABLED.to_le_bytes(),
                &self.hart.to_le_bytes(),
                &self.uid.to_le_bytes(),
                &self.external.to_le_bytes(),
                &imsic.to_le_bytes(),
                &imsic_len.to_le_bytes(),
            ]
            .concat()
        }
    }

    /// The layout of all supervisor-level interrupt files.
    #[derive(Clone, Copy, Debug)]
    pub struct Imsic {
        /// Interrupt identities of a file.
        pub ids: u16,
        /// Interrupt identities of a guest's file.
        pub guest_ids: u16,
        /// Bits of a file's address that number guests, harts and groups of harts.
        pub index_bits: [u8; 3],
        /// Bit at which the number of the group begins, counted from 24.
        pub group_shift: u8,
    }

    impl Imsic {
        /// The entry.
        pub fn entry(&self) -> Vec<u8> {
            [
                &[0x19, 16, 1, 0, 0, 0, 0, 0][..],
                &self.ids.to_le_bytes(),
                &self.guest_ids.to_le_bytes(),
                &self.index_bits,
                &[self.group_shift],
            ]
            .concat()
        }
    }

    /// A controller for the lines of devices.
    #[derive(Clone, Copy, Debug)]
    pub struct Controller {
        /// Interrupt sources.
        pub sources: u16,
        /// First address.
        pub base: u64,
        /// Bytes of its registers.
        pub len: u32,
    }

    impl Controller {
        /// The entry of an APLIC that drives this many harts itself.
        pub fn aplic(&self, idcs: u16) -> Vec<u8> {
            [
                &[0x1a, 36, 1, 0][..],
                &[0; 12],
                &idcs.to_le_bytes(),
                &self.sources.to_le_bytes(),
                &[0; 4],
                &self.base.to_le_bytes(),
                &self.len.to_le_bytes(),
            ]
            .concat()
        }

        /// The entry of a PLIC.
        pub fn plic(&self, max_priority: u16) -> Vec<u8> {
            [
                &[0x1b, 36, 1, 0][..],
                &[0; 8],
                &self.sources.to_le_bytes(),
                &max_priority.to_le_bytes(),
                &[0; 4],
                &self.len.to_le_bytes(),
                &self.base.to_le_bytes(),
                &[0; 4],
            ]
            .concat()
        }
    }
}

/// RHCT: what RISC-V harts can do ("RISC-V Hart Capabilities Table"). All harts are alike.
#[derive(Clone, Copy, Debug)]
pub struct Harts<'a> {
    /// How many.
    pub count: u32,
    /// Rate of `time` in Hz.
    pub timebase: u64,
    /// The ISA string.
    pub isa: &'a str,
    /// Sizes of the blocks of Zicbom, Zicbop and Zicboz in bytes.
    pub blocks: [Option<u32>; 3],
    /// The widest address translation: 0 for Sv39, 1 for Sv48, 2 for Sv57.
    pub mmu: Option<u8>,
}

impl Harts<'_> {
    /// The table.
    pub fn table(&self) -> Table {
        /// Where the first node is.
        const FIRST: usize = 56;
        let mut shared = vec![isa_node(self.isa)];
        if self.blocks.iter().any(Option::is_some) {
            let size = |block: Option<u32>| block.and_then(u32::checked_ilog2).unwrap_or(0) as u8;
            let sizes = self.blocks.map(size);
            shared.push(node(1, &[&[0][..], &sizes].concat()));
        }
        shared.extend(self.mmu.map(|mmu| node(2, &[0, mmu])));
        let mut at = FIRST as u32;
        let mut offsets = Vec::new();
        for node in &shared {
            offsets.extend(at.to_le_bytes());
            at += node.len() as u32;
        }
        let links = (shared.len() as u16).to_le_bytes();
        let hart = |uid: u32| node(0xffff, &[&links[..], &uid.to_le_bytes(), &offsets].concat());
        let harts: Vec<u8> = (0..self.count).flat_map(hart).collect();
        let nodes = shared.len() as u32 + self.count;
        let head = [
            &[0; 4][..],
            &self.timebase.to_le_bytes(),
            &nodes.to_le_bytes(),
            &(FIRST as u32).to_le_bytes(),
        ];
        Table::new(b"RHCT", 1, &[head.concat(), shared.concat(), harts])
    }
}

/// The ISA string's node: its length counts the terminator, and the node ends on an even address.
fn isa_node(isa: &str) -> Vec<u8> {
    let len = isa.len() as u16 + 1;
    let padding = usize::from(len % 2);
    node(0, &[&len.to_le_bytes()[..], isa.as_bytes(), &[0; 2][..1 + padding]].concat())
}

fn node(kind: u16, body: &[u8]) -> Vec<u8> {
    const REVISION: u16 = 1;
    let len = 6 + body.len() as u16;
    [&kind.to_le_bytes()[..], &len.to_le_bytes(), &REVISION.to_le_bytes(), body].concat()
}
