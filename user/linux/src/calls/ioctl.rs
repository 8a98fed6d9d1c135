//! `ioctl`: which requests have an address as their argument. With 64-bit programs, what lies there
//! has the host's layout.

use super::int;
use crate::errno::{Done, Errno};
use crate::thread::Thread;

type Args = [u64; 6];

/// Requests of terminals and sockets from before requests told of their arguments, whose argument is
/// a number or nothing.
const NUMBERS: &[(u32, u32)] = &[
    // TCSBRK, TCXONC, TCFLSH, TIOCEXCL, TIOCNXCL, TIOCSCTTY.
    (0x5409, 0x540e),
    // TIOCNOTTY.
    (0x5422, 0x5422),
    // TCSBRKP, TIOCSBRK, TIOCCBRK.
    (0x5425, 0x5428),
    // TIOCVHANGUP.
    (0x5437, 0x5437),
    // FIONCLEX, FIOCLEX.
    (0x5450, 0x5451),
    // TIOCMIWAIT.
    (0x545c, 0x545c),
    // Block devices: BLKROSET reads, the others that take nothing.
    (0x1261, 0x1261),
    // CDROM: what takes nothing or a number.
    (0x5301, 0x5302),
    (0x5307, 0x530a),
    (0x530f, 0x530f),
    (0x5312, 0x5314),
    (0x5319, 0x531a),
    (0x5320, 0x532a),
    // Virtual terminals: KIOCSOUND, KDMKTONE, KDSETMODE, VT_ACTIVATE and so on.
    (0x4b2f, 0x4b30),
    (0x4b3a, 0x4b3a),
    (0x4b3c, 0x4b3d),
    (0x4b45, 0x4b45),
    (0x5605, 0x5608),
    // Loop devices: LOOP_SET_FD and so on.
    (0x4c00, 0x4c01),
    (0x4c06, 0x4c09),
    (0x4c80, 0x4c82),
    // Files: FIFREEZE and the like say that they have an argument and read none.
    // Devices of network tunnels: TUNSETNOCSUM, TUNSETDEBUG, TUNSETPERSIST and so on take numbers.
    (0x4004_54c8, 0x4004_54c9),
    (0x4004_54cb, 0x4004_54cd),
    (0x4004_54d0, 0x4004_54d0),
    // FICLONE takes a descriptor.
    (0x4004_9409, 0x4004_9409),
    // Input devices: EVIOCGRAB, EVIOCREVOKE.
    (0x4004_4590, 0x4004_4591),
];

/// Whether a request's argument is an address.
fn has_address(request: u32) -> bool {
    let number = NUMBERS.iter().any(|(low, high)| (*low..=*high).contains(&request));
    let direction = request >> 30;
    // Old requests (no direction, no size) that are not listed have an address, if the argument
    // looks like one.
    !number
        && (direction != 0
            || matches!(request >> 8, 0x54 | 0x89 | 0x12 | 0x53 | 0x4b | 0x56 | 0x4c))
}

/// Requests whose argument has the same layout for 32-bit programs.
fn same_when_narrow(request: u32) -> bool {
    let size = request >> 16 & 0x3fff;
    let kind = request >> 8 & 0xff;
    // Terminals; FIONREAD; interfaces without addresses in them.
    matches!(request, 0x5401..=0x5408 | 0x540f..=0x541b | 0x541d..=0x5424 | 0x5429 | 0x5452 | 0x5460)
        || kind == u32::from(b'T') && size <= 60
        || size == 4
}

pub fn ioctl(thread: &mut Thread, args: &Args) -> Done {
    let [fd, request, arg, ..] = *args;
    let request = int(request).cast_unsigned();
    let space = &thread.process.space;
    if !has_address(request) {
        return thread.host(libc::SYS_ioctl, [fd, request.into(), arg, 0, 0, 0]);
    }
    if !thread.process.abi.wide() && !same_when_narrow(request) {
        trace::log!(Unimp, "Unsupported ioctl: cmd={request:#06x}");
        return Err(Errno::ENOTTY);
    }
    let size = u64::from(request >> 16 & 0x3fff);
    let (mut at, mut tried) = (space.pointer(arg, 0)?, false);
    loop {
        let done = thread.host(libc::SYS_ioctl, [fd, request.into(), at, 0, 0, 0]);
        if done != Err(Errno::EFAULT) || tried || !space.open_for_kernel(arg, size.max(4096)) {
            return done;
        }
        (at, tried) = (space.pointer(arg, 0)?, true);
    }
}

#[cfg(test)]
mod tests {
    use super::has_address;

    #[test]
    fn addresses_are_told_from_numbers() {
        // TCGETS, TIOCGWINSZ, FIONREAD, TIOCGPTN, BLKGETSIZE64, SIOCGIFCONF, FIEMAP.
        for request in [0x5401, 0x5413, 0x541b, 0x8004_5430, 0x8008_1272, 0x8912, 0xc020_660b] {
            assert!(has_address(request), "{request:#x}");
        }
        // TCSBRK, TIOCSCTTY, TIOCNOTTY, FIOCLEX, FICLONE.
        for request in [0x5409, 0x540e, 0x5422, 0x5451, 0x4004_9409] {
            assert!(!has_address(request), "{request:#x}");
        }
    }
}
