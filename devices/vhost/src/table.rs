//! The front end's memory ("Memory region description").

use crate::session::Violation;
use crate::wire::Fields;
use memory::{AddressSpace, Backing, Gpa, Ram, Region};
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// Regions at a time.
pub(crate) const SLOTS: usize = 256;
/// Bytes of a region's description.
const REGION: usize = 32;

/// Where a region is for the guest, for the front end, and in its file.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Place {
    guest: u64,
    len: u64,
    user: u64,
    offset: u64,
}

struct Slot {
    place: Place,
    ram: Arc<Ram>,
}

/// All regions.
#[derive(Default)]
pub(crate) struct Table(Vec<Slot>);

fn place(fields: &mut Fields<'_>) -> Result<Place, Violation> {
    let [guest, len, user, offset] = [fields.u64(), fields.u64(), fields.u64(), fields.u64()];
    let fits = |start: u64| start.checked_add(len).is_some();
    if len == 0 || !fits(guest) || !fits(user) || !fits(offset) {
        return Err(Violation::new("a region of memory wraps around"));
    }
    Ok(Place { guest, len, user, offset })
}

fn slot(fields: &mut Fields<'_>, fd: &OwnedFd) -> Result<Slot, Violation> {
    let place = place(fields)?;
    let ram = Ram::shared("front end", fd, place.offset + place.len)
        .map_err(|error| Violation(format!("a region of memory cannot be mapped: {error}")))?;
    Ok(Slot { place, ram })
}

impl Table {
    /// The regions of a whole table.
    pub fn parse(fields: &mut Fields<'_>, count: u32, fds: &[OwnedFd]) -> Result<Self, Violation> {
        if fields.0.len() < count as usize * REGION || fds.len() != count as usize {
            return Err(Violation::new("a table of memory is not complete"));
        }
        fds.iter().map(|fd| slot(fields, fd)).collect::<Result<_, _>>().map(Self)
    }

    /// Adds a region.
    pub fn add(&mut self, fields: &mut Fields<'_>, fd: &OwnedFd) -> Result<(), Violation> {
        if self.0.len() >= SLOTS {
            return Err(Violation::new("there are too many regions of memory"));
        }
        self.0.push(slot(fields, fd)?);
        Ok(())
    }

    /// Removes a region.
    pub fn remove(&mut self, fields: &mut Fields<'_>) -> Result<(), Violation> {
        let gone = place(fields)?;
        let same = |slot: &Slot| {
            let Place { guest, len, user, .. } = slot.place;
            (guest, len, user) == (gone.guest, gone.len, gone.user)
        };
        let at = self.0.iter().position(same);
        let at = at.ok_or_else(|| Violation::new("a region of memory is not there"))?;
        self.0.remove(at);
        Ok(())
    }

    /// Shows the regions, and nothing else, at the guest's addresses.
    pub fn show(&self, space: &AddressSpace) {
        space.clear();
        for Slot { place, ram } in &self.0 {
            let backing = Backing::Ram { ram: Arc::clone(ram), offset: place.offset };
            let (name, base) = (ram.name().to_owned(), Gpa(place.guest));
            space.map(Region { name, base, len: place.len, priority: 0, backing });
        }
    }

    /// The guest's address of what the front end has at `user`.
    pub fn guest_address(&self, user: u64) -> Result<u64, Violation> {
        let holds = |p: &Place| user.checked_sub(p.user).filter(|at| *at < p.len);
        let found = self.0.iter().find_map(|s| holds(&s.place).map(|at| s.place.guest + at));
        found.ok_or_else(|| Violation::new("a ring lies outside memory"))
    }

    /// Whether some of the memory has been taken away.
    pub fn is_torn(&self) -> bool {
        self.0.iter().any(|slot| slot.ram.is_torn())
    }
}
