//! This processor as an oracle: a program in C that runs code natively, and the same code in the engine.

pub mod encode;

use cpu::{Exit, VirtualCpu};
use isa::{Event, Guest, MemoryFault};
use runtime::{Options, ProcessMemory, Rights, Vcpu};
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use x86::decode::{Width, text};
use x86::state::{OPMASK_AT, SPARE_AT, VectorFile, X87_AT, eflags};
use x86::{FeatureSet, State, Wiring, X86};

/// Where code and data are, in the program in C too.
pub const CODE: u64 = 0x2000_0000;
pub const CODE_LEN: usize = 0x1000;
pub const DATA: u64 = 0x1000_0000;
pub const DATA_LEN: usize = 0x2000;
/// Bytes of code in a request.
const PART: usize = 256;
const REGS: usize = 2400;
const ANSWER: usize = REGS + 24 + DATA_LEN;
const HLT: u8 = 0xf4;

/// What a test runs: registers, code, data.
#[derive(Clone)]
pub struct Case {
    pub width: Width,
    pub state: State,
    pub code: Vec<u8>,
    pub data: Vec<u8>,
}

/// What became of it.
#[derive(Clone, PartialEq)]
pub struct Outcome {
    pub gpr: [u64; 16],
    pub rip: u64,
    pub flags: u64,
    pub vectors: VectorFile,
    /// x87: control, status with TOP, abridged tags, and MXCSR.
    pub float: [u64; 4],
    /// Number of the exception.
    pub trap: u32,
    /// Of a page fault.
    pub address: u64,
    pub data: Vec<u8>,
}

/// A processor as wide as the host's.
pub fn processor() -> X86 {
    let mut config = x86::model::parse("max").expect("a known model");
    config.features = FeatureSet::all();
    X86 { config, wiring: Wiring::default(), user: true }
}

/// The program, compiled.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<std::path::PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/native/run.c");
        let name = format!("run-{}", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let cc = Command::new("cc").args(["-O1", "-o"]).arg(&path).arg(source).status();
        assert!(cc.expect("a C compiler is installed").success(), "the program compiles");
        path
    })
}

/// The program, running.
pub struct Native(Child);

impl Native {
    pub fn start() -> Self {
        let mut command = Command::new(program());
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        Self(command.spawn().expect("the program starts"))
    }

    /// Runs a case here.
    pub fn run(&mut self, case: &Case) -> Outcome {
        let mut request = regs(case);
        let mut code = case.code.clone();
        assert!(code.len() < PART, "the code fits");
        code.resize(PART, HLT);
        request.extend(code);
        request.extend(&case.data);
        let input = self.0.stdin.as_mut().expect("it is a pipe");
        input.write_all(&request).expect("the program reads");
        let mut bytes = vec![0; ANSWER];
        let output = self.0.stdout.as_mut().expect("it is a pipe");
        if output.read_exact(&mut bytes).is_err() {
            let status = self.0.wait();
            panic!("the program died ({status:?}) of:\n{}{:x?}", listing(case), case.state.gpr);
        }
        answer(&bytes)
    }
}

impl Drop for Native {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

fn st_places(top: u64) -> impl Iterator<Item = usize> {
    (0..8).map(move |i| X87_AT + 16 * ((top as usize + i) & 7))
}

fn regs(case: &Case) -> Vec<u8> {
    let state = &case.state;
    let mut bytes: Vec<u8> = state.gpr.iter().flat_map(|r| r.to_le_bytes()).collect();
    bytes.extend(state.rip.to_le_bytes());
    bytes.extend((state.flags() | eflags::IF).to_le_bytes());
    bytes.extend(&state.vectors.0[..X87_AT]);
    bytes.extend(&state.vectors.0[OPMASK_AT..OPMASK_AT + 64]);
    for at in st_places(state.ftop) {
        bytes.extend(&state.vectors.0[at..at + 16]);
    }
    bytes.extend((state.mxcsr as u32).to_le_bytes());
    bytes.extend((state.fcw as u16).to_le_bytes());
    bytes.extend((state.fsw as u16 | (state.ftop as u16) << 11).to_le_bytes());
    bytes.extend((state.ftw as u16).to_le_bytes());
    bytes.extend([0; 2]);
    let bits: u32 = if case.width == Width::W64 { 64 } else { 32 };
    bytes.extend(bits.to_le_bytes());
    assert_eq!(bytes.len(), REGS);
    bytes
}

fn answer(bytes: &[u8]) -> Outcome {
    let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
    let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
    let float = 144 + 2048 + 64 + 128;
    let (mxcsr, control) = (u32_at(float), u32_at(float + 4));
    let tags = u32_at(float + 8) & 0xffff;
    let (fcw, fsw) = (control & 0xffff, control >> 16);
    let mut vectors = VectorFile::default();
    vectors.0[..X87_AT].copy_from_slice(&bytes[144..144 + 2048]);
    vectors.0[OPMASK_AT..OPMASK_AT + 64].copy_from_slice(&bytes[144 + 2048..144 + 2112]);
    for (i, at) in st_places(u64::from(fsw >> 11 & 7)).enumerate() {
        let from = 144 + 2112 + 16 * i;
        vectors.0[at..at + 10].copy_from_slice(&bytes[from..from + 10]);
    }
    Outcome {
        gpr: std::array::from_fn(|i| u64_at(8 * i)),
        rip: u64_at(128),
        flags: u64_at(136),
        vectors,
        float: [fcw.into(), fsw.into(), tags.into(), mxcsr.into()],
        trap: u32_at(REGS + 4),
        address: u64_at(REGS + 16),
        data: bytes[REGS + 24..].to_vec(),
    }
}

/// Fixed addresses are for one engine at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// The engine with memory at the places of the program in C.
pub struct Engine {
    vcpu: Vcpu<X86>,
    memory: Arc<ProcessMemory>,
    _alone: std::sync::MutexGuard<'static, ()>,
}

impl Engine {
    pub fn new(interpret: bool) -> Self {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let options = Options { interpret, code_bytes: 8 << 20, ..Options::default() };
        let memory = ProcessMemory::new::<X86>(runtime::Width::Bits64, options);
        let memory = memory.expect("the host has memory");
        let rw = Rights::READ | Rights::WRITE;
        memory.map(CODE, CODE_LEN as u64, rw | Rights::EXECUTE).expect("nobody is there");
        memory.map(DATA, DATA_LEN as u64, rw).expect("nobody is there");
        let vcpu = Vcpu::for_process(Arc::new(processor()), &memory);
        Self { vcpu, memory, _alone: alone }
    }

    /// Runs a case.
    pub fn run(&mut self, case: &Case) -> Outcome {
        let mut code = case.code.clone();
        code.resize(CODE_LEN, HLT);
        let (r, len) = (Rights::READ, CODE_LEN as u64);
        self.memory.protect(CODE, len, r | Rights::WRITE).expect("it is mapped");
        self.memory.write(CODE, &code).expect("it is mapped");
        self.memory.protect(CODE, len, r | Rights::EXECUTE).expect("it is mapped");
        self.memory.write(DATA, &case.data).expect("it is mapped");
        let vcpu = &mut self.vcpu;
        *vcpu.state_mut() = case.state.clone();
        let exit = vcpu.run();
        assert_eq!(exit, Exit::Trap, "{}", listing(case));
        let event = vcpu.take_event().expect("a trap has an event");
        let mut data = vec![0; DATA_LEN];
        self.memory.read(DATA, &mut data).expect("it is mapped");
        let state = vcpu.state();
        let (trap, address) = trap_of(event);
        let fsw = state.fsw & !0x3800 | state.ftop << 11;
        let mut vectors = state.vectors.clone();
        vectors.0[SPARE_AT..].fill(0);
        Outcome {
            gpr: state.gpr,
            rip: state.rip,
            flags: state.flags(),
            vectors,
            float: [state.fcw, fsw, state.ftw, state.mxcsr],
            trap,
            address,
            data,
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.memory.unmap(CODE, CODE_LEN as u64).expect("it is mapped");
        self.memory.unmap(DATA, DATA_LEN as u64).expect("it is mapped");
    }
}

/// Number of the exception, and the address of a page fault.
fn trap_of(event: Event) -> (u32, u64) {
    match event {
        Event::DivideByZero => (0, 0),
        Event::Step => (1, 0),
        Event::Breakpoint => (3, 0),
        Event::Overflow => (4, 0),
        Event::Bounds => (5, 0),
        Event::Illegal => (6, 0),
        Event::Protection { vector, .. } => (vector.into(), 0),
        Event::Memory { kind: MemoryFault::Misaligned, .. } => (17, 0),
        Event::Memory { address, .. } => {
            let canonical = address.cast_signed() << 16 >> 16 == address.cast_signed();
            if canonical { (14, address) } else { (13, 0) }
        }
        Event::Float { .. } => (19, 0),
        Event::Syscall { .. } => (128, 0),
    }
}

/// The code as text.
pub fn listing(case: &Case) -> String {
    let mut text_ = String::new();
    let mut at = 0;
    while at < case.code.len() {
        let (line, len) = text(case.width, CODE + at as u64, &case.code[at..]);
        let bytes: String = case.code[at..at + len].iter().map(|b| format!("{b:02x}")).collect();
        let _ = writeln!(text_, "    {bytes:<24} {line}");
        at += len;
    }
    text_
}

/// Flags that are compared.
const FLAGS: u64 = eflags::ARITHMETIC | eflags::DF;

/// What differs between outcomes; `ignore` are flags that do not count.
pub fn differences(native: &Outcome, found: &Outcome, ignore: u64) -> String {
    if found.rip.cast_signed() << 16 >> 16 != found.rip.cast_signed() && native.trap == 13 {
        // We fault where an indirect jump goes, the processor at the jump.
        return String::new();
    }
    let mut out = String::new();
    for i in 0..16 {
        if native.gpr[i] != found.gpr[i] {
            let _ = writeln!(out, "    r{i}: {:#x}, found {:#x}", native.gpr[i], found.gpr[i]);
        }
    }
    if native.rip != found.rip {
        let _ = writeln!(out, "    rip: {:#x}, found {:#x}", native.rip, found.rip);
    }
    let flags = (native.flags ^ found.flags) & FLAGS & !ignore;
    if flags != 0 {
        let (a, b) = (native.flags & FLAGS, found.flags & FLAGS);
        let _ = writeln!(out, "    flags: {a:#x}, found {b:#x}: {flags:#x} differ");
    }
    if found.trap == 14 && found.address >= 0xffff_ffc0 && matches!(native.trap, 12 | 13) {
        // An access across the end of a segment of 4 GiB, where no program has memory.
        return String::new();
    }
    // A stack address that is not canonical is told as #SS.
    let trap = |o: &Outcome| if o.trap == 12 { 13 } else { o.trap };
    if trap(native) != trap(found) || native.trap == 14 && native.address != found.address {
        let _ = writeln!(
            out,
            "    trap: {} at {:#x}, found {} at {:#x}",
            native.trap, native.address, found.trap, found.address
        );
    }
    for (i, (a, b)) in native.data.iter().zip(&found.data).enumerate().filter(|(_, (a, b))| a != b)
    {
        let _ = writeln!(out, "    [{:#x}]: {a:#x}, found {b:#x}", DATA + i as u64);
    }
    for (i, (a, b)) in native.vectors.0.chunks(16).zip(found.vectors.0.chunks(16)).enumerate() {
        if a != b {
            let _ = writeln!(out, "    vectors {i}: {a:02x?}, found {b:02x?}");
        }
    }
    if native.float != found.float {
        let _ = writeln!(out, "    float: {:x?}, found {:x?}", native.float, found.float);
    }
    out
}

/// Runs a test with a stack that a processor can be built on.
pub fn with_stack(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new().stack_size(64 << 20).spawn(test);
    let joined = thread.expect("the host has memory").join();
    joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

/// A state in which a program runs.
pub fn start(width: Width) -> State {
    let mut state = processor().user_state(width == Width::W64);
    state.rip = CODE;
    assert_eq!(processor().mode(&state).pc, CODE);
    state
}
