//! From the files of the command line to what lies where when the machine starts.

use crate::boot::{FwDynamicInfo, fdt_start, initrd_start, kernel_start, reset_vector};
use crate::{Window, Xlen};
use elf::kernel::{Image, LoadError, Piece, Target, load};
use elf::{EM_RISCV, Elf};
use fdt::Tree;
use misc::fw_cfg::keys;
use std::fmt;

/// A file that the user named.
#[derive(Clone, Copy, Debug)]
pub struct File<'a> {
    /// Its path, for messages.
    pub path: &'a str,
    /// Its contents.
    pub bytes: &'a [u8],
}

/// What the machine is to start.
#[derive(Clone, Copy, Debug, Default)]
pub struct Files<'a> {
    /// `-bios`; `None` for `-bios none`.
    pub firmware: Option<File<'a>>,
    /// `-kernel`.
    pub kernel: Option<File<'a>>,
    /// `-initrd`.
    pub initrd: Option<File<'a>>,
    /// `-append`.
    pub append: Option<&'a str>,
}

/// The board as far as starting depends on it.
#[derive(Clone, Copy, Debug)]
pub struct Board {
    /// Width of the harts' registers.
    pub xlen: Xlen,
    /// RAM.
    pub ram: Window,
    /// The first flash bank, when the user gave it contents. It then takes the place of the
    /// kernel, or of the firmware when there is none.
    pub flash: Option<u64>,
}

/// Contents of a part of RAM, with a name for `info roms`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The file's path, or `fdt`.
    pub name: String,
    /// What lies where.
    pub piece: Piece,
}

/// What lies where when the machine starts, and again after every reset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assembly {
    /// The mask ROM, from [`crate::boot::RESET_ADDRESS`] on.
    pub rom: Vec<u8>,
    /// RAM; the rest of it is zero.
    pub ram: Vec<Loaded>,
    /// Numbered fw_cfg blobs: the kernel for a firmware in flash.
    pub fw_cfg: Vec<(u16, Vec<u8>)>,
    /// Address of the device tree.
    pub fdt_address: u64,
    /// The device tree with the kernel's arguments.
    pub tree: Tree,
}

/// Why nothing can be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BootError {
    /// A file cannot be loaded: what it is (`kernel`, `firmware`, `ramdisk`), path, why.
    File(&'static str, String, LoadError),
    /// A part of a file would lie outside RAM: path, address, length.
    Outside(String, u64, u64),
    /// Two parts would overlap.
    Overlap(String, String),
    /// The device tree does not fit behind kernel and initial RAM disk.
    NoRoomForTree,
}

impl fmt::Display for BootError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(what, path, error) => write!(f, "could not load {what} '{path}': {error}"),
            Self::Outside(path, at, len) => write!(
                f,
                "'{path}': {len:#x} bytes at {at:#x} lie outside RAM: give the machine more with -m, \
                 or link the file for this machine"
            ),
            Self::Overlap(a, b) => {
                write!(f, "'{a}' and '{b}' overlap in RAM: give the machine more with -m")
            }
            Self::NoRoomForTree => write!(
                f,
                "not enough memory for the device tree behind kernel and initrd: give more with -m"
            ),
        }
    }
}

impl std::error::Error for BootError {}

/// Puts everything in its place. `tree` is the board's device tree, or the user's (`-dtb`).
///
/// # Errors
/// A file is damaged, or RAM is too small.
pub fn assemble(board: Board, files: Files<'_>, tree: Tree) -> Result<Assembly, BootError> {
    let mut plan = Plan { board, ram: Vec::new(), fw_cfg: Vec::new(), tree };
    let (mut entry, mut firmware_end) = (board.ram.base, board.ram.base);
    if let Some(file) = files.firmware {
        let image = plan.load("firmware", file, board.ram.base)?;
        (entry, firmware_end) = (image.entry, image.high);
        plan.place(file.path, image);
    }
    let mut next = FwDynamicInfo::default();
    match (board.flash, files.firmware) {
        // The flash holds what the firmware starts; that gets the kernel through fw_cfg.
        (Some(flash), Some(_)) => {
            next.next_address = flash;
            plan.offer_kernel(&files);
        }
        (flash, _) => {
            entry = flash.unwrap_or(entry);
            if let Some(file) = files.kernel {
                next.next_address = plan.add_kernel(file, firmware_end, &files)?;
            }
        }
    }
    plan.finish(entry, next)
}

struct Plan {
    board: Board,
    ram: Vec<Loaded>,
    fw_cfg: Vec<(u16, Vec<u8>)>,
    tree: Tree,
}

impl Plan {
    fn load(&self, what: &'static str, file: File<'_>, at: u64) -> Result<Image, BootError> {
        let target = Target { at, limit: self.board.ram.len, machine: EM_RISCV };
        load(file.bytes, target).map_err(|e| BootError::File(what, file.path.into(), e))
    }

    fn place(&mut self, path: &str, image: Image) {
        let loaded = image.pieces.into_iter().map(|piece| Loaded { name: path.into(), piece });
        self.ram.extend(loaded);
    }

    /// Places kernel and initial RAM disk; returns where the kernel starts: at its lowest address,
    /// whatever its entry says, as boot loaders of this ISA do.
    fn add_kernel(
        &mut self,
        file: File<'_>,
        after: u64,
        files: &Files<'_>,
    ) -> Result<u64, BootError> {
        let image = self.load("kernel", file, kernel_start(self.board.xlen, after))?;
        let kernel = Window::new(image.low, image.high - image.low);
        self.place(file.path, image);
        if let Some(initrd) = files.initrd {
            let (start, len) =
                (initrd_start(kernel, self.board.ram.len), initrd.bytes.len() as u64);
            if len == 0 {
                return Err(BootError::File("ramdisk", initrd.path.into(), LoadError::Empty));
            }
            let end = start.checked_add(len);
            let end = end.ok_or_else(|| BootError::Outside(initrd.path.into(), start, len))?;
            self.tree.set_initrd(start, end);
            let piece = Piece { at: start, bytes: initrd.bytes.to_vec(), len };
            self.ram.push(Loaded { name: initrd.path.into(), piece });
        }
        if let Some(text) = files.append.filter(|text| !text.is_empty()) {
            self.tree.set_bootargs(text);
        }
        Ok(kernel.base)
    }

    /// Offers kernel, initial RAM disk and command line through fw_cfg.
    fn offer_kernel(&mut self, files: &Files<'_>) {
        let mut offer = |size_key: u16, data_key: u16, bytes: Vec<u8>| {
            self.fw_cfg.push((size_key, (bytes.len() as u32).to_le_bytes().to_vec()));
            self.fw_cfg.push((data_key, bytes));
        };
        let Some(kernel) = files.kernel else { return };
        offer(keys::KERNEL_SIZE, keys::KERNEL_DATA, kernel.bytes.to_vec());
        if let Some(initrd) = files.initrd {
            offer(keys::INITRD_SIZE, keys::INITRD_DATA, initrd.bytes.to_vec());
        }
        if let Some(text) = files.append {
            let text = [text.as_bytes(), &[0]].concat();
            offer(keys::CMDLINE_SIZE, keys::CMDLINE_DATA, text);
        }
    }

    fn finish(mut self, entry: u64, next: FwDynamicInfo) -> Result<Assembly, BootError> {
        self.check()?;
        let Board { xlen, ram, .. } = self.board;
        let used = self.ram.iter().map(|l| l.piece.at + l.piece.len).max().unwrap_or(ram.base);
        let blob = self.tree.to_blob();
        let len = blob.len() as u64;
        let fdt = fdt_start(xlen, ram, len, used).ok_or(BootError::NoRoomForTree)?;
        let piece = Piece { at: fdt, bytes: blob, len };
        self.ram.push(Loaded { name: "fdt".into(), piece });
        let rom = reset_vector(xlen, entry, fdt, next);
        let Self { ram, fw_cfg, tree, .. } = self;
        Ok(Assembly { rom, ram, fw_cfg, fdt_address: fdt, tree })
    }

    /// Everything lies in RAM, and nothing in the same place as another.
    fn check(&self) -> Result<(), BootError> {
        let ram = self.board.ram;
        let mut sorted: Vec<&Loaded> = self.ram.iter().collect();
        sorted.sort_by_key(|l| l.piece.at);
        for Loaded { name, piece } in &sorted {
            let inside = piece.at.checked_sub(ram.base).is_some_and(|start| {
                start.checked_add(piece.len).is_some_and(|end| end <= ram.len)
            });
            if !inside {
                return Err(BootError::Outside(name.clone(), piece.at, piece.len));
            }
        }
        match sorted.windows(2).find(|w| w[0].piece.at + w[0].piece.len > w[1].piece.at) {
            Some(two) => Err(BootError::Overlap(two[0].name.clone(), two[1].name.clone())),
            None => Ok(()),
        }
    }
}

/// Addresses of the symbols `tohost` and `fromhost` in an ELF file, for the `spike` board.
pub fn htif_symbols(file: &[u8]) -> Option<(u64, u64)> {
    let elf = Elf::parse(file).ok()?;
    Some((elf.symbol("tohost")?.value, elf.symbol("fromhost")?.value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use fdt::Node;

    const RAM: Window = Window::new(0x8000_0000, 512 << 20);
    const BOARD: Board = Board { xlen: Xlen::Rv64, ram: RAM, flash: None };

    fn file<'a>(path: &'a str, bytes: &'a [u8]) -> Option<File<'a>> {
        Some(File { path, bytes })
    }

    fn places(assembly: &Assembly) -> Vec<(&str, u64)> {
        assembly.ram.iter().map(|l| (l.name.as_str(), l.piece.at)).collect()
    }

    fn word(rom: &[u8], at: usize) -> u64 {
        u64::from_le_bytes(*rom[at..].first_chunk().unwrap())
    }

    #[test]
    fn firmware_kernel_and_initrd_find_their_places() {
        let files = Files {
            firmware: file("fw", &[1; 0x42868]),
            kernel: file("k", &[2; 0x19000]),
            initrd: file("rd", &[3; 0x19000]),
            append: Some("console=ttyS0"),
        };
        let assembly = assemble(BOARD, files, Tree::new(Node::new(""))).unwrap();
        let expected =
            [("fw", 0x8000_0000), ("k", 0x8020_0000), ("rd", 0x9020_0000), ("fdt", 0x9fe0_0000)];
        assert_eq!(places(&assembly), expected);
        let rom = &assembly.rom;
        assert_eq!(
            [word(rom, 0x18), word(rom, 0x20), word(rom, 0x38)],
            [0x8000_0000, 0x9fe0_0000, 0x8020_0000]
        );
        let chosen = assembly.tree.node("/chosen").unwrap();
        assert_eq!(chosen.get_str("bootargs"), Some("console=ttyS0"));
        assert_eq!(chosen.get("linux,initrd-end"), Some(&[0, 0, 0, 0, 0x90, 0x21, 0x90, 0][..]));
    }

    #[test]
    fn without_firmware_the_kernel_starts_at_once() {
        let files = Files { kernel: file("k", &[2; 8]), ..Files::default() };
        let assembly = assemble(BOARD, files, Tree::default()).unwrap();
        assert_eq!(places(&assembly)[0], ("k", 0x8000_0000));
        assert_eq!([word(&assembly.rom, 0x18), word(&assembly.rom, 0x38)], [0x8000_0000; 2]);
    }

    #[test]
    fn flash_takes_the_place_of_kernel_or_firmware() {
        let board = Board { flash: Some(0x2000_0000), ..BOARD };
        let kernel = file("k", &[2; 8]);
        let files =
            Files { firmware: file("fw", &[1]), kernel, append: Some("a"), ..Files::default() };
        let assembly = assemble(board, files, Tree::default()).unwrap();
        assert_eq!(places(&assembly).len(), 2);
        assert_eq!(
            [word(&assembly.rom, 0x18), word(&assembly.rom, 0x38)],
            [0x8000_0000, 0x2000_0000]
        );
        let keys: Vec<u16> = assembly.fw_cfg.iter().map(|(key, _)| *key).collect();
        assert_eq!(keys, [0x08, 0x11, 0x14, 0x15]);
        assert_eq!(assembly.fw_cfg[3].1, b"a\0");
        assert_eq!(assembly.tree.node("/chosen"), None);
        let assembly =
            assemble(board, Files { kernel, ..Files::default() }, Tree::default()).unwrap();
        assert_eq!(
            [word(&assembly.rom, 0x18), word(&assembly.rom, 0x38)],
            [0x2000_0000, 0x8000_0000]
        );
        assert!(assembly.fw_cfg.is_empty());
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let small = Board { ram: Window::new(0x8000_0000, 4 << 20), ..BOARD };
        let error = |kernel: &[u8], initrd: Option<File<'_>>| {
            let files = Files { kernel: file("k", kernel), initrd, ..Files::default() };
            assemble(small, files, Tree::default()).unwrap_err().to_string()
        };
        assert_eq!(error(&[], None), "could not load kernel 'k': the file is empty");
        assert!(error(&[0; 5 << 20], None).starts_with("could not load kernel 'k': larger than"));
        assert!(error(&[0; 3 << 20], None).starts_with("not enough memory for the device tree"));
        assert!(error(&[0; 8], file("rd", &[0; 3 << 20])).starts_with("'rd': 0x300000 bytes at"));
        assert_eq!(
            error(&[0; 8], file("rd", &[])),
            "could not load ramdisk 'rd': the file is empty"
        );
        let files = Files { firmware: file("fw", &[0x7f, b'E', b'L', b'F']), ..Files::default() };
        let error = assemble(BOARD, files, Tree::default()).unwrap_err().to_string();
        assert_eq!(
            error,
            "could not load firmware 'fw': ELF file is not little-endian with 32 or 64 bits"
        );
    }
}
