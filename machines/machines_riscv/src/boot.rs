//! Where firmware, kernel, initial RAM disk and device tree go, and the code in the mask ROM that
//! starts them.
//!
//! The first instruction of every hart is in the mask ROM at 0x1000. It enters the firmware with
//! `a0` the hart, `a1` the device tree and `a2` a `struct fw_dynamic_info` (OpenSBI,
//! `docs/firmware/fw_dynamic.md`), which tells the firmware where the next stage is.

use crate::{Window, Xlen};

/// Address of the first instruction of every hart.
pub const RESET_ADDRESS: u64 = 0x1000;

/// The device tree starts at a multiple of this, and ends below the top of RAM.
const FDT_ALIGN: u64 = 2 << 20;
/// A 32-bit kernel cannot reach RAM beyond this.
const REACH_OF_RV32: u64 = 3 << 30;
/// Initial RAM disks lie at most this far behind the start of the kernel.
const MAX_INITRD_DISTANCE: u64 = 512 << 20;

/// `struct fw_dynamic_info`: what OpenSBI's dynamic firmware starts next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FwDynamicInfo {
    /// Address of the next stage; 0 when there is none.
    pub next_address: u64,
    /// Options for the firmware (`SBI_SCRATCH_*`).
    pub options: u64,
    /// Preferred boot hart.
    pub boot_hart: u64,
}

impl FwDynamicInfo {
    /// "OSBI".
    pub const MAGIC: u64 = 0x4942_534f;
    /// Version with a boot hart.
    pub const VERSION: u64 = 2;
    /// The next stage runs in supervisor mode.
    const SUPERVISOR: u64 = 1;

    fn words(&self) -> [u64; 6] {
        let Self { next_address, options, boot_hart } = *self;
        [Self::MAGIC, Self::VERSION, next_address, Self::SUPERVISOR, options, boot_hart]
    }
}

/// Contents of the mask ROM at [`RESET_ADDRESS`]: enters `firmware` with the addresses above.
pub fn reset_vector(xlen: Xlen, firmware: u64, fdt: u64, next: FwDynamicInfo) -> Vec<u8> {
    let load = match xlen {
        Xlen::Rv32 => 0x2000, // funct3 of lw
        Xlen::Rv64 => 0x3000, // funct3 of ld
    };
    let code: [u32; 6] = [
        0x0000_0297,        // auipc t0, 0
        0x0282_8613,        // addi  a2, t0, 40
        0xf140_2573,        // csrr  a0, mhartid
        0x0202_8583 | load, // load  a1, 32(t0)
        0x0182_8283 | load, // load  t0, 24(t0)
        0x0002_8067,        // jr    t0
    ];
    let mut rom: Vec<u8> = code.iter().flat_map(|word| word.to_le_bytes()).collect();
    rom.extend(firmware.to_le_bytes());
    rom.extend(fdt.to_le_bytes());
    let len = if xlen == Xlen::Rv32 { 4 } else { 8 };
    rom.extend(next.words().iter().flat_map(|word| word.to_le_bytes()[..len].to_vec()));
    rom
}

/// Where a kernel without an address of its own starts: after the firmware, at a multiple of
/// what its page tables want.
pub fn kernel_start(xlen: Xlen, firmware_end: u64) -> u64 {
    let align = match xlen {
        Xlen::Rv32 => 4 << 20,
        Xlen::Rv64 => 2 << 20,
    };
    firmware_end.checked_next_multiple_of(align).unwrap_or(firmware_end)
}

/// Where an initial RAM disk starts: behind the start of the kernel by half of the RAM, 512 MiB at
/// most; behind the end of a kernel that is larger than that.
pub fn initrd_start(kernel: Window, ram_len: u64) -> u64 {
    let usual = kernel.base.saturating_add((ram_len / 2).min(MAX_INITRD_DISTANCE));
    let end = kernel.base.saturating_add(kernel.len);
    usual.max(end.checked_next_multiple_of(0x1000).unwrap_or(end))
}

/// Where the device tree starts: as high in RAM as it fits. `None` when it would reach below
/// `used_end`, the end of kernel and initial RAM disk.
pub fn fdt_start(xlen: Xlen, ram: Window, fdt_len: u64, used_end: u64) -> Option<u64> {
    let end = match xlen {
        Xlen::Rv32 if ram.base < REACH_OF_RV32 => ram.end().min(REACH_OF_RV32),
        _ => ram.end(),
    };
    let start = end.checked_sub(fdt_len)? / FDT_ALIGN * FDT_ALIGN;
    (start >= ram.base && start >= used_end).then_some(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RAM: Window = Window::new(0x8000_0000, 512 << 20);

    fn words(rom: &[u8]) -> Vec<u32> {
        rom.as_chunks::<4>().0.iter().map(|w| u32::from_le_bytes(*w)).collect()
    }

    #[test]
    fn the_reset_vector_is_the_one_qemu_shows() {
        let next = FwDynamicInfo { next_address: 0x8020_0000, ..FwDynamicInfo::default() };
        let rom = reset_vector(Xlen::Rv64, 0x8000_0000, 0x1_9fe0_0000, next);
        let expected = [
            0x297,
            0x0282_8613,
            0xf140_2573,
            0x0202_b583,
            0x0182_b283,
            0x0002_8067,
            0x8000_0000,
            0,
            0x9fe0_0000,
            1,
            0x4942_534f,
            0,
            2,
            0,
            0x8020_0000,
            0,
            1,
            0,
            0,
            0,
            0,
            0,
        ];
        assert_eq!(words(&rom), expected);
        let rom = reset_vector(Xlen::Rv32, 0x8000_0000, 0x9fe0_0000, next);
        let expected = [
            0x297,
            0x0282_8613,
            0xf140_2573,
            0x0202_a583,
            0x0182_a283,
            0x0002_8067,
            0x8000_0000,
            0,
            0x9fe0_0000,
            0,
            0x4942_534f,
            2,
            0x8020_0000,
            1,
            0,
            0,
        ];
        assert_eq!(words(&rom), expected);
    }

    #[test]
    fn kernel_and_initrd_lie_where_qemu_puts_them() {
        assert_eq!(kernel_start(Xlen::Rv64, 0x8004_2868), 0x8020_0000);
        assert_eq!(kernel_start(Xlen::Rv32, 0x8004_2868), 0x8040_0000);
        assert_eq!(kernel_start(Xlen::Rv64, 0x8000_0000), 0x8000_0000);
        let kernel = Window::new(0x8020_0000, 0x19000);
        assert_eq!(initrd_start(kernel, 512 << 20), 0x9020_0000);
        assert_eq!(initrd_start(kernel, 2 << 30), 0xa020_0000);
        assert_eq!(initrd_start(Window::new(0x8020_0000, 40 << 20), 64 << 20), 0x82a0_0000);
    }

    #[test]
    fn the_device_tree_lies_high_in_ram_and_above_all_else() {
        assert_eq!(fdt_start(Xlen::Rv64, RAM, 0x1384, 0x8020_0000), Some(0x9fe0_0000));
        let large = Window::new(0x8000_0000, 8 << 30);
        assert_eq!(fdt_start(Xlen::Rv64, large, 0x1384, 0), Some(0x2_7fe0_0000));
        let two = Window::new(0x8000_0000, 2 << 30);
        assert_eq!(fdt_start(Xlen::Rv32, two, 0x138c, 0), Some(0xbfe0_0000));
        assert_eq!(fdt_start(Xlen::Rv64, RAM, 0x1384, 0x9ff0_0000), None);
        assert_eq!(fdt_start(Xlen::Rv64, Window::new(0x8000_0000, 0x1000), 0x1384, 0), None);
        assert_eq!(fdt_start(Xlen::Rv64, RAM, u64::MAX, 0), None);
    }
}
