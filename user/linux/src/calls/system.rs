//! What the program is told about the system.

use super::int;
use crate::errno::{Done, Errno};
use crate::host;
use crate::thread::Thread;
use std::os::unix::ffi::OsStrExt;

type Args = [u64; 6];

/// Bytes of each field of `struct utsname`.
const FIELD: usize = 65;

pub fn uname(thread: &mut Thread, args: &Args) -> Done {
    let mut names = [0u8; 6 * FIELD];
    host!(SYS_uname, names.as_mut_ptr())?;
    let mut put = |field: usize, text: &[u8]| {
        let len = text.len().min(FIELD - 1);
        names[field * FIELD..][..FIELD].fill(0);
        names[field * FIELD..][..len].copy_from_slice(&text[..len]);
    };
    put(4, thread.process.abi.uname.as_bytes());
    if let Some(release) = &thread.process.options.release {
        put(2, release.as_bytes());
    } else if let Some(release) = newer(&names_release(), thread.process.abi.release) {
        put(2, release.as_bytes());
    }
    thread.process.space.write_bytes(args[0], &names)?;
    Ok(0)
}

/// The host's release.
fn names_release() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default()
}

/// The least release, if the host's is older.
fn newer(host: &str, least: [u32; 3]) -> Option<String> {
    let mut numbers = host.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
    let mut next = || numbers.next().unwrap_or(0);
    let host = [next(), next(), next()];
    let [a, b, c] = least;
    (host != [0; 3] && host < least).then(|| format!("{a}.{b}.{c}"))
}

/// `struct sysinfo`: for 32-bit programs, numbers are narrower and memory is told in larger units.
pub fn sysinfo(thread: &mut Thread, args: &Args) -> Done {
    // Words: uptime, three loads, six amounts of memory, processes, two more amounts, unit.
    let mut about = [0u64; 14];
    host!(SYS_sysinfo, about.as_mut_ptr())?;
    let space = &thread.process.space;
    if thread.process.abi.wide() {
        space.write_bytes(args[0], &words(&about)[..112])?;
        return Ok(0);
    }
    let amounts = [4, 5, 6, 7, 8, 9, 11, 12];
    let unit = about[13] as u32;
    let largest = amounts.iter().map(|n| about[*n]).max().unwrap_or(0);
    let mut shift = 0;
    while largest >> shift > u64::from(u32::MAX) {
        shift += 1;
    }
    let mut narrow = Vec::new();
    for (n, word) in about.iter().take(13).enumerate() {
        match n {
            10 => narrow.extend_from_slice(&(*word as u32).to_le_bytes()),
            n if amounts.contains(&n) => {
                narrow.extend_from_slice(&((*word >> shift) as u32).to_le_bytes());
            }
            _ => narrow.extend_from_slice(&(*word as u32).to_le_bytes()),
        }
    }
    narrow.extend_from_slice(&(unit << shift).to_le_bytes());
    narrow.resize(64, 0);
    space.write_bytes(args[0], &narrow)?;
    Ok(0)
}

fn words(list: &[u64]) -> Vec<u8> {
    list.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// Only what asks, and what changes nothing that we depend on.
pub fn personality(_: &mut Thread, args: &Args) -> Done {
    const KINDS: u64 = 0xff;
    match int(args[0]) {
        -1 => host!(SYS_personality, 0xffff_ffffu32),
        _ if args[0] & KINDS > 8 => Err(Errno::EINVAL),
        _ => host!(SYS_personality, args[0]),
    }
}

#[cfg(test)]
mod tests {
    use super::newer;

    #[test]
    fn an_old_host_says_what_programs_need() {
        assert_eq!(newer("6.1.0-13-amd64\n", [4, 15, 0]), None);
        assert_eq!(newer("4.4.302\n", [4, 15, 0]).as_deref(), Some("4.15.0"));
        assert_eq!(newer("", [4, 15, 0]), None);
    }
}
