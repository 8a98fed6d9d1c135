//! Memory that generated code and the runtime share.

use ir::{AmoOp, MemOp};
use std::sync::atomic::{AtomicU32, AtomicU64};

/// log2 of the page size of the software TLB.
pub const PAGE_BITS: u32 = 12;
/// Entries of the software TLB per set; a power of two.
pub const TLB_ENTRIES: usize = 4096;
/// Entries of the jump cache; a power of two.
pub const JUMP_ENTRIES: usize = 4096;
/// Bits of `Unit::flags` that are the engine's; the others are those of the ISA's mode.
pub const ENGINE_FLAGS: u32 = 0xe000_0000;
/// Slots for temporaries that do not fit into registers.
pub const SPILLS: usize = 64;
/// Calls whose returns are remembered at a time; 8 bytes each of the thread's stack.
pub const RETURNS: usize = 4096;
/// Slots for vectors among them.
pub const VECTOR_SPILLS: usize = 64;

/// One page of one set of address translations.
///
/// A tag is the page's guest address; low bits that no aligned access has send generated code to
/// the slow path, which knows what they mean.
#[repr(C)]
#[derive(Debug)]
pub struct TlbEntry {
    /// Tag for loads.
    pub read: AtomicU64,
    /// Tag for stores. Other threads may set its slow bit.
    pub write: AtomicU64,
    /// Host address of a byte minus its guest address.
    pub addend: AtomicU64,
    /// Guest physical address of the page, in case the slow path wants it.
    pub gpa: AtomicU64,
}

impl TlbEntry {
    /// A tag that matches nothing.
    pub const INVALID: u64 = u64::MAX;
    /// Bit of a tag that makes every access slow: writes to translated code.
    pub const SLOW: u64 = 1 << 11;
}

/// One entry of the jump cache.
#[repr(C)]
#[derive(Debug)]
pub struct JumpEntry {
    /// Guest address.
    pub pc: AtomicU64,
    /// Checked entry of the unit.
    pub code: AtomicU64,
}

impl JumpEntry {
    /// An address that never belongs into the entry of this index: guests may jump anywhere. It is zero
    /// for all but the first, so that fresh memory is a cache without entries.
    pub const fn invalid(index: usize) -> u64 {
        // Small addresses hash to themselves, halved.
        if index == 0 { 2 } else { 0 }
    }
}

/// Number of the host's stack pointer.
const STACK_POINTER: usize = 4;

/// Host registers as a slow path sees them, by hardware number.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Frame {
    /// General registers; the scratch registers and the base register are not kept.
    pub gpr: [u64; 16],
    /// The vector registers; all but their lowest words only where a vector is alive.
    pub xmm: [[u64; 4]; 16],
}

/// Constants that generated code reads from memory.
#[repr(C, align(16))]
#[derive(Clone, Copy, Debug)]
pub struct Consts {
    /// Upper half ones: turns an F32 value into its boxed form.
    pub box_mask: [u64; 2],
    /// Ones above the low quarter: turns a binary16 into its boxed form.
    pub half_box_mask: [u64; 2],
    /// The low quarter.
    pub half_mask: [u64; 2],
    /// The default NaN of F64.
    pub nan64: u64,
    /// The default NaN of F32, boxed.
    pub nan32: u64,
    /// The default NaN of binary16, boxed.
    pub nan16: u64,
    /// 2⁶³ as F64: where signed integers end and unsigned ones go on.
    pub half_range64: u64,
    /// The same as F32.
    pub half_range32: u64,
    /// Flags as `FlagsGet` answers them, by the low six bits of MXCSR.
    pub flags: [u8; 64],
    /// For vectors.
    pub vector: VectorConsts,
    /// Flags as `FlagsGet` answers them where the rules know of denormal operands.
    pub all_flags: [u8; 64],
}

/// Constants of vector operations.
#[repr(C, align(32))]
#[derive(Clone, Copy, Debug)]
pub struct VectorConsts {
    /// Ones, then zeros: a vector that begins in the middle of them has so many lanes of ones.
    pub window: [u8; 64],
    /// By lane width, from 8 bits up: the bit of each lane's number, modulo 8 for bytes.
    pub lane_bit: [[u8; 32]; 4],
    /// The number of each byte's byte of bits.
    pub bit_byte: [u8; 32],
    /// By n: the low n bits of each byte.
    pub low_bits: [[u8; 32]; 9],
    /// By n: the sign bit of each byte, n places down.
    pub sign_down: [[u8; 32]; 8],
    /// The sign bit of lanes, by lane width from 8 bits up.
    pub sign: [[u8; 32]; 4],
    /// By lane width from 16 bits up: ones in the low halves.
    pub low_half: [[u8; 32]; 3],
    /// By lane width from 8 bits up: the numbers of the lanes.
    pub iota: [[u8; 32]; 4],
    /// By lane width from 16 bits up: the places of the low halves of lanes within 128 bits.
    pub narrow: [[u8; 32]; 3],
    /// By n: the places of bytes of 32-bit lanes that are rotated to the left by n + 1 bytes.
    pub rotate: [[u8; 32]; 3],
    /// What makes indexes of bytes beyond 15 negative, when added with saturation.
    pub index_bias: [u8; 32],
    /// Sixteen in each byte.
    pub sixteen: [u8; 32],
    /// By lane width from 8 bits up: the width less one, which takes counts modulo the width.
    pub count: [[u8; 32]; 4],
    /// Of binary32 and binary64: the default NaN.
    pub nan: [[u8; 32]; 2],
    /// Half of the range of unsigned integers of the same width.
    pub half_range: [[u8; 32]; 2],
    /// All of that range.
    pub range: [[u8; 32]; 2],
    /// −1.
    pub minus_one: [[u8; 32]; 2],
    /// The integer 1.
    pub one: [[u8; 32]; 2],
}

impl Default for VectorConsts {
    fn default() -> Self {
        let splat = |size: usize, value: u64| -> [u8; 32] {
            std::array::from_fn(|i| value.to_le_bytes()[i % size])
        };
        let floats = |single: f64, double: f64| {
            [splat(4, (single as f32).to_bits().into()), splat(8, double.to_bits())]
        };
        let iota = |size: usize| -> [u8; 32] {
            std::array::from_fn(|i| if i % size == 0 { (i / size) as u8 } else { 0 })
        };
        let narrow = |size: usize| -> [u8; 32] {
            std::array::from_fn(|i| match i % 16 {
                at if at < 8 => (at / (size / 2) * size + at % (size / 2)) as u8,
                _ => 0x80,
            })
        };
        let lane_bit = |size: usize| {
            std::array::from_fn(|i| {
                let bit = if size == 1 { i % 8 } else { i / size };
                if bit / 8 == i % size { 1 << (bit % 8) } else { 0 }
            })
        };
        Self {
            window: std::array::from_fn(|i| if i < 32 { 0xff } else { 0 }),
            lane_bit: [1, 2, 4, 8].map(lane_bit),
            bit_byte: std::array::from_fn(|i| i as u8 / 8),
            low_bits: std::array::from_fn(|n| [((1u16 << n) - 1) as u8; 32]),
            sign_down: std::array::from_fn(|n| [0x80 >> n; 32]),
            sign: [1, 2, 4, 8].map(|size| splat(size, 1 << (8 * size - 1))),
            low_half: [splat(2, 0xff), splat(4, 0xffff), splat(8, 0xffff_ffff)],
            iota: [1, 2, 4, 8].map(iota),
            narrow: [2, 4, 8].map(narrow),
            rotate: [1, 2, 3]
                .map(|n| std::array::from_fn(|i| (i % 16 / 4 * 4 + (i + 4 - n) % 4) as u8)),
            index_bias: [0x70; 32],
            sixteen: [16; 32],
            count: [1, 2, 4, 8].map(|size| splat(size, 8 * size as u64 - 1)),
            nan: [splat(4, 0x7fc0_0000), splat(8, 0x7ff8_0000_0000_0000)],
            half_range: floats(2_f64.powi(31), 2_f64.powi(63)),
            range: floats(2_f64.powi(32), 2_f64.powi(64)),
            minus_one: floats(-1.0, -1.0),
            one: [splat(4, 1), splat(8, 1)],
        }
    }
}

impl Default for Consts {
    fn default() -> Self {
        Self {
            box_mask: [0xffff_ffff_0000_0000, 0],
            nan64: 0x7ff8_0000_0000_0000,
            half_box_mask: [0xffff_ffff_ffff_0000, 0],
            half_mask: [0xffff, 0],
            nan32: 0xffff_ffff_7fc0_0000,
            nan16: 0xffff_ffff_ffff_7e00,
            half_range64: 0x43e0_0000_0000_0000,
            half_range32: 0x5f00_0000,
            flags: std::array::from_fn(|mxcsr| flags(mxcsr) & 0x1f),
            all_flags: std::array::from_fn(flags),
            vector: VectorConsts::default(),
        }
    }
}

/// Flags as `FlagsGet` answers them: from IE, DE, ZE, OE, UE, PE, bit 0 up.
fn flags(mxcsr: usize) -> u8 {
    let bit = |from: usize, to: usize| (mxcsr >> from & 1) << to;
    (bit(0, 4) | bit(1, 5) | bit(2, 3) | bit(3, 2) | bit(4, 1) | bit(5, 0)) as u8
}

/// What generated code needs of a virtual processor. The ISA's state follows it.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct Core {
    /// Software TLB by set.
    pub tlb: [[TlbEntry; TLB_ENTRIES]; 4],
    /// Where indirect jumps went before, by guest address.
    pub jumps: [JumpEntry; JUMP_ENTRIES],
    /// Temporaries that did not fit into registers.
    pub spill: [u64; SPILLS],
    /// Vectors that did not.
    pub vector_spill: [[u64; 4]; VECTOR_SPILLS],
    /// Registers during a slow path.
    pub frame: Frame,
    /// Constants.
    pub consts: Consts,
    /// Where a slow path resumes.
    pub resume: u64,
    /// Target of an indirect jump that missed.
    pub target: u64,
    /// The stack of returns when it is empty: the host's stack pointer then. Set on the way into
    /// generated code.
    pub returns: u64,
    /// The stack pointer below which no further call is remembered.
    pub returns_limit: u64,
    /// The runtime's slow path: `extern "sysv64" fn(core, site) -> record`, zero to resume.
    pub slow: u64,
    /// The ISA's table of leaf helpers: addresses of `extern "C"` functions.
    pub leaves: u64,
    /// Functions in place of instructions that the host does not have.
    pub soft: u64,
    /// The runtime's own, for its slow path.
    pub owner: u64,
    /// Floating-point control and status while generated code runs.
    pub mxcsr: u32,
    /// The same while Rust runs.
    pub host_mxcsr: u32,
    /// Scratch for the same.
    pub scratch_mxcsr: u32,
    /// What it was before an operation with a rounding mode of its own.
    pub saved_mxcsr: u32,
    /// What it was before a conversion that may have to be taken back.
    pub flags_mxcsr: u32,
    /// The present mode, as in `Unit::flags`.
    pub flags: u32,
    /// Not zero when the run loop is wanted.
    pub attention: AtomicU32,
}

impl Core {
    /// Distance of the base register of generated code from the start of the ISA's state.
    pub const BIAS: i32 = 128;

    /// Makes a core of one that is all zeros, which is too large to be built elsewhere and moved. Its
    /// caches are empty; without `tlb`, code that uses the TLB must not run on it, and the host need
    /// not find memory for that.
    pub fn fill(&mut self, tlb: bool) {
        if tlb {
            for entry in self.tlb.iter_mut().flatten() {
                (entry.read, entry.write) =
                    (AtomicU64::new(TlbEntry::INVALID), AtomicU64::new(TlbEntry::INVALID));
            }
        }
        self.jumps[0].pc = AtomicU64::new(JumpEntry::invalid(0));
        self.consts = Consts::default();
        self.soft = crate::x86_64::SOFT.as_ptr() as u64;
        (self.mxcsr, self.host_mxcsr) = (Self::MXCSR, Self::MXCSR);
    }

    /// MXCSR with all exceptions masked, no flags, rounding to nearest.
    pub const MXCSR: u32 = 0x1f80;

    /// Forgets all returns. In a slow path: it restores the stack pointer from the frame. Elsewhere
    /// there are none.
    pub fn forget_returns(&mut self) {
        self.frame.gpr[STACK_POINTER] = self.returns;
    }

    /// Index into the jump cache.
    pub fn jump_index(pc: u64) -> usize {
        ((pc ^ pc >> 12) >> 1) as usize & (JUMP_ENTRIES - 1)
    }

    /// Index into a set of the TLB.
    pub fn tlb_index(gva: u64) -> usize {
        (gva >> PAGE_BITS) as usize & (TLB_ENTRIES - 1)
    }
}

/// Where a value is at a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, u8)]
pub enum Loc {
    /// Nowhere: an operand that is not there, a result that nobody wants.
    None,
    /// A general register.
    Gpr(u8),
    /// A vector register: its lowest word, or as much as a vector access needs.
    Xmm(u8),
    /// One of the site's constants.
    Imm(u8),
    /// A spill slot.
    Spill(u8),
    /// In the state struct: the register's row.
    State(u8),
}

/// What a site does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, u8)]
pub enum SiteKind {
    /// Load from a + b; a vector if the access is that wide.
    Load(MemOp),
    /// Store c at a + b, alike.
    Store(MemOp),
    /// Atomic at a with operand b.
    Amo(AmoOp, MemOp),
    /// Compare-and-swap at a, expecting b, storing c.
    Cas(MemOp),
    /// Helper with arguments a, b, c.
    Call(u16),
}

/// No guest register is in this host register, or it is not newer than memory.
pub const CLEAN: u8 = 0xff;

/// Guest registers at a time whose values have no register of their own.
pub const DEFERRED: usize = 4;

/// A guest register whose value is newer than memory and in no register of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Deferred {
    /// The guest register, or [`CLEAN`] for none.
    pub guest: u8,
    /// The general register that holds the same, or [`CLEAN`] for a constant.
    pub host: u8,
    /// The constant, sign-extended.
    pub value: i32,
}

impl Default for Deferred {
    fn default() -> Self {
        Self::NONE
    }
}

impl Deferred {
    /// None.
    pub const NONE: Self = Self { guest: CLEAN, host: CLEAN, value: 0 };
}

/// A place where generated code asks the runtime.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Site {
    /// Guest address of the instruction.
    pub pc: u64,
    /// Host address to go on at.
    pub resume: u64,
    /// Constants among the operands.
    pub imms: [u64; 3],
    /// The operands.
    pub args: [Loc; 3],
    /// Where the result goes.
    pub dst: Loc,
    /// What to do.
    pub kind: SiteKind,
    /// By general register: the guest register it holds that is newer than memory, or [`CLEAN`].
    pub gpr: [u8; 16],
    /// By vector register: the same.
    pub xmm: [u8; 16],
    /// Guest registers beside these that are newer than memory.
    pub deferred: [Deferred; DEFERRED],
}

/// What an exit wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum RecordKind {
    /// Guest address `pc`, in the unit's own page: `slot` may be patched.
    Direct = 0,
    /// Guest address `pc`, elsewhere: the jump cache may be filled.
    Far = 1,
    /// The guest address in [`Core::target`]: the jump cache may be filled.
    Indirect = 2,
    /// The run loop, pc as recorded.
    Lookup = 3,
    /// Wait for an interrupt, pc as recorded.
    Halt = 4,
    /// The run loop, pc already set.
    Redirected = 5,
    /// The run loop, pc as recorded: the unit's guest code is not what was translated.
    Stale = 6,
}

/// An exit of a unit.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ExitRecord {
    /// Where to.
    pub pc: u64,
    /// Host address of the displacement to patch, or zero.
    pub slot: u64,
    /// Number of the unit.
    pub unit: u64,
    /// What kind.
    pub kind: RecordKind,
}

const _: () = assert!(std::mem::offset_of!(Core, jumps) < 1 << 20, "reachable by displacement");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_jump_entry_matches_no_address() {
        for pc in [0, 1, 2, 0xffe, 0xfff, 0x1000, u64::MAX - 1, u64::MAX] {
            assert_ne!(JumpEntry::invalid(Core::jump_index(pc)), pc);
        }
        assert!((0..JUMP_ENTRIES).all(|i| Core::jump_index(JumpEntry::invalid(i)) != i));
    }
}
