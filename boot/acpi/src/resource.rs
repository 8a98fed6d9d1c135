//! Resources of a device (ACPI 6.6, "Resource Data Types for ACPI").

use crate::aml::{self, Term};

const END_TAG: [u8; 2] = [0x79, 0];
const MEMORY_32_FIXED: u8 = 0x86;
const DWORD_SPACE: u8 = 0x87;
const WORD_SPACE: u8 = 0x88;
const EXTENDED_INTERRUPT: u8 = 0x89;
const QWORD_SPACE: u8 = 0x8a;

/// Who takes part in an address space: a bridge hands its range on.
const PRODUCER: u8 = 0;
const CONSUMER: u8 = 1;
/// Both ends of a range are fixed.
const FIXED: u8 = 0x0c;
const MEMORY: u8 = 0;
const IO: u8 = 1;
const BUS_NUMBER: u8 = 2;
/// Type-specific flags: memory that can be written; the whole range of ports.
const READ_WRITE: u8 = 1;
const ENTIRE_RANGE: u8 = 3;

/// `ResourceTemplate () { … }`.
pub fn template(resources: &[Vec<u8>]) -> Term {
    aml::buffer(&[resources.concat(), END_TAG.to_vec()].concat())
}

/// Memory below 4 GiB that a device answers at.
pub fn memory(base: u32, len: u32) -> Vec<u8> {
    let body = [&[READ_WRITE][..], &base.to_le_bytes(), &len.to_le_bytes()].concat();
    large(MEMORY_32_FIXED, &body)
}

/// A level-triggered interrupt, active high.
pub fn interrupt(number: u32) -> Vec<u8> {
    large(EXTENDED_INTERRUPT, &[&[CONSUMER, 1][..], &number.to_le_bytes()].concat())
}

/// Bus numbers of a bridge.
pub fn buses(first: u16, last: u16) -> Vec<u8> {
    let count = last - first + 1;
    let fields = [0, first, last, 0, count].map(u16::to_le_bytes);
    space(WORD_SPACE, BUS_NUMBER, 0, &fields.concat())
}

/// Memory below 4 GiB behind a bridge.
pub fn window_32(base: u32, len: u32) -> Vec<u8> {
    let fields = [0, base, base + (len - 1), 0, len].map(u32::to_le_bytes);
    space(DWORD_SPACE, MEMORY, READ_WRITE, &fields.concat())
}

/// Memory behind a bridge.
pub fn window_64(base: u64, len: u64) -> Vec<u8> {
    let fields = [0, base, base + (len - 1), 0, len].map(u64::to_le_bytes);
    space(QWORD_SPACE, MEMORY, READ_WRITE, &fields.concat())
}

/// Ports behind a bridge, from 0 on, which memory at `at` stands for.
pub fn ports(at: u32, len: u32) -> Vec<u8> {
    let fields = [0, 0, len - 1, at, len].map(u32::to_le_bytes);
    space(DWORD_SPACE, IO, ENTIRE_RANGE, &fields.concat())
}

fn space(tag: u8, kind: u8, specific: u8, fields: &[u8]) -> Vec<u8> {
    large(tag, &[&[kind, PRODUCER | FIXED, specific][..], fields].concat())
}

fn large(tag: u8, body: &[u8]) -> Vec<u8> {
    let len = body.len() as u16;
    [&[tag][..], &len.to_le_bytes(), body].concat()
}
