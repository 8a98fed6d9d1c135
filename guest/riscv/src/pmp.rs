//! Physical memory protection and its enhancement (privileged manual, “Physical Memory
//! Protection”; Smepmp). The grain is four bytes.

use crate::state::{PMP_ENTRIES, Privilege, State};
use isa::Access;

const READ: u8 = 1;
const WRITE: u8 = 2;
const EXECUTE: u8 = 4;
const LOCK: u8 = 0x80;

/// `mseccfg`: machine-mode lockdown.
pub(crate) const MML: u64 = 1 << 0;
/// `mseccfg`: machine-mode allow-list.
pub(crate) const MMWP: u64 = 1 << 1;
/// `mseccfg`: rules may be unlocked.
pub(crate) const RLB: u64 = 1 << 2;

/// How an entry finds its addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Match {
    Off,
    TopOfRange,
    FourBytes,
    PowerOfTwo,
}

fn matching(cfg: u8) -> Match {
    match cfg >> 3 & 3 {
        0 => Match::Off,
        1 => Match::TopOfRange,
        2 => Match::FourBytes,
        _ => Match::PowerOfTwo,
    }
}

/// First and last byte that entry `i` matches; `None` if it matches nothing.
fn range(state: &State, i: usize) -> Option<(u64, u64)> {
    let addr = state.pmpaddr[i];
    match matching(state.pmpcfg[i]) {
        Match::Off => None,
        Match::TopOfRange => {
            let base = if i == 0 { 0 } else { state.pmpaddr[i - 1] << 2 };
            let top = addr << 2;
            (base < top).then(|| (base, top - 1))
        }
        Match::FourBytes => Some((addr << 2, addr << 2 | 3)),
        Match::PowerOfTwo => {
            let ones = addr.trailing_ones();
            let size_bits = (ones + 3).min(63);
            let mask = (1u64 << size_bits) - 1;
            let base = addr << 2 & !mask;
            Some((base, base | mask))
        }
    }
}

/// What an access may do at a physical address, and whether that holds for its whole 4 KiB page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rights {
    rwx: u8,
    /// No boundary between rules lies in the page.
    pub whole_page: bool,
}

impl Rights {
    /// Everything, everywhere.
    pub const ALL: Self = Self { rwx: READ | WRITE | EXECUTE, whole_page: true };

    /// Whether loads are allowed.
    pub fn read(self) -> bool {
        self.rwx & READ != 0
    }
    /// Whether stores are allowed.
    pub fn write(self) -> bool {
        self.rwx & WRITE != 0
    }
    /// Whether fetches are allowed.
    pub fn execute(self) -> bool {
        self.rwx & EXECUTE != 0
    }
    /// Whether an access of this kind is allowed.
    pub fn allow(self, access: Access) -> bool {
        match access {
            Access::Load => self.read(),
            Access::Store | Access::Atomic => self.write(),
            Access::Fetch => self.execute(),
        }
    }
}

/// Rights of `privilege` to an access of `len` bytes at `gpa` within a page: the entry with the
/// lowest number that matches any byte decides, and it must match all.
pub(crate) fn rights(state: &State, privilege: Privilege, gpa: u64, len: u32) -> Rights {
    let page = gpa & !0xfff;
    let end = gpa | 0xfff;
    let last_byte = gpa.saturating_add(u64::from(len.max(1)) - 1).min(end);
    let mut whole_page = true;
    for i in 0..PMP_ENTRIES {
        let Some((first, last)) = range(state, i) else { continue };
        if last < page || first > end {
            continue;
        }
        whole_page &= first <= page && last >= end;
        if first <= last_byte && gpa <= last {
            if gpa < first || last < last_byte {
                return Rights { rwx: 0, whole_page };
            }
            let rwx = permissions(state.pmpcfg[i], privilege, state.mseccfg & MML != 0);
            return Rights { rwx, whole_page };
        }
    }
    let rwx = match privilege {
        Privilege::Machine if state.mseccfg & MMWP != 0 => 0,
        Privilege::Machine if state.mseccfg & MML != 0 => READ | WRITE,
        Privilege::Machine => READ | WRITE | EXECUTE,
        _ => 0,
    };
    Rights { rwx, whole_page }
}

/// Rights of `privilege` under a rule that matches.
fn permissions(cfg: u8, privilege: Privilege, lockdown: bool) -> u8 {
    let rwx = cfg & (READ | WRITE | EXECUTE);
    let (machine, locked) = (privilege == Privilege::Machine, cfg & LOCK != 0);
    if !lockdown {
        return if machine && !locked { READ | WRITE | EXECUTE } else { rwx };
    }
    // Smepmp, “Access-control rules in machine-mode lockdown”: R = 0, W = 1 share a region.
    let execute = rwx & EXECUTE != 0;
    match (rwx & (READ | WRITE), locked) {
        (WRITE, false) if machine => READ | WRITE,
        (WRITE, false) => {
            if execute {
                READ | WRITE
            } else {
                READ
            }
        }
        (WRITE, true) if machine => {
            if execute {
                READ | EXECUTE
            } else {
                EXECUTE
            }
        }
        (WRITE, true) => EXECUTE,
        (_, true) if rwx == READ | WRITE | EXECUTE => READ,
        (_, locked) if locked == machine => rwx,
        _ => 0,
    }
}

fn locked(state: &State, i: usize) -> bool {
    state.pmpcfg[i] & LOCK != 0 && state.mseccfg & RLB == 0
}

/// Writes the configuration of entry `i`; whether that changed anything.
pub(crate) fn write_cfg(state: &mut State, i: usize, value: u8) -> bool {
    let value = value & 0x9f;
    if locked(state, i) || value == state.pmpcfg[i] {
        return false;
    }
    let rwx = value & (READ | WRITE | EXECUTE);
    if state.mseccfg & MML == 0 {
        if rwx & (READ | WRITE) == WRITE {
            return false;
        }
    } else if state.mseccfg & RLB == 0 && value & LOCK != 0 {
        // No new rule that lets M-mode execute.
        let shared_code = rwx & (READ | WRITE) == WRITE;
        let machine_code = rwx & EXECUTE != 0 && rwx != READ | WRITE | EXECUTE;
        if shared_code || machine_code {
            return false;
        }
    }
    state.pmpcfg[i] = value;
    true
}

/// Writes the address of entry `i`; whether that changed anything.
pub(crate) fn write_addr(state: &mut State, i: usize, value: u64) -> bool {
    let next_uses_it = state
        .pmpcfg
        .get(i + 1)
        .is_some_and(|cfg| matching(*cfg) == Match::TopOfRange && locked(state, i + 1));
    if locked(state, i) || next_uses_it || state.pmpaddr[i] == value {
        return false;
    }
    state.pmpaddr[i] = value;
    true
}

/// Whether some entry is locked, which keeps `mseccfg.RLB` clear.
pub(crate) fn any_locked(state: &State) -> bool {
    state.pmpcfg.iter().any(|cfg| cfg & LOCK != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use Privilege::{Machine, Supervisor, User};

    fn with(entries: &[(u8, u64)]) -> State {
        let mut s = State::default();
        for (i, (cfg, addr)) in entries.iter().enumerate() {
            s.pmpcfg[i] = *cfg;
            s.pmpaddr[i] = *addr;
        }
        s
    }

    fn rwx(state: &State, privilege: Privilege, gpa: u64) -> String {
        let r = rights(state, privilege, gpa, 1);
        let letter = |on, c| if on { c } else { '-' };
        [letter(r.read(), 'r'), letter(r.write(), 'w'), letter(r.execute(), 'x')].iter().collect()
    }

    #[test]
    fn without_a_rule_only_machine_mode_has_rights() {
        let s = State::default();
        assert_eq!(rwx(&s, Machine, 0x1000), "rwx");
        assert_eq!(rwx(&s, Supervisor, 0x1000), "---");
        let s = State { mseccfg: MMWP, ..State::default() };
        assert_eq!(rwx(&s, Machine, 0x1000), "---");
        let s = State { mseccfg: MML, ..State::default() };
        assert_eq!(rwx(&s, Machine, 0x1000), "rw-");
    }

    #[test]
    fn the_lowest_matching_entry_decides_and_boundaries_are_seen() {
        // NAPOT 8 bytes at 0x2000: nothing; everything else by a NAPOT over all memory.
        let s = with(&[(0x18, 0x2000 >> 2), (0x1f, u64::MAX >> 10)]);
        assert_eq!(rwx(&s, Supervisor, 0x2004), "---");
        assert_eq!(rwx(&s, Supervisor, 0x2008), "rwx");
        assert!(!rights(&s, Supervisor, 0x2008, 1).whole_page);
        assert!(rights(&s, Supervisor, 0x3000, 1).whole_page);
        assert_eq!(rwx(&s, Machine, 0x2004), "rwx");
    }

    #[test]
    fn one_entry_must_match_every_byte_of_an_access() {
        // Three words alike, in three entries; the last one is locked.
        let s = with(&[(0x13, 0x2000 >> 2), (0x13, 0x2004 >> 2), (0x90, 0x2008 >> 2)]);
        let may = |privilege, gpa, len| rights(&s, privilege, gpa, len).read();
        assert!(may(User, 0x2000, 4) && may(User, 0x2004, 4));
        assert!(!may(User, 0x2000, 8), "two entries, though both allow it");
        assert!(!may(Machine, 0x2000, 8), "nor for M-mode, whatever L says");
        assert!(may(Machine, 0x2000, 4) && !may(Machine, 0x2008, 4));
        assert!(!may(Machine, 0x200b, 2) && may(Machine, 0x200c, 2));
    }

    #[test]
    fn a_range_goes_from_the_entry_before_to_its_top() {
        let s = with(&[(0, 0x1000 >> 2), (0x09, 0x3000 >> 2), (0x13, 0x4000 >> 2)]);
        assert_eq!(rwx(&s, User, 0xfff), "---");
        assert_eq!(rwx(&s, User, 0x1000), "r--");
        assert_eq!(rwx(&s, User, 0x2fff), "r--");
        assert_eq!(rwx(&s, User, 0x3000), "---");
        assert_eq!(rwx(&s, User, 0x4003), "rw-");
        assert_eq!(rwx(&s, User, 0x4004), "---");
    }

    #[test]
    fn a_locked_rule_binds_machine_mode_and_stays() {
        let mut s = with(&[(0, 0x1000 >> 2), (0x89, 0x2000 >> 2)]);
        assert_eq!(rwx(&s, Machine, 0x1800), "r--");
        assert!(!write_cfg(&mut s, 1, 0));
        assert!(!write_addr(&mut s, 1, 0));
        assert!(!write_addr(&mut s, 0, 0), "the locked range begins there");
        s.mseccfg = RLB;
        assert!(write_cfg(&mut s, 1, 0));
    }

    /// Smepmp, table of permissions with MML set: L R W X, then what M and S/U may do.
    #[test]
    fn lockdown_follows_the_truth_table() {
        let table = [
            (0b0000, "---", "---"),
            (0b0001, "---", "--x"),
            (0b0010, "rw-", "r--"),
            (0b0011, "rw-", "rw-"),
            (0b0100, "---", "r--"),
            (0b0101, "---", "r-x"),
            (0b0110, "---", "rw-"),
            (0b0111, "---", "rwx"),
            (0b1000, "---", "---"),
            (0b1001, "--x", "---"),
            (0b1010, "--x", "--x"),
            (0b1011, "r-x", "--x"),
            (0b1100, "r--", "---"),
            (0b1101, "r-x", "---"),
            (0b1110, "rw-", "---"),
            (0b1111, "r--", "r--"),
        ];
        for (lrwx, machine, user) in table {
            let cfg =
                (lrwx >> 3 & 1) << 7 | (lrwx >> 2 & 1) | (lrwx >> 1 & 1) << 1 | (lrwx & 1) << 2;
            let mut s = with(&[(cfg | 0x18, u64::MAX >> 10)]);
            s.mseccfg = MML;
            assert_eq!(rwx(&s, Machine, 0x5000), machine, "M {lrwx:04b}");
            assert_eq!(rwx(&s, User, 0x5000), user, "U {lrwx:04b}");
        }
    }

    #[test]
    fn lockdown_refuses_new_code_for_machine_mode() {
        let mut s = State { mseccfg: MML, ..State::default() };
        for refused in [LOCK | EXECUTE, LOCK | READ | EXECUTE, LOCK | WRITE, LOCK | WRITE | EXECUTE]
        {
            assert!(!write_cfg(&mut s, 0, refused));
        }
        assert!(write_cfg(&mut s, 0, WRITE));
        assert!(write_cfg(&mut s, 0, LOCK | READ | WRITE));
        let mut s = State::default();
        assert!(!write_cfg(&mut s, 0, WRITE), "reserved without lockdown");
    }
}
