//! Drives and block nodes, opened from the plan.

use formats::{DriveOptions, HostFiles, OBJECT_KINDS, Objects, add_blockdev, open_drive};
use graph::{
    Aio, DetectZeroes, Disk, Executor, Graph, Memory, Node, Permissions, Statistics, WriteFlags,
    throttle,
};
use jobs::{Copy, CopyOptions, Silent, Stack};
use misc::FlashStore;
use options::{Item, List};
use plan::{Device, Drive, Interface, Plan};
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

/// Threads that serve the disks of a machine.
pub const WORKERS: usize = 4;

/// An open disk.
struct Open {
    id: String,
    disk: Arc<Disk>,
    /// With `snapshot=on`: how to open what lies below, and the file that takes the writes.
    snapshot: Option<(DriveOptions, Mutex<Arc<dyn Node>>)>,
}

/// The open disks of a machine, those of drives before those of nodes.
pub struct Disks {
    open: Vec<Open>,
    /// Drives without a medium.
    empty: Vec<String>,
    /// All their nodes.
    _graph: Arc<Graph>,
    /// What images need to be opened.
    objects: Objects,
    executor: Arc<Executor>,
    cpus: u16,
}

impl Disks {
    fn find(&self, id: &str) -> Option<&Open> {
        self.open.iter().find(|open| open.id == id)
    }

    /// A disk by its drive's id or its node's name, for a device.
    pub fn drive(&self, id: &str) -> Option<virtio::Drive> {
        let disk = Arc::clone(&self.find(id)?.disk);
        Some(virtio::Drive { disk, executor: Arc::clone(&self.executor) })
    }

    /// Processors of the machine.
    pub fn cpus(&self) -> u16 {
        self.cpus
    }

    /// Makes everything written durable, as ending the machine does.
    pub fn flush(&self) {
        for Open { id, disk, .. } in self.open.iter().filter(|open| !open.disk.read_only()) {
            if let Err(error) = disk.flush() {
                eprintln!("flush of drive '{id}': {error}");
            }
        }
    }

    /// What the disks were asked to do, as `info blockstats` shows it.
    pub fn statistics(&self) -> String {
        let line = |Open { id, disk, .. }: &Open| {
            let Statistics { reads, writes, flushes } = disk.statistics();
            format!(
                "{id}: rd_bytes={} wr_bytes={} rd_operations={} wr_operations={} \
                 flush_operations={} wr_total_time_ns={} rd_total_time_ns={} \
                 flush_total_time_ns={} rd_merged=0 wr_merged=0 idle_time_ns=0\n",
                reads.bytes(),
                writes.bytes(),
                reads.operations(),
                writes.operations(),
                flushes.operations(),
                writes.ns(),
                reads.ns(),
                flushes.ns(),
            )
        };
        self.open.iter().map(line).collect()
    }

    /// Writes what snapshots hold back to their images: of a drive, or of `all`. Nothing may use
    /// the disks meanwhile.
    ///
    /// # Errors
    /// What cannot be written, in the words of QEMU's monitor.
    pub fn commit(&self, device: &str) -> Result<(), String> {
        let failed = |id: &str, why: String| format!("'commit' error for '{id}': {why}");
        if device == "all" {
            for open in &self.open {
                if let Some(snapshot) = &open.snapshot {
                    commit(&open.disk, snapshot, &self.objects)
                        .map_err(|why| failed(&open.id, why))?;
                }
            }
            return Ok(());
        }
        if self.empty.iter().any(|id| id == device) {
            return Err(format!("Device '{device}' has no medium"));
        }
        let open = self.find(device).ok_or_else(|| format!("Device '{device}' not found"))?;
        match &open.snapshot {
            Some(snapshot) => {
                commit(&open.disk, snapshot, &self.objects).map_err(|why| failed(device, why))
            }
            None if jobs::backing_of(&*open.disk.node()).is_some() => {
                let why = "not supported yet but for snapshot=on; 'qemu-img commit' does it while \
                           no machine uses the image";
                Err(failed(device, why.to_owned()))
            }
            None => Err(failed(device, "Operation not supported".to_owned())),
        }
    }
}

/// Writes what a snapshot holds back to the image below it, and begins a new one. The image is
/// closed and opened for writing in between, so that its lock is asked for.
fn commit(
    disk: &Disk,
    (options, file): &(DriveOptions, Mutex<Arc<dyn Node>>),
    objects: &Objects,
) -> Result<(), String> {
    let text = |error: graph::OpenError| error.to_string();
    let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
    disk.flush().map_err(|e| e.to_string())?;
    // Only the file with the writes stays open.
    disk.replace_node(Arc::new(Memory::new(Vec::new(), true)));
    let written = write_back(options, &file, objects);
    let graph = Graph::new();
    let next = match &written {
        Ok(()) => {
            open_drive(options, &HostFiles, &graph, objects).map_err(text).and_then(|opened| {
                let fresh = opened.overlay.ok_or("there is no snapshot")?;
                *file = fresh;
                Ok(opened.disk.node())
            })
        }
        Err(_) => {
            let below = DriveOptions { snapshot: false, read_only: Some(true), ..options.clone() };
            let below = open_drive(&below, &HostFiles, &graph, objects).map_err(text);
            below.and_then(|below| formats::overlay(&file, Some(below.disk.node())).map_err(text))
        }
    };
    disk.replace_node(next?);
    written
}

fn write_back(
    options: &DriveOptions,
    file: &Arc<dyn Node>,
    objects: &Objects,
) -> Result<(), String> {
    let text = |error: graph::OpenError| error.to_string();
    let below = DriveOptions { snapshot: false, ..options.clone() };
    let below = open_drive(&below, &HostFiles, &Graph::new(), objects).map_err(text)?;
    let base = below.disk.node();
    if below.disk.read_only() {
        return Err("Permission denied".to_owned());
    }
    let top: Arc<dyn Node> =
        Arc::new(Stack::new(vec![formats::overlay(file, None).map_err(text)?]));
    let how = CopyOptions { leave_unallocated: true, ..CopyOptions::default() };
    let size = top.size().min(base.size());
    Copy::run(&top, &*base, size, &how, &Silent).map_err(|e| e.error.to_string())?;
    base.flush().map_err(|e| e.to_string())
}

/// Opens all that the plan names.
///
/// # Errors
/// A drive cannot be opened: the option and what is wrong.
pub fn open(program: &str, plan: &Plan) -> Result<Disks, String> {
    let graph = Graph::new();
    let objects = objects(plan)?;
    let mut groups = Groups::new();
    let (mut open, mut empty, mut nodes) = (Vec::new(), Vec::new(), Vec::new());
    for node in &plan.blockdevs {
        let mut given = pairs(&node.options);
        given.push(("driver".into(), node.driver.clone()));
        given.push(("node-name".into(), node.node_name.clone()));
        let disk = add_blockdev(given, &HostFiles, &graph, &objects)
            .and_then(|_| graph.disk(&node.node_name))
            .map_err(|e| format!("{}: {e}", node.origin))?;
        if let Some(device) =
            plan.devices.iter().find(|d| value(d, "drive") == Some(&node.node_name))
        {
            let needs = if disk.read_only() { Permissions::READER } else { Permissions::WRITER };
            let shares = matches!(value(device, "share-rw"), Some("on" | "true" | "yes" | "y"));
            let needs = if shares { needs.sharing_writes() } else { needs };
            graph.require(disk.edge(), needs).map_err(|e| format!("{}: {e}", device.origin))?;
        }
        let disk = Arc::new(disk);
        nodes.push(Open { id: node.node_name.clone(), disk, snapshot: None });
    }
    for drive in &plan.drives {
        let options = drive_options(drive, &mut groups);
        let Some(options) = options.map_err(|e| format!("{}: {e}", drive.origin))? else {
            empty.push(drive.id.clone());
            continue;
        };
        let opened = open_drive(&options, &HostFiles, &graph, &objects)
            .map_err(|e| format!("{}: {e}", drive.origin))?;
        for warning in opened.warnings {
            eprintln!("{program}: {warning}");
        }
        let snapshot = opened.overlay.map(|file| (options, Mutex::new(file)));
        open.push(Open { id: drive.id.clone(), disk: Arc::new(opened.disk), snapshot });
    }
    let executor = Executor::new("block", WORKERS);
    open.extend(nodes);
    let cpus = u16::try_from(plan.smp.cpus).unwrap_or(u16::MAX);
    Ok(Disks { open, empty, _graph: graph, objects, executor, cpus })
}

/// The contents of the flash banks.
pub fn flash(plan: &Plan, disks: &Disks) -> [Option<Box<dyn FlashStore>>; 2] {
    [0, 1].map(|unit| {
        let drive =
            plan.drives.iter().find(|d| d.interface == Interface::Pflash && d.unit == unit)?;
        let disk = Arc::clone(&disks.find(&drive.id)?.disk);
        Some(Box::new(Flash(disk)) as Box<dyn FlashStore>)
    })
}

/// The value of a property that was given to a device.
fn value<'a>(device: &'a Device, name: &str) -> Option<&'a str> {
    device.properties.iter().find(|p| p.name == name).map(|p| p.value.as_str())
}

fn pairs(list: &List) -> Vec<(String, String)> {
    list.items.iter().map(|item| (item.key.clone(), item.value.clone())).collect()
}

/// The objects that images and connections need.
fn objects(plan: &Plan) -> Result<Objects, String> {
    let mut objects = Objects::default();
    for object in &plan.objects {
        if !OBJECT_KINDS.contains(&object.kind.as_str()) {
            continue;
        }
        let own = [("qom-type", object.kind.as_str()), ("id", object.id.as_str())];
        let given = object.properties.iter().map(|p| (p.name.as_str(), p.value.as_str()));
        let items = own.into_iter().chain(given).map(|(key, value)| Item::new(key, value));
        let list = List { source: object.origin.clone(), items: items.collect() };
        objects.add(list).map_err(|e| e.to_string())?;
    }
    Ok(objects)
}

/// Throttle groups of drives by their names.
type Groups = BTreeMap<String, Arc<throttle::Group>>;

/// Takes the limits out of a drive's options, and finds the group that they are for: the drive's
/// own unless it names another. The last drive of a group sets its limits.
fn throttled(
    drive: &Drive,
    options: &mut Vec<(String, String)>,
    groups: &mut Groups,
) -> Result<Option<Arc<throttle::Group>>, String> {
    let (mut limits, mut name) = (throttle::Limits::default(), drive.id.clone());
    let mut problem = None;
    options.retain(|(key, value)| {
        let Some(short) = key.strip_prefix("throttling.") else { return true };
        if short == "group" {
            name.clone_from(value);
            return false;
        }
        let number = match value.parse() {
            Ok(number) => number,
            Err(_) if value.parse::<i64>().is_ok() => u64::MAX,
            Err(_) => {
                problem = Some(format!("Parameter '{key}' expects a number"));
                0
            }
        };
        !limits.set(short, number)
    });
    if let Some(problem) = problem {
        return Err(problem);
    }
    limits.check().map_err(|e| e.to_string())?;
    if !limits.any() {
        return Ok(None);
    }
    let group = groups.entry(name).or_insert_with_key(|name| throttle::Group::new(name, limits));
    group.set_limits(limits);
    Ok(Some(Arc::clone(group)))
}

/// What the block layer opens; nothing for an empty tray.
fn drive_options(drive: &Drive, groups: &mut Groups) -> Result<Option<DriveOptions>, String> {
    let mut other = pairs(&drive.driver_options);
    let throttle = throttled(drive, &mut other, groups)?;
    if drive.file.is_none() && other.is_empty() {
        return Ok(None);
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
        copy_on_read: drive.copy_on_read,
        throttle,
        other,
        ..DriveOptions::default()
    };
    options.cache.writeback = drive.cache.writeback;
    options.cache.direct = drive.cache.direct;
    options.cache.no_flush = drive.cache.no_flush;
    options.aio = match drive.aio {
        plan::Aio::Threads => Aio::Threads,
        plan::Aio::Native => Aio::Native,
        plan::Aio::IoUring => Aio::IoUring,
    };
    Ok(Some(options))
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
