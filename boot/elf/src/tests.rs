//! Tests with files made on the spot.

use super::kernel::{Form, LoadError, Target, load};
use super::program::{Program, ProgramError};
use super::*;
use std::io::Write;

const TARGET: Target = Target { at: 0x8020_0000, limit: 1 << 20, machine: EM_RISCV };

fn put(file: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    file.resize(file.len().max(at + bytes.len()), 0);
    file[at..at + bytes.len()].copy_from_slice(bytes);
}

/// Two segments, a symbol table with `tohost`.
fn elf64() -> Vec<u8> {
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    put(&mut file, 16, &[2, 0, 243, 0, 1, 0, 0, 0]);
    put(&mut file, 24, &0xffff_ffff_8000_1010u64.to_le_bytes());
    put(&mut file, 32, &64u64.to_le_bytes());
    put(&mut file, 40, &0x200u64.to_le_bytes());
    put(&mut file, 52, &[64, 0, 56, 0, 2, 0, 64, 0, 3, 0, 0, 0]);
    for (n, (offset, at, len)) in
        [(0x100u64, 0x8040_1000u64, 0x20u64), (0x120, 0x8040_0000, 0x10)].into_iter().enumerate()
    {
        let header = 64 + n * 56;
        put(&mut file, header, &[1, 0, 0, 0, 5, 0, 0, 0]);
        for (i, value) in
            [offset, 0xffff_ffff_0000_0000 | at, at, len, len * 2, 0x1000].into_iter().enumerate()
        {
            put(&mut file, header + 8 + i * 8, &value.to_le_bytes());
        }
    }
    put(&mut file, 0x100, &[7; 0x30]);
    // Symbols at 0x140, names at 0x180.
    put(&mut file, 0x158, &[1, 0, 0, 0, 1]);
    put(&mut file, 0x160, &0x8000_1000u64.to_le_bytes());
    put(&mut file, 0x168, &8u64.to_le_bytes());
    put(&mut file, 0x180, b"\0tohost\0");
    for (n, kind, offset, len, link) in [(1usize, 2u8, 0x140u64, 48u64, 2u8), (2, 3, 0x180, 8, 0)] {
        let section = 0x200 + n * 64;
        put(&mut file, section + 63, &[0]);
        put(&mut file, section + 4, &[kind]);
        put(&mut file, section + 24, &offset.to_le_bytes());
        put(&mut file, section + 32, &len.to_le_bytes());
        put(&mut file, section + 40, &[link]);
        put(&mut file, section + 56, &24u64.to_le_bytes());
    }
    file
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn an_elf_file_gives_segments_and_symbols() {
    let file = elf64();
    let elf = Elf::parse(&file).unwrap();
    assert_eq!((elf.class, elf.machine), (Class::Elf64, EM_RISCV));
    assert_eq!(elf.segments.len(), 2);
    assert_eq!(elf.segments[0].bytes, [7; 0x20]);
    assert_eq!((elf.segments[0].physical, elf.segments[0].len), (0x8040_1000, 0x40));
    let symbol = elf.symbol("tohost").unwrap();
    assert_eq!((symbol.value, symbol.len, symbol.kind), (0x8000_1000, 8, 1));
    assert_eq!(elf.symbol("fromhost"), None);
}

#[test]
fn a_kernel_in_an_elf_file_goes_where_the_file_says() {
    let image = load(&elf64(), TARGET).unwrap();
    assert_eq!((image.form, image.low, image.high), (Form::Elf, 0x8040_0000, 0x8040_1040));
    assert_eq!(image.entry, 0xffff_ffff_8000_1010);
    let mut moving = elf64();
    moving[16] = 3;
    let moved = load(&moving, Target { at: 0x1000, ..TARGET }).unwrap();
    assert_eq!((moved.low, moved.entry), (0x8040_1000, 0xffff_ffff_8000_2010));
    let other = Target { machine: 62, ..TARGET };
    assert_eq!(load(&elf64(), other), Err(LoadError::Machine(243)));
}

#[test]
fn a_linux_image_takes_the_memory_its_header_tells() {
    let mut file = vec![0; 100];
    put(&mut file, 8, &0x20_0000u64.to_le_bytes());
    put(&mut file, 16, &0x3000u64.to_le_bytes());
    put(&mut file, 48, b"RISCV\0\0\0RSC\x05");
    for file in [file.clone(), gzip(&file)] {
        let image = load(&file, TARGET).unwrap();
        assert_eq!(image.form, Form::LinuxImage);
        assert_eq!((image.entry, image.low, image.high), (0x8020_0000, 0x8020_0000, 0x8020_3000));
        assert_eq!(image.pieces[0].len, 100);
    }
    let mut zboot = b"MZ\0\0zimg".to_vec();
    let packed = gzip(&file);
    put(&mut zboot, 8, &64u32.to_le_bytes());
    put(&mut zboot, 12, &(packed.len() as u32).to_le_bytes());
    put(&mut zboot, 24, b"gzip\0");
    put(&mut zboot, 64, &packed);
    assert_eq!(load(&zboot, TARGET).unwrap().form, Form::LinuxImage);
    put(&mut zboot, 24, b"zstd\0");
    let error = load(&zboot, TARGET).unwrap_err().to_string();
    assert_eq!(error, "not supported yet: EFI zboot kernel compressed with zstd");
}

#[test]
fn a_uboot_image_has_its_own_addresses() {
    let mut file = vec![0x27, 0x05, 0x19, 0x56];
    put(&mut file, 12, &4u32.to_be_bytes());
    put(&mut file, 16, &0x8040_0000u32.to_be_bytes());
    put(&mut file, 20, &0x8040_0002u32.to_be_bytes());
    put(&mut file, 30, &[2, 0]);
    put(&mut file, 64, b"code");
    let image = load(&file, TARGET).unwrap();
    assert_eq!((image.low, image.entry, image.high), (0x8040_0000, 0x8040_0002, 0x8040_0004));
    file[30] = 14;
    assert_eq!(load(&file, TARGET).unwrap().entry, 0x8020_0002);
    file[15] = 5;
    assert!(matches!(load(&file, TARGET), Err(LoadError::UImage(_))));
}

#[test]
fn what_does_not_fit_is_refused_before_it_is_unpacked() {
    assert_eq!(load(&[], TARGET), Err(LoadError::Empty));
    assert_eq!(load(&[1; 5], TARGET).unwrap().high, 0x8020_0005);
    let bomb = gzip(&vec![0; 4 << 20]);
    assert_eq!(load(&bomb, TARGET), Err(LoadError::TooLarge(1 << 20)));
    assert!(matches!(load(&bomb[..20], TARGET), Err(LoadError::Compressed(_))));
    assert_eq!(load(&vec![0; 2 << 20], TARGET), Err(LoadError::TooLarge(1 << 20)));
}

#[test]
fn damaged_files_never_panic() {
    let good = elf64();
    for n in 0..good.len() {
        let _ = load(&good[..n], TARGET);
        for value in [0xff, 0x80, 0x7f, 0x01] {
            let mut bad = good.clone();
            bad[n] = value;
            let _ = load(&bad, TARGET);
            if let Ok(elf) = Elf::parse(&bad) {
                let _ = elf.symbols().count();
            }
        }
    }
}

#[test]
fn a_32_bit_file_is_read_too() {
    let mut file = b"\x7fELF\x01\x01\x01".to_vec();
    put(&mut file, 18, &[243, 0]);
    put(&mut file, 24, &0x8000_0004u32.to_le_bytes());
    put(&mut file, 28, &52u32.to_le_bytes());
    put(&mut file, 40, &[52, 0, 32, 0, 1, 0, 40, 0, 0, 0, 0, 0]);
    for (i, value) in [1u32, 84, 0x8000_0000, 0x8000_0000, 4, 8, 5, 4].into_iter().enumerate() {
        put(&mut file, 52 + i * 4, &value.to_le_bytes());
    }
    put(&mut file, 84, b"code");
    let image = load(&file, TARGET).unwrap();
    assert_eq!((image.entry, image.low, image.high), (0x8000_0004, 0x8000_0000, 0x8000_0008));
    assert_eq!(image.pieces[0].bytes, b"code");
}

fn program(file: &[u8]) -> Result<Program, ProgramError> {
    Program::read(&mut |at, bytes| {
        let start = (at as usize).min(file.len());
        let len = bytes.len().min(file.len() - start);
        bytes[..len].copy_from_slice(&file[start..start + len]);
        Ok(len)
    })
}

/// A program of 32 bits and most significant bytes first, with an interpreter.
fn big_endian() -> Vec<u8> {
    let mut file = b"\x7fELF\x01\x02\x01".to_vec();
    put(&mut file, 16, &[0, 3, 0, 8, 0, 0, 0, 1]);
    put(&mut file, 24, &[0, 0, 4, 0, 0, 0, 0, 52]);
    put(&mut file, 40, &[0, 52, 0, 32, 0, 2]);
    put(&mut file, 52, &[0, 0, 0, 3, 0, 0, 0, 0xc0]);
    put(&mut file, 52 + 16, &[0, 0, 0, 6]);
    put(&mut file, 84, &[0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0]);
    put(&mut file, 84 + 16, &[0, 0, 0, 0xc6, 0, 0, 1, 0, 0, 0, 0, 5]);
    put(&mut file, 0xc0, b"/ld.1\0");
    file
}

#[test]
fn a_program_of_either_byte_order_says_what_belongs_where() {
    let found = program(&big_endian()).unwrap();
    assert_eq!(found.flavour.architecture(), Some("mips"));
    assert_eq!((found.entry, found.relocatable), (0x400, true));
    assert_eq!(found.interpreter.as_deref(), Some(&b"/ld.1"[..]));
    assert_eq!(found.headers_address, Some(0x1_0000 + 52));
    assert_eq!(found.span(), (0x1_0000, 0x1_0100));
    assert_eq!((found.loads[0].flags, found.alignment(4096)), (5, 4096));
}

#[test]
fn a_program_that_makes_no_sense_is_refused() {
    let good = big_endian();
    let with = |at: usize, bytes: &[u8]| {
        let mut bad = good.clone();
        put(&mut bad, at, bytes);
        program(&bad)
    };
    // A memory smaller than its bytes, bytes and addresses that leave the numbers.
    assert!(matches!(with(84 + 20, &[0; 4]), Err(ProgramError::Elf(_))));
    assert!(matches!(with(84 + 20, &[0, 0, 0, 1]), Err(ProgramError::Elf(ElfError::Segment(1)))));
    assert!(matches!(
        with(84 + 8, &[0xff, 0xff, 0xff, 0xff]),
        Err(ProgramError::Elf(ElfError::Segment(1)))
    ));
    // A name without an end, headers of a wrong length, an object file, no ELF file.
    assert!(matches!(with(52 + 16, &[0, 0, 0, 5]), Err(ProgramError::Elf(_))));
    assert!(matches!(with(42, &[0, 33]), Err(ProgramError::Elf(_))));
    assert!(matches!(with(16, &[0, 1]), Err(ProgramError::Kind(1))));
    assert!(matches!(with(0, b"x"), Err(ProgramError::Elf(ElfError::NotElf))));
    for len in 0..good.len() {
        assert!(program(&good[..len]).is_err(), "{len} bytes");
    }
}
