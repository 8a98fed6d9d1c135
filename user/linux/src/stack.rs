//! What a program finds on its stack: arguments, environment, auxiliary vector (System V ABI, chapter
//! “Process Initialization”; Linux, getauxval(3)).

use crate::abi::Abi;
use crate::errno::Errno;
use crate::load::Loaded;
use crate::map::Kind;
use crate::space::{PAGE, Space, page_up, prot};

/// Entries of the auxiliary vector.
#[allow(missing_docs, reason = "the names are those of the manual")]
pub mod at {
    pub const NULL: u64 = 0;
    pub const EXECFD: u64 = 2;
    pub const PHDR: u64 = 3;
    pub const PHENT: u64 = 4;
    pub const PHNUM: u64 = 5;
    pub const PAGESZ: u64 = 6;
    pub const BASE: u64 = 7;
    pub const FLAGS: u64 = 8;
    pub const ENTRY: u64 = 9;
    pub const UID: u64 = 11;
    pub const EUID: u64 = 12;
    pub const GID: u64 = 13;
    pub const EGID: u64 = 14;
    pub const PLATFORM: u64 = 15;
    pub const HWCAP: u64 = 16;
    pub const CLKTCK: u64 = 17;
    pub const SECURE: u64 = 23;
    pub const RANDOM: u64 = 25;
    pub const HWCAP2: u64 = 26;
    pub const EXECFN: u64 = 31;
    pub const SYSINFO: u64 = 32;
    pub const SYSINFO_EHDR: u64 = 33;
}

/// What goes onto the stack.
pub struct Contents<'a> {
    /// Arguments, the program's name first.
    pub arguments: &'a [Vec<u8>],
    /// Environment.
    pub environment: &'a [Vec<u8>],
    /// Absolute name of the program.
    pub executable: &'a [u8],
    /// Sixteen random bytes.
    pub random: [u8; 16],
    /// `AT_HWCAP` and `AT_HWCAP2`.
    pub hwcap: [u64; 2],
    /// User and group numbers: real and effective.
    pub ids: [u64; 4],
    /// Whether the program has more rights than its user.
    pub secure: bool,
    /// Where the system's shared object has its entry, if it has one, and where it lies.
    pub vdso: [u64; 2],
}

/// A stack that was filled.
pub struct Filled {
    /// The stack pointer.
    pub pointer: u64,
    /// The auxiliary vector as it lies there.
    pub auxiliary: Vec<u8>,
}

/// Writes from the top down.
struct Writer<'a> {
    space: &'a Space,
    at: u64,
    bottom: u64,
}

impl Writer<'_> {
    fn bytes(&mut self, bytes: &[u8]) -> Result<u64, Errno> {
        let at = self.at.checked_sub(bytes.len() as u64).filter(|at| *at >= self.bottom);
        self.at = at.ok_or(Errno::E2BIG)?;
        self.space.write_bytes(self.at, bytes)?;
        Ok(self.at)
    }

    fn string(&mut self, string: &[u8]) -> Result<u64, Errno> {
        self.bytes(&[0])?;
        self.bytes(string)
    }

    fn strings(&mut self, list: &[Vec<u8>]) -> Result<Vec<u64>, Errno> {
        let mut places: Vec<u64> =
            list.iter().rev().map(|string| self.string(string)).collect::<Result<_, _>>()?;
        places.reverse();
        Ok(places)
    }
}

/// Makes a stack of `len` bytes at the top of the program's addresses: its first and last address.
///
/// # Errors
/// There is no room.
pub fn allocate(space: &Space, len: u64, executable: bool) -> Result<(u64, u64), Errno> {
    /// Bytes below the stack that stay free.
    const GAP: u64 = 1 << 20;
    const LEAST: u64 = 32 * PAGE;
    let len = page_up(len.max(LEAST)).filter(|len| *len < space.limit / 2).ok_or(Errno::ENOMEM)?;
    let top = space.limit - PAGE;
    let rights = prot::READ | prot::WRITE | if executable { prot::EXEC } else { 0 };
    let bottom = space.allocate(top - len, len, rights, Kind::Stack)?;
    space.map().set_top(bottom - GAP.min(bottom / 2) / PAGE * PAGE);
    Ok((bottom, top))
}

/// Fills a stack between two addresses.
///
/// # Errors
/// It is too small.
pub fn fill(
    space: &Space,
    abi: &Abi,
    (bottom, top): (u64, u64),
    loaded: &Loaded,
    contents: &Contents<'_>,
) -> Result<Filled, Errno> {
    let mut to = Writer { space, at: top, bottom };
    to.bytes(&[0; 8])?;
    let executable = to.string(contents.executable)?;
    let environment = to.strings(contents.environment)?;
    let arguments = to.strings(contents.arguments)?;
    let platform = match abi.platform {
        None => 0,
        Some(name) => to.string(name.as_bytes())?,
    };
    to.at &= !15;
    let random = to.bytes(&contents.random)?;
    let [uid, euid, gid, egid] = contents.ids;
    let [header_len, header_count] = loaded.headers;
    let mut vector = vec![
        (at::PHDR, loaded.program.headers),
        (at::PHENT, header_len),
        (at::PHNUM, header_count),
        (at::PAGESZ, PAGE),
        (at::BASE, loaded.interpreter.map_or(0, |placed| placed.bias)),
        (at::FLAGS, 0),
        (at::ENTRY, loaded.program.entry),
        (at::UID, uid),
        (at::EUID, euid),
        (at::GID, gid),
        (at::EGID, egid),
        (at::HWCAP, contents.hwcap[0]),
        (at::CLKTCK, 100),
        (at::RANDOM, random),
        (at::HWCAP2, contents.hwcap[1]),
        (at::SECURE, contents.secure.into()),
        (at::EXECFN, executable),
        (at::SYSINFO, contents.vdso[0]),
        (at::SYSINFO_EHDR, contents.vdso[1]),
        (at::PLATFORM, platform),
    ];
    vector.retain(|(kind, value)| {
        let optional = [at::SYSINFO, at::SYSINFO_EHDR, at::PLATFORM, at::HWCAP2];
        *value != 0 || !optional.contains(kind)
    });
    vector.push((at::NULL, 0));
    let word = |value: u64| value.to_le_bytes()[..abi.word() as usize].to_vec();
    let auxiliary: Vec<u8> =
        vector.iter().flat_map(|(kind, value)| [word(*kind), word(*value)].concat()).collect();
    let pointers = [arguments.len() as u64].into_iter().chain(arguments).chain([0]);
    let pointers = pointers.chain(environment).chain([0]);
    let mut image: Vec<u8> = pointers.flat_map(word).collect();
    image.extend_from_slice(&auxiliary);
    // The stack pointer is a multiple of 16.
    to.at = to.at.saturating_sub(image.len() as u64) & !15;
    if to.at < bottom {
        return Err(Errno::E2BIG);
    }
    space.write_bytes(to.at, &image)?;
    Ok(Filled { pointer: to.at, auxiliary })
}
