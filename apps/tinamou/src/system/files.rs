//! Firmware, kernels and other files that a machine starts with.

use crate::system::identity;
use machines_riscv::virt::{BootFiles, File, FirmwareConfig};
use plan::{Display, FwCfgContent, Plan};
use std::path::{Path, PathBuf};

/// The firmware a machine starts without `-bios`, and the package that has it.
const OPENSBI: &str = "opensbi-riscv64-generic-fw_dynamic.bin";
/// The same under the name that Debian's package `opensbi` gives it.
const OPENSBI_DEBIAN: &str = "opensbi/generic/fw_dynamic.bin";
/// Folders searched after those of `-L`.
const FOLDERS: [&str; 4] =
    ["/usr/share/tinamou", "/usr/share/qemu", "/usr/lib/riscv64-linux-gnu", "/usr/share"];

/// Reads what the plan names.
///
/// # Errors
/// A file cannot be read, or the firmware is nowhere.
pub fn boot_files(plan: &Plan) -> Result<BootFiles, String> {
    let boot = &plan.boot;
    let firmware = match boot.bios.as_deref() {
        Some("none") => None,
        None | Some("default") => Some(default_firmware(plan)?),
        Some(name) => {
            let path = search(plan, name).ok_or_else(|| {
                format!("-bios {name}: no such file, and none in the folders of -L")
            })?;
            Some(read("-bios", &path)?)
        }
    };
    let named = |option: &str, name: &Option<String>| {
        name.as_ref().map(|name| read(option, Path::new(name))).transpose()
    };
    Ok(BootFiles {
        firmware,
        kernel: named("-kernel", &boot.kernel)?,
        initrd: named("-initrd", &boot.initrd)?,
        append: boot.append.clone().unwrap_or_default(),
        dtb: named("-dtb", &boot.dtb)?,
    })
}

fn default_firmware(plan: &Plan) -> Result<File, String> {
    let found = search(plan, OPENSBI).or_else(|| search(plan, OPENSBI_DEBIAN));
    match found {
        Some(path) => read("-bios", &path),
        None => Err(format!(
            "could not find firmware '{OPENSBI}': install the package opensbi, or name it with \
             -bios, or start the kernel without any (-bios none)"
        )),
    }
}

/// A file as named, or in one of the folders for data.
fn search(plan: &Plan, name: &str) -> Option<PathBuf> {
    let own = std::env::var_os("TINAMOU_DATA").map(PathBuf::from);
    let folders = plan.data_dirs.iter().map(PathBuf::from).chain(own);
    let candidates = folders.chain(FOLDERS.iter().map(PathBuf::from)).map(|dir| dir.join(name));
    std::iter::once(PathBuf::from(name)).chain(candidates).find(|path| path.is_file())
}

fn read(option: &str, path: &Path) -> Result<File, String> {
    let name = path.display().to_string();
    let bytes =
        std::fs::read(path).map_err(|e| format!("{option} {name}: {}", super::show::plain(&e)))?;
    Ok(File { name, bytes })
}

/// What the firmware is told through fw_cfg.
///
/// # Errors
/// A file of `-fw_cfg` cannot be read.
pub fn firmware_config(plan: &Plan) -> Result<FirmwareConfig, String> {
    let content = |entry: &plan::FwCfg| match &entry.content {
        FwCfgContent::Text(text) => Ok(text.clone().into_bytes()),
        FwCfgContent::File(path) => {
            let option = format!("-fw_cfg name={}: can't load", entry.name);
            read(&option, Path::new(path)).map(|file| file.bytes)
        }
    };
    let file = |entry: &plan::FwCfg| Ok((entry.name.clone(), content(entry)?));
    Ok(FirmwareConfig {
        uuid: plan.uuid.unwrap_or_default(),
        nographic: plan.display == Display::Nographic,
        boot_menu: plan.boot.menu.unwrap_or(false),
        menu_wait: plan.boot.splash_time.map(|ms| u16::try_from(ms).unwrap_or(u16::MAX)),
        reboot_timeout: plan.boot.reboot_timeout.map(|ms| u32::try_from(ms).unwrap_or(u32::MAX)),
        smbios: identity::machine(plan),
        files: plan.fw_cfg.iter().map(file).collect::<Result<_, String>>()?,
    })
}
