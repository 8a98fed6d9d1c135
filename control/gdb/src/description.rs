//! What registers a target has, as debuggers want to read it.
//!
//! Source: "Debugging with GDB", appendix "Target Descriptions".

use std::fmt::Write;

/// What the bits of a register are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An integer.
    Int,
    /// A pointer to data.
    DataPointer,
    /// A pointer to code.
    CodePointer,
    /// Binary32.
    Single,
    /// Binary64.
    Double,
    /// The x87's 80 bits.
    X87,
    /// A type that the feature declares.
    Own(&'static str),
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Int => "int",
            Self::DataPointer => "data_ptr",
            Self::CodePointer => "code_ptr",
            Self::Single => "ieee_single",
            Self::Double => "ieee_double",
            Self::X87 => "i387_ext",
            Self::Own(name) => name,
        }
    }
}

/// A register.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Register {
    /// Its name in the debugger.
    pub name: String,
    /// Its width.
    pub bits: u32,
    /// What it holds.
    pub kind: Kind,
}

/// Registers that belong together, by a name that debuggers know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feature {
    /// Name of its document.
    pub file: String,
    /// Name that says what must be in it.
    pub name: String,
    /// Declarations of types, as they stand in the document.
    pub types: String,
    /// The registers, in the order of their numbers.
    pub registers: Vec<Register>,
    /// Whether they are among what `g` reads: those of the first features are.
    pub general: bool,
}

/// All registers of a target. They are numbered through all features, from 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// What debuggers call the architecture.
    pub architecture: String,
    /// Its features.
    pub features: Vec<Feature>,
}

impl Description {
    /// Every register, by number.
    pub fn registers(&self) -> impl Iterator<Item = &Register> {
        self.features.iter().flat_map(|feature| &feature.registers)
    }

    /// How many of them are read together.
    pub fn general(&self) -> usize {
        let general = self.features.iter().take_while(|feature| feature.general);
        general.map(|feature| feature.registers.len()).sum()
    }

    /// A document of it: `target.xml`, or one that it includes.
    pub fn document(&self, name: &str) -> Option<String> {
        if name == "target.xml" {
            return Some(self.index());
        }
        let mut first = 0;
        for feature in &self.features {
            if feature.file == name {
                return Some(feature.document(first));
            }
            first += feature.registers.len();
        }
        None
    }

    fn index(&self) -> String {
        let mut text = format!(
            "<?xml version=\"1.0\"?><!DOCTYPE target SYSTEM \"gdb-target.dtd\"><target><architecture>{}</architecture>",
            self.architecture
        );
        for feature in &self.features {
            // A string takes everything.
            let _ = write!(text, "<xi:include href=\"{}\"/>", feature.file);
        }
        text + "</target>"
    }
}

impl Feature {
    fn document(&self, first: usize) -> String {
        let mut text = format!(
            "<?xml version=\"1.0\"?><!DOCTYPE feature SYSTEM \"gdb-target.dtd\"><feature name=\"{}\">{}",
            self.name, self.types
        );
        for (row, register) in self.registers.iter().enumerate() {
            let Register { name, bits, kind } = register;
            let (number, kind) = (first + row, kind.name());
            // A string takes everything.
            let _ = write!(
                text,
                "<reg name=\"{name}\" bitsize=\"{bits}\" type=\"{kind}\" regnum=\"{number}\"/>"
            );
        }
        text + "</feature>"
    }
}
