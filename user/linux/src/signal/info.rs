//! `siginfo_t`.

use isa::{Access, Event, FpFlags, MemoryFault};

/// Bytes of it.
pub const INFO_LEN: usize = 128;

/// `siginfo_t` as the host's kernel has it; the same for 64-bit little-endian guests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(8))]
pub struct Info(pub [u8; INFO_LEN]);

impl Default for Info {
    fn default() -> Self {
        Self([0; INFO_LEN])
    }
}

impl Info {
    /// A signal's number and code.
    pub fn new(signal: u32, code: i32) -> Self {
        let mut info = Self::default();
        info.put(0, &signal.to_le_bytes());
        info.put(8, &code.to_le_bytes());
        info
    }

    /// A signal with a number that its receiver understands, as `sigqueue` has it.
    pub fn asking(signal: i32, code: i32, value: u64) -> Self {
        let mut info = Self::new(signal.cast_unsigned(), code);
        info.put(24, &value.to_le_bytes());
        info
    }

    /// The same with other words of 32 bits at these places.
    pub fn with_words(mut self, words: &[(usize, i32)]) -> Self {
        for (at, word) in words {
            self.put(*at, &word.to_le_bytes());
        }
        self
    }

    /// The word of 32 bits at a place.
    pub fn word_at(&self, at: usize) -> i32 {
        if at + 4 <= INFO_LEN { self.word(at) } else { 0 }
    }

    /// The same with `si_addr`.
    pub fn at(signal: u32, code: i32, address: u64) -> Self {
        let mut info = Self::new(signal, code);
        info.put(16, &address.to_le_bytes());
        info
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn word(&self, at: usize) -> i32 {
        i32::from_le_bytes([self.0[at], self.0[at + 1], self.0[at + 2], self.0[at + 3]])
    }

    /// `si_signo`.
    pub fn signal(&self) -> u32 {
        self.word(0).cast_unsigned()
    }

    /// `si_code`.
    pub fn code(&self) -> i32 {
        self.word(8)
    }

    /// `si_pid`, where the code says that there is one.
    pub fn sender(&self) -> i32 {
        self.word(16)
    }

    /// `si_uid`, where the code says that there is one.
    pub fn user(&self) -> u32 {
        self.word(20).cast_unsigned()
    }

    /// `si_value`, where the code says that there is one.
    pub fn value(&self) -> u64 {
        let low = u64::from(self.word(24).cast_unsigned());
        low | u64::from(self.word(28).cast_unsigned()) << 32
    }

    /// Sets it, and the sender to this process.
    pub fn set_value(&mut self, value: u64) {
        self.put(16, &crate::sys::getpid().to_le_bytes());
        self.put(24, &value.to_le_bytes());
    }

    /// `si_addr`, where the code says that there is one.
    pub fn address(&self) -> u64 {
        let low = u64::from(self.word(16).cast_unsigned());
        low | u64::from(self.word(20).cast_unsigned()) << 32
    }

    /// As the guest has it: for 32-bit guests, what lies after the first three numbers is narrower.
    pub fn for_guest(&self, wide: bool) -> [u8; INFO_LEN] {
        if wide {
            return self.0;
        }
        let mut narrow = [0; INFO_LEN];
        narrow[..12].copy_from_slice(&self.0[..12]);
        // Numbers of 32 bits keep their order; pointers lose their upper half.
        let (from, to) = (&self.0[16..], &mut narrow[12..]);
        let timer = self.code() == libc::SI_TIMER;
        let child = self.signal() == libc::SIGCHLD as u32 && self.code() > 0;
        let fault = self.code() > 0 && !child;
        let words: &[usize] = match () {
            // Address, call, architecture.
            () if fault && self.signal() == libc::SIGSYS as u32 => &[0, 8, 12],
            () if fault => &[0, 8],
            // pid, uid, status, utime, stime.
            () if child => &[0, 4, 8, 16, 24],
            () if timer => &[0, 4, 8],
            () => &[0, 4, 8],
        };
        for (n, at) in words.iter().enumerate() {
            to[n * 4..n * 4 + 4].copy_from_slice(&from[*at..*at + 4]);
        }
        narrow
    }
}

/// Code of a floating-point exception: the first that applies in the kernel's order.
fn float_code(flags: FpFlags) -> i32 {
    const INVALID: i32 = 7;
    const DIVIDED: i32 = 3;
    const OVERFLOW: i32 = 4;
    const UNDERFLOW: i32 = 5;
    const INEXACT: i32 = 6;
    let FpFlags { invalid, div_by_zero, overflow, underflow, inexact, .. } = flags;
    match () {
        () if invalid => INVALID,
        () if div_by_zero => DIVIDED,
        () if overflow => OVERFLOW,
        () if underflow => UNDERFLOW,
        () if inexact => INEXACT,
        () => INVALID,
    }
}

/// The signal that Linux raises for what a program did at `pc`; `None` for what is no fault.
pub fn fault_info(event: &Event, pc: u64) -> Option<Info> {
    const SEGV_MAPERR: i32 = 1;
    const SEGV_ACCERR: i32 = 2;
    const BUS_ADRALN: i32 = 1;
    const BUS_ADRERR: i32 = 2;
    const ILL_ILLOPC: i32 = 1;
    const TRAP_BRKPT: i32 = 1;
    const TRAP_TRACE: i32 = 2;
    const FPE_INTDIV: i32 = 1;
    const FPE_INTOVF: i32 = 2;
    const SI_KERNEL: i32 = 0x80;
    let (segv, bus) = (libc::SIGSEGV as u32, libc::SIGBUS as u32);
    let (ill, trap, fpe) = (libc::SIGILL as u32, libc::SIGTRAP as u32, libc::SIGFPE as u32);
    Some(match *event {
        Event::Syscall { .. } => return None,
        Event::Memory { address, access, kind } => match kind {
            MemoryFault::Unmapped => Info::at(segv, SEGV_MAPERR, address),
            MemoryFault::Protected => Info::at(segv, SEGV_ACCERR, address),
            MemoryFault::Misaligned if access != Access::Fetch => {
                Info::at(bus, BUS_ADRALN, address)
            }
            MemoryFault::Misaligned => Info::at(ill, ILL_ILLOPC, address),
            MemoryFault::Bus => Info::at(bus, BUS_ADRERR, address),
        },
        Event::Illegal => Info::at(ill, ILL_ILLOPC, pc),
        Event::Protection { .. } => Info::new(segv, SI_KERNEL),
        Event::Breakpoint => Info::at(trap, TRAP_BRKPT, pc),
        Event::Step => Info::at(trap, TRAP_TRACE, pc),
        Event::DivideByZero => Info::at(fpe, FPE_INTDIV, pc),
        Event::Overflow => Info::at(fpe, FPE_INTOVF, pc),
        Event::Bounds => Info::at(segv, SI_KERNEL, pc),
        Event::Float { flags } => Info::at(fpe, float_code(flags), pc),
    })
}
