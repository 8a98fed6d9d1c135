//! The registers of a processor, the table of those that IR can name, and the translation flags.
//!
//! In code of 32 and 16 bits the upper halves of the general registers are not looked at. The
//! arithmetic flags are kept as the operation that made them ([`crate::flags`]).

use crate::flags;
use ir::{GuestReg, RegClass, RegInfo};
use state::{RestoreError, Saved, SavedState, Value};
use std::mem::offset_of;

/// Number of a general register in encodings.
pub mod gpr {
    #![allow(missing_docs, reason = "names of the manual")]
    pub const RAX: u8 = 0;
    pub const RCX: u8 = 1;
    pub const RDX: u8 = 2;
    pub const RBX: u8 = 3;
    pub const RSP: u8 = 4;
    pub const RBP: u8 = 5;
    pub const RSI: u8 = 6;
    pub const RDI: u8 = 7;
}

/// Number of a segment register in encodings.
pub mod seg {
    #![allow(missing_docs, reason = "names of the manual")]
    pub const ES: u8 = 0;
    pub const CS: u8 = 1;
    pub const SS: u8 = 2;
    pub const DS: u8 = 3;
    pub const FS: u8 = 4;
    pub const GS: u8 = 5;
}

/// Bits of the flags register.
pub mod eflags {
    #![allow(missing_docs, reason = "names of the manual")]
    pub const CF: u64 = 1 << 0;
    pub const ONE: u64 = 1 << 1;
    pub const PF: u64 = 1 << 2;
    pub const AF: u64 = 1 << 4;
    pub const ZF: u64 = 1 << 6;
    pub const SF: u64 = 1 << 7;
    pub const TF: u64 = 1 << 8;
    pub const IF: u64 = 1 << 9;
    pub const DF: u64 = 1 << 10;
    pub const OF: u64 = 1 << 11;
    pub const IOPL: u64 = 3 << 12;
    pub const NT: u64 = 1 << 14;
    pub const RF: u64 = 1 << 16;
    pub const VM: u64 = 1 << 17;
    pub const AC: u64 = 1 << 18;
    pub const VIF: u64 = 1 << 19;
    pub const VIP: u64 = 1 << 20;
    pub const ID: u64 = 1 << 21;
    /// Those that arithmetic sets.
    pub const ARITHMETIC: u64 = CF | PF | AF | ZF | SF | OF;
}

/// Bits of a segment's attributes: bytes 5 and 6 of its descriptor, the limit's bits in 8 to 11 clear.
pub mod attributes {
    #![allow(missing_docs, reason = "names of the manual")]
    pub const ACCESSED: u64 = 1 << 0;
    /// Of data: writable; of code: readable.
    pub const RW: u64 = 1 << 1;
    /// Of data: expands down; of code: conforming.
    pub const DC: u64 = 1 << 2;
    pub const CODE: u64 = 1 << 3;
    /// Code or data, not a gate.
    pub const S: u64 = 1 << 4;
    pub const DPL_SHIFT: u32 = 5;
    pub const PRESENT: u64 = 1 << 7;
    pub const AVL: u64 = 1 << 12;
    pub const L: u64 = 1 << 13;
    pub const DB: u64 = 1 << 14;
    pub const G: u64 = 1 << 15;
    /// Read-write data, present, of ring 3, 32 bits.
    pub const DATA3: u64 = PRESENT | 3 << DPL_SHIFT | S | RW | ACCESSED | DB | G;
    /// Readable code, present, of ring 3, 32 bits.
    pub const CODE3: u64 = DATA3 | CODE;
}

/// Bytes of vector registers: 32 of 64 bytes.
pub const ZMM_BYTES: usize = 64;
/// Where the x87 registers begin in the region of vectors: eight of 16 bytes, by physical number,
/// each the ten bytes of an extended real and six of zeros.
pub const X87_AT: usize = 32 * ZMM_BYTES;
/// Where the opmask registers begin there: eight of 8 bytes.
pub const OPMASK_AT: usize = X87_AT + 8 * 16;
/// Where helpers find operands that were read from memory; of no meaning between instructions.
pub const SPARE_AT: usize = OPMASK_AT + 8 * 8;
/// Bytes of the region.
pub const REGION: usize = SPARE_AT + ZMM_BYTES;

/// Vector registers, x87 registers, opmasks.
#[derive(Clone, Debug, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct VectorFile(pub [u8; REGION]);

impl Default for VectorFile {
    fn default() -> Self {
        Self([0; REGION])
    }
}

impl Saved for VectorFile {
    fn to_value(&self) -> Value {
        Value::Bytes(self.0.to_vec())
    }
    fn from_value(value: &Value) -> Result<Self, RestoreError> {
        let bytes = state::Blob::from_value(value)?.0;
        let len = bytes.len();
        let array = bytes
            .try_into()
            .map_err(|_| RestoreError::new(format!("{len} bytes of vector registers")))?;
        Ok(Self(array))
    }
}

/// Everything that software can observe of a processor, and a few registers for the translator.
#[derive(Clone, Debug, Default, PartialEq, Eq, SavedState)]
#[repr(C)]
pub struct State {
    /// General registers.
    #[n(1)]
    pub gpr: [u64; 16],
    /// Address of the next instruction in its segment.
    #[n(2)]
    pub rip: u64,
    /// What made the arithmetic flags: an encoded [`flags::Cc`].
    #[n(3)]
    pub cc_op: u64,
    /// First value that they come from.
    #[n(4)]
    pub cc_dst: u64,
    /// Second.
    #[n(5)]
    pub cc_src: u64,
    /// Third.
    #[n(6)]
    pub cc_src2: u64,
    /// The other flags; DF among them.
    #[n(7)]
    pub eflags: u64,
    /// Scratch of translated code, where temporaries end; of no meaning between instructions.
    #[n(8)]
    pub scratch: [u64; 4],
    /// Bases of the segments ES, CS, SS, DS, FS, GS.
    #[n(9)]
    pub seg_base: [u64; 6],
    /// Their limits in bytes, inclusive.
    #[n(10)]
    pub seg_limit: [u64; 6],
    /// Their selectors.
    #[n(11)]
    pub seg_selector: [u64; 6],
    /// Their [`attributes`]; 0 for a null selector.
    #[n(12)]
    pub seg_attributes: [u64; 6],
    /// Vectors.
    #[n(13)]
    pub vectors: VectorFile,
    /// SSE control and status, as far as the host's units have not collected exceptions.
    #[n(14)]
    pub mxcsr: u64,
    /// x87 control word.
    #[n(15)]
    pub fcw: u64,
    /// x87 status word without TOP.
    #[n(16)]
    pub fsw: u64,
    /// TOP.
    #[n(17)]
    pub ftop: u64,
    /// x87 registers in use, one bit for each (the abridged tag word).
    #[n(18)]
    pub ftw: u64,
    /// Last x87 opcode, instruction pointer and data pointer.
    #[n(19)]
    pub fop: [u64; 3],
    /// Extended control register 0.
    #[n(20)]
    pub xcr0: u64,
    /// CR0 to CR4 (CR1 is nothing), CR8.
    #[n(21)]
    pub cr: [u64; 9],
    /// Debug registers.
    #[n(22)]
    pub dr: [u64; 8],
    /// EFER.
    #[n(23)]
    pub efer: u64,
    /// Bases of GDTR, IDTR, LDTR, TR.
    #[n(24)]
    pub table_base: [u64; 4],
    /// Their limits.
    #[n(25)]
    pub table_limit: [u64; 4],
    /// Selectors of LDTR and TR.
    #[n(26)]
    pub table_selector: [u64; 2],
    /// STAR, LSTAR, CSTAR, FMASK.
    #[n(27)]
    pub syscall_msr: [u64; 4],
    /// SYSENTER_CS, _ESP, _EIP.
    #[n(28)]
    pub sysenter_msr: [u64; 3],
    /// KERNEL_GS_BASE.
    #[n(29)]
    pub kernel_gs_base: u64,
    /// PAT.
    #[n(30)]
    pub pat: u64,
    /// APIC_BASE.
    #[n(31)]
    pub apic_base: u64,
    /// TSC_AUX.
    #[n(32)]
    pub tsc_aux: u64,
    /// What was added to the time-stamp counter.
    #[n(33)]
    pub tsc_offset: u64,
    /// In user mode, an exception that nobody took yet: [`crate::trap::Trap::encode`].
    #[n(34)]
    pub event: [u64; 3],
    /// Under Linux, the descriptors of the GDT for threads.
    #[n(35)]
    pub tls: [u64; 3],
    /// Under Linux, the descriptors of the LDT.
    #[n(36)]
    pub ldt: Vec<u64>,
    /// CF and OF at their places, where [`State::cc_op`] says that they are here.
    #[n(37)]
    pub cc_over: u64,
    /// Whether the next instruction, a locked one on misaligned memory, is not to be atomic.
    #[n(38)]
    pub split: u64,
    /// Whether bits above the low 256 of one of the first sixteen vector registers may be set:
    /// [`State::note_vectors`].
    #[n(39)]
    pub zmm_used: u64,
    /// Whether whoever plays the operating system runs one instruction and tells of the trap behind it.
    #[n(40)]
    pub stepping: u64,
}

/// Row of `rax`; the others follow.
pub const GPR: u8 = 0;
/// Row of [`State::rip`].
pub const RIP: GuestReg = GuestReg(16);
/// Row of [`State::cc_op`].
pub const CC_OP: GuestReg = GuestReg(17);
/// Row of [`State::cc_dst`].
pub const CC_DST: GuestReg = GuestReg(18);
/// Row of [`State::cc_src`].
pub const CC_SRC: GuestReg = GuestReg(19);
/// Row of [`State::cc_src2`].
pub const CC_SRC2: GuestReg = GuestReg(20);
/// Row of [`State::eflags`].
pub const EFLAGS: GuestReg = GuestReg(21);
/// Row of the first of [`State::scratch`].
pub const SCRATCH: u8 = 22;
/// Row of the first of [`State::seg_base`].
pub const SEG_BASE: u8 = 26;
/// Row of [`State::mxcsr`].
pub const MXCSR: GuestReg = GuestReg(32);
/// Row of [`State::fcw`].
pub const FCW: GuestReg = GuestReg(33);
/// Row of [`State::fsw`].
pub const FSW: GuestReg = GuestReg(34);
/// Row of [`State::ftop`].
pub const FTOP: GuestReg = GuestReg(35);
/// Row of [`State::ftw`].
pub const FTW: GuestReg = GuestReg(36);

/// Row of [`State::cc_over`].
pub const CC_OVER: GuestReg = GuestReg(37);
/// Row of [`State::split`].
pub const SPLIT: GuestReg = GuestReg(38);

/// Row of the first opmask register; they are in [`State::vectors`] at [`OPMASK_AT`], and IR names them as
/// registers only.
pub const OPMASK: u8 = 39;

/// Row of [`State::zmm_used`].
pub const ZMM_USED: GuestReg = GuestReg(47);

const ROWS: usize = 48;

/// Names of general registers.
pub(crate) const NAMES: [&str; 16] = [
    "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13",
    "r14", "r15",
];
/// General registers that get a host register of their own, the hottest first:
/// rax rsp rdx rcx rdi rsi rbx rbp r8.
const PINNED: [u8; 9] = [0, 4, 2, 1, 7, 6, 3, 5, 8];

/// The registers that IR can name.
pub static REGISTERS: [RegInfo; ROWS] = register_table();

const fn register_table() -> [RegInfo; ROWS] {
    let mut table = [RegInfo { name: "", class: RegClass::Int, offset: 0, pin: 0 }; ROWS];
    const SEGMENTS: [&str; 6] = ["es_base", "cs_base", "ss_base", "ds_base", "fs_base", "gs_base"];
    const SCRATCHES: [&str; 4] = ["scratch0", "scratch1", "scratch2", "scratch3"];
    let mut i = 0;
    while i < 16 {
        table[i].name = NAMES[i];
        table[i].offset = (offset_of!(State, gpr) + 8 * i) as u32;
        i += 1;
    }
    i = 0;
    while i < 6 {
        table[SEG_BASE as usize + i].name = SEGMENTS[i];
        table[SEG_BASE as usize + i].offset = (offset_of!(State, seg_base) + 8 * i) as u32;
        i += 1;
    }
    i = 0;
    while i < 4 {
        table[SCRATCH as usize + i].name = SCRATCHES[i];
        table[SCRATCH as usize + i].offset = (offset_of!(State, scratch) + 8 * i) as u32;
        i += 1;
    }
    const OPMASKS: [&str; 8] = ["k0", "k1", "k2", "k3", "k4", "k5", "k6", "k7"];
    i = 0;
    while i < 8 {
        let offset = offset_of!(State, vectors) + OPMASK_AT + 8 * i;
        table[OPMASK as usize + i].name = OPMASKS[i];
        table[OPMASK as usize + i].offset = offset as u32;
        i += 1;
    }
    let others: [(GuestReg, &str, usize); 14] = [
        (ZMM_USED, "zmm_used", offset_of!(State, zmm_used)),
        (RIP, "rip", offset_of!(State, rip)),
        (CC_OP, "cc_op", offset_of!(State, cc_op)),
        (CC_DST, "cc_dst", offset_of!(State, cc_dst)),
        (CC_SRC, "cc_src", offset_of!(State, cc_src)),
        (CC_SRC2, "cc_src2", offset_of!(State, cc_src2)),
        (EFLAGS, "eflags", offset_of!(State, eflags)),
        (MXCSR, "mxcsr", offset_of!(State, mxcsr)),
        (FCW, "fcw", offset_of!(State, fcw)),
        (FSW, "fsw", offset_of!(State, fsw)),
        (FTOP, "ftop", offset_of!(State, ftop)),
        (FTW, "ftw", offset_of!(State, ftw)),
        (CC_OVER, "cc_over", offset_of!(State, cc_over)),
        (SPLIT, "split", offset_of!(State, split)),
    ];
    i = 0;
    while i < others.len() {
        let (GuestReg(row), name, offset) = others[i];
        table[row as usize].name = name;
        table[row as usize].offset = offset as u32;
        i += 1;
    }
    let mut rank = 0;
    while rank < PINNED.len() {
        table[PINNED[rank] as usize].pin = rank as u8 + 1;
        rank += 1;
    }
    table
}

impl State {
    /// Looks whether bits above the low 256 of the vector registers that VEX has are set: to be done by whoever
    /// writes there other than by instructions.
    pub fn note_vectors(&mut self) {
        let registers = self.vectors.0.chunks_exact(ZMM_BYTES).take(16);
        let mut upper = registers.flat_map(|register| &register[32..]);
        self.zmm_used = upper.any(|byte| *byte != 0).into();
    }

    /// The opmask register with a number.
    pub fn opmask(&self, number: usize) -> u64 {
        let at = OPMASK_AT + 8 * (number & 7);
        u64::from_le_bytes(std::array::from_fn(|i| self.vectors.0[at + i]))
    }

    /// Sets an opmask register.
    pub fn set_opmask(&mut self, number: usize, value: u64) {
        let at = OPMASK_AT + 8 * (number & 7);
        self.vectors.0[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }

    fn place(&mut self, reg: GuestReg) -> &mut u64 {
        let i = usize::from(reg.0);
        match reg {
            CC_OP => &mut self.cc_op,
            CC_DST => &mut self.cc_dst,
            CC_SRC => &mut self.cc_src,
            CC_SRC2 => &mut self.cc_src2,
            EFLAGS => &mut self.eflags,
            MXCSR => &mut self.mxcsr,
            FCW => &mut self.fcw,
            FSW => &mut self.fsw,
            FTOP => &mut self.ftop,
            FTW => &mut self.ftw,
            CC_OVER => &mut self.cc_over,
            SPLIT => &mut self.split,
            ZMM_USED => &mut self.zmm_used,
            _ => match i {
                0..16 => &mut self.gpr[i],
                22..26 => &mut self.scratch[i - 22],
                26..32 => &mut self.seg_base[i - 26],
                _ => &mut self.rip,
            },
        }
    }

    /// A register of the table.
    pub fn reg(&self, reg: GuestReg) -> u64 {
        let i = usize::from(reg.0);
        match reg {
            CC_OP => self.cc_op,
            CC_DST => self.cc_dst,
            CC_SRC => self.cc_src,
            CC_SRC2 => self.cc_src2,
            EFLAGS => self.eflags,
            MXCSR => self.mxcsr,
            FCW => self.fcw,
            FSW => self.fsw,
            FTOP => self.ftop,
            FTW => self.ftw,
            CC_OVER => self.cc_over,
            SPLIT => self.split,
            ZMM_USED => self.zmm_used,
            _ => match i {
                0..16 => self.gpr[i],
                22..26 => self.scratch[i - 22],
                26..32 => self.seg_base[i - 26],
                39..47 => self.opmask(i - 39),
                _ => self.rip,
            },
        }
    }

    /// Sets a register of the table.
    pub fn set_reg(&mut self, reg: GuestReg, value: u64) {
        match reg.0 {
            39..47 => self.set_opmask(usize::from(reg.0 - OPMASK), value),
            _ => *self.place(reg) = value,
        }
    }

    /// The flags register, whole.
    pub fn flags(&self) -> u64 {
        self.arithmetic_flags() | self.eflags & !eflags::ARITHMETIC | eflags::ONE
    }

    /// Sets the flags register, whole.
    pub fn set_flags(&mut self, value: u64) {
        self.cc_op = flags::Cc::EFLAGS.code();
        self.cc_dst = value & eflags::ARITHMETIC;
        (self.cc_src, self.cc_src2, self.cc_over) = (0, 0, 0);
        self.eflags = value & !eflags::ARITHMETIC | eflags::ONE;
    }

    fn arithmetic_flags(&self) -> u64 {
        let Self { cc_op, cc_dst, cc_src, cc_src2, cc_over, .. } = *self;
        flags::compute(cc_op, [cc_dst, cc_src, cc_src2], cc_over)
    }

    /// Puts the arithmetic flags into `cc_dst`, where IR finds them bit by bit.
    pub(crate) fn settle_flags(&mut self) -> u64 {
        let bits = self.arithmetic_flags();
        (self.cc_op, self.cc_dst) = (flags::Cc::EFLAGS.code(), bits);
        bits
    }

    /// Whether code is of 64 bits.
    pub fn is_long(&self) -> bool {
        self.efer & EFER_LMA != 0 && self.seg_attributes[seg::CS as usize] & attributes::L != 0
    }

    /// Current privilege level.
    pub fn cpl(&self) -> u64 {
        if self.eflags & eflags::VM != 0 {
            return 3;
        }
        self.seg_attributes[seg::SS as usize] >> attributes::DPL_SHIFT & 3
    }
}

/// EFER: SYSCALL is there.
pub const EFER_SCE: u64 = 1 << 0;
/// EFER: long mode is enabled.
pub const EFER_LME: u64 = 1 << 8;
/// EFER: long mode is active.
pub const EFER_LMA: u64 = 1 << 10;
/// EFER: pages may forbid execution.
pub const EFER_NXE: u64 = 1 << 11;
/// CR0: protected mode.
pub const CR0_PE: u64 = 1 << 0;
/// CR0: x87 errors are native.
pub const CR0_MP: u64 = 1 << 1;
/// CR0: no x87 unit.
pub const CR0_EM: u64 = 1 << 2;
/// CR0: task switched.
pub const CR0_TS: u64 = 1 << 3;
/// CR0: x87 errors are exceptions.
pub const CR0_NE: u64 = 1 << 5;
/// CR0: alignment checks may be on.
pub const CR0_AM: u64 = 1 << 18;
/// CR4: RDTSC is the kernel's.
pub const CR4_TSD: u64 = 1 << 2;
/// CR4: SSE is enabled.
pub const CR4_OSFXSR: u64 = 1 << 9;
/// CR4: unmasked SSE exceptions have their vector.
pub const CR4_OSXMMEXCPT: u64 = 1 << 10;
/// CR4: bases of FS and GS are for instructions.
pub const CR4_FSGSBASE: u64 = 1 << 16;
/// CR4: XSAVE is enabled.
pub const CR4_OSXSAVE: u64 = 1 << 18;
/// XCR0: x87, SSE, the upper halves of ymm.
pub const XCR0_AVX: u64 = 7;
/// XCR0: opmasks, the upper halves of zmm, the upper sixteen.
pub const XCR0_AVX512: u64 = 0xe0;

pub mod mode {
    //! Bits of `isa::Mode::flags`: what the meaning of code depends on beside the address.

    /// Two bits: width of code, 0 for 16 bits, 1 for 32, 2 for 64.
    pub const CODE: u32 = 3;
    /// The stack is of 32 bits, not 16.
    pub const STACK32: u32 = 1 << 2;
    /// Where the privilege level is.
    pub const CPL_SHIFT: u32 = 3;
    /// Protected mode.
    pub const PROTECTED: u32 = 1 << 5;
    /// Virtual-8086 mode.
    pub const VM86: u32 = 1 << 6;
    /// ES, CS, SS and DS begin at 0 and have no limit.
    pub const FLAT: u32 = 1 << 7;
    /// FS has no limit and may be written.
    pub const FS_FLAT: u32 = 1 << 8;
    /// GS has no limit and may be written.
    pub const GS_FLAT: u32 = 1 << 9;
    /// The direction flag.
    pub const DF: u32 = 1 << 10;
    /// The trap flag.
    pub const TF: u32 = 1 << 11;
    /// Misaligned accesses fault.
    pub const ALIGN: u32 = 1 << 12;
    /// x87 and MMX instructions are not available: CR0.EM or CR0.TS.
    pub const NO_X87: u32 = 1 << 13;
    /// SSE instructions are undefined: CR0.EM or no CR4.OSFXSR.
    pub const NO_SSE: u32 = 1 << 14;
    /// CR0.TS.
    pub const TS: u32 = 1 << 15;
    /// AVX is enabled in XCR0.
    pub const AVX: u32 = 1 << 16;
    /// AVX-512 is enabled in XCR0.
    pub const AVX512: u32 = 1 << 17;
    /// Where IOPL is.
    pub const IOPL_SHIFT: u32 = 18;
    /// MXCSR has an exception unmasked: SSE looks for it before it writes results.
    pub const SSE_EXACT: u32 = 1 << 20;
    /// CR4.FSGSBASE.
    pub const FSGSBASE: u32 = 1 << 21;
    /// The x87 control word has an exception unmasked: one may be pending.
    pub const X87_EXACT: u32 = 1 << 22;
    /// CR4.OSXSAVE.
    pub const OSXSAVE: u32 = 1 << 23;
    /// Locked operations are not atomic: the next one is on misaligned memory.
    pub const SPLIT: u32 = 1 << 24;
    /// Bits above the low 256 of the first sixteen vector registers may be set; otherwise, nobody needs to
    /// clear them.
    pub const ZMM: u32 = 1 << 25;
    /// One instruction runs although TF is set.
    pub const STEPPING: u32 = 1 << 26;
}
