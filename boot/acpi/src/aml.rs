//! Terms of the ACPI machine language (ACPI 6.6, "ACPI Machine Language (AML) Specification").
//!
//! A term is its encoding. Names are given as in ASL: `_HID`, `\_SB`, `\_SB.PCI0`.

/// An encoded term.
pub type Term = Vec<u8>;

const NAME: u8 = 0x08;
const BYTE: u8 = 0x0a;
const WORD: u8 = 0x0b;
const DWORD: u8 = 0x0c;
const STRING: u8 = 0x0d;
const QWORD: u8 = 0x0e;
const SCOPE: u8 = 0x10;
const BUFFER: u8 = 0x11;
const PACKAGE: u8 = 0x12;
const METHOD: u8 = 0x14;
const DUAL_NAME: u8 = 0x2e;
const EXTENDED: u8 = 0x5b;
const DEVICE: u8 = 0x82;
const LOCAL_0: u8 = 0x60;
const ARG_0: u8 = 0x68;
const STORE: u8 = 0x70;
const AND: u8 = 0x7b;
const OR: u8 = 0x7d;
const CREATE_DWORD_FIELD: u8 = 0x8a;
const NOT: u8 = 0x92;
const EQUAL: u8 = 0x93;
const IF: u8 = 0xa0;
const ELSE: u8 = 0xa1;
const RETURN: u8 = 0xa4;

/// A name, or a path of two names after an optional root.
pub fn path(text: &str) -> Term {
    let mut term = Vec::new();
    let rest = text.strip_prefix('\\').inspect(|_| term.push(b'\\')).unwrap_or(text);
    let segments: Vec<&str> = rest.split('.').collect();
    assert!(segments.len() <= 2, "a path has one or two names");
    if segments.len() == 2 {
        term.push(DUAL_NAME);
    }
    for segment in segments {
        assert!((1..=4).contains(&segment.len()), "a name has one to four letters");
        term.extend(segment.bytes().chain([b'_'; 4]).take(4));
    }
    term
}

/// A number, in its shortest form.
pub fn integer(value: u64) -> Term {
    let bytes = value.to_le_bytes();
    let (prefix, len) = match value {
        0 | 1 => return vec![bytes[0]],
        2..=0xff => (BYTE, 1),
        0x100..=0xffff => (WORD, 2),
        0x1_0000..=0xffff_ffff => (DWORD, 4),
        _ => (QWORD, 8),
    };
    [&[prefix][..], &bytes[..len]].concat()
}

/// A text of ASCII characters.
pub fn string(text: &str) -> Term {
    [&[STRING][..], text.as_bytes(), &[0]].concat()
}

/// Bytes.
pub fn buffer(bytes: &[u8]) -> Term {
    let size = integer(bytes.len() as u64);
    [vec![BUFFER], sized(&[&size, bytes].concat())].concat()
}

/// A UUID, in the order of bytes that `ToUUID` gives.
pub fn uuid(id: u128) -> Term {
    let mut bytes = id.to_be_bytes();
    bytes[..4].reverse();
    bytes[4..6].reverse();
    bytes[6..8].reverse();
    buffer(&bytes)
}

/// A list of at most 255 elements.
pub fn package(elements: &[Term]) -> Term {
    let count = u8::try_from(elements.len()).expect("a package of this form is short");
    let body = [vec![count], elements.concat()].concat();
    [vec![PACKAGE], sized(&body)].concat()
}

/// `Name (name, value)`.
pub fn name(name: &str, value: Term) -> Term {
    [vec![NAME], path(name), value].concat()
}

/// `Scope (name) { … }`.
pub fn scope(name: &str, terms: &[Term]) -> Term {
    [vec![SCOPE], sized(&[path(name), terms.concat()].concat())].concat()
}

/// `Device (name) { … }`.
pub fn device(name: &str, terms: &[Term]) -> Term {
    [vec![EXTENDED, DEVICE], sized(&[path(name), terms.concat()].concat())].concat()
}

/// `Method (name, arguments) { … }`.
pub fn method(name: &str, arguments: u8, terms: &[Term]) -> Term {
    let body = [path(name), vec![arguments & 7], terms.concat()].concat();
    [vec![METHOD], sized(&body)].concat()
}

/// Argument `number` of the method.
pub fn arg(number: u8) -> Term {
    vec![ARG_0 + number.min(6)]
}

/// Local variable `number` of the method.
pub fn local(number: u8) -> Term {
    vec![LOCAL_0 + number.min(7)]
}

/// `CreateDWordField (buffer, offset, name)`.
pub fn create_dword_field(buffer: Term, offset: u64, name: &str) -> Term {
    [vec![CREATE_DWORD_FIELD], buffer, integer(offset), path(name)].concat()
}

/// `Store (value, into)`.
pub fn store(value: Term, into: Term) -> Term {
    [vec![STORE], value, into].concat()
}

/// `And (a, b, into)`.
pub fn and(a: Term, b: Term, into: Term) -> Term {
    [vec![AND], a, b, into].concat()
}

/// `Or (a, b, into)`.
pub fn or(a: Term, b: Term, into: Term) -> Term {
    [vec![OR], a, b, into].concat()
}

/// `LEqual (a, b)`.
pub fn equal(a: Term, b: Term) -> Term {
    [vec![EQUAL], a, b].concat()
}

/// `LNot (a)`.
pub fn not(a: Term) -> Term {
    [vec![NOT], a].concat()
}

/// `If (condition) { … }`.
pub fn if_then(condition: Term, terms: &[Term]) -> Term {
    [vec![IF], sized(&[condition, terms.concat()].concat())].concat()
}

/// `Else { … }`, after [`if_then`].
pub fn or_else(terms: &[Term]) -> Term {
    [vec![ELSE], sized(&terms.concat())].concat()
}

/// `Return (value)`.
pub fn give(value: Term) -> Term {
    [vec![RETURN], value].concat()
}

/// The body with its length in front, which counts itself.
fn sized(body: &[u8]) -> Vec<u8> {
    let len = body.len();
    // One byte holds 6 bits; of two to four, the first holds 4 bits and how many follow.
    let extra = (0..4u32).find(|extra| match extra {
        0 => len + 1 < 1 << 6,
        n => len + 1 + (*n as usize) < 1 << (4 + 8 * n),
    });
    let extra = extra.expect("a term is shorter than 256 MiB");
    let total = len + 1 + extra as usize;
    let mut out = match extra {
        0 => vec![total as u8],
        n => vec![(n << 6) as u8 | (total & 0xf) as u8],
    };
    out.extend((0..extra).map(|n| (total >> (4 + 8 * n)) as u8));
    out.extend(body);
    out
}
