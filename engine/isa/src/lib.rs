//! The contract between the engine and a guest ISA.
//!
//! An ISA implements [`Guest`]: it translates instructions to IR, translates addresses, and takes
//! traps and interrupts. The engine runs the IR, keeps caches of translations and of code, and
//! offers [`Services`] to the ISA's slow paths. Neither names a device or a host. ISAs that run
//! programs of an operating system implement [`UserGuest`] as well.

mod user;

pub use user::{Event, UserGuest};

use ir::{AmoOp, Builder, GuestReg, MemOp, RegInfo, VectorBytes, VectorRegion};

/// What a memory access is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Data read.
    Load,
    /// Data write.
    Store,
    /// Atomic read-modify-write: needs the right to write, faults as the ISA says.
    Atomic,
    /// Instruction fetch.
    Fetch,
}

/// What a guest virtual page resolves to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// Guest physical address of the byte that was asked for.
    pub gpa: u64,
    /// Whether loads are allowed on this page without asking again.
    pub read: bool,
    /// Whether stores are allowed on this page without asking again (dirty bits are set…).
    pub write: bool,
    /// Whether fetches are allowed on this page without asking again.
    pub execute: bool,
    /// Bytes of the page that the address translation knows, at least 4096: forgetting one address
    /// of it forgets all.
    pub span: u64,
    /// Whether it holds in every address space of the guest.
    pub global: bool,
    /// Whether the answer holds for the whole 4 KiB page. If not (a protection boundary lies in
    /// it), it holds for this access alone and is not cached; code in such a page runs one
    /// instruction at a time.
    pub whole_page: bool,
}

/// Which cached address translations to forget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flush {
    /// All.
    All,
    /// All but those that hold in every address space.
    Local,
    /// Those of the page that this address is in, global or not.
    Page(u64),
}

/// Why a memory access failed, beside what address translation itself found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryFault {
    /// Misaligned where the operation demands alignment.
    Misaligned,
    /// Nothing answers at the physical address; in user mode, the page has lost what it showed.
    Bus,
    /// User mode: nothing is mapped there.
    Unmapped,
    /// User mode: the page may not be accessed like this.
    Protected,
}

/// Everything that translation of a unit depends on beside the code itself. Two units at the same
/// place with different modes are different units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Mode {
    /// Guest address of the next instruction.
    pub pc: u64,
    /// Processor state that changes what code means: privilege, enabled units, rounding mode….
    pub flags: u32,
    /// Set of address translations in use, below [`MMU_SETS`].
    pub mmu: u8,
}

/// Sets of address translations that a processor can have at a time.
pub const MMU_SETS: usize = 4;

/// Guest code, as the translator reads it.
pub trait CodeSource {
    /// The little-endian halfword at `gva` (even). `None` where it cannot be fetched from: end the
    /// unit before, or, at the first instruction, call `fetch_fault`.
    fn halfword(&mut self, gva: u64) -> Option<u16>;
    /// The byte at `gva`, for ISAs whose instructions begin anywhere; alike.
    fn byte(&mut self, gva: u64) -> Option<u8> {
        let [low, high] = self.halfword(gva & !1)?.to_le_bytes();
        Some(if gva & 1 == 0 { low } else { high })
    }
}

/// What the engine does for an ISA's slow paths. All addresses are checked here.
pub trait Services<G: Guest> {
    /// Loads through address translation set `mmu`; the value is extended as `mem` says.
    ///
    /// # Errors
    /// The trap to take.
    fn load(&mut self, cpu: &mut Cpu<'_, G>, mmu: u8, mem: MemOp, gva: u64)
    -> Result<u64, G::Trap>;
    /// Stores through address translation set `mmu`.
    ///
    /// # Errors
    /// The trap to take.
    fn store(
        &mut self,
        cpu: &mut Cpu<'_, G>,
        mmu: u8,
        mem: MemOp,
        gva: u64,
        value: u64,
    ) -> Result<(), G::Trap>;
    /// Atomic read-modify-write; the old value, extended as `mem` says. Misaligned: the ISA's trap.
    ///
    /// # Errors
    /// The trap to take.
    fn amo(
        &mut self,
        cpu: &mut Cpu<'_, G>,
        mmu: u8,
        op: (AmoOp, MemOp),
        gva: u64,
        value: u64,
    ) -> Result<u64, G::Trap>;
    /// Atomic compare-and-swap in the width of `mem`; the old value, extended as `mem` says.
    ///
    /// # Errors
    /// The trap to take.
    fn cas(
        &mut self,
        cpu: &mut Cpu<'_, G>,
        mmu: u8,
        mem: MemOp,
        gva: u64,
        expected_new: (u64, u64),
    ) -> Result<u64, G::Trap>;
    /// Atomic compare-and-swap of 16 bytes, the low half first in memory; the old value. Misaligned:
    /// the ISA's trap.
    ///
    /// # Errors
    /// The trap to take.
    fn cas_wide(
        &mut self,
        cpu: &mut Cpu<'_, G>,
        mmu: u8,
        gva: u64,
        expected_new: (u128, u128),
    ) -> Result<u128, G::Trap>;
    /// Loads a vector: the low `mem.size()` bytes of the result, the others are zero.
    ///
    /// # Errors
    /// The trap to take.
    fn load_vector(
        &mut self,
        cpu: &mut Cpu<'_, G>,
        mmu: u8,
        mem: MemOp,
        gva: u64,
    ) -> Result<VectorBytes, G::Trap> {
        check_alignment::<G>(mem, Access::Load, gva)?;
        let mut bytes = [0; 32];
        for at in (0..mem.size() as usize).step_by(8) {
            let piece = self.load(cpu, mmu, MemOp::U64, gva.wrapping_add(at as u64))?;
            bytes[at..at + 8].copy_from_slice(&piece.to_le_bytes());
        }
        Ok(bytes)
    }
    /// Stores the low `mem.size()` bytes of a vector: all of them, or none when a page is missing.
    ///
    /// # Errors
    /// The trap to take.
    fn store_vector(
        &mut self,
        cpu: &mut Cpu<'_, G>,
        mmu: u8,
        mem: MemOp,
        gva: u64,
        bytes: &VectorBytes,
    ) -> Result<(), G::Trap> {
        check_alignment::<G>(mem, Access::Store, gva)?;
        self.probe(cpu, mmu, Access::Store, gva, mem.size())?;
        for at in (0..mem.size() as usize).step_by(8) {
            let mut piece = [0; 8];
            piece.copy_from_slice(&bytes[at..at + 8]);
            let gva = gva.wrapping_add(at as u64);
            self.store(cpu, mmu, MemOp::U64, gva, u64::from_le_bytes(piece))?;
        }
        Ok(())
    }
    /// Checks that an access of `size` bytes would succeed, without making it.
    ///
    /// # Errors
    /// The trap to take.
    fn probe(
        &mut self,
        cpu: &mut Cpu<'_, G>,
        mmu: u8,
        access: Access,
        gva: u64,
        size: u32,
    ) -> Result<(), G::Trap>;
    /// Loads `size` (1, 2, 4, 8) bytes from physical memory; `None` where nothing answers.
    fn phys_load(&mut self, gpa: u64, size: u32) -> Option<u64>;
    /// Atomically replaces `old` by `new` (`size` 4 or 8) in physical RAM: what was there. `None`
    /// where there is no RAM.
    fn phys_exchange(&mut self, gpa: u64, size: u32, old: u64, new: u64) -> Option<u64>;
    /// Writes zeros to `len` bytes from `gva` on, which do not cross a page.
    ///
    /// # Errors
    /// The trap to take; it names the first address that failed.
    fn zero(&mut self, cpu: &mut Cpu<'_, G>, mmu: u8, gva: u64, len: u32) -> Result<(), G::Trap> {
        for offset in 0..u64::from(len) {
            self.store(cpu, mmu, MemOp::U8, gva.wrapping_add(offset), 0)?;
        }
        Ok(())
    }
    /// Loads elements that lie one after the other, each as [`Services::load`] of `mem` does; as bytes.
    ///
    /// # Errors
    /// The trap of the first element that cannot be loaded, and how many bytes were before it.
    fn load_run(
        &mut self,
        cpu: &mut Cpu<'_, G>,
        mmu: u8,
        mem: MemOp,
        gva: u64,
        bytes: &mut [u8],
    ) -> Result<(), (usize, G::Trap)> {
        let size = mem.size() as usize;
        for (i, element) in bytes.chunks_exact_mut(size).enumerate() {
            let done = i * size;
            let value = self.load(cpu, mmu, mem, gva.wrapping_add(done as u64));
            let value = value.map_err(|trap| (done, trap))?;
            element.copy_from_slice(&value.to_le_bytes()[..size]);
        }
        Ok(())
    }
    /// Stores elements one after the other, each as [`Services::store`] of `mem` does.
    ///
    /// # Errors
    /// The trap of the first element that cannot be stored, and how many bytes were before it.
    fn store_run(
        &mut self,
        cpu: &mut Cpu<'_, G>,
        mmu: u8,
        mem: MemOp,
        gva: u64,
        bytes: &[u8],
    ) -> Result<(), (usize, G::Trap)> {
        let size = mem.size() as usize;
        for (i, element) in bytes.chunks_exact(size).enumerate() {
            let done = i * size;
            let mut value = [0; 8];
            value[..size].copy_from_slice(element);
            let value = u64::from_le_bytes(value);
            let stored = self.store(cpu, mmu, mem, gva.wrapping_add(done as u64), value);
            stored.map_err(|trap| (done, trap))?;
        }
        Ok(())
    }
    /// Forgets cached address translations.
    fn flush_translations(&mut self, which: Flush);
    /// Levels of the processor's interrupt inputs.
    fn lines(&self) -> u64;
}

fn check_alignment<G: Guest>(mem: MemOp, access: Access, gva: u64) -> Result<(), G::Trap> {
    match mem.must_align() && !gva.is_multiple_of(mem.size().into()) {
        true => Err(G::memory_trap(MemoryFault::Misaligned, access, gva)),
        false => Ok(()),
    }
}

/// A processor in a slow path: its state, its configuration, and the engine's services (which are
/// taken out while a service runs, hence the methods here).
pub struct Cpu<'a, G: Guest> {
    /// The processor's configuration and wiring.
    pub guest: &'a G,
    /// The processor's registers.
    pub state: &'a mut G::State,
    services: Option<&'a mut dyn Services<G>>,
}

impl<'a, G: Guest> Cpu<'a, G> {
    /// Puts the parts together.
    pub fn new(guest: &'a G, state: &'a mut G::State, services: &'a mut dyn Services<G>) -> Self {
        Self { guest, state, services: Some(services) }
    }

    fn with<T>(&mut self, run: impl FnOnce(&mut dyn Services<G>, &mut Self) -> T) -> T {
        let services = self.services.take().expect("services do not call back into services");
        let result = run(services, self);
        self.services = Some(services);
        result
    }

    /// See [`Services::load`].
    ///
    /// # Errors
    /// The trap to take.
    pub fn load(&mut self, mmu: u8, mem: MemOp, gva: u64) -> Result<u64, G::Trap> {
        self.with(|s, cpu| s.load(cpu, mmu, mem, gva))
    }

    /// See [`Services::store`].
    ///
    /// # Errors
    /// The trap to take.
    pub fn store(&mut self, mmu: u8, mem: MemOp, gva: u64, value: u64) -> Result<(), G::Trap> {
        self.with(|s, cpu| s.store(cpu, mmu, mem, gva, value))
    }

    /// See [`Services::amo`].
    ///
    /// # Errors
    /// The trap to take.
    pub fn amo(
        &mut self,
        mmu: u8,
        (op, mem): (AmoOp, MemOp),
        gva: u64,
        value: u64,
    ) -> Result<u64, G::Trap> {
        self.with(|s, cpu| s.amo(cpu, mmu, (op, mem), gva, value))
    }

    /// See [`Services::cas`].
    ///
    /// # Errors
    /// The trap to take.
    pub fn cas(
        &mut self,
        mmu: u8,
        mem: MemOp,
        gva: u64,
        (expected, new): (u64, u64),
    ) -> Result<u64, G::Trap> {
        self.with(|s, cpu| s.cas(cpu, mmu, mem, gva, (expected, new)))
    }

    /// See [`Services::cas_wide`].
    ///
    /// # Errors
    /// The trap to take.
    pub fn cas_wide(
        &mut self,
        mmu: u8,
        gva: u64,
        (expected, new): (u128, u128),
    ) -> Result<u128, G::Trap> {
        self.with(|s, cpu| s.cas_wide(cpu, mmu, gva, (expected, new)))
    }

    /// See [`Services::load_vector`].
    ///
    /// # Errors
    /// The trap to take.
    pub fn load_vector(&mut self, mmu: u8, mem: MemOp, gva: u64) -> Result<VectorBytes, G::Trap> {
        self.with(|s, cpu| s.load_vector(cpu, mmu, mem, gva))
    }

    /// See [`Services::store_vector`].
    ///
    /// # Errors
    /// The trap to take.
    pub fn store_vector(
        &mut self,
        mmu: u8,
        mem: MemOp,
        gva: u64,
        bytes: &VectorBytes,
    ) -> Result<(), G::Trap> {
        self.with(|s, cpu| s.store_vector(cpu, mmu, mem, gva, bytes))
    }

    /// See [`Services::probe`].
    ///
    /// # Errors
    /// The trap to take.
    pub fn probe(&mut self, mmu: u8, access: Access, gva: u64, size: u32) -> Result<(), G::Trap> {
        self.with(|s, cpu| s.probe(cpu, mmu, access, gva, size))
    }

    /// See [`Services::zero`].
    ///
    /// # Errors
    /// The trap to take.
    pub fn zero(&mut self, mmu: u8, gva: u64, len: u32) -> Result<(), G::Trap> {
        self.with(|s, cpu| s.zero(cpu, mmu, gva, len))
    }

    /// See [`Services::load_run`].
    ///
    /// # Errors
    /// The trap to take, and how many bytes were loaded.
    pub fn load_run(
        &mut self,
        mmu: u8,
        mem: MemOp,
        gva: u64,
        bytes: &mut [u8],
    ) -> Result<(), (usize, G::Trap)> {
        self.with(|s, cpu| s.load_run(cpu, mmu, mem, gva, bytes))
    }

    /// See [`Services::store_run`].
    ///
    /// # Errors
    /// The trap to take, and how many bytes were stored.
    pub fn store_run(
        &mut self,
        mmu: u8,
        mem: MemOp,
        gva: u64,
        bytes: &[u8],
    ) -> Result<(), (usize, G::Trap)> {
        self.with(|s, cpu| s.store_run(cpu, mmu, mem, gva, bytes))
    }

    /// See [`Services::phys_load`].
    pub fn phys_load(&mut self, gpa: u64, size: u32) -> Option<u64> {
        self.with(|s, _| s.phys_load(gpa, size))
    }

    /// See [`Services::phys_exchange`].
    pub fn phys_exchange(&mut self, gpa: u64, size: u32, old: u64, new: u64) -> Option<u64> {
        self.with(|s, _| s.phys_exchange(gpa, size, old, new))
    }

    /// See [`Services::flush_translations`].
    pub fn flush_translations(&mut self, which: Flush) {
        self.with(|s, _| s.flush_translations(which));
    }

    /// See [`Services::lines`].
    pub fn lines(&mut self) -> u64 {
        self.with(|s, _| s.lines())
    }
}

/// What a helper does: arguments in, a result or a trap out. The state's pc is exact.
pub type HelperFn<G> = fn(&mut Cpu<'_, G>, [u64; 3]) -> Result<u64, <G as Guest>::Trap>;

/// An instruction as logs and monitors show it: encoding, mnemonic, operands in columns. `bytes` are
/// little-endian.
pub fn instruction_line(bytes: &[u8], text: &str) -> String {
    let encoding: String = bytes.iter().rev().map(|byte| format!("{byte:02x}")).collect();
    let (mnemonic, operands) = text.split_once(' ').unwrap_or((text, ""));
    let operands = operands.trim_start().replace(", ", ",");
    format!("{encoding:<18}{mnemonic:<24}{operands}").trim_end().to_owned()
}

/// A function that generated code calls, as a row of the ISA's table.
pub struct Helper<G: Guest> {
    /// Name in listings.
    pub name: &'static str,
    /// The function.
    pub run: HelperFn<G>,
    /// Whether it reads or writes floating-point flags or the rounding mode in the state. Only for
    /// such helpers the engine brings the state's flags up to date before and takes the rounding
    /// mode over afterwards.
    pub float: bool,
    /// Whether it leaves pinned registers, the mode and interrupts as they are, unless the unit ends
    /// with a look at the mode right behind it.
    pub quiet: bool,
}

/// What a leaf helper does: [`ir::OpKind::Leaf`] says what it may.
pub type LeafFn<S> = extern "C" fn(&mut S, u64, u64, u64) -> u64;

/// Makes an ISA's table of leaf helpers, `LEAVES`, and `LeafIndex`, which names its rows. A row has a name and the
/// function, from the state and three arguments to the result.
#[macro_export]
macro_rules! leaves {
    ($state:ty; $($(#[$doc:meta])* $id:ident $run:path;)*) => {
        /// Row of a leaf helper in the table.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u16)]
        pub enum LeafIndex { $($(#[$doc])* $id),* }

        impl From<LeafIndex> for ::ir::LeafId {
            fn from(index: LeafIndex) -> Self {
                Self(index as u16)
            }
        }

        /// Every leaf helper.
        pub static LEAVES: &[$crate::LeafFn<$state>] = &[$({
            extern "C" fn leaf(state: &mut $state, a: u64, b: u64, c: u64) -> u64 {
                $run(state, [a, b, c])
            }
            leaf
        }),*];
    };
}

/// Makes an ISA's table of helpers, `HELPERS`, and `HelperIndex`, which names its rows: the two cannot
/// drift apart. A row has a name, the name in listings, the function, and, where they are true, `float` and `quiet`
/// of [`Helper`].
#[macro_export]
macro_rules! helpers {
    ($guest:ty; $($(#[$doc:meta])* $id:ident $name:literal $run:path $(, float: $float:literal)? $(, quiet: $quiet:literal)?;)*) => {
        /// Row of a helper in the table.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u16)]
        pub enum HelperIndex { $($(#[$doc])* $id),* }

        impl HelperIndex {
            /// As IR names it.
            pub const fn id(self) -> ::ir::HelperId {
                ::ir::HelperId(self as u16)
            }
        }

        impl From<HelperIndex> for ::ir::HelperId {
            fn from(index: HelperIndex) -> Self {
                index.id()
            }
        }

        /// Every helper.
        pub static HELPERS: &[$crate::Helper<$guest>] = &[$($crate::Helper {
            name: $name,
            run: $run,
            float: false $(|| $float)?,
            quiet: false $(|| $quiet)?,
        }),*];
    };
}

/// Floating-point exception flags that the host's units collected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FpFlags {
    /// Invalid operation.
    pub invalid: bool,
    /// Division by zero.
    pub div_by_zero: bool,
    /// Overflow.
    pub overflow: bool,
    /// Underflow (tininess after rounding).
    pub underflow: bool,
    /// Inexact.
    pub inexact: bool,
    /// An operand was denormal; of ISAs whose rules know that.
    pub denormal: bool,
}

/// Rounding modes that every host has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HostRounding {
    /// To nearest, ties to even.
    #[default]
    Nearest,
    /// Towards negative infinity.
    Down,
    /// Towards positive infinity.
    Up,
    /// Towards zero.
    Zero,
}

/// What a control register of the ISA says about floating point.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FloatControl {
    /// The rounding mode.
    pub rounding: HostRounding,
    /// Results that are tiny become zeros; underflow and inexact are told.
    pub flush_to_zero: bool,
    /// Operands that are denormal count as zeros.
    pub denormals_are_zero: bool,
}

/// A guest ISA: one processor's configuration and wiring, and what its instructions mean.
pub trait Guest: Send + Sync + Sized + 'static {
    /// The processor's registers, `#[repr(C)]`; the register table says what is where in it.
    type State: Send + 'static;
    /// An exception to be taken: cause and what goes with it.
    type Trap: std::fmt::Debug;

    /// Bytes of the longest instruction.
    const LONGEST: u64 = 4;

    /// The registers that IR can name.
    fn registers() -> &'static [RegInfo];
    /// The functions that IR can call.
    fn helpers() -> &'static [Helper<Self>];
    /// The leaf helpers that IR can call.
    fn leaves() -> &'static [LeafFn<Self::State>] {
        &[]
    }
    /// Reads a register of the table.
    fn reg(state: &Self::State, reg: GuestReg) -> u64;
    /// Writes a register of the table.
    fn set_reg(state: &mut Self::State, reg: GuestReg, value: u64);

    /// Where the vector registers are in the state; none unless the ISA has some.
    const VECTORS: VectorRegion = VectorRegion { offset: 0, len: 0 };
    /// The bytes of that region.
    fn vector_bytes(_state: &mut Self::State) -> &mut [u8] {
        &mut []
    }

    /// The state after power-on.
    fn reset(&self) -> Self::State;
    /// Takes note of a saved state that was taken over: timers outside of it are armed to match.
    fn restored(&self, _state: &Self::State) {}
    /// What translation depends on now.
    fn mode(&self, state: &Self::State) -> Mode;
    /// Sets the address of the next instruction.
    fn set_pc(state: &mut Self::State, pc: u64);

    /// Appends IR for the instructions from `mode.pc` on, `max_insns` at most, to the end of a
    /// unit, which stays in the page it begins in but for its last instruction. Must end with an
    /// exit. Illegal instructions are IR that raises the trap.
    fn translate(
        &self,
        mode: &Mode,
        max_insns: u32,
        code: &mut dyn CodeSource,
        b: &mut Builder<'_>,
    );
    /// Text of the instruction at the start of `code`, and its length in bytes.
    fn disassemble(&self, pc: u64, code: &[u8]) -> (String, usize);

    /// Translates the address of an access to `len` bytes, which do not cross a 4 KiB page, and sets
    /// accessed and dirty bits. Fetches come by the halfword.
    ///
    /// # Errors
    /// The trap to take (page fault, access fault).
    fn translate_address(
        cpu: &mut Cpu<'_, Self>,
        mmu: u8,
        access: Access,
        gva: u64,
        len: u32,
    ) -> Result<Mapping, Self::Trap>;
    /// The same for the debugger: rights ignored, nothing changed.
    fn debug_translate(cpu: &mut Cpu<'_, Self>, gva: u64) -> Option<u64>;
    /// The trap for an access that failed after translation.
    fn memory_trap(fault: MemoryFault, access: Access, gva: u64) -> Self::Trap;
    /// Takes an exception: the state's pc is the faulting instruction's before, the handler's after.
    fn raise(cpu: &mut Cpu<'_, Self>, trap: Self::Trap);
    /// Whether an exception was taken that the guest has no handler for: `run` ends with
    /// `cpu::Exit::Trap`. Only in user mode (see [`UserGuest`]).
    fn holds_event(_state: &Self::State) -> bool {
        false
    }
    /// Takes the most urgent interrupt that is pending and enabled, if any; whether it did.
    fn interrupt(cpu: &mut Cpu<'_, Self>) -> bool;
    /// Whether [`Guest::interrupt`] would take one.
    fn interrupt_due(cpu: &mut Cpu<'_, Self>) -> bool;
    /// Whether a halted processor goes on: an interrupt is pending and individually enabled.
    fn wakes(cpu: &mut Cpu<'_, Self>) -> bool;

    /// Text of `info registers`; `lines` are the levels of the processor's interrupt inputs.
    fn dump(&self, state: &Self::State, _lines: u64) -> String {
        let mut text = format!(" pc       {:016x}\n", self.mode(state).pc);
        for (row, info) in Self::registers().iter().enumerate() {
            let value = Self::reg(state, GuestReg(row as u8));
            let end = if row % 4 == 3 { '\n' } else { ' ' };
            text.push_str(&format!(" {:<8} {value:016x}{end}", info.name));
        }
        text
    }

    /// The rounding mode for the host's units. Modes the host lacks are the front end's to avoid.
    fn rounding(state: &Self::State) -> HostRounding;
    /// The same with all else that a control register of the ISA says.
    fn float_control(state: &Self::State) -> FloatControl {
        FloatControl { rounding: Self::rounding(state), ..FloatControl::default() }
    }
    /// Adds flags that the host's units collected.
    fn add_fp_flags(state: &mut Self::State, flags: FpFlags);
}
