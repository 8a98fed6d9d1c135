//! What the generated code holds for every ISA; pasted into it by the compiler, not a module of its own.

/// A set of extensions.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct ExtSet(pub u128);

impl ExtSet {
    /// No extension.
    pub const EMPTY: Self = Self(0);

    /// The set of these.
    pub const fn of(list: &[Ext]) -> Self {
        let mut set = Self(0);
        let mut i = 0;
        while i < list.len() {
            set = set.with(list[i]);
            i += 1;
        }
        set
    }

    /// Every extension of the specification (also those that exclude each other).
    pub const fn all() -> Self {
        Self::of(Ext::ALL)
    }

    /// The set and one more.
    #[must_use]
    pub const fn with(self, ext: Ext) -> Self {
        Self(self.0 | 1 << ext as u32)
    }

    /// The set without one.
    #[must_use]
    pub const fn without(self, ext: Ext) -> Self {
        Self(self.0 & !(1 << ext as u32))
    }

    /// Tells whether `ext` is in the set.
    pub const fn has(self, ext: Ext) -> bool {
        self.0 >> ext as u32 & 1 != 0
    }

    /// The extensions in the set, in the order of declaration.
    pub fn iter(self) -> impl Iterator<Item = Ext> {
        Ext::ALL.iter().copied().filter(move |e| self.has(*e))
    }

    /// The set with everything that its extensions imply.
    #[must_use]
    pub fn closed(mut self) -> Self {
        loop {
            let brought = IMPLIES.iter().filter(|(from, _)| self.0 & from == *from);
            let next = brought.fold(self.0, |set, (_, to)| set | to);
            if next == self.0 {
                return self;
            }
            self.0 = next;
        }
    }
}

impl core::fmt::Debug for ExtSet {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_set().entries(self.iter().map(Ext::name)).finish()
    }
}

/// One encoding, for generators of instructions and for tests.
#[derive(Clone, Copy, Debug)]
pub struct InsnInfo {
    /// Mnemonic; `{…}` stands for a part that depends on an operand.
    pub name: &'static str,
    /// Length in bytes.
    pub len: u8,
    /// Fixed bits.
    pub mask: u32,
    /// Their values.
    pub value: u32,
    /// Words (mask, value) that are not this instruction although the fixed bits fit.
    pub holes: &'static [(u32, u32)],
    /// Extensions needed, all of these …
    pub all: ExtSet,
    /// … and one of each of these sets.
    pub any: &'static [ExtSet],
    /// Index of the line whose method the dispatcher calls; differs for short forms.
    pub means: u16,
    /// Known to the disassembler only: the dispatcher calls it illegal.
    pub pending: bool,
    /// Trait (file) that it belongs to.
    pub group: &'static str,
}

impl InsnInfo {
    /// Tells whether `insn` has this encoding.
    pub fn matches(&self, insn: u32) -> bool {
        insn & self.mask == self.value && !self.holes.iter().any(|(m, v)| insn & m == *v)
    }

    /// Tells whether the extensions in `ext` include it.
    pub fn available(&self, ext: ExtSet) -> bool {
        ext.0 & self.all.0 == self.all.0 && self.any.iter().all(|any| ext.0 & any.0 != 0)
    }
}

/// What a function that prints an operand may look at.
#[derive(Clone, Copy, Debug)]
pub struct At {
    /// Address of the instruction.
    pub pc: u64,
    /// The instruction.
    pub insn: u32,
    /// Active extensions.
    pub ext: ExtSet,
}

type ShowFn = fn(&mut dyn core::fmt::Write, i64, &At) -> core::fmt::Result;

enum Value {
    Get(fn(u32) -> i64),
    Is(i64),
}

impl Value {
    fn of(&self, insn: u32) -> i64 {
        match self {
            Self::Get(get) => get(insn),
            Self::Is(n) => *n,
        }
    }
}

enum Piece {
    Text(&'static str),
    Named(Value, &'static [&'static str]),
    Call(Value, ShowFn),
}

struct Text {
    when: fn(u32) -> bool,
    mnemonic: &'static [Piece],
    operands: &'static [Piece],
}

fn show_dec(out: &mut dyn core::fmt::Write, value: i64, _: &At) -> core::fmt::Result {
    write!(out, "{value}")
}

fn show_hex(out: &mut dyn core::fmt::Write, value: i64, _: &At) -> core::fmt::Result {
    write!(out, "{value:#x}")
}

fn show(out: &mut dyn core::fmt::Write, pieces: &[Piece], at: &At) -> core::fmt::Result {
    pieces.iter().try_for_each(|piece| match piece {
        Piece::Text(text) => out.write_str(text),
        Piece::Call(value, function) => function(out, value.of(at.insn), at),
        Piece::Named(value, names) => {
            let value = value.of(at.insn);
            match usize::try_from(value).ok().and_then(|i| names.get(i)) {
                Some(name) => out.write_str(name),
                None => write!(out, "?{value}"),
            }
        }
    })
}

fn render(text: &Text, at: &At) -> String {
    let mut out = String::new();
    // Writing to a string succeeds.
    let _ = show(&mut out, text.mnemonic, at);
    if !text.operands.is_empty() {
        out.push(' ');
        while out.len() < 8 {
            out.push(' ');
        }
        let _ = show(&mut out, text.operands, at);
    }
    out
}

/// The text of an instruction at `pc`, with the usual aliases; `None` if it is illegal.
pub fn disassemble(insn: u32, pc: u64, ext: ExtSet) -> Option<String> {
    let line = usize::from(lookup(insn, ext)?);
    let (own, others) = TEXTS[line];
    let text = others.iter().find(|t| (t.when)(insn)).unwrap_or(own);
    Some(render(text, &At { pc, insn, ext }))
}

/// The text of an instruction as encoded, without aliases; `None` if it is illegal.
pub fn disassemble_plain(insn: u32, pc: u64, ext: ExtSet) -> Option<String> {
    let line = usize::from(lookup(insn, ext)?);
    Some(render(TEXTS[line].0, &At { pc, insn, ext }))
}
