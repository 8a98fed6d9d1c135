//! Which value is in which host register.

use super::spans::Span;
use super::{FLOAT_POOL, PINS, POOL};
use crate::CompileError;
use crate::layout::{CLEAN, DEFERRED, Deferred, SPILLS, VECTOR_SPILLS};
use ir::{RegClass, RegInfo};

/// Class of a value: which of the two register files it lives in, and how wide it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Int,
    /// The lowest word of a vector register.
    Float,
    /// All of a vector register.
    Vector,
}

impl Class {
    fn file(self) -> usize {
        usize::from(self != Self::Int)
    }
}

/// What a slow path must keep beside the general registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kept {
    Nothing,
    Floats,
    Vectors,
}

/// Who a host register belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    Free,
    /// Needed by the present operation only.
    Scratch,
    Temp(u32),
    Guest(u8),
    /// What to add to guest addresses, by its place among the addends.
    Addend(u8),
    /// A copy of a vector in the state, for the whole unit.
    Place,
}

/// What to add to the guest addresses in a span from a base register, kept in a host register.
#[derive(Clone, Copy, Debug)]
pub(super) struct Addend {
    /// The guest register.
    pub(super) base: u8,
    pub(super) span: Span,
    /// Whether stores may use it, too.
    pub(super) write: bool,
    pub(super) host: u8,
}

/// Addends at a time.
const ADDENDS: usize = 3;

#[derive(Clone, Copy, Debug)]
struct HostReg {
    owner: Owner,
    /// Holds a guest register's value that is newer than memory.
    dirty: bool,
    stamp: u32,
}

impl Default for HostReg {
    fn default() -> Self {
        FREE
    }
}

const FREE: HostReg = HostReg { owner: Owner::Free, dirty: false, stamp: 0 };

/// Where a guest register is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GuestPlace {
    Memory,
    Host(u8),
    /// Nowhere yet: it is what this says.
    Deferred(Deferred),
}

/// Where a temporary is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TempPlace {
    Dead,
    Host(Class, u8),
    Spill(Class, u8),
}

/// What the generator must emit to make room.
#[derive(Clone, Copy, Debug)]
pub(super) enum Evict {
    Nothing,
    WriteBack { guest: u8, host: u8 },
    Spill { class: Class, slot: u8, host: u8 },
}

/// Guest registers to store, by host register: those that are newer than memory.
#[derive(Clone, Copy)]
pub(super) struct WriteBack {
    gpr: [u8; 16],
    xmm: [u8; 16],
    pub(super) deferred: [Deferred; DEFERRED],
}

impl WriteBack {
    /// (guest register, host register, class) of each.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u8, u8, Class)> + '_ {
        let of = |map: &'_ [u8; 16], class| {
            let map = *map;
            (0..16u8)
                .filter(move |host| map[usize::from(*host)] != CLEAN)
                .map(move |host| (map[usize::from(host)], host, class))
        };
        of(&self.gpr, Class::Int).chain(of(&self.xmm, Class::Float))
    }
}

/// The two register files and who is in them.
#[derive(Default)]
pub(super) struct Allocator {
    files: [[HostReg; 16]; 2],
    /// Operands of the present operation, which must stay: one bit for each host register.
    locked: [u16; 2],
    /// Registers that belong to their guest registers for the whole unit.
    held: [u16; 2],
    guests: Vec<GuestPlace>,
    /// Where guest registers are when a unit begins.
    pinned: Vec<GuestPlace>,
    /// The guest register of each pin, by host register.
    pin_map: PinMap,
    classes: Vec<Class>,
    temps: Vec<TempPlace>,
    /// Slots in use: of single words, and of vectors.
    spills: [u64; 2],
    /// Temporaries that are vectors and alive.
    vectors: u32,
    /// Registers that hold copies of vectors in the state.
    places: u32,
    clock: u32,
    addends: [Option<Addend>; ADDENDS],
    deferred: [Deferred; DEFERRED],
}

/// Guest registers by host register; [`CLEAN`] for none.
struct PinMap([u8; 16]);

impl Default for PinMap {
    fn default() -> Self {
        Self([CLEAN; 16])
    }
}

const NO_TEMP: TempPlace = TempPlace::Dead;

impl Allocator {
    /// Begins a unit: pins in their places, all else in memory.
    pub(super) fn begin(&mut self, regs: &[RegInfo], temps: u32) {
        if self.classes.len() != regs.len() {
            let class =
                |i: &RegInfo| if i.class == RegClass::Int { Class::Int } else { Class::Float };
            self.classes = regs.iter().map(class).collect();
            self.pinned = vec![GuestPlace::Memory; regs.len()];
            for (row, info) in regs.iter().enumerate() {
                if let Some(pin) = pin_of(info) {
                    self.pinned[row] = GuestPlace::Host(pin);
                    self.pin_map.0[usize::from(pin)] = row as u8;
                }
            }
        }
        self.files = [[FREE; 16]; 2];
        (self.locked, self.held) = ([0; 2], [0; 2]);
        self.guests.clone_from(&self.pinned);
        self.temps.clear();
        self.temps.resize(temps as usize, NO_TEMP);
        self.spills = [0; 2];
        (self.vectors, self.places) = (0, 0);
        self.clock = 0;
        self.addends = [None; ADDENDS];
        self.deferred = [Deferred::NONE; DEFERRED];
    }

    fn pool(class: Class) -> &'static [u8] {
        match class {
            Class::Int => &POOL,
            Class::Float | Class::Vector => &FLOAT_POOL,
        }
    }

    fn reg(&mut self, class: Class, host: u8) -> &mut HostReg {
        &mut self.files[class.file()][usize::from(host)]
    }

    /// Whether the host register is shared (not a pin).
    fn shared(class: Class, host: u8) -> bool {
        Self::pool(class).contains(&host)
    }

    /// The guest register that a host register is for.
    pub(super) fn pin(&self, host: u8) -> Option<u8> {
        Some(self.pin_map.0[usize::from(host)]).filter(|guest| *guest != CLEAN)
    }

    pub(super) fn class_of(&self, guest: u8) -> Class {
        self.classes[usize::from(guest)]
    }

    pub(super) fn guest(&self, guest: u8) -> GuestPlace {
        self.guests[usize::from(guest)]
    }

    pub(super) fn temp(&self, temp: u32) -> TempPlace {
        self.temps[temp as usize]
    }

    /// Keeps a register in place until [`Allocator::unlock_all`].
    pub(super) fn lock(&mut self, class: Class, host: u8) {
        self.clock += 1;
        self.locked[class.file()] |= 1 << host;
        let clock = self.clock;
        self.reg(class, host).stamp = clock;
    }

    /// Ends an operation: nothing is locked, scratch registers are free.
    pub(super) fn unlock_all(&mut self) {
        for (file, locked) in self.files.iter_mut().zip(&mut self.locked) {
            while *locked != 0 {
                let reg = &mut file[locked.trailing_zeros() as usize];
                if reg.owner == Owner::Scratch {
                    reg.owner = Owner::Free;
                }
                *locked &= *locked - 1;
            }
        }
        self.locked = self.held;
    }

    /// Takes a shared register for `owner` and locks it; says what must be saved first.
    pub(super) fn take(&mut self, class: Class, owner: Owner) -> Result<(u8, Evict), CompileError> {
        let file = &self.files[class.file()];
        let locked = self.locked[class.file()];
        let pool = Self::pool(class).iter().copied();
        let host = pool
            .filter(|h| locked >> h & 1 == 0)
            .min_by_key(|h| {
                let reg = &file[usize::from(*h)];
                (reg.owner != Owner::Free, reg.stamp)
            })
            .ok_or(CompileError::TooComplex)?;
        let evict = self.evict(class, host)?;
        self.give(class, host, owner);
        Ok((host, evict))
    }

    /// Keeps a guest register in a shared register for the whole unit; `dirty` if the unit writes it.
    pub(super) fn hold(&mut self, class: Class, host: u8, guest: u8, dirty: bool) {
        let owner = Owner::Guest(guest);
        *self.reg(class, host) = HostReg { owner, dirty, stamp: 0 };
        self.held[class.file()] |= 1 << host;
        self.locked[class.file()] |= 1 << host;
        self.guests[usize::from(guest)] = GuestPlace::Host(host);
    }

    /// Takes a shared register of those for a copy of a vector in the state, for the whole unit; none if
    /// all are taken.
    pub(super) fn hold_place(&mut self, hosts: &[u8]) -> Option<u8> {
        let held = self.held[Class::Vector.file()];
        let host = hosts.iter().rev().copied().find(|host| held >> host & 1 == 0)?;
        *self.reg(Class::Vector, host) = HostReg { owner: Owner::Place, ..FREE };
        self.held[Class::Vector.file()] |= 1 << host;
        self.locked[Class::Vector.file()] |= 1 << host;
        self.places += 1;
        Some(host)
    }

    /// Parts registers to write back at the end of a loop's turn into those that are held or of no meaning at its
    /// top, and the others.
    pub(super) fn part(&self, all: WriteBack, dead: &[bool; 256]) -> (WriteBack, WriteBack) {
        let (mut held, mut others) = (all, all);
        for host in 0..16 {
            for (class, h, o) in [
                (Class::Int, &mut held.gpr, &mut others.gpr),
                (Class::Float, &mut held.xmm, &mut others.xmm),
            ] {
                let is_held = self.held[class.file()] >> host & 1 != 0;
                let waits = is_held || h[host] != CLEAN && dead[usize::from(h[host])];
                *(if waits { &mut o[host] } else { &mut h[host] }) = CLEAN;
            }
        }
        for (h, o) in held.deferred.iter_mut().zip(&mut others.deferred) {
            let waits = h.guest != CLEAN && dead[usize::from(h.guest)];
            *(if waits { o } else { h }) = Deferred::NONE;
        }
        (held, others)
    }

    /// The guest register has a value that needs no register: a constant, or what a pinned or held register
    /// has. Answers what must be stored to make room.
    pub(super) fn defer(&mut self, guest: u8, host: u8, value: i32) -> Deferred {
        match self.guest(guest) {
            GuestPlace::Memory => {}
            GuestPlace::Deferred(_) => self.settle(guest),
            GuestPlace::Host(old) => {
                *self.reg(Class::Int, old) = FREE;
                self.forget_addends(|addend| addend.base == guest);
            }
        }
        let place = self.deferred.iter().position(|deferred| deferred.guest == CLEAN);
        let place = place.unwrap_or(0);
        let first = self.deferred[place];
        if first.guest != CLEAN {
            self.settle(first.guest);
        }
        let deferred = Deferred { guest, host, value };
        self.deferred[place] = deferred;
        self.guests[usize::from(guest)] = GuestPlace::Deferred(deferred);
        first
    }

    /// The deferred guest register is in memory, or about to be assigned.
    pub(super) fn settle(&mut self, guest: u8) {
        for deferred in &mut self.deferred {
            if deferred.guest == guest {
                *deferred = Deferred::NONE;
                self.guests[usize::from(guest)] = GuestPlace::Memory;
            }
        }
    }

    /// A deferred guest register that is what a host register has.
    pub(super) fn same_as(&self, host: u8) -> Option<u8> {
        let same = |deferred: &&Deferred| deferred.guest != CLEAN && deferred.host == host;
        self.deferred.iter().find(same).map(|deferred| deferred.guest)
    }

    /// Whether a guest register may be deferred: it is not pinned or held.
    pub(super) fn may_defer(&self, guest: u8) -> bool {
        self.class_of(guest) == Class::Int
            && match self.guest(guest) {
                GuestPlace::Host(host) => {
                    Self::shared(Class::Int, host) && self.held[0] >> host & 1 == 0
                }
                _ => true,
            }
    }

    /// Whether a host register is a guest register's for the whole unit.
    pub(super) fn is_steady(&self, host: u8) -> bool {
        self.pin(host).is_some() || self.held[0] >> host & 1 != 0
    }

    /// Empties a shared register, whoever is in it.
    pub(super) fn evict(&mut self, class: Class, host: u8) -> Result<Evict, CompileError> {
        let HostReg { owner, dirty, .. } = *self.reg(class, host);
        *self.reg(class, host) = FREE;
        Ok(match owner {
            Owner::Free | Owner::Scratch | Owner::Place => Evict::Nothing,
            Owner::Addend(place) => {
                self.addends[usize::from(place)] = None;
                Evict::Nothing
            }
            Owner::Guest(guest) => {
                self.guests[usize::from(guest)] = GuestPlace::Memory;
                if dirty { Evict::WriteBack { guest, host } } else { Evict::Nothing }
            }
            Owner::Temp(temp) => {
                // Whoever comes may be of another class of the same file.
                let class = match self.temps[temp as usize] {
                    TempPlace::Host(class, _) => class,
                    _ => class,
                };
                let slots = if class == Class::Vector { VECTOR_SPILLS } else { SPILLS };
                let used = self.slots(class);
                let slot = (!*used).trailing_zeros() as u8;
                if usize::from(slot) >= slots {
                    return Err(CompileError::TooComplex);
                }
                *used |= 1 << slot;
                self.temps[temp as usize] = TempPlace::Spill(class, slot);
                Evict::Spill { class, slot, host }
            }
        })
    }

    /// Makes a free shared register `owner`'s and locks it.
    pub(super) fn give(&mut self, class: Class, host: u8, owner: Owner) {
        *self.reg(class, host) = HostReg { owner, ..FREE };
        self.lock(class, host);
        match owner {
            Owner::Guest(guest) => self.guests[usize::from(guest)] = GuestPlace::Host(host),
            Owner::Temp(temp) => {
                match self.temps[temp as usize] {
                    TempPlace::Spill(class, slot) => *self.slots(class) &= !(1 << slot),
                    TempPlace::Dead => self.vectors += u32::from(class == Class::Vector),
                    TempPlace::Host(..) => {}
                }
                self.temps[temp as usize] = TempPlace::Host(class, host);
            }
            Owner::Free | Owner::Scratch | Owner::Addend(_) | Owner::Place => {}
        }
    }

    /// Forgets a temporary; its register or slot is free, but stays locked until the operation ends.
    pub(super) fn kill_temp(&mut self, temp: u32) {
        let was = std::mem::replace(&mut self.temps[temp as usize], TempPlace::Dead);
        match was {
            TempPlace::Host(class, host) => self.reg(class, host).owner = Owner::Free,
            TempPlace::Spill(class, slot) => *self.slots(class) &= !(1 << slot),
            TempPlace::Dead => {}
        }
        if let TempPlace::Host(Class::Vector, _) | TempPlace::Spill(Class::Vector, _) = was {
            self.vectors -= 1;
        }
    }

    /// The slots in use for spilled values of a class.
    fn slots(&mut self, class: Class) -> &mut u64 {
        &mut self.spills[usize::from(class == Class::Vector)]
    }

    /// Whether nobody owns the shared register (it may be locked).
    pub(super) fn is_free(&self, class: Class, host: u8) -> bool {
        Self::shared(class, host)
            && self.files[class.file()][usize::from(host)].owner == Owner::Free
    }

    /// The guest register's host register now holds a value newer than memory.
    pub(super) fn set_dirty(&mut self, guest: u8) {
        if let GuestPlace::Host(host) = self.guest(guest) {
            let class = self.class_of(guest);
            if Self::shared(class, host) {
                self.reg(class, host).dirty = true;
            }
        }
    }

    /// Registers that hold values newer than memory, by host register; pins included.
    pub(super) fn dirty_maps(&self) -> ([u8; 16], [u8; 16]) {
        let WriteBack { mut gpr, xmm, .. } = self.dirty();
        for (slot, guest) in gpr.iter_mut().zip(&self.pin_map.0) {
            if *guest != CLEAN {
                *slot = *guest;
            }
        }
        (gpr, xmm)
    }

    /// What a slow path must keep here.
    pub(super) fn kept(&self) -> Kept {
        if self.vectors + self.places != 0 {
            Kept::Vectors
        } else if self.files[Class::Float.file()].iter().any(|r| r.owner != Owner::Free) {
            Kept::Floats
        } else {
            Kept::Nothing
        }
    }

    /// Shared registers to write back.
    pub(super) fn dirty(&self) -> WriteBack {
        let map = |class: Class| {
            let mut map = [CLEAN; 16];
            for host in Self::pool(class) {
                let reg = &self.files[class.file()][usize::from(*host)];
                if let (Owner::Guest(guest), true) = (reg.owner, reg.dirty) {
                    map[usize::from(*host)] = guest;
                }
            }
            map
        };
        WriteBack { gpr: map(Class::Int), xmm: map(Class::Float), deferred: self.deferred }
    }

    /// All values have been written back.
    pub(super) fn set_clean(&mut self) {
        self.settle_all();
        self.files.iter_mut().flatten().for_each(|r| r.dirty = false);
    }

    /// The addend that is good for a span from a base register.
    pub(super) fn addend(&self, base: u8, span: Span, write: bool) -> Option<Addend> {
        let fits = |a: &&Addend| a.base == base && a.span.has(span) && (a.write || !write);
        self.addends.iter().flatten().find(fits).copied()
    }

    /// Takes and locks a host register for an addend, if one can be had without saving anything.
    pub(super) fn take_addend(&mut self, base: u8, span: Span, write: bool) -> Option<u8> {
        self.forget_addends(|a| a.base == base);
        let place = self.addends.iter().position(Option::is_none)?;
        let (file, locked) = (&self.files[Class::Int.file()], self.locked[Class::Int.file()]);
        let spare = |h: &u8| {
            let reg = &file[usize::from(*h)];
            let kept = match reg.owner {
                Owner::Free => false,
                Owner::Guest(_) => reg.dirty,
                _ => true,
            };
            !kept && locked >> h & 1 == 0
        };
        let key = |h: &u8| {
            let reg = &file[usize::from(*h)];
            (reg.owner != Owner::Free, reg.stamp)
        };
        let host = POOL.iter().copied().filter(spare).min_by_key(key)?;
        if let Owner::Guest(guest) = file[usize::from(host)].owner {
            self.guests[usize::from(guest)] = GuestPlace::Memory;
        }
        self.give(Class::Int, host, Owner::Addend(place as u8));
        self.addends[place] = Some(Addend { base, span, write, host });
        Some(host)
    }

    /// Forgets addends.
    pub(super) fn forget_addends(&mut self, which: impl Fn(&Addend) -> bool) {
        for place in 0..ADDENDS {
            if let Some(addend) = self.addends[place].take_if(|a| which(a)) {
                self.reg(Class::Int, addend.host).owner = Owner::Free;
            }
        }
    }

    fn settle_all(&mut self) {
        for deferred in std::mem::replace(&mut self.deferred, [Deferred::NONE; DEFERRED]) {
            if deferred.guest != CLEAN {
                self.guests[usize::from(deferred.guest)] = GuestPlace::Memory;
            }
        }
    }

    /// What is deferred.
    pub(super) fn deferred(&self) -> [Deferred; DEFERRED] {
        self.deferred
    }

    /// Forgets which guest registers are in shared registers; they are in memory.
    pub(super) fn forget_guests(&mut self) {
        self.settle_all();
        self.forget_addends(|_| true);
        for (file, held) in self.files.iter_mut().zip(self.held) {
            for (host, reg) in file.iter_mut().enumerate() {
                if let Owner::Guest(guest) = reg.owner
                    && held >> host & 1 == 0
                {
                    self.guests[usize::from(guest)] = GuestPlace::Memory;
                    reg.owner = Owner::Free;
                    reg.dirty = false;
                }
            }
        }
    }

    /// Forgets all temporaries.
    pub(super) fn forget_temps(&mut self) {
        for reg in self.files.iter_mut().flatten() {
            if matches!(reg.owner, Owner::Temp(_)) {
                reg.owner = Owner::Free;
            }
        }
        self.temps.fill(TempPlace::Dead);
        self.spills = [0; 2];
        self.vectors = 0;
    }
}

/// The host register that a guest register is pinned to.
pub fn pin_of(info: &RegInfo) -> Option<u8> {
    if info.class != RegClass::Int {
        return None;
    }
    PINS.get(usize::from(info.pin).checked_sub(1)?).map(|g| g.0)
}
