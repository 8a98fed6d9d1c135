//! How to unwind: call frame information (DWARF 5, section “Call Frame Information”; Linux Standard Base, chapter
//! “Exception Frames”).

/// Operations of tables and of expressions.
mod op {
    pub(super) const ADVANCE: u8 = 0x40;
    pub(super) const OFFSET: u8 = 0x80;
    pub(super) const DEF_CFA: u8 = 0x0c;
    pub(super) const DEF_CFA_OFFSET: u8 = 0x0e;
    pub(super) const DEF_CFA_EXPRESSION: u8 = 0x0f;
    pub(super) const EXPRESSION: u8 = 0x10;
    pub(super) const BREG: u8 = 0x70;
    pub(super) const DEREF: u8 = 0x06;
}

/// How to leave a function.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// It is the return from a signal handler.
    pub signal: bool,
    /// Number of the column of the return address.
    pub column: u8,
    /// What a unit of offsets of saved registers is, negative.
    pub unit: i8,
    /// The rules, encoded.
    pub program: Vec<u8>,
}

fn unsigned(out: &mut Vec<u8>, mut value: u64) {
    while value > 0x7f {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn signed(out: &mut Vec<u8>, mut value: i64) {
    while !(-0x40..0x40).contains(&value) {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8 & 0x7f);
}

impl Rules {
    /// `base` is the register that addresses begin at: the CFA is `offset` behind it.
    pub fn def_cfa(mut self, base: u8, offset: u64) -> Self {
        self.program.extend([op::DEF_CFA, base]);
        unsigned(&mut self.program, offset);
        self
    }

    /// The CFA is this far behind its register from now on.
    pub fn def_cfa_offset(mut self, offset: u64) -> Self {
        self.program.push(op::DEF_CFA_OFFSET);
        unsigned(&mut self.program, offset);
        self
    }

    /// A register is saved so many units from the CFA.
    pub fn saved(mut self, register: u8, units: u64) -> Self {
        self.program.push(op::OFFSET | register);
        unsigned(&mut self.program, units);
        self
    }

    /// What follows holds that many bytes of code later.
    pub fn advance(mut self, bytes: u8) -> Self {
        self.program.push(op::ADVANCE | bytes);
        self
    }
}

/// Registers that lie in the frame of a signal handler.
#[derive(Clone, Debug)]
pub struct SignalFrame<'a> {
    /// The stack pointer's number.
    pub stack: u8,
    /// Numbers of registers, and where each lies from the stack pointer on, which is among them.
    pub registers: &'a [(u8, i64)],
}

impl Rules {
    /// All registers are as the frame has them; the CFA is the stack pointer's value there.
    pub fn signal_frame(mut self, frame: &SignalFrame<'_>) -> Self {
        let out = &mut self.program;
        let place = |at: i64| {
            let mut expression = vec![op::BREG + frame.stack];
            signed(&mut expression, at);
            expression
        };
        for &(register, at) in frame.registers {
            let mut expression = place(at);
            if register == frame.stack {
                expression.push(op::DEREF);
                out.push(op::DEF_CFA_EXPRESSION);
            } else {
                out.push(op::EXPRESSION);
                unsigned(out, register.into());
            }
            unsigned(out, expression.len() as u64);
            out.extend(expression);
        }
        self
    }
}

/// Addresses that are relative to where they stand, in four bytes with a sign.
const RELATIVE: u8 = 0x1b;
/// Numbers of four bytes; addresses relative to the beginning of the table.
const NUMBER: u8 = 0x03;
const TO_TABLE: u8 = 0x3b;

/// A function and its rules: its first address, its bytes.
pub struct Covered<'a> {
    pub start: u64,
    pub len: u64,
    pub rules: &'a Rules,
}

/// A record, whose length is a multiple of a word, with that length in front.
fn record(mut body: Vec<u8>, word: usize) -> Vec<u8> {
    let len = (body.len() + 4).next_multiple_of(word) - 4;
    body.resize(len, 0);
    [&(len as u32).to_le_bytes()[..], &body].concat()
}

/// `.eh_frame` that lies at an address, and where each function's record begins in it.
pub fn frames(functions: &[Covered<'_>], at: u64, word: usize) -> (Vec<u8>, Vec<u64>) {
    let (mut out, mut places) = (Vec::new(), Vec::new());
    for function in functions {
        let rules = function.rules;
        let common = out.len();
        let mut body = vec![0; 4];
        body.push(1);
        body.extend_from_slice(if rules.signal { b"zRS\0" } else { b"zR\0" });
        body.push(1);
        signed(&mut body, rules.unit.into());
        body.extend([rules.column, 1, RELATIVE]);
        out.extend(record(body, word));
        let begin = out.len();
        places.push(begin as u64);
        // From this word back to the common record, and from the next one to the function.
        let mut body = ((begin + 4 - common) as u32).to_le_bytes().to_vec();
        let from = at + begin as u64 + 8;
        body.extend_from_slice(&(function.start.wrapping_sub(from) as u32).to_le_bytes());
        body.extend_from_slice(&(function.len as u32).to_le_bytes());
        body.push(0);
        body.extend_from_slice(&rules.program);
        out.extend(record(body, word));
    }
    out.extend([0; 4]);
    (out, places)
}

/// Bytes of `.eh_frame_hdr` for so many functions.
pub fn index_len(count: usize) -> usize {
    12 + 8 * count
}

/// `.eh_frame_hdr` that lies at an address, of functions in the order of their addresses.
pub fn index(functions: &[Covered<'_>], places: &[u64], at: u64, frames: u64) -> Vec<u8> {
    let mut out = vec![1, RELATIVE, NUMBER, TO_TABLE];
    let mut put = |value: u64| out.extend_from_slice(&(value as u32).to_le_bytes());
    put(frames.wrapping_sub(at + 4));
    put(functions.len() as u64);
    for (function, place) in functions.iter().zip(places) {
        put(function.start.wrapping_sub(at));
        put((frames + place).wrapping_sub(at));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_as_many_bytes_as_they_need() {
        // The examples of the standard.
        let number = |value| {
            let mut out = Vec::new();
            signed(&mut out, value);
            out
        };
        let table: [(i64, &[u8]); 6] = [
            (2, &[2]),
            (-2, &[0x7e]),
            (127, &[0xff, 0]),
            (-127, &[0x81, 0x7f]),
            (128, &[0x80, 1]),
            (-129, &[0xff, 0x7e]),
        ];
        for (value, bytes) in table {
            assert_eq!(number(value), bytes);
        }
        let mut out = Vec::new();
        unsigned(&mut out, 12857);
        assert_eq!(out, [0xb9, 0x64]);
    }
}
