//! The plan: what to build, as pure data.

pub use chardev::{Backend as CharBackend, Config as Chardev, Socket, SocketAddress};
use options::{List, option_enum};
use std::ops::RangeInclusive;

/// A property as given: name and value, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Property {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// Everything a command line asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Machine type, by its proper name.
    pub machine: String,
    /// Properties of the machine.
    pub machine_properties: Vec<Property>,
    /// CPU model; the machine's default when none was named.
    pub cpu: String,
    /// Properties of every CPU.
    pub cpu_properties: Vec<Property>,
    /// How guest code runs.
    pub accel: Accel,
    /// RAM.
    pub memory: Memory,
    /// CPUs and their arrangement.
    pub smp: Smp,
    /// Firmware, kernel and what belongs to them.
    pub boot: Boot,
    /// Character back ends, in the order of creation.
    pub chardevs: Vec<Chardev>,
    /// Serial ports, by number: the back end's id.
    pub serials: Vec<Option<String>>,
    /// Parallel ports, by number: the back end's id.
    pub parallels: Vec<Option<String>>,
    /// Monitors.
    pub monitors: Vec<Monitor>,
    /// Drives.
    pub drives: Vec<Drive>,
    /// Block nodes of `-blockdev`.
    pub blockdevs: Vec<Blockdev>,
    /// Devices, in order; those that drives and network cards imply come last.
    pub devices: Vec<Device>,
    /// Network back ends.
    pub netdevs: Vec<Netdev>,
    /// Objects.
    pub objects: Vec<Object>,
    /// Defaults for properties of device classes.
    pub globals: Vec<Global>,
    /// Entries of the firmware configuration device.
    pub fw_cfg: Vec<FwCfg>,
    /// Whether the machine waits for `cont` before it runs (`-S`).
    pub stopped: bool,
    /// Whether devices that nobody asked for are left out (`-nodefaults`).
    pub no_defaults: bool,
    /// What happens on reboot, shutdown, panic and watchdog.
    pub actions: Actions,
    /// Name of the guest.
    pub name: Option<String>,
    /// What the machine says of its maker and parts.
    pub smbios: Vec<Smbios>,
    /// Name of the process (`-name process=`).
    pub process: Option<String>,
    /// UUID of the machine.
    pub uuid: Option<[u8; 16]>,
    /// Real-time clock.
    pub rtc: Rtc,
    /// Log.
    pub log: Log,
    /// Whether `/tmp/perf-PID.map` is written.
    pub perfmap: bool,
    /// Whether `jit-PID.dump` is written.
    pub jitdump: bool,
    /// Test protocol.
    pub qtest: Option<Qtest>,
    /// Where a debugger may connect, as given.
    pub gdb: Option<String>,
    /// File that takes the process number.
    pub pidfile: Option<String>,
    /// Whether the process goes to the background.
    pub daemonize: bool,
    /// Folders searched for firmware, first to last.
    pub data_dirs: Vec<String>,
    /// Seed of the guest's random numbers.
    pub seed: Option<u64>,
    /// Instruction counting, as given; to be read by who supports it.
    pub icount: Option<Icount>,
    /// Whether messages carry the time.
    pub message_timestamps: bool,
    /// The terminal escape character; Ctrl-A unless `-echr` says otherwise.
    pub escape: u8,
    /// Display.
    pub display: Display,
    /// Whether drives write to temporary files.
    pub snapshot: bool,
    /// Things to tell the user that do not stop the machine: whole lines (with `warning: ` where it is
    /// one) that lack only the program's name and a colon.
    pub warnings: Vec<String>,
}

option_enum! {
    /// How virtual CPUs share host threads.
    pub enum Threading {
        /// One thread for all.
        Single = "single",
        /// One thread for each.
        Multi = "multi",
    }
}

/// How guest code runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accel {
    /// Name of the accelerator.
    pub name: String,
    /// Threads of the virtual CPUs.
    pub threading: Option<Threading>,
    /// Whether each translation unit holds one instruction.
    pub one_insn_per_tb: bool,
    /// Size of the code cache, MiB.
    pub tb_size: Option<u64>,
    /// Whether units are interpreted, not compiled; by default where the host needs it.
    pub interpret: Option<bool>,
    /// Further properties.
    pub properties: Vec<Property>,
}

/// RAM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Bytes at start, a multiple of 8192.
    pub size: u64,
    /// Slots for hot plugging.
    pub slots: u64,
    /// Bytes with everything plugged; `size` when nothing can be.
    pub max: u64,
    /// Object that provides the RAM.
    pub backend: Option<String>,
}

/// CPUs and their arrangement; the product of all levels is `max_cpus`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Smp {
    /// CPUs at start.
    pub cpus: u32,
    /// CPUs with all plugged.
    pub max_cpus: u32,
    /// Sockets on the board.
    pub sockets: u32,
    /// Dies in a socket.
    pub dies: u32,
    /// Clusters in a die.
    pub clusters: u32,
    /// Modules in a cluster.
    pub modules: u32,
    /// Cores in a module.
    pub cores: u32,
    /// Threads in a core.
    pub threads: u32,
}

/// Firmware and what it starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Boot {
    /// Firmware: a path, a name to search for, `none`, or the machine's default.
    pub bios: Option<String>,
    /// Kernel image.
    pub kernel: Option<String>,
    /// Initial RAM disk.
    pub initrd: Option<String>,
    /// Kernel command line.
    pub append: Option<String>,
    /// Device tree that replaces the machine's own.
    pub dtb: Option<String>,
    /// File that takes the device tree; the process ends after writing it.
    pub dumpdtb: Option<String>,
    /// Boot devices, as letters.
    pub order: Option<String>,
    /// Boot devices of the first boot.
    pub once: Option<String>,
    /// Whether the firmware shows a menu.
    pub menu: Option<bool>,
    /// Whether the firmware tries nothing beyond what is configured.
    pub strict: bool,
    /// Wait before a reboot after a failed boot, in milliseconds.
    pub reboot_timeout: Option<u64>,
    /// Picture of the firmware's menu.
    pub splash: Option<String>,
    /// How long the picture stays, in milliseconds.
    pub splash_time: Option<u64>,
}

option_enum! {
    /// Language of a monitor.
    pub enum MonitorMode {
        /// For people (HMP).
        Readline = "readline",
        /// For programs (QMP).
        Control = "control",
    }
}

/// A monitor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Monitor {
    /// Its back end.
    pub chardev: String,
    /// Its language.
    pub mode: MonitorMode,
    /// Whether JSON is indented.
    pub pretty: bool,
}

option_enum! {
    /// What a drive plugs into.
    pub enum Interface {
        /// Nothing: a device refers to it.
        None = "none",
        /// IDE.
        Ide = "ide",
        /// SCSI.
        Scsi = "scsi",
        /// Floppy.
        Floppy = "floppy",
        /// Parallel flash bank.
        Pflash = "pflash",
        /// Other on-board flash.
        Mtd = "mtd",
        /// SD card slot.
        Sd = "sd",
        /// VirtIO.
        Virtio = "virtio",
        /// Xen.
        Xen = "xen",
    }
}

option_enum! {
    /// What a drive holds.
    pub enum Media {
        /// A disk.
        Disk = "disk",
        /// A CD or DVD.
        Cdrom = "cdrom",
    }
}

option_enum! {
    /// What happens when the host fails to read or write.
    pub enum ErrorPolicy {
        /// The guest sees no error.
        Ignore = "ignore",
        /// The guest sees the error.
        Report = "report",
        /// The machine stops.
        Stop = "stop",
        /// The machine stops when the host is out of space; else the guest sees the error.
        Enospc = "enospc",
        /// The device's default.
        Auto = "auto",
    }
}

option_enum! {
    /// How requests reach the host.
    pub enum Aio {
        /// A thread pool.
        Threads = "threads",
        /// Linux native AIO.
        Native = "native",
        /// io_uring.
        IoUring = "io_uring",
    }
}

option_enum! {
    /// What happens with zeroes the guest writes.
    pub enum DetectZeroes {
        /// They are written.
        Off = "off",
        /// They are written as efficiently as possible.
        On = "on",
        /// They are discarded.
        Unmap = "unmap",
    }
}

/// How the host's cache is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cache {
    /// Whether the guest's write cache is on.
    pub writeback: bool,
    /// Whether the host's page cache is avoided.
    pub direct: bool,
    /// Whether flushes are ignored.
    pub no_flush: bool,
}

/// A drive: a block back end and where it plugs in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drive {
    /// Its id; derived from interface and place when none was given.
    pub id: String,
    /// What it plugs into.
    pub interface: Interface,
    /// Number of the bus.
    pub bus: u32,
    /// Number on the bus.
    pub unit: u32,
    /// Image file or protocol address; `None` for an empty tray or options in `driver_options`.
    pub file: Option<String>,
    /// Image format; probed when absent.
    pub format: Option<String>,
    /// What it holds.
    pub media: Media,
    /// Whether it cannot be written.
    pub readonly: bool,
    /// Whether writes go to a temporary file.
    pub snapshot: bool,
    /// Use of the host's cache.
    pub cache: Cache,
    /// How requests reach the host.
    pub aio: Aio,
    /// Whether the guest's discards reach the image.
    pub discard: bool,
    /// What happens with zeroes.
    pub detect_zeroes: DetectZeroes,
    /// Whether data read from a backing file is kept in the image.
    pub copy_on_read: bool,
    /// What happens on read errors.
    pub rerror: ErrorPolicy,
    /// What happens on write errors.
    pub werror: ErrorPolicy,
    /// Options of the block drivers, with dotted keys.
    pub driver_options: List,
    /// The option as written, for messages.
    pub origin: String,
}

/// A block node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blockdev {
    /// Its name.
    pub node_name: String,
    /// Its driver.
    pub driver: String,
    /// All other options, with dotted keys.
    pub options: List,
    /// The option as written, for messages.
    pub origin: String,
}

/// A device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its class, by its proper name.
    pub driver: String,
    /// Its id.
    pub id: Option<String>,
    /// The bus it plugs into; the first fitting one when absent.
    pub bus: Option<String>,
    /// Its other properties, in order (`addr` among them).
    pub properties: Vec<Property>,
    /// The option as written, for messages.
    pub origin: String,
}

/// A network back end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Netdev {
    /// Its kind.
    pub kind: String,
    /// Its id.
    pub id: String,
    /// Its other options.
    pub options: List,
    /// The option as written, for messages.
    pub origin: String,
}

/// An object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Its type.
    pub kind: String,
    /// Its id.
    pub id: String,
    /// Its properties, in order.
    pub properties: Vec<Property>,
    /// The option as written, for messages.
    pub origin: String,
}

/// A `-smbios type=N`: fields of one kind of structure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Smbios {
    /// Type of the structure.
    pub kind: u8,
    /// Fields by their names on the command line.
    pub fields: Vec<Property>,
}

/// A default for a property of a device class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Global {
    /// The class.
    pub driver: String,
    /// The property.
    pub property: String,
    /// Its value.
    pub value: String,
}

/// An entry of the firmware configuration device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FwCfg {
    /// Its name.
    pub name: String,
    /// What it holds.
    pub content: FwCfgContent,
}

/// Where the content of a firmware configuration entry comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FwCfgContent {
    /// A file.
    File(String),
    /// The text itself.
    Text(String),
}

option_enum! {
    /// What a reboot does.
    pub enum RebootAction {
        /// Resets the machine.
        Reset = "reset",
        /// Ends it.
        Shutdown = "shutdown",
    }
}
option_enum! {
    /// What a shutdown does.
    pub enum ShutdownAction {
        /// Ends the process.
        Poweroff = "poweroff",
        /// Stops the machine.
        Pause = "pause",
    }
}
option_enum! {
    /// What a panic of the guest does.
    pub enum PanicAction {
        /// Stops the machine.
        Pause = "pause",
        /// Ends it.
        Shutdown = "shutdown",
        /// Ends the process with exit code 1.
        ExitFailure = "exit-failure",
        /// Nothing.
        None = "none",
    }
}
option_enum! {
    /// What an expired watchdog does.
    pub enum WatchdogAction {
        /// Resets the machine.
        Reset = "reset",
        /// Asks the guest to shut down.
        Shutdown = "shutdown",
        /// Ends the machine.
        Poweroff = "poweroff",
        /// Stops it.
        Pause = "pause",
        /// Prints a message.
        Debug = "debug",
        /// Nothing.
        None = "none",
        /// Raises a non-maskable interrupt.
        InjectNmi = "inject-nmi",
    }
}

/// What happens on reboot, shutdown, panic and watchdog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Actions {
    /// On reboot.
    pub reboot: RebootAction,
    /// On shutdown.
    pub shutdown: ShutdownAction,
    /// On panic.
    pub panic: PanicAction,
    /// On watchdog.
    pub watchdog: WatchdogAction,
}

/// Where the real-time clock starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RtcBase {
    /// Now, in UTC.
    Utc,
    /// Now, in the host's time zone.
    LocalTime,
    /// A date, in seconds since 1970 UTC.
    At(i64),
}

option_enum! {
    /// The clock that drives the real-time clock.
    pub enum RtcClock {
        /// Time of day of the host.
        Host = "host",
        /// Time of the host since start.
        Realtime = "rt",
        /// Time of the guest.
        Virtual = "vm",
    }
}

/// Real-time clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rtc {
    /// Where it starts.
    pub base: RtcBase,
    /// What drives it.
    pub clock: RtcClock,
}

/// The log.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Log {
    /// What is logged.
    pub items: Vec<trace::Item>,
    /// Where, instead of standard error; `%d` stands for the process number.
    pub file: Option<String>,
    /// Guest addresses to which log items about code are limited.
    pub ranges: Vec<RangeInclusive<u64>>,
}

/// Test protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Qtest {
    /// Back end that speaks it.
    pub chardev: String,
    /// File that takes a log of it; standard error when absent, nothing when `none`.
    pub log: Option<String>,
}

/// Instruction counting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Icount {
    /// Nanoseconds an instruction takes, as a power of two; adaptive when absent.
    pub shift: Option<u8>,
    /// Whether the guest's time is kept near the host's.
    pub align: bool,
    /// Whether an idle guest sleeps.
    pub sleep: bool,
}

option_enum! {
    /// Display.
    pub enum Display {
        /// Whatever there is.
        Default = "default",
        /// None.
        None = "none",
        /// None, with the serial port on the terminal (`-nographic`).
        Nographic = "nographic",
    }
}
