//! Frames of signal handlers on x86 (Linux, the exported headers `asm/sigcontext.h` and `asm/ucontext.h`;
//! sigreturn(2)).

use super::{Frame, Return};
use crate::errno::Errno;
use crate::space::Space;
use x86::State;
use x86::image::LEGACY;
use x86::state::{eflags, gpr, seg};

/// `SA_SIGINFO`.
const SIGINFO: u64 = 4;
/// Bytes below the stack pointer that leaf functions of x86-64 use.
const RED_ZONE: u64 = 128;
/// `FP_XSTATE_MAGIC1` and `FP_XSTATE_MAGIC2`.
const MAGIC1: u64 = 0x4650_5853;
const MAGIC2: u64 = 0x4650_5845;
/// Where `struct _fpx_sw_bytes` is in the image of FXSAVE.
const SOFTWARE: usize = 464;
/// Flags that a handler may change by its frame.
const FLAGS: u64 = eflags::ARITHMETIC | eflags::TF | eflags::DF | eflags::AC | eflags::RF;

/// Bytes of a frame, and numbers in it.
struct Bytes(Vec<u8>);

impl Bytes {
    fn put(&mut self, at: usize, value: u64, len: usize) {
        self.0[at..at + len].copy_from_slice(&value.to_le_bytes()[..len]);
    }

    fn get(&self, at: usize, len: usize) -> u64 {
        self.0[at..at + len].iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
    }

    fn read(space: &Space, at: u64, len: usize) -> Result<Self, Errno> {
        let mut bytes = vec![0; len];
        space.read_bytes(at, &mut bytes)?;
        Ok(Self(bytes))
    }
}

/// The floating-point state with what the kernel adds: `extra` bytes come before it in memory.
fn float_image(state: &State, extra: u64) -> Vec<u8> {
    let mut image = Bytes(state.image());
    let len = image.0.len() as u64;
    let features = image.get(LEGACY, 8);
    image.put(SOFTWARE, MAGIC1, 4);
    image.put(SOFTWARE + 4, extra + len + 4, 4);
    image.put(SOFTWARE + 8, features, 8);
    image.put(SOFTWARE + 16, len, 4);
    image.0.extend_from_slice(&(MAGIC2 as u32).to_le_bytes());
    image.0
}

/// Takes over the floating-point state at an address; none is as a processor begins.
fn read_float(state: &mut State, space: &Space, at: u64) -> Result<(), Errno> {
    if at == 0 {
        let mut fresh = State { xcr0: state.xcr0, fcw: 0x37f, mxcsr: 0x1f80, ..State::default() };
        fresh.ftop = 0;
        state.set_image(&fresh.image());
        return Ok(());
    }
    let head = Bytes::read(space, at, LEGACY)?;
    let len = state.image_len();
    let extended = head.get(SOFTWARE, 4) == MAGIC1 && head.get(SOFTWARE + 16, 4) as usize <= len;
    let image = match extended {
        true => Bytes::read(space, at, head.get(SOFTWARE + 16, 4) as usize)?,
        false => head,
    };
    state.set_image(&image.0);
    Ok(())
}

/// Signal, code and address of a fault as `trapno` and `err`: what the frame tells beside siginfo.
fn trap_number(frame: &Frame) -> (u64, u64) {
    let code = i32::from_le_bytes([frame.info[8], frame.info[9], frame.info[10], frame.info[11]]);
    match frame.signal {
        // Page faults have their address; others are #GP.
        11 if code == 1 || code == 2 => (14, 4 | u64::from(code == 2)),
        11 => (13, 0),
        4 => (6, 0),
        5 if code == 2 => (1, 0),
        5 => (3, 0),
        8 if code == 1 => (0, 0),
        8 => (19, 0),
        _ => (0, 0),
    }
}

/// The address of a fault.
fn fault_address(frame: &Frame, at: usize, len: usize) -> u64 {
    let (trap, _) = trap_number(frame);
    let bytes = &frame.info[at..at + len];
    let address = bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte));
    if trap == 14 && frame.signal == 11 { address } else { 0 }
}

/// `struct rt_sigframe` of x86-64.
pub struct Wide;

impl Wide {
    const CONTEXT: usize = 8;
    const REGISTERS: usize = Self::CONTEXT + 40;
    const MASK: usize = Self::REGISTERS + 256;
    const INFO: usize = Self::MASK + 8;
    const LEN: usize = Self::INFO + 128;
    /// General registers in the order of `struct sigcontext`.
    const ORDER: [u8; 16] = [
        8,
        9,
        10,
        11,
        12,
        13,
        14,
        15,
        gpr::RDI,
        gpr::RSI,
        gpr::RBP,
        gpr::RBX,
        gpr::RDX,
        gpr::RAX,
        gpr::RCX,
        gpr::RSP,
    ];

    /// Writes a frame: where it is, its siginfo, its context.
    pub fn write(state: &State, space: &Space, frame: &Frame) -> Result<(u64, u64, u64), Errno> {
        let same = frame.stack == state.gpr[usize::from(gpr::RSP)];
        let float = float_image(state, 0);
        let top = frame.stack.wrapping_sub(if same { RED_ZONE } else { 0 });
        let float_at = top.checked_sub(float.len() as u64).ok_or(Errno::EFAULT)? & !63;
        // As after a call: the pointer is 8 less than a multiple of 16.
        let at = (float_at.checked_sub(Self::LEN as u64).ok_or(Errno::EFAULT)? & !15) - 8;
        let mut image = Bytes(vec![0; Self::LEN]);
        image.put(0, frame.restorer, 8);
        // UC_FP_XSTATE, UC_SIGCONTEXT_SS, UC_STRICT_RESTORE_SS.
        image.put(Self::CONTEXT, 7, 8);
        let [base, flags, len] = frame.alternate;
        image.put(Self::CONTEXT + 16, base, 8);
        image.put(Self::CONTEXT + 24, flags, 4);
        image.put(Self::CONTEXT + 32, len, 8);
        let regs = Self::REGISTERS;
        for (n, register) in Self::ORDER.into_iter().enumerate() {
            image.put(regs + 8 * n, state.gpr[usize::from(register)], 8);
        }
        image.put(regs + 128, state.rip, 8);
        image.put(regs + 136, state.flags(), 8);
        for (n, number) in [seg::CS, seg::GS, seg::FS, seg::SS].into_iter().enumerate() {
            image.put(regs + 144 + 2 * n, state.seg_selector[usize::from(number)], 2);
        }
        let (trap, error) = trap_number(frame);
        image.put(regs + 152, error, 8);
        image.put(regs + 160, trap, 8);
        image.put(regs + 168, frame.mask, 8);
        image.put(regs + 176, fault_address(frame, 16, 8), 8);
        image.put(regs + 184, float_at, 8);
        image.put(Self::MASK, frame.mask, 8);
        image.0[Self::INFO..].copy_from_slice(&frame.info);
        space.write_bytes(float_at, &float)?;
        space.write_bytes(at, &image.0)?;
        Ok((at, at + Self::INFO as u64, at + Self::CONTEXT as u64))
    }

    /// Takes over the registers of the frame that a handler left: its return address is gone.
    pub fn read(state: &mut State, space: &Space, stack: u64) -> Result<Return, Errno> {
        let image = Bytes::read(space, stack.wrapping_sub(8), Self::LEN)?;
        let regs = Self::REGISTERS;
        read_float(state, space, image.get(regs + 184, 8))?;
        for (n, register) in Self::ORDER.into_iter().enumerate() {
            state.gpr[usize::from(register)] = image.get(regs + 8 * n, 8);
        }
        let old = state.flags();
        state.set_flags(old & !FLAGS | image.get(regs + 136, 8) & FLAGS & !eflags::RF);
        state.rip = image.get(regs + 128, 8);
        Ok(Return {
            mask: image.get(Self::MASK, 8),
            alternate: [
                image.get(Self::CONTEXT + 16, 8),
                image.get(Self::CONTEXT + 24, 4),
                image.get(Self::CONTEXT + 32, 8),
            ],
        })
    }
}

/// `struct rt_sigframe` and `struct sigframe` of i386.
pub struct Narrow;

impl Narrow {
    /// Bytes of `struct sigcontext_32`.
    const REGISTERS_LEN: usize = 88;
    // struct sigframe: return address, signal, registers, room, more of the mask, code.
    const OLD_REGISTERS: usize = 8;
    const OLD_MASK: usize = Self::OLD_REGISTERS + Self::REGISTERS_LEN + 624;
    const OLD_LEN: usize = Self::OLD_MASK + 4 + 8;
    // struct rt_sigframe: return address, signal, two pointers, siginfo, context, code.
    const INFO: usize = 16;
    const CONTEXT: usize = Self::INFO + 128;
    const REGISTERS: usize = Self::CONTEXT + 20;
    const MASK: usize = Self::REGISTERS + Self::REGISTERS_LEN;
    const LEN: usize = Self::MASK + 8 + 8;
    /// Bytes of the x87 state in its older form, before that of FXSAVE.
    const X87: u64 = 112;
    const SEGMENTS: [u8; 4] = [seg::GS, seg::FS, seg::ES, seg::DS];
    const ORDER: [u8; 8] =
        [gpr::RDI, gpr::RSI, gpr::RBP, gpr::RSP, gpr::RBX, gpr::RDX, gpr::RCX, gpr::RAX];

    /// Writes a frame: where it is, its siginfo and its context, or nothing for these. Without a
    /// restorer of the program's, `rt_return` bytes into ours is the newer return.
    pub fn write(
        state: &State,
        space: &Space,
        frame: &Frame,
        rt_return: u64,
    ) -> Result<(u64, u64, u64), Errno> {
        const RESTORER: u64 = 0x0400_0000;
        let old = frame.flags & SIGINFO == 0;
        let (len, regs) = match old {
            true => (Self::OLD_LEN, Self::OLD_REGISTERS),
            false => (Self::LEN, Self::REGISTERS),
        };
        let float = float_image(state, Self::X87);
        let short = || Errno::EFAULT;
        let fxsave = frame.stack.checked_sub(float.len() as u64).ok_or_else(short)? & !63;
        let float_at = fxsave - Self::X87;
        // As after a call: with the return address, a multiple of 16 less 4.
        let at = ((float_at.checked_sub(len as u64).ok_or_else(short)? + 4) & !15) - 4;
        let own = if old { 0 } else { rt_return };
        let back = if frame.flags & RESTORER != 0 { 0 } else { own };
        let mut image = Bytes(vec![0; len]);
        image.put(0, frame.restorer + back, 4);
        image.put(4, frame.signal.into(), 4);
        for (n, number) in Self::SEGMENTS.into_iter().enumerate() {
            image.put(regs + 4 * n, state.seg_selector[usize::from(number)], 2);
        }
        for (n, register) in Self::ORDER.into_iter().enumerate() {
            image.put(regs + 16 + 4 * n, state.gpr[usize::from(register)], 4);
        }
        let (trap, error) = trap_number(frame);
        let words = [
            trap,
            error,
            state.rip,
            state.seg_selector[usize::from(seg::CS)],
            state.flags(),
            state.gpr[usize::from(gpr::RSP)],
            state.seg_selector[usize::from(seg::SS)],
            float_at,
            frame.mask,
            fault_address(frame, 12, 4),
        ];
        for (n, word) in words.into_iter().enumerate() {
            image.put(regs + 48 + 4 * n, word, 4);
        }
        if old {
            image.put(Self::OLD_MASK, frame.mask >> 32, 4);
        } else {
            image.put(8, at + Self::INFO as u64, 4);
            image.put(12, at + Self::CONTEXT as u64, 4);
            image.0[Self::INFO..Self::INFO + 128].copy_from_slice(&frame.info);
            image.put(Self::CONTEXT, 1, 4);
            let [base, flags, size] = frame.alternate;
            image.put(Self::CONTEXT + 8, base, 4);
            image.put(Self::CONTEXT + 12, flags, 4);
            image.put(Self::CONTEXT + 16, size, 4);
            image.put(Self::MASK, frame.mask, 8);
        }
        space.write_bytes(float_at, &Self::x87(state, &float))?;
        space.write_bytes(fxsave, &float)?;
        space.write_bytes(at, &image.0)?;
        match old {
            true => Ok((at, 0, 0)),
            false => Ok((at, at + Self::INFO as u64, at + Self::CONTEXT as u64)),
        }
    }

    /// The x87 state as FNSAVE has it, of an image of FXSAVE; and that there is the other.
    pub fn x87(state: &State, image: &[u8]) -> Vec<u8> {
        let mut out = Bytes(vec![0; Self::X87 as usize]);
        let tags = (0..8)
            .fold(0u64, |tags, n| tags | if state.ftw >> n & 1 != 0 { 0 } else { 3 << (2 * n) });
        let fsw = state.fsw & !0x3800 | state.ftop << 11;
        for (n, word) in [state.fcw, fsw, tags].into_iter().enumerate() {
            out.put(4 * n, word | 0xffff_0000, 4);
        }
        for n in 0..8 {
            let from = 32 + 16 * n;
            out.0[28 + 10 * n..38 + 10 * n].copy_from_slice(&image[from..from + 10]);
        }
        out.put(108, fsw, 2);
        out.put(110, 0, 2);
        out.0
    }

    /// Takes over the registers of the frame that a handler left, older or newer.
    pub fn read(state: &mut State, space: &Space, stack: u64, old: bool) -> Result<Return, Errno> {
        // The return address is gone, and with the older one the signal too.
        let (back, len, regs) = match old {
            true => (8, Self::OLD_LEN, Self::OLD_REGISTERS),
            false => (4, Self::LEN, Self::REGISTERS),
        };
        let image = Bytes::read(space, stack.wrapping_sub(back), len)?;
        let word = |n: usize| image.get(regs + 48 + 4 * n, 4);
        let float = word(7);
        read_float(state, space, if float == 0 { 0 } else { float + Self::X87 })?;
        for (n, register) in Self::ORDER.into_iter().enumerate() {
            state.gpr[usize::from(register)] = image.get(regs + 16 + 4 * n, 4);
        }
        for (n, number) in Self::SEGMENTS.into_iter().enumerate() {
            let selector = image.get(regs + 4 * n, 2);
            if selector != state.seg_selector[usize::from(number)] {
                state.load_user_segment(number, selector);
            }
        }
        let flags = state.flags();
        state.set_flags(flags & !FLAGS | word(4) & FLAGS & !eflags::RF);
        state.rip = word(2);
        let mask = match old {
            true => word(8) | image.get(Self::OLD_MASK, 4) << 32,
            false => image.get(Self::MASK, 8),
        };
        let alternate = match old {
            true => [0, 2, 0],
            false => [
                image.get(Self::CONTEXT + 8, 4),
                image.get(Self::CONTEXT + 12, 4),
                image.get(Self::CONTEXT + 16, 4),
            ],
        };
        Ok(Return { mask, alternate })
    }
}
