//! Extended precision against the host's own x87, by a small C program: results, exception flags and
//! the direction of the rounding, in every rounding mode and precision.
#![cfg(target_arch = "x86_64")]

mod common;

use common::Random;
use softfloat::{
    Env, ExtendedPrecision, F32, F64, F80, Flags, Float, Inexact, Quotient, Relation, Rounding, x87,
};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// What goes to the program.
#[derive(Clone, Copy, Debug)]
struct Case {
    op: u8,
    control: u16,
    a: u128,
    b: u128,
}

/// What comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Answer {
    status: u16,
    r: u128,
    s: u128,
}

const ROUNDINGS: [Rounding; 4] =
    [Rounding::NearestEven, Rounding::Down, Rounding::Up, Rounding::TowardZero];
const PRECISIONS: [(u16, ExtendedPrecision); 3] = [
    (0, ExtendedPrecision::Single),
    (2, ExtendedPrecision::Double),
    (3, ExtendedPrecision::Extended),
];
/// The exception flags, and what tells that the magnitude was rounded up.
const EXCEPTIONS: u16 = 0x3f;
const UP: u16 = 0x200;

/// The program, compiled once.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/x87.c");
        let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("x87");
        let made = program.with_extension(std::process::id().to_string());
        let status = Command::new("cc").arg("-O1").arg("-o").arg(&made).arg(source).status();
        assert!(status.expect("a C compiler is installed").success(), "the program compiles");
        std::fs::rename(made, &program).expect("it can be renamed");
        program
    })
}

fn ten(value: u128) -> [u8; 10] {
    let mut bytes = [0; 10];
    bytes.copy_from_slice(&value.to_le_bytes()[..10]);
    bytes
}

fn value(bytes: &[u8]) -> u128 {
    bytes.iter().rev().fold(0, |value, byte| value << 8 | u128::from(*byte))
}

fn native(cases: &[Case]) -> Vec<Answer> {
    let mut child = Command::new(program())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program runs");
    let mut input = Vec::new();
    for case in cases {
        input.push(case.op);
        input.extend_from_slice(&case.control.to_le_bytes());
        input.extend_from_slice(&ten(case.a));
        input.extend_from_slice(&ten(case.b));
    }
    let mut stdin = child.stdin.take().expect("it is a pipe");
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().expect("the program ends").stdout;
    writer.join().expect("the writer ends").expect("the program reads all");
    let answer = |bytes: &[u8]| Answer {
        status: u16::from_le_bytes([bytes[0], bytes[1]]),
        r: value(&bytes[2..12]),
        s: value(&bytes[12..22]),
    };
    output.chunks_exact(22).map(answer).collect()
}

fn env_of(control: u16) -> Env {
    let mut env = Env::x87(ROUNDINGS[usize::from(control >> 10 & 3)]);
    let precision = PRECISIONS.iter().find(|(code, _)| *code == control >> 8 & 3);
    env.extended_precision = precision.expect("one that exists").1;
    env
}

/// Exceptions as the status word has them, and C1.
fn status(env: &Env) -> u16 {
    let bits = [
        Flags::INVALID,
        Flags::INPUT_DENORMAL,
        Flags::DIV_BY_ZERO,
        Flags::OVERFLOW,
        Flags::UNDERFLOW,
        Flags::INEXACT,
    ];
    let flags = bits.iter().enumerate();
    let flags = flags.map(|(i, flag)| u16::from(env.flags.contains(*flag)) << i).sum::<u16>();
    let up = env.rounded_up && env.flags.contains(Flags::INEXACT);
    flags | if up { UP } else { 0 }
}

fn operand(random: &mut Random) -> u128 {
    match random.below(16) {
        // Unnormals, pseudo-denormals, pseudo-infinities.
        0 => random.pattern(80),
        1 => F80::from_parts(0x3fff + random.below(3) as u16, random.pattern(64) as u64 | 1 << 63),
        _ => random.operand::<F80>(),
    }
}

fn cases(ops: &[u8], count: usize, seed: u64) -> Vec<Case> {
    let mut random = Random::new(seed);
    let mut cases = Vec::new();
    for op in ops {
        for _ in 0..count {
            let precision = PRECISIONS[random.below(3) as usize].0;
            let control = 0x3f | precision << 8 | (random.below(4) as u16) << 10;
            let a = operand(&mut random);
            let b = match random.below(3) {
                0 => random.near::<F80>(a),
                _ => operand(&mut random),
            };
            cases.push(Case { op: *op, control, a, b });
        }
    }
    cases
}

/// Compares what `ours` gives with the host: result, second result, condition bits to compare.
fn compare(
    ops: &[u8],
    seed: u64,
    mask: u16,
    ours: impl Fn(u8, &mut Env, u128, u128) -> (u128, u128, u16),
) {
    let cases = cases(ops, 4000, seed);
    let mut wrong = Vec::new();
    for (case, theirs) in cases.iter().zip(native(&cases)) {
        let mut env = env_of(case.control);
        let (r, s, bits) = ours(case.op, &mut env, case.a, case.b);
        let mine = Answer { status: (status(&env) | bits) & mask, r, s };
        let theirs = Answer { status: theirs.status & mask, ..theirs };
        if mine != theirs {
            wrong.push(format!("{case:x?}: {mine:x?}, host {theirs:x?}"));
        }
    }
    let few: Vec<_> = wrong.iter().take(12).cloned().collect();
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), few.join("\n"));
}

#[test]
fn arithmetic_agrees() {
    compare(&[0, 1, 2, 3, 4, 7], 31, EXCEPTIONS | UP, |op, env, a, b| {
        let result = match op {
            0 => F80::add(env, a, b),
            1 => F80::sub(env, a, b),
            2 => F80::mul(env, a, b),
            3 => F80::div(env, a, b),
            4 => F80::sqrt(env, a),
            _ => F80::round_to_integral(env, a, None, Inexact::Raise),
        };
        (result, 0, 0)
    });
}

/// The host and we may take other steps on the way to a remainder, which may be denormal.
#[test]
fn remainders_agree() {
    compare(&[5, 6], 32, EXCEPTIONS & !2, |op, env, a, b| {
        let rule = if op == 5 { Quotient::Truncated } else { Quotient::Nearest };
        let mut value = a;
        loop {
            let step = x87::remainder(env, value, b, rule);
            value = step.value;
            if let Some(quotient) = step.quotient {
                // C0, C3 and C1, but for what earlier flags say.
                let bits = (quotient & 4) << 6 | (quotient & 2) << 13 | (quotient & 1) << 9;
                return (value, 0, bits as u16);
            }
        }
    });
}

#[test]
fn scaling_and_parts_agree() {
    compare(&[8, 9], 36, EXCEPTIONS, |op, env, a, b| match op {
        8 => (x87::scale(env, a, b), 0, 0),
        _ => {
            let (exponent, significand) = x87::extract(env, a);
            (significand, exponent, 0)
        }
    });
}

#[test]
fn comparisons_agree() {
    // C0, C2 and C3.
    compare(&[10, 11], 33, EXCEPTIONS | 0x4500, |op, env, a, b| {
        let relation = match op {
            10 => F80::compare_signalling(env, b, a),
            _ => F80::compare(env, b, a),
        };
        let bits = match relation {
            Relation::Less => 0x100,
            Relation::Equal => 0x4000,
            Relation::Greater => 0,
            Relation::Unordered => 0x4500,
        };
        (b, 0, bits)
    });
}

#[test]
fn conversions_agree() {
    let ops = [20, 21, 22, 23, 24, 26, 27, 28, 29, 30, 32, 33, 34];
    compare(&ops, 34, EXCEPTIONS | UP, |op, env, a, _| {
        let cut = Some(Rounding::TowardZero);
        let result = match op {
            20 => F80::to_int::<i16>(env, a, None) as u16 as u128,
            21 => F80::to_i32(env, a) as u32 as u128,
            22 => F80::to_i64(env, a) as u64 as u128,
            23 => F80::convert::<F32>(env, a).into(),
            24 => F80::convert::<F64>(env, a).into(),
            26 => F32::convert::<F80>(env, a as u32),
            27 => F64::convert::<F80>(env, a as u64),
            28 => F80::from_int(env, a as i16),
            29 => F80::from_i32(env, a as i32),
            30 => F80::from_i64(env, a as i64),
            32 => F80::to_int::<i16>(env, a, cut) as u16 as u128,
            33 => F80::to_int::<i32>(env, a, cut) as u32 as u128,
            _ => F80::to_int::<i64>(env, a, cut) as u64 as u128,
        };
        (result, 0, 0)
    });
}

/// How many units in the last place apart, of the same sign.
fn distance(a: u128, b: u128) -> u128 {
    let parts = |bits| {
        let (sign_exp, significand) = F80::to_parts(bits);
        // Across a power of two the units differ: counted by the lesser.
        (sign_exp, u128::from(sign_exp & 0x7fff) << 63 | u128::from(significand & !(1 << 63)))
    };
    let ((sign_a, a), (sign_b, b)) = (parts(a), parts(b));
    if (sign_a ^ sign_b) >> 15 != 0 { u128::MAX } else { a.abs_diff(b) }
}

/// The host may be off by a unit; special results and the flags of what is not inexact must agree.
#[test]
fn transcendental_functions_are_within_a_unit_of_the_hosts() {
    let mut cases = cases(&[12, 13, 14, 15, 16, 17, 18, 19], 4000, 35);
    for case in &mut cases {
        // Where the functions are defined.
        let limit = |bits: u128, limit: u16| {
            let (sign_exp, significand) = F80::to_parts(bits);
            let exp = sign_exp & 0x7fff;
            let exp = if exp < limit { exp } else { limit - 1 - exp % 64 };
            let significand = if exp == 0 { significand } else { significand | 1 << 63 };
            F80::from_parts(sign_exp & 0x8000 | exp, significand)
        };
        match case.op {
            12 => case.a = limit(case.a, 0x3fff),
            14 => case.b = limit(case.b, 0x3ffd),
            _ => {}
        }
    }
    let mut wrong = Vec::new();
    for (case, theirs) in cases.iter().zip(native(&cases)) {
        let mut env = env_of(case.control);
        let (a, b) = (case.a, case.b);
        let wanted = match case.op {
            16 => x87::Wanted::Sine,
            17 => x87::Wanted::Cosine,
            18 => x87::Wanted::Tangent,
            _ => x87::Wanted::Both,
        };
        let (r, s) = match case.op {
            12 => (x87::two_to_x_minus_1(&mut env, a), 0),
            13 => (x87::y_log2_x(&mut env, a, b), 0),
            14 => (x87::y_log2_x_plus_1(&mut env, a, b), 0),
            15 => (x87::arctangent(&mut env, a, b), 0),
            op => {
                let Some(angle) = x87::trigonometric(&mut env, a, wanted) else {
                    // C2
                    assert_ne!(theirs.status & 0x400, 0, "{case:x?}");
                    continue;
                };
                let one = F80::from_parts(0x3fff, 1 << 63);
                match op {
                    16 => (angle.sine, 0),
                    17 => (angle.cosine, 0),
                    18 if F80::is_nan(angle.tangent) => (angle.tangent, theirs.s),
                    18 => (one, angle.tangent),
                    _ => (angle.cosine, angle.sine),
                }
            }
        };
        // Underflow and inexact of what is on the border may differ with the last digit.
        let mask = 0x0f;
        let same = (status(&env) ^ theirs.status) & mask == 0;
        if !same || distance(r, theirs.r) > 1 || distance(s, theirs.s) > 1 {
            let mine = Answer { status: status(&env), r, s };
            wrong.push(format!("{case:x?}: {mine:x?}, host {theirs:x?}"));
        }
    }
    let few: Vec<_> = wrong.iter().take(20).cloned().collect();
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), few.join("\n"));
}
