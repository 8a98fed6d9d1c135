//! Address translation: Sv32, Sv39, Sv48, Sv57 with Svnapot, Svpbmt, Svade and Svadu (privileged
//! manual, “Supervisor-Level ISA”), and physical memory protection of every access.
//!
//! Sets of translations: 0 U-mode, 1 S-mode, 2 S-mode with SUM, 3 M-mode. MPRV chooses the set of
//! data accesses; fetches always have the rights of the present privilege. What lies within a page
//! is one access for PMP, misaligned or not, except fetches, which come by the halfword.

use crate::hart::Riscv;
use crate::model::{Feature, SatpMode};
use crate::pmp::{self, Rights};
use crate::state::{Privilege, State};
use crate::status::{ADUE, MPP_SHIFT, MPRV, MXR, PBMTE, PMM, PMM_SHIFT, SUM};
use crate::trap::{Exception, Trap};
use isa::{Access, Cpu, Mapping};

const V: u64 = 1 << 0;
const R: u64 = 1 << 1;
const W: u64 = 1 << 2;
const X: u64 = 1 << 3;
const U: u64 = 1 << 4;
const G: u64 = 1 << 5;
const A: u64 = 1 << 6;
const D: u64 = 1 << 7;
const N: u64 = 1 << 63;
const PBMT: u64 = 3 << 61;
const RESERVED: u64 = 0x7f << 54;
const PPN: u64 = (1 << 44) - 1;

const SUM_SET: u8 = 2;

/// The set of translations that `privilege` uses.
pub(crate) fn set_of(state: &State, privilege: Privilege) -> u8 {
    match privilege {
        Privilege::User => 0,
        Privilege::Supervisor if state.mstatus & SUM != 0 => SUM_SET,
        Privilege::Supervisor => 1,
        Privilege::Machine => 3,
    }
}

/// The set of translations of loads and stores.
pub(crate) fn data_set(state: &State) -> u8 {
    let privilege = if state.privilege == Privilege::Machine && state.mstatus & MPRV != 0 {
        Privilege::from_bits(state.mstatus >> MPP_SHIFT)
    } else {
        state.privilege
    };
    set_of(state, privilege)
}

fn privilege_of(set: u8) -> Privilege {
    match set {
        0 => Privilege::User,
        1 | SUM_SET => Privilege::Supervisor,
        _ => Privilege::Machine,
    }
}

/// Shape of a page table.
struct Scheme {
    levels: u32,
    index_bits: u32,
    pte_size: u32,
}

fn scheme(mode: SatpMode) -> Option<Scheme> {
    let (levels, index_bits, pte_size) = match mode {
        SatpMode::Bare => return None,
        SatpMode::Sv32 => (2, 10, 4),
        SatpMode::Sv39 => (3, 9, 8),
        SatpMode::Sv48 => (4, 9, 8),
        SatpMode::Sv57 => (5, 9, 8),
    };
    Some(Scheme { levels, index_bits, pte_size })
}

/// Mode of `satp`.
pub(crate) fn satp_mode(hart: &Riscv, satp: u64) -> SatpMode {
    let found = if hart.is_rv32() {
        (satp >> 31 & 1 != 0).then_some(SatpMode::Sv32)
    } else {
        SatpMode::from_code(satp >> 60)
    };
    found.unwrap_or(SatpMode::Bare)
}

/// Root of the page table.
fn root(hart: &Riscv, satp: u64) -> u64 {
    (if hart.is_rv32() { satp & 0x3f_ffff } else { satp & PPN }) << 12
}

pub(crate) fn page_fault(access: Access, gva: u64) -> Trap {
    let cause = match access {
        Access::Load => Exception::LoadPage,
        Access::Store | Access::Atomic => Exception::StorePage,
        Access::Fetch => Exception::FetchPage,
    };
    Trap::new(cause, gva)
}

/// The exception for an access that may not be made at a physical address.
pub(crate) fn access_fault(access: Access, gva: u64) -> Trap {
    let cause = match access {
        Access::Load => Exception::LoadAccess,
        Access::Store | Access::Atomic => Exception::StoreAccess,
        Access::Fetch => Exception::FetchAccess,
    };
    Trap::new(cause, gva)
}

fn writes(access: Access) -> bool {
    matches!(access, Access::Store | Access::Atomic)
}

/// Rights of `privilege` to `len` bytes at a physical address.
fn physical_rights(cpu: &Cpu<'_, Riscv>, privilege: Privilege, gpa: u64, len: u32) -> Rights {
    if cpu.guest.has(Feature::Pmp) {
        pmp::rights(cpu.state, privilege, gpa, len)
    } else {
        Rights::ALL
    }
}

/// Why a walk ends without a leaf.
enum Miss {
    /// The page table says no.
    Page,
    /// An access to the page table itself may not be made.
    Access,
}

/// A valid leaf: where it lies, what it says, and the physical address that it gives.
struct Leaf {
    at: u64,
    pte: u64,
    gpa: u64,
    /// Bytes of the page.
    span: u64,
    /// The leaf, or a table on the way, says that it is the same everywhere.
    global: bool,
}

/// One walk over the page table for one address.
struct Walk {
    gva: u64,
    root: u64,
    scheme: Scheme,
    pbmt: bool,
    napot: bool,
    /// The debugger's walks are not subject to protection.
    checked: bool,
}

impl Walk {
    fn new(cpu: &Cpu<'_, Riscv>, gva: u64, checked: bool) -> Option<Self> {
        let (hart, satp) = (cpu.guest, cpu.state.satp);
        Some(Self {
            gva,
            root: root(hart, satp),
            scheme: scheme(satp_mode(hart, satp))?,
            pbmt: cpu.state.menvcfg & PBMTE != 0,
            napot: hart.has(Feature::Svnapot),
            checked,
        })
    }

    /// Whether the address is the sign extension of those bits that are translated.
    fn canonical(&self) -> bool {
        let bits = 12 + self.scheme.levels * self.scheme.index_bits;
        if bits == 32 {
            return true;
        }
        let shift = 64 - bits;
        (self.gva << shift).cast_signed() >> shift == self.gva.cast_signed()
    }

    /// Whether bits are set that have no meaning.
    fn malformed(&self, pte: u64, leaf: bool) -> bool {
        if pte & V == 0 || pte & (R | W) == W {
            return true;
        }
        if self.scheme.pte_size == 4 {
            return !leaf && pte & (A | D | U) != 0;
        }
        let pbmt = pte & PBMT;
        pte & RESERVED != 0
            || pbmt != 0 && (!self.pbmt || pbmt == PBMT || !leaf)
            || pte & N != 0 && (!self.napot || !leaf)
            || !leaf && pte & (A | D | U) != 0
    }

    fn run(&self, cpu: &mut Cpu<'_, Riscv>) -> Result<Leaf, Miss> {
        if !self.canonical() {
            return Err(Miss::Page);
        }
        let (bits, size) = (self.scheme.index_bits, self.scheme.pte_size);
        let (mut table, mut global) = (self.root, false);
        for level in (0..self.scheme.levels).rev() {
            let index = self.gva >> (12 + level * bits) & ((1 << bits) - 1);
            let at = table.wrapping_add(index * u64::from(size));
            if self.checked && !physical_rights(cpu, Privilege::Supervisor, at, size).read() {
                return Err(Miss::Access);
            }
            let pte = cpu.phys_load(at, size).ok_or(Miss::Access)?;
            let leaf = pte & (R | X) != 0;
            if self.malformed(pte, leaf) {
                return Err(Miss::Page);
            }
            let ppn = pte >> 10 & PPN;
            global |= pte & G != 0;
            if leaf {
                return self.leaf(at, pte, ppn, level).map(|leaf| Leaf { global, ..leaf });
            }
            table = ppn << 12;
        }
        Err(Miss::Page)
    }

    fn leaf(&self, at: u64, pte: u64, ppn: u64, level: u32) -> Result<Leaf, Miss> {
        let mut span = (1 << (level * self.scheme.index_bits)) - 1;
        if ppn & span != 0 {
            return Err(Miss::Page);
        }
        let mut base = ppn;
        if self.scheme.pte_size == 8 && pte & N != 0 {
            if level != 0 || ppn & 0xf != 8 {
                return Err(Miss::Page);
            }
            span = 0xf;
            base &= !0xf;
        }
        let page = base | self.gva >> 12 & span;
        let gpa = page << 12 | self.gva & 0xfff;
        Ok(Leaf { at, pte, gpa, span: (span + 1) << 12, global: false })
    }
}

/// What a leaf allows in a set of translations, beside A and D.
fn leaf_rights(pte: u64, set: u8, mxr: bool) -> (bool, bool, bool) {
    let user_page = pte & U != 0;
    let (data, code) = match set {
        0 => (user_page, user_page),
        SUM_SET => (true, !user_page),
        _ => (!user_page, !user_page),
    };
    let read = pte & R != 0 || mxr && pte & X != 0;
    (data && read, data && pte & W != 0, code && pte & X != 0)
}

/// Whether hardware sets A and D, rather than faulting.
fn hardware_updates(cpu: &Cpu<'_, Riscv>) -> bool {
    if cpu.guest.has(Feature::Svadu) {
        cpu.state.menvcfg & ADUE != 0
    } else {
        !cpu.guest.has(Feature::Svade)
    }
}

/// Whether pointers are masked in some mode.
pub(crate) fn masks_pointers(state: &State) -> bool {
    (state.menvcfg | state.senvcfg | state.mseccfg) & PMM != 0
}

/// The address that a load or store through `set` accesses (privileged manual, “Pointer Masking
/// Extensions”): without the bits above, as the mode is set up. Cached translations are those of
/// the pointers before.
pub(crate) fn unmasked(hart: &Riscv, state: &State, set: u8, gva: u64) -> u64 {
    let privilege = privilege_of(set);
    let control = match privilege {
        Privilege::Machine => state.mseccfg,
        Privilege::User if hart.has(Feature::S) => state.senvcfg,
        _ => state.menvcfg,
    };
    let bits = match control >> PMM_SHIFT & 3 {
        _ if state.mstatus & MXR != 0 => return gva,
        2 => 7,
        3 => 16,
        _ => return gva,
    };
    let bare = satp_mode(hart, state.satp) == SatpMode::Bare;
    if privilege == Privilege::Machine || bare {
        gva << bits >> bits
    } else {
        ((gva << bits).cast_signed() >> bits).cast_unsigned()
    }
}

/// Translates the address of an access to so many bytes through set `set`, and sets A and D.
pub(crate) fn translate(
    cpu: &mut Cpu<'_, Riscv>,
    set: u8,
    access: Access,
    (gva, len): (u64, u32),
) -> Result<Mapping, Trap> {
    let gva = cpu.guest.address(gva);
    let own = set_of(cpu.state, cpu.state.privilege);
    // With MPRV, fetches do not use the set of data accesses: those may not be cached for fetches.
    let apart = privilege_of(own) != privilege_of(set);
    let set = if access == Access::Fetch && apart { own } else { set };
    let gva = match access {
        Access::Fetch => gva,
        _ => unmasked(cpu.guest, cpu.state, set, gva),
    };
    let mut mapping = map(cpu, set, access, (gva, len))?;
    mapping.execute &= access == Access::Fetch || !apart;
    trace::log!(Mmu, "mmu: set {set} {access:?} {gva:#x} -> {:#x}", mapping.gpa);
    Ok(mapping)
}

fn map(
    cpu: &mut Cpu<'_, Riscv>,
    set: u8,
    access: Access,
    (gva, len): (u64, u32),
) -> Result<Mapping, Trap> {
    let privilege = privilege_of(set);
    let walk = match privilege {
        Privilege::Machine => None,
        _ => Walk::new(cpu, gva, true),
    };
    let Some(walk) = walk else {
        let rights = physical_rights(cpu, privilege, gva, len);
        return finish(gva, rights, (true, true, true), access, gva);
    };
    loop {
        let leaf = walk.run(cpu).map_err(|miss| match miss {
            Miss::Page => page_fault(access, gva),
            Miss::Access => access_fault(access, gva),
        })?;
        let (read, write, execute) = leaf_rights(leaf.pte, set, cpu.state.mstatus & MXR != 0);
        let allowed = match access {
            Access::Load => read,
            Access::Store | Access::Atomic => write,
            Access::Fetch => execute,
        };
        if !allowed {
            return Err(page_fault(access, gva));
        }
        let wanted = leaf.pte | A | if writes(access) { D } else { 0 };
        if wanted != leaf.pte {
            if !hardware_updates(cpu) {
                return Err(page_fault(access, gva));
            }
            let size = walk.scheme.pte_size;
            if !physical_rights(cpu, Privilege::Supervisor, leaf.at, size).write() {
                return Err(access_fault(access, gva));
            }
            let old = cpu.phys_exchange(leaf.at, size, leaf.pte, wanted);
            if old.ok_or_else(|| access_fault(access, gva))? != leaf.pte {
                // Another processor changed the entry meanwhile: look at it afresh.
                continue;
            }
        }
        let rights = physical_rights(cpu, privilege, leaf.gpa, len);
        let write = write && wanted & D != 0;
        let mapping = finish(leaf.gpa, rights, (read, write, execute), access, gva)?;
        return Ok(Mapping { span: leaf.span, global: leaf.global, ..mapping });
    }
}

/// The mapping that page and physical rights give together.
fn finish(
    gpa: u64,
    rights: Rights,
    (read, write, execute): (bool, bool, bool),
    access: Access,
    gva: u64,
) -> Result<Mapping, Trap> {
    if !rights.allow(access) {
        return Err(access_fault(access, gva));
    }
    Ok(Mapping {
        gpa,
        read: read && rights.read(),
        write: write && rights.write(),
        execute: execute && rights.execute(),
        span: 4096,
        global: true,
        whole_page: rights.whole_page,
    })
}

/// Where the debugger finds `gva`: rights ignored, nothing changed.
pub(crate) fn debug_translate(cpu: &mut Cpu<'_, Riscv>, gva: u64) -> Option<u64> {
    let gva = cpu.guest.address(gva);
    if data_set(cpu.state) == 3 {
        return Some(gva);
    }
    match Walk::new(cpu, gva, false) {
        None => Some(gva),
        Some(walk) => walk.run(cpu).ok().map(|leaf| leaf.gpa),
    }
}

#[cfg(test)]
mod tests;
