//! A virtual processor: the run loop, and the one slow path of generated code.
#![expect(unsafe_code, reason = "generated code is entered and comes back through raw pointers")]

use crate::cache::{CodeCache, Found, Isa, Key, LinkSlot};
use crate::code_page::CodePage;
use crate::doorbell::{Doorbell, attention};
use crate::engine::{Engine, Generation};
use crate::faults::Running;
use crate::log;
use crate::process::ProcessMemory;
use crate::shared::{Block, Shared};
use crate::source::{Asking, Source};
use codegen::x86_64::{pin_of, read_mxcsr, write_mxcsr};
use codegen::{
    CLEAN, Core, ENGINE_FLAGS, ExitRecord, JUMP_ENTRIES, Loc, RecordKind, Site, SiteKind,
};
use cpu::{CpuLink, Exit, Register, RestoreError, Value, VirtualCpu};
use interp::{Interpreter, Outcome};
use ir::{Builder, ExitKind, GuestReg, MemOp, RegInfo, Unit, VectorBytes};
use isa::{Cpu, FloatControl, FpFlags, Guest, HostRounding, Mode};
use memory::{AddressSpace, MemoryListener, PAGE};
use state::SavedState;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

/// Bit of `Unit::flags` for units that are executed for a single step. ISAs do not use it, nor the
/// two below it, which hold the set of address translations.
pub(crate) const SINGLE_STEP: u32 = 1 << 31;
const MMU_SHIFT: u32 = 29;

/// All of a mode but its pc, as generated code compares it.
fn unit_flags(mode: &Mode) -> u32 {
    debug_assert!(
        mode.flags & ENGINE_FLAGS & !SINGLE_STEP == 0,
        "the ISA leaves the bits to the engine"
    );
    mode.flags | u32::from(mode.mmu) << MMU_SHIFT
}

/// What generated code returns when the slow path has set the pc.
static REDIRECTED: ExitRecord =
    ExitRecord { pc: 0, slot: 0, unit: 0, kind: RecordKind::Redirected };

/// A processor run by the translator.
pub struct Vcpu<G: Guest> {
    guest: Arc<G>,
    pub(crate) shared: Arc<Shared<G::State>>,
    /// Its number among those of its code cache, for logs.
    number: usize,
    engine: Engine<G>,
    regs: &'static [RegInfo],
    /// Pinned registers: host register, row.
    pins: Vec<(usize, GuestReg)>,
    unit: Unit,
    /// Exits to the run loop by kind, and units looked up in the shared tables.
    exits: [u64; 7],
    lookups: u64,
    /// Units that ran lately, by their place in the jump cache, modulo their number.
    recent: Box<[Option<Recent>]>,
    mode: Mode,
    epoch: u64,
    enter: u64,
    interpreter: Interpreter,
    /// The memory of the process, in user mode.
    pub(crate) process: Option<Arc<ProcessMemory>>,
    /// The next instruction overwrites code of its own page: it is executed by itself.
    alone: bool,
}

// SAFETY: the raw pointers into the shared block are used by the thread that owns the processor.
unsafe impl<G: Guest> Send for Vcpu<G> {}

/// Units that ran lately, of a thread of a process: what it does between system calls.
const RECENT: usize = 128;

/// A unit that ran lately.
#[derive(Clone, Copy)]
struct Recent {
    pc: u64,
    flags: u32,
    /// Whether its address leads there in every address space.
    global: bool,
    /// `Engine::code_generation` and `CodeCache::changes` then.
    code: Generation,
    seen: u64,
    found: Found,
}

/// How to go on after looking for a unit.
enum Next {
    Run(Found),
    /// The instruction in `Vcpu::unit`, by the interpreter.
    Once,
    /// A trap was taken on the way.
    Trapped,
}

impl<G: Guest> Vcpu<G>
where
    G::State: SavedState,
{
    /// A processor in its reset state.
    pub fn new(guest: Arc<G>, space: Arc<AddressSpace>, cache: Arc<CodeCache>) -> Self {
        Self::with(guest, space, cache, None)
    }

    pub(crate) fn with(
        guest: Arc<G>,
        space: Arc<AddressSpace>,
        cache: Arc<CodeCache>,
        process: Option<Arc<ProcessMemory>>,
    ) -> Self {
        let shared = Arc::new(Shared::new(guest.reset(), process.is_none()));
        space.listen(Arc::downgrade(&shared) as Weak<dyn MemoryListener>);
        let number = cache.join(Arc::downgrade(&shared) as Weak<dyn crate::cache::Peer>);
        let regs = G::registers();
        let row = |(row, info)| pin_of(info).map(|pin| (usize::from(pin), GuestReg(row as u8)));
        let pins = regs.iter().enumerate().filter_map(row).collect();
        let enter = cache.enter_thunk();
        Self {
            engine: Engine::new(
                Arc::clone(&shared),
                space,
                cache,
                process.as_ref().map(|process| Arc::clone(&process.pages)),
            ),
            guest,
            shared,
            number,
            regs,
            pins,
            unit: Unit::default(),
            exits: [0; 7],
            lookups: 0,
            recent: vec![None; if process.is_some() { RECENT } else { JUMP_ENTRIES }].into(),
            mode: Mode::default(),
            epoch: 0,
            enter,
            interpreter: Interpreter::default(),
            process,
            alone: false,
        }
    }

    fn block(&self) -> *mut Block<G::State> {
        self.shared.block()
    }

    /// The processor in a slow path, and its engine.
    fn with_cpu<T>(&mut self, act: impl FnOnce(&mut Cpu<'_, G>) -> T) -> T {
        // SAFETY: only this thread uses the state, and no other reference to it is alive: each is
        // made here or in `state`, for the time of a call.
        let state = unsafe { &mut (*self.shared.block()).state };
        act(&mut Cpu::new(&self.guest, state, &mut self.engine))
    }

    /// The ISA, and the registers.
    pub(crate) fn with_guest<T>(&mut self, act: impl FnOnce(&G, &mut G::State) -> T) -> T {
        // SAFETY: as in `with_cpu`.
        let state = unsafe { &mut (*self.shared.block()).state };
        act(&self.guest, state)
    }

    /// The registers.
    pub fn state_mut(&mut self) -> &mut G::State {
        // SAFETY: as in `with_cpu`.
        unsafe { &mut (*self.shared.block()).state }
    }

    /// The registers.
    pub fn state(&self) -> &G::State {
        // SAFETY: as in `with_cpu`, and `&self` keeps the processor from running.
        unsafe { &(*self.shared.block()).state }
    }

    fn set_pc(&mut self, pc: u64) {
        G::set_pc(self.state_mut(), pc);
    }

    fn set_flags(&mut self, flags: u32) {
        // SAFETY: only this thread uses the field.
        unsafe { (*self.block()).core.flags = flags };
    }

    /// Runs until something needs the thread; with `single`, one instruction.
    fn run_loop(&mut self, single: bool) -> Exit {
        self.begin();
        // Without counting: many processors of a process share the count.
        let cache = Arc::as_ptr(&self.engine.cache);
        // SAFETY: the engine keeps the cache for as long as the processor is there.
        let cache = unsafe { &*cache };
        let window = |process: &Arc<ProcessMemory>| Some(process.base()).filter(|base| *base != 0);
        let _running = self.process.as_ref().map(|process| Running::begin(cache, window(process)));
        let mut gate = cache.enter();
        let mut pending_link = None;
        let (mut kicked, mut fenced) = (false, true);
        let exit = loop {
            let wanted = Doorbell::take(self.shared.attention());
            self.shared.rounds.begin();
            if wanted & attention::MAP != 0 {
                self.engine.follow_map();
                self.engine.flush_all();
            }
            if cache.is_closing() {
                drop(gate);
                gate = cache.enter();
            }
            self.follow_epoch(cache);
            cache.settle(std::mem::take(&mut fenced));
            kicked |= wanted & attention::KICK != 0;
            if kicked && !single {
                break Exit::Kicked;
            }
            if self.with_cpu(|cpu| G::interrupt(cpu)) {
                pending_link = None;
            }
            self.mode = self.guest.mode(self.state());
            if single {
                self.mode.flags |= SINGLE_STEP;
            }
            self.set_flags(unit_flags(&self.mode));
            let seen = cache.changes().count();
            let record = match self.find(seen) {
                Some(Next::Run(found)) => {
                    if let Some(exit) = pending_link.take()
                        && (found.second.is_none() || self.process.is_some())
                    {
                        cache.link(exit, &found, seen);
                    }
                    self.log_entry(found.checked);
                    match cache.options.interpret {
                        true => self.interpret(&found),
                        false => self.enter(found.checked),
                    }
                }
                Some(Next::Once) => {
                    pending_link = None;
                    self.log_entry(0);
                    self.interpret_once()
                }
                Some(Next::Trapped) if G::holds_event(self.state()) => break Exit::Trap,
                // A step that ends in a trap is a step: a handler that faults, too, has no end.
                Some(Next::Trapped) if single => break Exit::Debug,
                Some(Next::Trapped) => {
                    pending_link = None;
                    continue;
                }
                None => {
                    drop(gate);
                    cache.flush();
                    gate = cache.enter();
                    pending_link = None;
                    continue;
                }
            };
            self.exits[record.kind as usize] += 1;
            match record.kind {
                RecordKind::Direct => {
                    self.set_pc(record.pc);
                    let (slot, from, epoch) = (record.slot, record.unit as usize, self.epoch);
                    pending_link = (slot != 0 && !single).then_some(LinkSlot { slot, from, epoch });
                }
                RecordKind::Far => self.set_pc(record.pc),
                // A fence of instruction fetches ends like this.
                RecordKind::Lookup => {
                    self.set_pc(record.pc);
                    fenced = true;
                }
                RecordKind::Indirect => {
                    // SAFETY: only this thread uses the field.
                    let target = unsafe { (*self.block()).core.target };
                    self.set_pc(target);
                }
                RecordKind::Halt => {
                    self.set_pc(record.pc);
                    if !self.with_cpu(|cpu| G::wakes(cpu)) {
                        break Exit::Halted;
                    }
                }
                RecordKind::Redirected if G::holds_event(self.state()) => break Exit::Trap,
                RecordKind::Redirected => {}
                RecordKind::Stale => {
                    self.set_pc(record.pc);
                    cache.drop_stale(record.unit as usize, self.epoch);
                    continue;
                }
            }
            if single {
                break Exit::Debug;
            }
        };
        drop(gate);
        self.end();
        if kicked && single {
            // Whoever kicked wants `run` to return.
            self.shared.kick();
        }
        exit
    }

    /// Before generated code runs: pointers for its slow path, the rounding mode.
    fn begin(&mut self) {
        let owner = std::ptr::from_mut(self) as u64;
        let mxcsr = mxcsr_of(G::float_control(self.state()));
        let block = self.block();
        // SAFETY: only this thread uses these fields.
        let core = unsafe { &raw mut (*block).core };
        // SAFETY: as above.
        unsafe { (*core).owner = owner };
        // SAFETY: as above.
        unsafe { (*core).slow = slow_path::<G> as *const () as u64 };
        // SAFETY: as above.
        unsafe { (*core).leaves = G::leaves().as_ptr() as u64 };
        // SAFETY: as above.
        unsafe { (*core).mxcsr = mxcsr };
    }

    /// After generated code ran: the flags it collected go into the state.
    fn end(&mut self) {
        // SAFETY: only this thread uses the field.
        let mxcsr = unsafe { (*self.block()).core.mxcsr };
        G::add_fp_flags(self.state_mut(), flags_of(mxcsr));
        let misses = std::mem::take(&mut self.engine.tlb_misses);
        self.engine.cache.counters.tlb_misses.fetch_add(misses, Ordering::Relaxed);
    }

    /// After the cache was emptied, no remembered jump is good.
    fn follow_epoch(&mut self, cache: &CodeCache) {
        let epoch = cache.epoch();
        if self.epoch != epoch {
            self.epoch = epoch;
            self.engine.forget_code();
        }
    }

    fn enter(&mut self, code: u64) -> ExitRecord {
        type Enter = extern "sysv64" fn(*mut Core, u64) -> *const ExitRecord;
        // SAFETY: the thunk has this signature.
        let enter: Enter = unsafe { std::mem::transmute(self.enter as *const ()) };
        let block = self.block();
        // SAFETY: the block outlives the call.
        let core = unsafe { &raw mut (*block).core };
        let record = enter(core, code);
        // SAFETY: records are static or lie in the code cache, which cannot be emptied while this
        // processor is inside.
        unsafe { *record }
    }

    /// Runs a unit by the interpreter.
    fn interpret(&mut self, found: &Found) -> ExitRecord {
        let unit = self.engine.cache.unit(found).expect("the unit was found just now");
        self.run_unit(&unit)
    }

    /// Runs [`Next::Once`]. The flags that generated code collected go into the state before, as
    /// those of the interpreter do at once.
    fn interpret_once(&mut self) -> ExitRecord {
        self.end();
        let unit = std::mem::take(&mut self.unit);
        let record = self.run_unit(&unit);
        self.unit = unit;
        self.begin();
        record
    }

    fn run_unit(&mut self, unit: &Unit) -> ExitRecord {
        let mut interpreter = std::mem::take(&mut self.interpreter);
        let outcome = self.with_cpu(|cpu| interpreter.run(unit, cpu));
        self.interpreter = interpreter;
        let (kind, pc) = match outcome {
            Outcome::Exit { pc } | Outcome::Loop(ExitKind::Lookup | ExitKind::Recheck, pc) => {
                (RecordKind::Lookup, pc)
            }
            Outcome::Loop(ExitKind::Halt, pc) => (RecordKind::Halt, pc),
            Outcome::Loop(ExitKind::Redirected, pc) => (RecordKind::Redirected, pc),
            Outcome::Trapped => (RecordKind::Redirected, 0),
        };
        ExitRecord { pc, slot: 0, unit: 0, kind }
    }

    /// The unit for the present mode. `None` when code memory is full.
    fn find(&mut self, seen: u64) -> Option<Next> {
        let mode = self.mode;
        let alone = std::mem::take(&mut self.alone);
        if !alone && let Some((found, global)) = self.recent(seen) {
            self.remember(mode.pc, &found, global, seen);
            return Some(Next::Run(found));
        }
        self.lookups += 1;
        let page = match self.code_page(mode.pc) {
            Ok(page) => page,
            Err(trap) => return Some(self.trap(trap)),
        };
        if alone || !page.whole {
            self.translate_once(&page);
            return Some(Next::Once);
        }
        let key = Key { page: page.host(), mode };
        // A unit that lies across two pages depends on both.
        let global = page.global && mode.pc % PAGE <= PAGE - G::LONGEST;
        if let Some(found) = self.engine.cache.find(&key)
            && self.second_matches(&found)
        {
            self.remember(mode.pc, &found, global, seen);
            return Some(Next::Run(found));
        }
        let found = match self.make(key, &page) {
            Ok(found) => found?,
            Err(trap) => return Some(self.trap(trap)),
        };
        self.remember(mode.pc, &found, global, seen);
        Some(Next::Run(found))
    }

    fn recent_index(&self, pc: u64) -> usize {
        Core::jump_index(pc) % self.recent.len()
    }

    /// The unit for the present mode if it ran lately and nothing it depends on has changed.
    fn recent(&self, seen: u64) -> Option<(Found, bool)> {
        let recent = self.recent[self.recent_index(self.mode.pc)].as_ref()?;
        let same = recent.pc == self.mode.pc
            && recent.flags == unit_flags(&self.mode)
            && self.engine.code_generation().keeps(recent.code, recent.global)
            && (recent.seen == seen || self.engine.cache.is_valid(&recent.found));
        same.then_some((recent.found, recent.global))
    }

    fn remember(&mut self, pc: u64, found: &Found, global: bool, seen: u64) {
        if self.mode.flags & SINGLE_STEP != 0 {
            return;
        }
        let (flags, code) = (unit_flags(&self.mode), self.engine.code_generation());
        let index = self.recent_index(pc);
        self.recent[index] = Some(Recent { pc, flags, global, code, seen, found: *found });
        self.engine.note_code(pc);
        let options = &self.engine.cache.options;
        if options.interpret || options.no_chain {
            return;
        }
        self.engine.remember_jump(pc, found.checked, global, seen);
    }

    fn code_page(&mut self, gva: u64) -> Result<CodePage, G::Trap> {
        let which = (self.mode.mmu, self.mode.flags);
        // SAFETY: as in `with_cpu`.
        let state = unsafe { &mut (*self.shared.block()).state };
        self.engine.code_page(&self.guest, state, which, gva)
    }

    fn trap(&mut self, trap: G::Trap) -> Next {
        self.with_cpu(|cpu| G::raise(cpu, trap));
        Next::Trapped
    }

    /// Whether the second page of a unit is still where it was.
    fn second_matches(&mut self, found: &Found) -> bool {
        let Some(second) = found.second else { return true };
        let next = (self.mode.pc & !(PAGE - 1)).wrapping_add(PAGE);
        self.code_page(next).is_ok_and(|page| page.host() == second)
    }

    /// Translates one instruction, each halfword of which may be fetched or not, whatever there is
    /// around it.
    fn translate_once(&mut self, page: &CodePage) {
        let guest = Arc::clone(&self.guest);
        let mode = Mode { flags: self.mode.flags & !SINGLE_STEP, ..self.mode };
        let mut unit = std::mem::take(&mut self.unit);
        unit.clear();
        (unit.pc, unit.mmu, unit.flags) = (mode.pc, mode.mmu, unit_flags(&self.mode));
        // SAFETY: as in `with_cpu`.
        let state = unsafe { &mut (*self.shared.block()).state };
        let which = (mode.mmu, self.mode.flags);
        let mut source = Asking { guest: &*guest, engine: &mut self.engine, state, which };
        guest.translate(&mode, 1, &mut source, &mut Builder::new(&mut unit));
        log::guest_code(&*guest, &unit, page, None);
        self.unit = unit;
    }

    /// Translates and compiles a unit. `None` when code memory is full.
    fn make(&mut self, key: Key, first: &CodePage) -> Result<Option<Found>, G::Trap> {
        let guest = Arc::clone(&self.guest);
        let mode = Mode { flags: key.mode.flags & !SINGLE_STEP, ..key.mode };
        let translate = |unit: &mut Unit, max_insns: u32, second: Option<&CodePage>| {
            (unit.pc, unit.mmu, unit.flags) = (mode.pc, mode.mmu, unit_flags(&key.mode));
            let max_insns = if key.mode.flags & SINGLE_STEP != 0 { 1 } else { max_insns };
            let mut source = Source { pc: mode.pc, first, second, wants_second: false };
            guest.translate(&mode, max_insns, &mut source, &mut Builder::new(unit));
            source.wants_second
        };
        let mut unit = std::mem::take(&mut self.unit);
        let mut second = None;
        if mode.pc % PAGE > PAGE - G::LONGEST {
            // The first instruction may lie across two pages: look before it is made for good.
            unit.clear();
            if translate(&mut unit, 1, None) {
                let next = (mode.pc & !(PAGE - 1)).wrapping_add(PAGE);
                second = Some(self.code_page(next)?);
            }
        }
        let second = second.as_ref();
        let cache = Arc::clone(&self.engine.cache);
        let shared = Arc::clone(&self.shared);
        let whose = (&*shared as &dyn crate::cache::Peer, key);
        let isa = Isa { regs: self.regs, vectors: G::VECTORS, helper_name: helper_name::<G> };
        let found = cache.make(whose, &mut unit, &isa, first, second, |unit, max_insns| {
            translate(unit, max_insns, second);
            log::guest_code(&*guest, unit, first, second);
        });
        self.unit = unit;
        Ok(found)
    }

    /// Logs that the unit with this host code is about to be entered: processor, code, and in
    /// brackets what it depends on.
    fn log_entry(&self, code: u64) {
        let (pc, flags) = (self.mode.pc, self.mode.flags);
        if trace::enabled_at(trace::Item::Exec, pc) {
            let number = self.number;
            trace::log!(
                Exec,
                "Trace {number}: {code:#x} [00000000/{pc:016x}/{flags:08x}/00000000] "
            );
        }
        if trace::enabled_at(trace::Item::Cpu, pc) {
            trace::log!(Cpu, "{}", self.guest.dump(self.state(), self.shared.lines()));
        }
    }

    // ---- the slow path ----

    fn read(&mut self, site: &Site, loc: Loc) -> u64 {
        let block = self.block();
        match loc {
            Loc::None => 0,
            // SAFETY: only this thread uses the frame; generated code made the index.
            Loc::Gpr(r) => unsafe { (&(*block).core.frame.gpr)[usize::from(r)] },
            // SAFETY: as above.
            Loc::Xmm(r) => unsafe { (&(*block).core.frame.xmm)[usize::from(r)][0] },
            // SAFETY: as above.
            Loc::Spill(slot) => unsafe { (&(*block).core.spill)[usize::from(slot)] },
            Loc::Imm(i) => site.imms[usize::from(i)],
            Loc::State(row) => G::reg(self.state(), GuestReg(row)),
        }
    }

    fn write(&mut self, loc: Loc, value: u64) {
        let block = self.block();
        match loc {
            Loc::None | Loc::Imm(_) => {}
            // SAFETY: as in `read`.
            Loc::Gpr(r) => unsafe { (&mut (*block).core.frame.gpr)[usize::from(r)] = value },
            // SAFETY: as above.
            Loc::Xmm(r) => unsafe { (&mut (*block).core.frame.xmm)[usize::from(r)][0] = value },
            // SAFETY: as above.
            Loc::Spill(slot) => unsafe { (&mut (*block).core.spill)[usize::from(slot)] = value },
            Loc::State(row) => G::set_reg(self.state_mut(), GuestReg(row), value),
        }
    }

    /// A vector where generated code left it; sites have them in registers.
    fn read_vector(&mut self, loc: Loc) -> VectorBytes {
        let Loc::Xmm(r) = loc else { return [0; 32] };
        let block = self.block();
        // SAFETY: as in `read`.
        let words = unsafe { (&(*block).core.frame.xmm)[usize::from(r)] };
        let mut bytes = [0; 32];
        for (to, word) in bytes.chunks_exact_mut(8).zip(words) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    fn write_vector(&mut self, loc: Loc, bytes: &VectorBytes) {
        let Loc::Xmm(r) = loc else { return };
        let mut words = [0; 4];
        for (to, from) in words.iter_mut().zip(bytes.chunks_exact(8)) {
            *to = from.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
        }
        let block = self.block();
        // SAFETY: as in `read`.
        unsafe { (&mut (*block).core.frame.xmm)[usize::from(r)] = words };
    }

    /// A load or store of a vector.
    fn serve_vector(&mut self, site: &Site, mem: MemOp, gva: u64) -> Result<(), G::Trap> {
        let mmu = self.mode.mmu;
        if let SiteKind::Store(_) = site.kind {
            let bytes = self.read_vector(site.args[2]);
            return self.with_cpu(|cpu| cpu.store_vector(mmu, mem, gva, &bytes));
        }
        let bytes = self.with_cpu(|cpu| cpu.load_vector(mmu, mem, gva))?;
        self.write_vector(site.dst, &bytes);
        Ok(())
    }

    /// Writes every register that is newer than memory to the state, and the exact pc.
    fn synchronise(&mut self, site: &Site) {
        for host in 0..16 {
            if site.gpr[host] != CLEAN {
                let value = self.read(site, Loc::Gpr(host as u8));
                G::set_reg(self.state_mut(), GuestReg(site.gpr[host]), value);
            }
            if site.xmm[host] != CLEAN {
                let value = self.read(site, Loc::Xmm(host as u8));
                G::set_reg(self.state_mut(), GuestReg(site.xmm[host]), value);
            }
        }
        for deferred in site.deferred.iter().filter(|deferred| deferred.guest != CLEAN) {
            let value = match deferred.host {
                CLEAN => i64::from(deferred.value).cast_unsigned(),
                host => self.read(site, Loc::Gpr(host)),
            };
            G::set_reg(self.state_mut(), GuestReg(deferred.guest), value);
        }
        self.set_pc(site.pc);
    }

    /// Serves a site. `None` to resume, else what generated code returns to the run loop.
    fn serve(&mut self, site: &Site) -> Option<&'static ExitRecord> {
        let [a, b, c] = site.args.map(|loc| self.read(site, loc));
        let mmu = self.mode.mmu;
        if self.overwrites_itself(site, [a, b]) {
            self.synchronise(site);
            self.alone = true;
            return Some(&REDIRECTED);
        }
        let result = match site.kind {
            SiteKind::Load(mem) | SiteKind::Store(mem) if mem.size() > 8 => {
                let result = self.serve_vector(site, mem, a.wrapping_add(b));
                return self.resume(site, result);
            }
            SiteKind::Load(mem) => self.with_cpu(|cpu| cpu.load(mmu, mem, a.wrapping_add(b))),
            SiteKind::Store(mem) => {
                self.with_cpu(|cpu| cpu.store(mmu, mem, a.wrapping_add(b), c).map(|()| 0))
            }
            SiteKind::Amo(op, mem) => self.with_cpu(|cpu| cpu.amo(mmu, (op, mem), a, b)),
            SiteKind::Cas(mem) => self.with_cpu(|cpu| cpu.cas(mmu, mem, a, (b, c))),
            SiteKind::Call(helper) => {
                self.synchronise(site);
                self.call(helper, [a, b, c])
            }
        };
        let result = result.map(|value| self.write(site.dst, value));
        self.resume(site, result)
    }

    /// Whether what a site stores would overwrite code of the page that it is in itself: then what
    /// comes after it in the unit may not be what the guest has there.
    fn overwrites_itself(&self, site: &Site, [a, b]: [u64; 2]) -> bool {
        let (gva, mem) = match site.kind {
            SiteKind::Store(mem) => (a.wrapping_add(b), mem),
            SiteKind::Amo(_, mem) | SiteKind::Cas(mem) => (a, mem),
            SiteKind::Load(_) | SiteKind::Call(_) => return false,
        };
        self.engine.overwrites_itself(site.pc, gva, mem.size())
    }

    /// Resumes after a site, or takes its trap.
    fn resume(&mut self, site: &Site, result: Result<(), G::Trap>) -> Option<&'static ExitRecord> {
        match result {
            Ok(()) => {
                // SAFETY: only this thread uses the field.
                unsafe { (*self.block()).core.resume = site.resume };
                None
            }
            Err(trap) => {
                if !matches!(site.kind, SiteKind::Call(_)) {
                    self.synchronise(site);
                }
                self.with_cpu(|cpu| G::raise(cpu, trap));
                Some(&REDIRECTED)
            }
        }
    }

    /// Makes generated code leave at its next poll.
    fn leave_soon(&self) {
        self.shared.attention().fetch_or(attention::LEAVE, Ordering::SeqCst);
    }

    fn call(&mut self, helper: u16, args: [u64; 3]) -> Result<u64, G::Trap> {
        let helper = &G::helpers()[usize::from(helper)];
        if helper.float {
            let mxcsr = read_mxcsr();
            G::add_fp_flags(self.state_mut(), flags_of(mxcsr));
        }
        let result = self.with_cpu(|cpu| (helper.run)(cpu, args));
        if helper.float {
            write_mxcsr(mxcsr_of(G::float_control(self.state())));
        }
        if helper.quiet {
            return result;
        }
        for i in 0..self.pins.len() {
            let (host, row) = self.pins[i];
            let value = G::reg(self.state(), row);
            self.write(Loc::Gpr(host as u8), value);
        }
        let mut mode = self.guest.mode(self.state());
        mode.flags |= self.mode.flags & SINGLE_STEP;
        // SAFETY: only this thread uses the field.
        let present = unsafe { (*self.block()).core.flags };
        if unit_flags(&mode) != present {
            // What follows was translated for another mode; it is left at the next poll.
            self.leave_soon();
            self.shared.forget_returns();
        } else if self.with_cpu(|cpu| G::interrupt_due(cpu)) {
            self.leave_soon();
        }
        result
    }
}

/// Where generated code comes when it cannot go on by itself. Zero to resume.
extern "sysv64" fn slow_path<G: Guest>(core: *mut Core, site: *const Site) -> *const ExitRecord
where
    G::State: SavedState,
{
    // SAFETY: generated code passes its own core, and only this thread uses the field.
    let owner = unsafe { (*core).owner } as *mut Vcpu<G>;
    // SAFETY: `begin` set it to the processor that entered generated code on this thread; its
    // `&mut self` is not used until generated code returns.
    let vcpu = unsafe { &mut *owner };
    // SAFETY: sites lie in the code cache, which cannot be emptied while this processor is inside.
    let site = unsafe { *site };
    vcpu.serve(&site).map_or(std::ptr::null(), std::ptr::from_ref)
}

/// Name of a helper in listings.
fn helper_name<G: Guest>(number: u16) -> Option<&'static str> {
    Some(G::helpers().get(usize::from(number))?.name)
}

/// Guest floating-point flags in an MXCSR value.
fn flags_of(mxcsr: u32) -> FpFlags {
    let flag = |bit: u32| mxcsr >> bit & 1 != 0;
    FpFlags {
        invalid: flag(0),
        denormal: flag(1),
        div_by_zero: flag(2),
        overflow: flag(3),
        underflow: flag(4),
        inexact: flag(5),
    }
}

/// MXCSR without flags, as a control register of the guest wants it.
fn mxcsr_of(control: FloatControl) -> u32 {
    let rounding = match control.rounding {
        HostRounding::Nearest => 0,
        HostRounding::Down => 1,
        HostRounding::Up => 2,
        HostRounding::Zero => 3,
    };
    let flush = u32::from(control.flush_to_zero) << 15;
    let zeros = u32::from(control.denormals_are_zero) << 6;
    Core::MXCSR | flush | rounding << 13 | zeros
}

impl<G: Guest> VirtualCpu for Vcpu<G>
where
    G::State: SavedState,
{
    fn link(&self) -> Arc<dyn CpuLink> {
        Arc::clone(&self.shared) as Arc<dyn CpuLink>
    }

    fn run(&mut self) -> Exit {
        self.run_loop(false)
    }

    fn step(&mut self) -> Exit {
        self.run_loop(true)
    }

    fn reset(&mut self) {
        *self.state_mut() = self.guest.reset();
        self.engine.flush_all();
        trace::log!(CpuReset, "CPU Reset\n{}", self.guest.dump(self.state(), self.shared.lines()));
    }

    fn pc(&self) -> u64 {
        self.guest.mode(self.state()).pc
    }

    fn registers(&self) -> Vec<Register> {
        let register = |(row, info): (usize, &RegInfo)| Register {
            name: info.name,
            bits: 64,
            value: u128::from(G::reg(self.state(), GuestReg(row as u8))),
        };
        self.regs.iter().enumerate().map(register).collect()
    }

    fn set_register(&mut self, name: &str, value: u128) -> bool {
        let Some(row) = self.regs.iter().position(|r| r.name == name) else { return false };
        G::set_reg(self.state_mut(), GuestReg(row as u8), value as u64);
        true
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        const KINDS: [&str; 7] = [
            "exits to be linked",
            "exits to other pages",
            "indirect jumps missed",
            "exits to look up",
            "halts",
            "traps and returns",
            "stale units",
        ];
        let mut list: Vec<_> = KINDS.into_iter().zip(self.exits).collect();
        list.push(("unit lookups", self.lookups));
        list.push(("TLB misses", self.engine.tlb_misses));
        list.push(("TLB flushes", self.engine.flushes));
        list.push(("TLB page flushes", self.engine.page_flushes));
        list
    }

    fn dump(&self) -> String {
        self.guest.dump(self.state(), self.shared.lines())
    }

    fn debug_translate(&mut self, gva: u64) -> Option<u64> {
        self.with_cpu(|cpu| G::debug_translate(cpu, gva))
    }

    fn save(&self) -> Value {
        self.state().save()
    }

    fn restore(&mut self, value: &Value) -> Result<(), RestoreError> {
        self.state_mut().restore(value)?;
        self.guest.restored(self.state());
        self.engine.flush_all();
        Ok(())
    }
}
