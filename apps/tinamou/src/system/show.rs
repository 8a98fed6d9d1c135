//! Texts of `info`, in the formats of QEMU 10.0.2.

use machine::Machine;
use memory::{Backing, Ram, Region};
use plan::{Drive, Media, Plan};
use runtime::CodeCache;
use std::fmt::Write;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// An error of the host without its number.
pub fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

/// `info cpus`.
pub fn cpus(machine: &Machine, selected: usize) -> String {
    let line = |cpu: usize| {
        let mark = if cpu == selected { '*' } else { ' ' };
        let thread = machine.thread_id(cpu).unwrap_or(0);
        format!("{mark} CPU #{cpu}: thread_id={thread}\n")
    };
    (0..machine.cpu_count()).map(line).collect()
}

fn kind(backing: &Backing) -> &'static str {
    match backing {
        Backing::Ram { .. } => "ram",
        Backing::Rom { writes: None, .. } => "rom",
        Backing::Rom { writes: Some(_), .. } => "romd",
        Backing::Io(_) => "i/o",
    }
}

fn region_line(text: &mut String, indent: usize, first: u64, last: u64, region: &Region) {
    let (priority, kind, name) = (region.priority, kind(&region.backing), &region.name);
    // A string takes every write.
    let _ =
        write!(text, "{:indent$}{first:016x}-{last:016x} (prio {priority}, {kind}): {name}", "");
}

/// `info mtree`; with `flat` what answers where.
pub fn mtree(machine: &Machine, flat: bool) -> String {
    let space = machine.space();
    let mut text = String::new();
    if flat {
        text.push_str("FlatView #0\n AS \"memory\", root: system\n");
        for cpu in 0..machine.cpu_count() {
            let _ = writeln!(text, " AS \"cpu-memory-{cpu}\", root: system");
        }
        text.push_str(" Root memory region: system\n");
        for range in space.view().ranges() {
            region_line(&mut text, 2, range.start, range.last, &range.region);
            if range.offset != 0 {
                let _ = write!(text, " @{:016x}", range.offset);
            }
            text.push('\n');
        }
        text.push('\n');
        return text;
    }
    for cpu in 0..machine.cpu_count() {
        let _ = writeln!(text, "address-space: cpu-memory-{cpu}");
    }
    text.push_str("address-space: memory\n");
    text.push_str("  0000000000000000-ffffffffffffffff (prio 0, i/o): system\n");
    let mut regions = space.regions();
    // A region that lies in another comes after it.
    regions.sort_by_key(|region| (region.base, std::cmp::Reverse(region.len), region.priority));
    let mut around: Vec<u64> = Vec::new();
    for region in regions {
        let first = region.base.0;
        let last = first.saturating_add(region.len - 1);
        while around.last().is_some_and(|end| *end < last) {
            around.pop();
        }
        region_line(&mut text, 4 + 2 * around.len(), first, last, &region);
        text.push('\n');
        around.push(last);
    }
    text.push('\n');
    text
}

/// `info roms`.
pub fn roms(machine: &Machine) -> String {
    let mut roms: Vec<_> = machine.roms().iter().collect();
    roms.sort_by_key(|rom| rom.at);
    let view = machine.space().view();
    let line = |rom: &&machine::Rom| {
        let backing = view.find(rom.at).map(|range| &range.region.backing);
        let memory = if matches!(backing, Some(Backing::Rom { .. })) { "rom" } else { "ram" };
        let (at, size, name) = (rom.at.0, rom.bytes.len(), &rom.name);
        format!("addr={at:016x} size=0x{size:06x} mem={memory} name=\"{name}\"\n")
    };
    roms.iter().map(line).collect()
}

/// `info ramblock`. Blocks are mapped each for itself: there are no offsets among them.
pub fn ramblock(machine: &Machine) -> String {
    let mut blocks: Vec<(Arc<Ram>, bool)> = Vec::new();
    for region in machine.space().regions() {
        let (ram, fixed) = match &region.backing {
            Backing::Ram { ram, .. } => (ram, false),
            Backing::Rom { ram, writes, .. } => (ram, writes.is_none()),
            Backing::Io(_) => continue,
        };
        if !blocks.iter().any(|(known, _)| Arc::ptr_eq(known, ram)) {
            blocks.push((Arc::clone(ram), fixed));
        }
    }
    blocks.sort_by_key(|(ram, _)| std::cmp::Reverse(ram.len()));
    let mut text = format!(
        "{:>24} {:>8}  {:>18} {:>18} {:>18} {:>18} {:>3}\n",
        "Block Name", "PSize", "Offset", "Used", "Total", "HVA", "RO"
    );
    let mut offset = 0;
    for (ram, fixed) in blocks {
        let (len, hva) = (ram.len(), ram.host_address());
        let rights = if fixed { "ro" } else { "rw" };
        let _ = writeln!(
            text,
            "{:>24} {:>8}  0x{offset:016x} 0x{len:016x} 0x{len:016x} 0x{hva:016x} {rights:>3}",
            ram.name(),
            "4 KiB"
        );
        offset += len;
    }
    text
}

/// `info chardev`.
pub fn chardevs(list: &[(String, String)]) -> String {
    list.iter().map(|(id, what)| format!("{id}: filename={what}\n")).collect()
}

/// `info jit`.
pub fn jit(cache: &CodeCache) -> String {
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let c = &cache.counters;
    let (units, insns, bytes) = (count(&c.units), count(&c.insns), count(&c.host_bytes));
    let ((used, all), options) = (cache.usage(), &cache.options);
    let one = if options.max_insns == 1 { "on" } else { "off" };
    let engine = if options.interpret { "interpreter" } else { "compiler" };
    let ratio = |a: u64, b: u64| if b == 0 { 0.0 } else { a as f64 / b as f64 };
    format!(
        "Accelerator settings:\n\
         one-insn-per-tb: {one}\n\
         engine: {engine}\n\
         \n\
         Translation buffer state:\n\
         gen code size       {used}/{all}\n\
         TB count            {units}\n\
         guest instructions  {insns}\n\
         TB avg target size  {:.1} instructions\n\
         TB avg host size    {:.0} bytes ({:.1} per instruction)\n\
         translation time    {:.0} ns per instruction\n\
         direct jump count   {}\n\
         \n\
         Statistics:\n\
         TB flush count      {}\n\
         TB invalidate count {}\n\
         TLB misses          {}\n",
        ratio(insns, units),
        ratio(bytes, units),
        ratio(bytes, insns),
        ratio(count(&c.translate_ns), insns),
        count(&c.links),
        count(&c.flushes),
        count(&c.invalidated),
        count(&c.tlb_misses),
    )
}

/// `info block`, of one drive or all.
pub fn block(plan: &Plan, wanted: Option<&str>, details: bool) -> String {
    let named = |drive: &&Drive| wanted.is_none_or(|id| id == drive.id);
    let texts: Vec<String> =
        plan.drives.iter().filter(named).map(|drive| one_drive(plan, drive, details)).collect();
    if texts.is_empty() && wanted.is_some() {
        return format!("Device '{}' not found\n", wanted.unwrap_or_default());
    }
    texts.join("\n")
}

fn one_drive(plan: &Plan, drive: &Drive, details: bool) -> String {
    let format = drive.format.as_deref().unwrap_or("probed");
    let access = if drive.readonly { ", read-only" } else { "" };
    let mut text = match &drive.file {
        Some(file) => format!("{}: {file} ({format}{access})\n", drive.id),
        None => format!("{}: [not inserted]\n", drive.id),
    };
    let user = plan
        .devices
        .iter()
        .position(|d| d.properties.iter().any(|p| p.name == "drive" && p.value == drive.id));
    if let Some(at) = user {
        let _ = writeln!(text, "    Attached to:      {}", device_path(plan, at));
    }
    if drive.media == Media::Cdrom {
        text.push_str("    Removable device: not locked, tray closed\n");
    }
    if drive.file.is_some() {
        let mode = if drive.cache.writeback { "writeback" } else { "writethrough" };
        let direct = if drive.cache.direct { ", direct" } else { "" };
        let ignored = if drive.cache.no_flush { ", ignore flushes" } else { "" };
        let _ = writeln!(text, "    Cache mode:       {mode}{direct}{ignored}");
    }
    if details && drive.snapshot {
        text.push_str("    Writes:           to a temporary file\n");
    }
    text
}

/// Where a device is among the objects of the machine.
fn device_path(plan: &Plan, at: usize) -> String {
    let device = &plan.devices[at];
    let anonymous = plan.devices[..at].iter().filter(|d| d.id.is_none()).count();
    let path = match &device.id {
        Some(id) => format!("/machine/peripheral/{id}"),
        None => format!("/machine/peripheral-anon/device[{anonymous}]"),
    };
    let behind = device.driver.starts_with("virtio-") && device.driver.contains("-pci");
    if behind { path + "/virtio-backend" } else { path }
}

/// `info virtio`.
pub fn virtio(plan: &Plan) -> String {
    let line = |at: usize| {
        let kind = plan.devices[at].driver.strip_prefix("virtio-")?.split('-').next()?;
        Some(format!("{} [virtio-{kind}]\n", device_path(plan, at)))
    };
    (0..plan.devices.len()).filter_map(line).collect()
}

/// `info network`.
pub fn network(plan: &Plan) -> String {
    let line = |net: &plan::Netdev| format!("{}: index=0,type={}\n", net.id, net.kind);
    plan.netdevs.iter().map(line).collect()
}

/// `info uuid`.
pub fn uuid(plan: &Plan) -> String {
    let hex: String =
        plan.uuid.unwrap_or_default().iter().map(|byte| format!("{byte:02x}")).collect();
    let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
    parts.join("-") + "\n"
}
