//! Drives and block nodes, opened from the plan.

use formats::{DriveOptions, HostFiles, add_blockdev, open_drive};
use graph::{DetectZeroes, Disk, DiskOptions, Executor, Registry, WriteFlags};
use misc::FlashStore;
use options::List;
use plan::{Drive, Interface, Plan};
use std::collections::HashMap;
use std::io;
use std::sync::Arc;

/// Threads that serve the disks of a machine.
pub const WORKERS: usize = 4;

/// The open disks of a machine.
pub struct Disks {
    disks: HashMap<String, Arc<Disk>>,
    executor: Arc<Executor>,
    cpus: u16,
}

impl Disks {
    /// A disk by its drive's id or its node's name, for a device.
    pub fn drive(&self, id: &str) -> Option<virtio::Drive> {
        let disk = Arc::clone(self.disks.get(id)?);
        Some(virtio::Drive { disk, executor: Arc::clone(&self.executor) })
    }

    /// Processors of the machine.
    pub fn cpus(&self) -> u16 {
        self.cpus
    }

    /// Makes everything written durable, as ending the machine does.
    pub fn flush(&self) {
        for (id, disk) in self.disks.iter().filter(|(_, disk)| !disk.read_only()) {
            if let Err(error) = disk.flush() {
                eprintln!("flush of drive '{id}': {error}");
            }
        }
    }
}

/// Opens all that the plan names.
///
/// # Errors
/// A drive cannot be opened: the option and what is wrong.
pub fn open(program: &str, plan: &Plan) -> Result<Disks, String> {
    let mut registry = Registry::default();
    let mut disks = HashMap::new();
    for node in &plan.blockdevs {
        let mut given = pairs(&node.options);
        given.push(("driver".into(), node.driver.clone()));
        given.push(("node-name".into(), node.node_name.clone()));
        let opened = add_blockdev(given, &HostFiles, &mut registry)
            .map_err(|e| format!("{}: {e}", node.origin))?;
        let policy = DiskOptions { write_cache: true, ..DiskOptions::default() };
        disks.insert(node.node_name.clone(), Arc::new(Disk::new(opened, policy)));
    }
    for drive in &plan.drives {
        let Some(options) = drive_options(drive) else { continue };
        let opened = open_drive(&options, &HostFiles, &mut registry)
            .map_err(|e| format!("{}: {e}", drive.origin))?;
        for warning in opened.warnings {
            eprintln!("{program}: {warning}");
        }
        disks.insert(drive.id.clone(), Arc::new(opened.disk));
    }
    let executor = Executor::new("block", WORKERS);
    Ok(Disks { disks, executor, cpus: u16::try_from(plan.smp.cpus).unwrap_or(u16::MAX) })
}

/// The contents of the flash banks.
pub fn flash(plan: &Plan, disks: &Disks) -> [Option<Box<dyn FlashStore>>; 2] {
    [0, 1].map(|unit| {
        let drive =
            plan.drives.iter().find(|d| d.interface == Interface::Pflash && d.unit == unit)?;
        let disk = Arc::clone(disks.disks.get(&drive.id)?);
        Some(Box::new(Flash(disk)) as Box<dyn FlashStore>)
    })
}

fn pairs(list: &List) -> Vec<(String, String)> {
    list.items.iter().map(|item| (item.key.clone(), item.value.clone())).collect()
}

/// What the block layer opens; nothing for an empty tray.
fn drive_options(drive: &Drive) -> Option<DriveOptions> {
    let other = pairs(&drive.driver_options);
    if drive.file.is_none() && other.is_empty() {
        return None;
    }
    let mut options = DriveOptions {
        file: drive.file.clone(),
        format: drive.format.clone(),
        read_only: drive.readonly.then_some(true),
        discard: drive.discard,
        detect_zeroes: match drive.detect_zeroes {
            plan::DetectZeroes::Off => DetectZeroes::Off,
            plan::DetectZeroes::On => DetectZeroes::On,
            plan::DetectZeroes::Unmap => DetectZeroes::Unmap,
        },
        snapshot: drive.snapshot,
        other,
        ..DriveOptions::default()
    };
    options.cache.writeback = drive.cache.writeback;
    options.cache.direct = drive.cache.direct;
    options.cache.no_flush = drive.cache.no_flush;
    options.aio_native = drive.aio == plan::Aio::Native;
    Some(options)
}

/// A flash bank's contents on a disk.
struct Flash(Arc<Disk>);

impl FlashStore for Flash {
    fn read_only(&self) -> bool {
        self.0.read_only()
    }
    fn len(&self) -> u64 {
        self.0.size()
    }
    fn read(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.0.read_at(offset, buffer)
    }
    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_at(offset, bytes, WriteFlags::default())
    }
}
