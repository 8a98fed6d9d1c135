//! Files to boot: kernels and firmware of every form, and where a board would put them.

use crate::bytes::Bytes;
use elf::kernel::{Target, load};
use elf::{EM_RISCV, Elf};
use fdt::Tree;
use flate2::Compression;
use flate2::write::GzEncoder;
use machines_riscv::assemble::{Board, File, Files, assemble, htif_symbols};
use machines_riscv::{Window, Xlen};
use std::io::Write;

/// Start of the board's RAM.
const RAM: u64 = 0x8000_0000;
/// Its length: little, so that a file that unpacks to more than that is soon refused.
const RAM_LEN: u64 = 16 << 20;

/// Feeds a file as kernel, then as firmware or initial RAM disk beside itself.
pub fn feed(input: &[u8]) {
    let mut bytes = Bytes(input);
    let how = bytes.byte();
    let file = bytes.0;
    if let Ok(elf) = Elf::parse(file) {
        let _count = elf.symbols().count();
    }
    let _symbols = htif_symbols(file);
    let at = if how & 1 == 0 { RAM } else { u64::MAX - 0xfff };
    if let Ok(image) = load(file, Target { at, limit: RAM_LEN, machine: EM_RISCV }) {
        let total: usize = image.pieces.iter().map(|piece| piece.bytes.len()).sum();
        assert!(total as u64 <= RAM_LEN, "more than the limit was unpacked");
        assert!(image.low <= image.high);
    }
    let named = |path| Some(File { path, bytes: file });
    let files = Files {
        kernel: named("kernel"),
        firmware: if how & 2 == 0 { None } else { named("firmware") },
        initrd: if how & 4 == 0 { None } else { named("initrd") },
        append: Some("console=ttyS0"),
    };
    let board = Board {
        xlen: if how & 8 == 0 { Xlen::Rv64 } else { Xlen::Rv32 },
        ram: Window::new(RAM, RAM_LEN),
        flash: (how & 16 != 0).then_some(0x2000_0000),
    };
    if let Ok(assembly) = assemble(board, files, Tree::default()) {
        for loaded in assembly.ram {
            let end = loaded.piece.at.checked_add(loaded.piece.len);
            assert!(loaded.piece.at >= RAM && end.is_some_and(|end| end <= RAM + RAM_LEN));
        }
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("memory takes it");
    encoder.finish().expect("memory takes it")
}

/// A Linux `Image`: its header, and a few words.
fn linux_image() -> Vec<u8> {
    let mut image = vec![0; 96];
    image[..2].copy_from_slice(b"MZ");
    image[8..16].copy_from_slice(&0x20_0000u64.to_le_bytes());
    image[16..24].copy_from_slice(&0x1000u64.to_le_bytes());
    image[48..53].copy_from_slice(b"RISCV");
    image[56..60].copy_from_slice(b"RSC\x05");
    image
}

/// An EFI zboot file around a compressed kernel.
fn zboot() -> Vec<u8> {
    let payload = gzip(&linux_image());
    let mut file = vec![0; 64];
    file[..2].copy_from_slice(b"MZ");
    file[4..8].copy_from_slice(b"zimg");
    file[8..12].copy_from_slice(&64u32.to_le_bytes());
    file[12..16].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    file[24..28].copy_from_slice(b"gzip");
    [file, payload].concat()
}

fn uimage(kind: u8, compressed: bool) -> Vec<u8> {
    let data = if compressed { gzip(&linux_image()) } else { linux_image() };
    let mut header = vec![0; 64];
    header[..4].copy_from_slice(&[0x27, 0x05, 0x19, 0x56]);
    header[12..16].copy_from_slice(&(data.len() as u32).to_be_bytes());
    header[16..20].copy_from_slice(&0x8020_0000u32.to_be_bytes());
    header[20..24].copy_from_slice(&0x8020_0000u32.to_be_bytes());
    header[30..32].copy_from_slice(&[kind, compressed.into()]);
    [header, data].concat()
}

/// An ELF file with one segment, and symbols `tohost` and `fromhost`.
fn elf64() -> Vec<u8> {
    let strings = b"\0tohost\0fromhost\0";
    let (segment, symbols, names, sections) = (64u64, 128u64, 256u64, 288u64);
    let mut file = vec![0u8; 288 + 3 * 64];
    let mut put = |at: u64, bytes: &[u8]| {
        file[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
    };
    put(0, b"\x7fELF\x02\x01\x01");
    put(16, &[2, 0, 243, 0, 1, 0, 0, 0]);
    put(24, &RAM.to_le_bytes());
    put(32, &segment.to_le_bytes());
    put(40, &sections.to_le_bytes());
    put(52, &[64, 0, 56, 0, 1, 0, 64, 0, 3, 0, 2, 0]);
    put(segment, &[1, 0, 0, 0, 7, 0, 0, 0]);
    let words = [120, RAM, RAM, 8, 64, 4096];
    words.iter().zip(1..).for_each(|(word, n)| put(segment + 8 * n, &word.to_le_bytes()));
    for (n, name) in [(1, 1u8), (2, 8)] {
        put(symbols + 24 * n, &[name, 0, 0, 0, 0x10, 0, 1, 0]);
        put(symbols + 24 * n + 8, &(RAM + 0x100 * n).to_le_bytes());
    }
    put(names, strings);
    // Symbols, linked to the strings; then these.
    for (n, kind, at, len, link, entry) in
        [(1, 2u8, symbols, 72, 2u8, 24), (2, 3, names, strings.len() as u64, 0, 0)]
    {
        let at_section = sections + 64 * n;
        put(at_section + 4, &[kind]);
        put(at_section + 24, &at.to_le_bytes());
        put(at_section + 32, &len.to_le_bytes());
        put(at_section + 40, &[link]);
        put(at_section + 56, &[entry]);
    }
    file
}

/// A file of each form.
pub fn seeds() -> Vec<Vec<u8>> {
    let forms = [
        linux_image(),
        gzip(&linux_image()),
        zboot(),
        uimage(2, false),
        uimage(14, true),
        elf64(),
        gzip(&elf64()),
        vec![0x13, 0, 0, 0, 0x6f, 0, 0, 0],
    ];
    (0..).zip(forms).map(|(how, form)| [vec![how * 5], form].concat()).collect()
}
