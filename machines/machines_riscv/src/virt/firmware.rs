//! What the firmware finds in fw_cfg besides the kernel.

use super::{VirtConfig, acpi, map};
use crate::Xlen;
use crate::inputs::BuildError;
use misc::FwCfg;
use misc::fw_cfg::{FileError, keys};

/// Settings for the firmware.
#[derive(Clone, Debug, Default)]
pub struct FirmwareConfig {
    /// UUID of the machine; zero when it has none.
    pub uuid: [u8; 16],
    /// Whether the user wants no graphics (`-nographic`).
    pub nographic: bool,
    /// Whether the firmware shows a menu.
    pub boot_menu: bool,
    /// How long the menu waits, in ms.
    pub menu_wait: Option<u16>,
    /// Wait before a reboot after a failed boot, in ms; it stays as it is without.
    pub reboot_timeout: Option<u32>,
    /// What the machine says of its maker and parts; RAM and processors' family are the board's.
    pub smbios: smbios::Machine,
    /// The user's own entries: names and contents.
    pub files: Vec<(String, Vec<u8>)>,
}

impl FirmwareConfig {
    /// Puts the settings into the device.
    pub(super) fn offer(
        mut self,
        config: &VirtConfig,
        boot_order: &[String],
        device: &mut FwCfg,
    ) -> Result<(), BuildError> {
        let harts = config.harts.len();
        let short = |value: usize| u16::try_from(value).unwrap_or(u16::MAX).to_le_bytes().to_vec();
        device.set(keys::UUID, self.uuid.to_vec());
        device.set(keys::NOGRAPHIC, short(self.nographic.into()));
        device.set(keys::NB_CPUS, short(harts));
        device.set(keys::BOOT_MENU, short(self.boot_menu.into()));
        let never = u32::MAX;
        let mut files = vec![
            ("bios-geometry".to_owned(), Vec::new()),
            ("bootorder".to_owned(), lines(boot_order)),
            (
                "etc/boot-fail-wait".to_owned(),
                self.reboot_timeout.unwrap_or(never).to_le_bytes().to_vec(),
            ),
        ];
        let wait = self.menu_wait.map(|ms| ms.to_le_bytes().to_vec());
        files.extend(wait.map(|bytes| ("etc/boot-menu-wait".to_owned(), bytes)));
        if config.acpi {
            files.extend(acpi::files(config));
        }
        files.extend(self.smbios_files(config));
        for (name, bytes) in files.into_iter().chain(self.files) {
            device.add_file(&name, bytes, false).map_err(|error| refused(&name, &error))?;
        }
        Ok(())
    }

    fn smbios_files(&mut self, config: &VirtConfig) -> [(String, Vec<u8>); 2] {
        // "RISC-V RV32" and "RISC-V RV64".
        self.smbios.processors.family = if config.xlen == Xlen::Rv32 { 0x200 } else { 0x201 };
        self.smbios.ram = (map::DRAM, config.ram_len);
        let smbios::Tables { anchor, tables } = self.smbios.tables();
        [("etc/smbios/smbios-anchor".into(), anchor), ("etc/smbios/smbios-tables".into(), tables)]
    }
}

/// Lines of text that end with a zero; nothing for none.
fn lines(lines: &[String]) -> Vec<u8> {
    match lines {
        [] => Vec::new(),
        _ => [lines.join("\n").as_bytes(), &[0]].concat(),
    }
}

fn refused(name: &str, error: &FileError) -> BuildError {
    BuildError::Device(format!("-fw_cfg name={name}"), error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use device::MmioDevice;
    use memory::AddressSpace;

    fn config(harts: usize) -> VirtConfig {
        VirtConfig::new(Xlen::Rv64, vec![crate::harts::HartInfo::default(); harts], 1 << 30)
    }

    fn item(device: &mut FwCfg, key: u16, len: usize) -> Vec<u8> {
        device.write(8, 2, key.swap_bytes().into());
        (0..len).map(|_| device.read(0, 1) as u8).collect()
    }

    /// As `qemu-system-riscv64 -M virt` 10.0.2 shows them to a program.
    #[test]
    fn the_firmware_finds_the_items_of_qemu() {
        let mut device = FwCfg::new(AddressSpace::new("memory"));
        let config = FirmwareConfig {
            uuid: [7; 16],
            nographic: true,
            menu_wait: Some(5),
            files: vec![("opt/x/y".into(), b"hello".to_vec())],
            ..FirmwareConfig::default()
        };
        config.offer(&self::config(3), &["/a".into(), "/b".into()], &mut device).unwrap();
        assert_eq!(item(&mut device, 0, 4), b"QEMU");
        assert_eq!(item(&mut device, 2, 17), [[7; 16].as_slice(), &[0]].concat());
        assert_eq!(item(&mut device, 4, 2), [1, 0]);
        assert_eq!(item(&mut device, 5, 3), [3, 0, 0]);
        assert_eq!(item(&mut device, 0x0e, 2), [0, 0]);
        assert_eq!(item(&mut device, 0x19, 4), [0, 0, 0, 10]);
        assert_eq!(device.file("etc/boot-fail-wait"), Some([0xff; 4].as_slice()));
        assert_eq!(device.file("etc/boot-menu-wait"), Some([5, 0].as_slice()));
        assert_eq!(device.file("bootorder"), Some(b"/a\n/b\0".as_slice()));
        let tables = device.file("etc/acpi/tables").unwrap();
        assert_eq!(&tables[..4], b"DSDT");
        assert_eq!(&device.file("etc/smbios/smbios-anchor").unwrap()[..5], b"_SM3_");
        assert_eq!(device.file("opt/x/y"), Some(b"hello".as_slice()));
    }

    #[test]
    fn a_name_that_is_taken_is_refused() {
        let mut device = FwCfg::new(AddressSpace::new("memory"));
        let files = vec![("bootorder".into(), Vec::new())];
        let config = FirmwareConfig { files, ..FirmwareConfig::default() };
        let error = config.offer(&self::config(1), &[], &mut device).unwrap_err().to_string();
        assert!(error.starts_with("-fw_cfg name=bootorder: "), "{error}");
    }
}
