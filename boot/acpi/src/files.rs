//! The tables as files in fw_cfg, and what the firmware is to do with them.
//!
//! `etc/table-loader` holds commands of 128 bytes: give a file memory, add a file's address to a
//! pointer, write a checksum. Firmware for QEMU machines executes them in order (EDK2,
//! `QemuFwCfgAcpi`; SeaBIOS, U-Boot).

use crate::table::{FADT_X_DSDT, HEADER_LEN, Table};

/// Name of the file with the tables.
const TABLES: &str = "etc/acpi/tables";
/// Name of the file with the root pointer.
const RSDP: &str = "etc/acpi/rsdp";

const COMMAND_LEN: usize = 128;
const NAME_LEN: usize = 56;
/// Where a file goes: anywhere below 4 GiB, or where programs for PCs look for the root pointer.
const ZONE_HIGH: u8 = 1;
const ZONE_FSEG: u8 = 2;

const CHECKSUM_AT: usize = 9;

/// Who says that they made the tables. Guests know machines by it.
const OEM: &[u8; 6] = b"BOCHS ";
const OEM_TABLE: &[u8; 8] = b"BXPC    ";
const CREATOR: &[u8; 4] = b"BXPC";

/// What goes into fw_cfg for a DSDT, the FADT that leads to it, and other tables: names and contents
/// of `etc/acpi/rsdp`, `etc/acpi/tables` and `etc/table-loader`.
pub fn files(dsdt: &Table, fadt: &Table, others: &[Table]) -> Vec<(String, Vec<u8>)> {
    let mut files = Files::default();
    files.command(1, &[&name(RSDP)[..], &16u32.to_le_bytes(), &[ZONE_FSEG]]);
    files.command(1, &[&name(TABLES)[..], &64u32.to_le_bytes(), &[ZONE_HIGH]]);
    let dsdt = files.add(dsdt, &[]);
    let fadt = files.add(fadt, &[(FADT_X_DSDT, dsdt)]);
    let mut entries = vec![fadt];
    entries.extend(others.iter().map(|table| files.add(table, &[])));
    let body = vec![0; 8 * entries.len()];
    let xsdt = Table { signature: *b"XSDT", revision: 1, body };
    let pointers: Vec<_> =
        entries.iter().enumerate().map(|(n, at)| (HEADER_LEN + 8 * n, *at)).collect();
    let xsdt = files.add(&xsdt, &pointers);
    let rsdp = files.root(xsdt);
    vec![
        (RSDP.into(), rsdp),
        (TABLES.into(), files.tables),
        ("etc/table-loader".into(), files.commands),
    ]
}

/// Tables and commands so far.
#[derive(Clone, Debug, Default)]
struct Files {
    tables: Vec<u8>,
    commands: Vec<u8>,
}

impl Files {
    /// Puts a table behind the others, and pointers into it: where in the table, and to where among
    /// the tables. The result is where the table is.
    fn add(&mut self, table: &Table, pointers: &[(usize, usize)]) -> usize {
        let at = self.tables.len();
        let len = HEADER_LEN + table.body.len();
        self.tables.extend(table.signature);
        self.tables.extend((len as u32).to_le_bytes());
        self.tables.extend([table.revision, 0]);
        self.tables.extend(OEM);
        self.tables.extend(OEM_TABLE);
        self.tables.extend(1u32.to_le_bytes());
        self.tables.extend(CREATOR);
        self.tables.extend(1u32.to_le_bytes());
        self.tables.extend(&table.body);
        for (place, target) in pointers {
            let place = at + place;
            self.tables[place..place + 8].copy_from_slice(&(*target as u64).to_le_bytes());
            self.pointer(TABLES, place);
        }
        self.checksum(TABLES, at + CHECKSUM_AT, at, len);
        at
    }

    /// The root pointer to the XSDT.
    fn root(&mut self, xsdt: usize) -> Vec<u8> {
        const LEN: usize = 36;
        /// What machines before version 2 read.
        const FIRST_PART: usize = 20;
        let mut rsdp = [&b"RSD PTR "[..], &[0], OEM, &[2], &[0; 4]].concat();
        rsdp.extend((LEN as u32).to_le_bytes());
        rsdp.extend((xsdt as u64).to_le_bytes());
        rsdp.resize(LEN, 0);
        self.checksum(RSDP, 8, 0, FIRST_PART);
        self.pointer(RSDP, 24);
        self.checksum(RSDP, 32, 0, LEN);
        rsdp
    }

    /// Adds the address of the tables to the eight bytes at `place` of `file`.
    fn pointer(&mut self, file: &str, place: usize) {
        self.command(2, &[&name(file), &name(TABLES), &(place as u32).to_le_bytes(), &[8]]);
    }

    fn checksum(&mut self, file: &str, place: usize, start: usize, len: usize) {
        let numbers = [place, start, len].map(|n| (n as u32).to_le_bytes()).concat();
        self.command(3, &[&name(file), &numbers]);
    }

    fn command(&mut self, kind: u32, parts: &[&[u8]]) {
        let end = self.commands.len() + COMMAND_LEN;
        self.commands.extend(kind.to_le_bytes());
        self.commands.extend(parts.concat());
        self.commands.resize(end, 0);
    }
}

fn name(text: &str) -> [u8; NAME_LEN] {
    let mut name = [0; NAME_LEN];
    name[..text.len()].copy_from_slice(text.as_bytes());
    name
}
