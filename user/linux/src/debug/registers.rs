//! Tables of registers as debuggers know them: what each is called, and where it is.

use gdb::{Description, Feature, Kind, Register};

/// A feature of a description, and where its registers are.
pub struct Group<P> {
    /// What debuggers are told.
    pub feature: Feature,
    /// The places, in the same order.
    pub places: Vec<P>,
}

impl<P> Group<P> {
    /// A group of this name; the first one's registers are those that are read together.
    pub fn new(name: &str, types: String, rows: Vec<(Register, P)>) -> Self {
        let file = format!("{}.xml", name.rsplit_once('.').map_or(name, |(_, last)| last));
        let (registers, places) = rows.into_iter().unzip();
        let general = file == "cpu.xml" || file == "core.xml";
        Self { feature: Feature { file, name: name.to_owned(), types, registers, general }, places }
    }
}

/// A row of a table.
pub fn register<P>(name: impl Into<String>, bits: u32, kind: Kind, place: P) -> (Register, P) {
    (Register { name: name.into(), bits, kind }, place)
}

/// The whole of it.
pub fn describe<P>(architecture: &str, groups: Vec<Group<P>>) -> Description {
    let features = groups.into_iter().map(|group| group.feature).collect();
    Description { architecture: architecture.to_owned(), features }
}
