//! The system's shared objects of x86 (vdso(7); DWARF register numbers: System V ABI, AMD64 and i386 supplements), and
//! the page of calls at a fixed address that older programs of x86-64 use.

use crate::calls;
use crate::thread::Thread;
use crate::vdso::{Function, Library, Rules, SignalFrame};
use isa::{Access, Event};
use x86::state::gpr;

/// Names, and numbers of calls, of 64 bits.
const CALLS_64: &[(&str, &str, u8, u8)] = &[
    ("__vdso_clock_gettime", "clock_gettime", 228, 0),
    ("__vdso_gettimeofday", "gettimeofday", 96, 0),
    ("__vdso_time", "time", 201, 0),
    ("__vdso_clock_getres", "clock_getres", 229, 0),
    // Linux, arch/x86: the number has two bytes.
    ("__vdso_getcpu", "getcpu", 53, 1),
];
/// Of 32 bits.
const CALLS_32: &[(&str, u8, u8)] = &[
    ("__vdso_clock_gettime", 9, 1),
    ("__vdso_clock_gettime64", 147, 1),
    ("__vdso_clock_getres", 10, 1),
    ("__vdso_gettimeofday", 78, 0),
    ("__vdso_time", 13, 0),
    ("__vdso_getcpu", 62, 1),
];

/// Of `x86_64`. Handlers return to code of the program's own; the first function is for those that do not.
pub fn wide() -> Library {
    const RSP: u8 = 7;
    const RETURN: u8 = 16;
    let rules = || Rules { signal: false, column: RETURN, unit: -8, program: Vec::new() };
    let plain = rules().def_cfa(RSP, 8).saved(RETURN, 1);
    let back = Function {
        name: None,
        alias: None,
        version: 0,
        // mov $15, %eax; syscall
        code: vec![0xb8, 0x0f, 0x00, 0x00, 0x00, 0x0f, 0x05],
        rules: Rules { signal: true, ..rules() }
            .signal_frame(&SignalFrame { stack: RSP, registers: &PLACES_64 }),
    };
    let function = |(name, alias, low, high): &(&'static str, &'static str, u8, u8)| Function {
        name: Some(name),
        alias: Some(alias),
        version: 0,
        // mov $NUMBER, %eax; syscall; ret
        code: vec![0xb8, *low, *high, 0, 0, 0x0f, 0x05, 0xc3],
        rules: plain.clone(),
    };
    Library {
        machine: 62,
        flags: 0,
        wide: true,
        name: "linux-vdso.so.1",
        versions: &["LINUX_2.6"],
        filler: &[0x90],
        functions: [back].into_iter().chain(CALLS_64.iter().map(function)).collect(),
    }
}

/// Where `struct rt_sigframe` of x86-64 has registers, behind the return address.
const PLACES_64: [(u8, i64); 17] = {
    const REGISTERS: i64 = 40;
    // R8 to R15, RDI, RSI, RBP, RBX, RDX, RAX, RCX, RSP, RIP.
    const ORDER: [u8; 17] = [8, 9, 10, 11, 12, 13, 14, 15, 5, 4, 6, 3, 1, 0, 2, 7, 16];
    let mut places = [(0, 0); 17];
    let mut n = 0;
    while n < ORDER.len() {
        places[n] = (ORDER[n], REGISTERS + 8 * n as i64);
        n += 1;
    }
    places
};

/// Where `struct sigcontext_32` has registers: EDI, ESI, EBP, ESP, EBX, EDX, ECX, EAX, EIP.
const PLACES_32: [(u8, i64); 9] =
    [(7, 16), (6, 20), (5, 24), (4, 28), (3, 32), (2, 36), (1, 40), (0, 44), (8, 56)];

/// How far behind the older return from handlers the newer one lies.
pub const RT_RETURN_32: u64 = 16;

/// Of `i386`: two returns from handlers, the entry to the system, and functions.
pub fn narrow() -> Library {
    const ESP: u8 = 4;
    const EBX: u8 = 3;
    const RETURN: u8 = 8;
    // What the newer frame has before its registers, seen from the return.
    const CONTEXT: i64 = 160;
    let rules = || Rules { signal: false, column: RETURN, unit: -4, program: Vec::new() };
    let plain = || rules().def_cfa(ESP, 4).saved(RETURN, 1);
    let frame = |rules: Rules, by: i64| {
        let places = PLACES_32.map(|(register, at)| (register, at + by));
        rules.signal_frame(&SignalFrame { stack: ESP, registers: &places })
    };
    let signal = || Rules { signal: true, ..rules() };
    let function = |name, version, code, rules| Function {
        name: Some(name),
        alias: None,
        version,
        code,
        rules,
    };
    let mut functions = vec![
        // pop %eax; mov $119, %eax; int $0x80
        function(
            "__kernel_sigreturn",
            0,
            vec![0x58, 0xb8, 0x77, 0, 0, 0, 0xcd, 0x80],
            // Of these bytes the first is the filler before it.
            frame(frame(signal(), 4).advance(2), 0),
        ),
        // mov $173, %eax; int $0x80
        function(
            "__kernel_rt_sigreturn",
            0,
            vec![0xb8, 0xad, 0, 0, 0, 0xcd, 0x80],
            frame(signal(), CONTEXT),
        ),
        // int $0x80; ret
        function("__kernel_vsyscall", 0, vec![0xcd, 0x80, 0xc3], plain()),
    ];
    functions.extend(CALLS_32.iter().map(|(name, low, high)| {
        // push %ebx; mov 8(%esp), %ebx; mov 12(%esp), %ecx; mov 16(%esp), %edx
        let mut code = vec![0x53, 0x8b, 0x5c, 0x24, 8, 0x8b, 0x4c, 0x24, 12, 0x8b, 0x54, 0x24, 16];
        // mov $NUMBER, %eax; int $0x80; pop %ebx; ret
        code.extend([0xb8, *low, *high, 0, 0, 0xcd, 0x80, 0x5b, 0xc3]);
        let pushed = plain().advance(1).def_cfa_offset(8).saved(EBX, 2);
        function(name, 1, code, pushed.advance(20).def_cfa_offset(4))
    }));
    Library {
        machine: 3,
        flags: 0,
        wide: false,
        name: "linux-gate.so.1",
        versions: &["LINUX_2.5", "LINUX_2.6"],
        filler: &[0x90],
        functions,
    }
}

/// Where the page of calls lies, how far its calls are apart, and their names.
const PAGE: u64 = 0xffff_ffff_ff60_0000;
const STEP: u64 = 1024;
const PAGE_CALLS: [&str; 3] = ["gettimeofday", "time", "getcpu"];

/// Makes the call of the page at a fixed address that the program jumped to. Whether it did.
pub fn old_call(thread: &mut Thread, event: &Event) -> bool {
    let Event::Memory { address, access: Access::Fetch, .. } = *event else { return false };
    let Some(at) = address.checked_sub(PAGE).filter(|at| at.is_multiple_of(STEP)) else {
        return false;
    };
    let Some(name) = PAGE_CALLS.get((at / STEP) as usize) else { return false };
    let stack = thread.cpu.stack();
    let Ok(back) = thread.process.space.read::<u64>(stack) else { return false };
    let Some(args) = super::x86::registers(thread, [gpr::RDI, gpr::RSI]) else { return false };
    let done = calls::by_name(thread, name, &[args[0], args[1], 0, 0, 0, 0]);
    thread.cpu.set_result(done.unwrap_or_else(|error| i64::from(-error.0).cast_unsigned()));
    thread.cpu.set_stack(stack.wrapping_add(8));
    thread.cpu.set_pc(back);
    true
}
