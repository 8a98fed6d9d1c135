//! `tinamou user install-binfmt`: programs of other architectures started by their own names (Linux,
//! `Documentation/admin-guide/binfmt-misc.rst`).
//!
//! Each architecture is registered with the flags P (the program sees the name it was called by),
//! O (the kernel opens the program), C (with the program's own rights) and F (the emulator is opened
//! now, so that it is there in containers and changed roots).

use crate::abi::{ABIS, Abi};
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;

/// Where the kernel takes registrations.
const FOLDER: &str = "/proc/sys/fs/binfmt_misc";

/// The line that registers an architecture with an emulator.
pub fn registration(abi: &Abi, emulator: &Path) -> String {
    let class = if abi.wide() { 2 } else { 1 };
    let order = if abi.big_endian { 2 } else { 1 };
    let number = |value: u16| match abi.big_endian {
        true => value.to_be_bytes(),
        false => value.to_le_bytes(),
    };
    let mut magic = vec![0x7f, b'E', b'L', b'F', class, order, 1, 0];
    magic.resize(16, 0);
    magic.extend(number(2));
    magic.extend(number(abi.machine));
    // Any operating system's flavour; fixed programs and those that can lie anywhere (2 and 3).
    let mut mask = vec![0xff; magic.len()];
    mask[7] = 0;
    mask[if abi.big_endian { 17 } else { 16 }] = 0xfe;
    let bytes = |list: &[u8]| {
        list.iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "\\x{byte:02x}");
            text
        })
    };
    let name = abi.name;
    format!(":qemu-{name}:M::{}:{}:{}:POCF", bytes(&magic), bytes(&mask), emulator.display())
}

/// Registers every architecture that the host does not run itself, with the links to us in `folder`.
/// With `only_print`, tells the lines instead.
///
/// # Errors
/// What went wrong and what to do.
pub fn install(folder: &Path, only_print: bool) -> Result<String, String> {
    let mut told = String::new();
    for abi in ABIS.iter().filter(|abi| !native(abi)) {
        let emulator = folder.join(format!("qemu-{}", abi.name));
        let line = registration(abi, &emulator);
        if only_print {
            told.push_str(&line);
            told.push('\n');
            continue;
        }
        if !emulator.exists() {
            let folder = folder.display();
            let missing = emulator.display();
            return Err(format!(
                "{missing} is not there: 'tinamou install-links {folder}' makes it"
            ));
        }
        register(abi, &line)?;
        let _ = writeln!(told, "{}", emulator.display());
    }
    Ok(told)
}

/// Whether the host's processor runs the architecture itself.
fn native(abi: &Abi) -> bool {
    let host = std::env::consts::ARCH;
    abi.name == host || host == "x86_64" && abi.name == "i386"
}

fn register(abi: &Abi, line: &str) -> Result<(), String> {
    let own = Path::new(FOLDER).join(format!("qemu-{}", abi.name));
    if own.exists() {
        return Err(format!(
            "programs of {} have an emulator already: 'echo -1 > {}' takes it away",
            abi.name,
            own.display()
        ));
    }
    let place = Path::new(FOLDER).join("register");
    fs::write(&place, line).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => format!(
            "{} is not there: 'mount -t binfmt_misc binfmt_misc {FOLDER}' mounts it",
            place.display()
        ),
        _ => format!("{}: {error}", place.display()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::riscv::{RISCV32, RISCV64};

    #[test]
    fn registrations_name_what_the_header_of_a_program_has() {
        let line = registration(&RISCV64, Path::new("/usr/bin/qemu-riscv64"));
        let magic =
            r"\x7f\x45\x4c\x46\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xf3\x00";
        let mask =
            r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff";
        assert_eq!(line, format!(":qemu-riscv64:M::{magic}:{mask}:/usr/bin/qemu-riscv64:POCF"));
        let narrow = registration(&RISCV32, Path::new("/x"));
        assert!(narrow.starts_with(r":qemu-riscv32:M::\x7f\x45\x4c\x46\x01\x01"));
        assert!(install(Path::new("/x"), true).unwrap().lines().count() >= 2);
    }
}
