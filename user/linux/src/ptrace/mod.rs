//! `ptrace` between programs that we run (ptrace(2); decision record “Tracing between programs”).
//!
//! The host's kernel knows who traces whom: it attaches children, keeps who waits, tells of ends. But
//! its stops find us anywhere in our own code. So a traced program stops itself, at places where its
//! registers are known: it puts them into a [`Block`] of its memory and sends itself a signal with a
//! code of ours, which stops it for its tracer ([`tracee`]). The tracer's emulator takes every stop of
//! the host, lets those that are not such signals go on, and answers requests out of the block ([`tracer`]).

pub mod block;
pub mod tracee;
pub mod tracer;
pub mod wait;

/// Requests (Linux, `linux/ptrace.h`, `asm/ptrace-abi.h`).
pub mod request {
    #![allow(missing_docs, reason = "names of the header")]
    pub const TRACEME: u32 = 0;
    pub const PEEKTEXT: u32 = 1;
    pub const PEEKDATA: u32 = 2;
    pub const PEEKUSER: u32 = 3;
    pub const POKETEXT: u32 = 4;
    pub const POKEDATA: u32 = 5;
    pub const POKEUSER: u32 = 6;
    pub const CONT: u32 = 7;
    pub const KILL: u32 = 8;
    pub const SINGLESTEP: u32 = 9;
    pub const GETREGS: u32 = 12;
    pub const SETREGS: u32 = 13;
    pub const GETFPREGS: u32 = 14;
    pub const SETFPREGS: u32 = 15;
    pub const ATTACH: u32 = 16;
    pub const DETACH: u32 = 17;
    pub const GETFPXREGS: u32 = 18;
    pub const SETFPXREGS: u32 = 19;
    pub const SYSCALL: u32 = 24;
    pub const ARCH_PRCTL: u32 = 30;
    pub const SETOPTIONS: u32 = 0x4200;
    pub const GETEVENTMSG: u32 = 0x4201;
    pub const GETSIGINFO: u32 = 0x4202;
    pub const SETSIGINFO: u32 = 0x4203;
    pub const GETREGSET: u32 = 0x4204;
    pub const SETREGSET: u32 = 0x4205;
    pub const SEIZE: u32 = 0x4206;
    pub const INTERRUPT: u32 = 0x4207;
    pub const LISTEN: u32 = 0x4208;
    pub const GETSIGMASK: u32 = 0x420a;
    pub const SETSIGMASK: u32 = 0x420b;
    pub const GET_SYSCALL_INFO: u32 = 0x420e;
}

/// `PTRACE_O_*`.
pub mod option {
    #![allow(missing_docs, reason = "names of the header")]
    pub const SYSGOOD: u64 = 1;
    pub const FORK: u64 = 1 << 1;
    pub const VFORK: u64 = 1 << 2;
    pub const CLONE: u64 = 1 << 3;
    pub const EXEC: u64 = 1 << 4;
    pub const VFORKDONE: u64 = 1 << 5;
    pub const EXIT: u64 = 1 << 6;
    pub const SECCOMP: u64 = 1 << 7;
    pub const EXITKILL: u64 = 1 << 20;
    /// All that there are.
    pub const ALL: u64 = 0xff | EXITKILL;
}

/// `PTRACE_EVENT_*`.
pub mod event {
    #![allow(missing_docs, reason = "names of the header")]
    pub const FORK: u32 = 1;
    pub const CLONE: u32 = 3;
    pub const EXEC: u32 = 4;
    pub const SECCOMP: u32 = 7;
    pub const STOP: u32 = 128;
}

/// Kinds of register sets (`linux/elf.h`).
pub mod note {
    #![allow(missing_docs, reason = "names of the header")]
    pub const PRSTATUS: u32 = 1;
    pub const PRFPREG: u32 = 2;
    pub const PRXFPREG: u32 = 0x46e6_2b7f;
    pub const X86_XSTATE: u32 = 0x202;
    pub const RISCV_VECTOR: u32 = 0x901;
}
