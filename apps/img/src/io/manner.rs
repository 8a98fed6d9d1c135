//! How an image is opened: what the command line and the command `open` have in common.

use crate::{Failure, image};
use formats::DISCARD;
use graph::Aio;
use protocols::CacheMode;

/// How an image is opened.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Manner {
    pub read_only: bool,
    pub cache: CacheMode,
    pub aio: Aio,
    pub ignore_discards: bool,
    /// Others may be writing to it.
    pub share: bool,
    /// What is written goes to a temporary overlay.
    pub snapshot: bool,
    /// What is read from backing files is kept.
    pub copy_on_read: bool,
}

impl Manner {
    /// Takes over an option by its letter; others are left alone.
    ///
    /// # Errors
    /// There is no mode of that name.
    pub fn set(&mut self, letter: char, value: &str) -> Result<(), Failure> {
        match letter {
            'r' => self.read_only = true,
            's' => self.snapshot = true,
            'C' => self.copy_on_read = true,
            'U' => self.share = true,
            'n' => (self.cache.direct, self.cache.writeback) = (true, true),
            't' => self.cache = image::cache_mode("cache option", Some(value))?,
            'k' => self.aio = Aio::Native,
            'i' => self.aio = named("aio", Aio::TABLE, value)?,
            'd' => self.ignore_discards = !named("discard", DISCARD, value)?,
            _ => {}
        }
        Ok(())
    }
}

fn named<T: Copy>(what: &str, table: &[(&str, T)], name: &str) -> Result<T, Failure> {
    let found = table.iter().find(|(known, _)| *known == name);
    found.map(|(_, on)| *on).ok_or_else(|| Failure::new(format!("Invalid {what} option: {name}")))
}
