//! The registers as debuggers of x86 see them (Linux, `sys/user.h`; `linux/elf.h`).

use super::x86_frame::Narrow;
use crate::ptrace::note;
use x86::State;
use x86::image::LEGACY;
use x86::state::{eflags, gpr, seg};

/// Where the kernel puts what XCR0 enables, in an image of XSAVE.
const SOFTWARE: usize = 464;

/// What a word of a register set is.
#[derive(Clone, Copy)]
enum Word {
    General(u8),
    /// The number of the system call, or −1.
    Call,
    Pc,
    Flags,
    Selector(u8),
    Base(u8),
}

use Word::{Base, Call, Flags, General, Pc, Selector};

/// `struct user_regs_struct` of x86-64.
const WIDE: [Word; 27] = [
    General(15),
    General(14),
    General(13),
    General(12),
    General(gpr::RBP),
    General(gpr::RBX),
    General(11),
    General(10),
    General(9),
    General(8),
    General(gpr::RAX),
    General(gpr::RCX),
    General(gpr::RDX),
    General(gpr::RSI),
    General(gpr::RDI),
    Call,
    Pc,
    Selector(seg::CS),
    Flags,
    General(gpr::RSP),
    Selector(seg::SS),
    Base(seg::FS),
    Base(seg::GS),
    Selector(seg::DS),
    Selector(seg::ES),
    Selector(seg::FS),
    Selector(seg::GS),
];

/// The same of i386.
const NARROW: [Word; 17] = [
    General(gpr::RBX),
    General(gpr::RCX),
    General(gpr::RDX),
    General(gpr::RSI),
    General(gpr::RDI),
    General(gpr::RBP),
    General(gpr::RAX),
    Selector(seg::DS),
    Selector(seg::ES),
    Selector(seg::FS),
    Selector(seg::GS),
    Call,
    Pc,
    Selector(seg::CS),
    Flags,
    General(gpr::RSP),
    Selector(seg::SS),
];

/// Flags that a debugger may change.
const CHANGEABLE: u64 = eflags::ARITHMETIC | eflags::TF | eflags::DF | eflags::AC | eflags::RF;

fn words(long: bool) -> (&'static [Word], usize) {
    if long { (&WIDE, 8) } else { (&NARROW, 4) }
}

/// The sets; `forced`: the trap flag is a debugger's.
pub fn sets(state: &State, long: bool, call: Option<u64>, forced: bool) -> Vec<(u32, Vec<u8>)> {
    let (list, len) = words(long);
    let mut general = Vec::with_capacity(list.len() * len);
    for word in list {
        let value = match *word {
            General(number) => state.gpr[usize::from(number)],
            Call => call.unwrap_or(u64::MAX),
            Pc => state.rip,
            Flags if forced => state.flags() & !eflags::TF,
            Flags => state.flags(),
            Selector(number) => state.seg_selector[usize::from(number)],
            Base(number) => state.seg_base[usize::from(number)],
        };
        general.extend_from_slice(&value.to_le_bytes()[..len]);
    }
    let mut image = state.image();
    image[SOFTWARE..SOFTWARE + 8].copy_from_slice(&state.xcr0.to_le_bytes());
    let old = image[..LEGACY].to_vec();
    let mut list = vec![(note::PRSTATUS, general)];
    if long {
        list.push((note::PRFPREG, old));
    } else {
        let mut x87 = Narrow::x87(state, &old);
        x87.truncate(108);
        list.extend([(note::PRFPREG, x87), (note::PRXFPREG, old)]);
    }
    list.push((note::X86_XSTATE, image));
    list
}

/// Takes over a set; the number of the system call, if it is there. `forced` as in [`sets`].
pub fn set(state: &mut State, long: bool, kind: u32, bytes: &[u8], forced: bool) -> Option<u64> {
    match kind {
        note::PRSTATUS => set_general(state, long, bytes, forced),
        note::PRFPREG if !long => {
            set_old_x87(state, bytes);
            None
        }
        note::PRFPREG | note::PRXFPREG => {
            // Only what FXSAVE has: the upper halves stay.
            let mut image = state.image();
            let len = LEGACY.min(bytes.len());
            image[..len].copy_from_slice(&bytes[..len]);
            state.set_image(&image);
            None
        }
        note::X86_XSTATE => {
            state.set_image(bytes);
            None
        }
        _ => None,
    }
}

fn set_general(state: &mut State, long: bool, bytes: &[u8], forced: bool) -> Option<u64> {
    let (list, len) = words(long);
    let mut number = None;
    for (word, bytes) in list.iter().zip(bytes.chunks_exact(len)) {
        let value = bytes.iter().rev().fold(0, |value: u64, byte| value << 8 | u64::from(*byte));
        match *word {
            General(register) => state.gpr[usize::from(register)] = value,
            Call if long => number = Some(value),
            Call => number = Some(i64::from(value as u32 as i32).cast_unsigned()),
            Pc => state.rip = value,
            Flags => {
                let kept = if forced { CHANGEABLE & !eflags::TF } else { CHANGEABLE };
                state.set_flags(state.flags() & !kept | value & kept);
            }
            Selector(register) => {
                if value != state.seg_selector[usize::from(register)] {
                    state.load_user_segment(register, value);
                }
            }
            Base(register) => state.seg_base[usize::from(register)] = value,
        }
    }
    number
}

/// `struct user_i387_ia32_struct`.
fn set_old_x87(state: &mut State, bytes: &[u8]) {
    let mut image = state.image();
    let word = |at: usize| bytes.get(at..at + 2).map_or(0, |b| u16::from_le_bytes([b[0], b[1]]));
    image[..2].copy_from_slice(&word(0).to_le_bytes());
    image[2..4].copy_from_slice(&word(4).to_le_bytes());
    image[4] = State::in_use(word(8).into()) as u8;
    for n in 0..8 {
        if let Some(register) = bytes.get(28 + 10 * n..38 + 10 * n) {
            image[32 + 16 * n..42 + 16 * n].copy_from_slice(register);
        }
    }
    state.set_image(&image);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        let mut state = State { xcr0: 7, ..State::default() };
        state.gpr = std::array::from_fn(|n| 0x100 + n as u64);
        state.rip = 0x40_1000;
        state.set_flags(2 | eflags::TF);
        state
    }

    #[test]
    fn what_a_debugger_writes_is_what_it_reads_next() {
        for long in [true, false] {
            let mut state = state();
            let mut list = sets(&state, long, Some(39), true);
            let (kind, general) = &mut list[0];
            assert_eq!(general.len(), if long { 216 } else { 68 });
            general[0] = 0x77;
            let (kind, general) = (*kind, general.clone());
            assert_eq!(set(&mut state, long, kind, &general, true), Some(39));
            assert_eq!(sets(&state, long, Some(39), true)[0].1, general);
            // The debugger's own trap flag is not seen and stays.
            assert!(state.flags() & eflags::TF != 0);
        }
    }

    #[test]
    fn old_x87_images_keep_the_vectors() {
        let mut state = state();
        state.vectors.0[3] = 9;
        let list = sets(&state, false, None, false);
        let (kind, old) = &list[1];
        assert_eq!((*kind, old.len()), (note::PRFPREG, 108));
        let mut changed = old.clone();
        changed[28..38].copy_from_slice(&[1; 10]);
        set(&mut state, false, *kind, &changed, false);
        assert_eq!(state.vectors.0[3], 9);
        assert_eq!(sets(&state, false, None, false)[1].1[28..38], [1; 10]);
    }
}
