//! The options: name, argument, support and help; one row each.

use Support::{Ignored, NotYet, OnlyNone, Yes};

/// How far an option is supported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// It works.
    Yes,
    /// It is accepted; nothing depends on it.
    Ignored,
    /// Its value `none` (or `off`) works; others are refused as not supported yet.
    OnlyNone,
    /// It is refused as not supported yet, for this reason.
    NotYet(&'static str),
}

/// An option of the command line.
#[derive(Clone, Copy, Debug)]
pub struct OptionRow {
    /// Its name, without dash.
    pub name: &'static str,
    /// Form of its argument; empty when it takes none.
    pub argument: &'static str,
    /// How far it is supported.
    pub support: Support,
    /// What it does.
    pub help: &'static str,
}

const fn row(
    name: &'static str,
    argument: &'static str,
    support: Support,
    help: &'static str,
) -> OptionRow {
    OptionRow { name, argument, support, help }
}

/// The option called `name`, without dash.
pub(crate) fn find(name: &str) -> Option<&'static OptionRow> {
    OPTIONS.iter().find(|row| row.name == name)
}

/// Every option, in the order of the help text.
#[rustfmt::skip]
pub const OPTIONS: &[OptionRow] = &[
    // Standard options
    row("help", "", Yes, "show this help"),
    row("h", "", Yes, "show this help"),
    row("version", "", Yes, "show the version"),
    row("machine", "[type=]NAME[,PROP=VALUE...]", Yes, "machine type and its properties ('-machine help', '-machine NAME,help')"),
    row("M", "[type=]NAME[,PROP=VALUE...]", Yes, "same as -machine"),
    row("cpu", "MODEL[,PROP=VALUE...]", Yes, "CPU model and its properties ('-cpu help')"),
    row("accel", "[accel=]NAME[,PROP=VALUE...]", Yes, "how guest code runs; repeat for fallbacks ('-accel help')"),
    row("smp", "[cpus=]N[,maxcpus=N][,sockets=N][,cores=N][,threads=N]", Yes, "number and arrangement of CPUs"),
    row("numa", "node|dist|cpu...", NotYet("a machine has one memory node"), "NUMA nodes"),
    row("add-fd", "fd=N,set=N[,opaque=TEXT]", NotYet("descriptors come with QMP"), "put a descriptor into a set"),
    row("set", "GROUP.ID.ARG=VALUE", Yes, "set an argument of an earlier -device, -drive, -chardev or -netdev"),
    row("global", "DRIVER.PROP=VALUE", Yes, "default for a property of a device class"),
    row("boot", "[order=DRIVES][,once=DRIVES][,menu=on|off][,strict=on|off]...", Yes, "boot order"),
    row("m", "[size=]SIZE[,slots=N,maxmem=SIZE]", Yes, "guest RAM, in MiB unless a suffix says otherwise"),
    row("mem-path", "FILE", NotYet("use -object memory-backend-file,... and -machine memory-backend=ID"), "file behind the guest's RAM"),
    row("mem-prealloc", "", NotYet("use prealloc=on of a memory back end"), "allocate the guest's RAM at start"),
    row("k", "LANGUAGE", Ignored, "keyboard layout"),
    row("audio", "[driver=]NAME[,PROP=VALUE...]", OnlyNone, "default audio back end"),
    row("audiodev", "[driver=]NAME,id=ID[,PROP=VALUE...]", OnlyNone, "audio back end"),
    row("device", "DRIVER[,PROP=VALUE...]", Yes, "add a device ('-device help', '-device DRIVER,help'); JSON is understood"),
    row("name", "NAME[,process=TEXT][,debug-threads=on|off]", Yes, "name of the guest"),
    row("uuid", "UUID", Yes, "UUID of the machine"),
    // Block devices
    row("fda", "FILE", Yes, "image of the first floppy disk"),
    row("fdb", "FILE", Yes, "image of the second floppy disk"),
    row("hda", "FILE", Yes, "image of the first disk"),
    row("hdb", "FILE", Yes, "image of the second disk"),
    row("hdc", "FILE", Yes, "image of the third disk"),
    row("hdd", "FILE", Yes, "image of the fourth disk"),
    row("cdrom", "FILE", Yes, "image of a CD-ROM"),
    row("blockdev", "[driver=]NAME[,node-name=NAME][,OPTION=VALUE...]", Yes, "block node; JSON is understood"),
    row("drive", "[file=FILE][,if=TYPE][,format=NAME][,id=ID][,OPTION=VALUE...]", Yes, "drive: an image and where it plugs in"),
    row("mtdblock", "FILE", Yes, "image of on-board flash"),
    row("sd", "FILE", Yes, "image of an SD card"),
    row("snapshot", "", Yes, "write to temporary files instead of the images"),
    row("fsdev", "DRIVER,id=ID...", NotYet("folders of the host come with virtio-9p"), "folder of the host for a guest"),
    row("virtfs", "DRIVER,mount_tag=TAG...", NotYet("folders of the host come with virtio-9p"), "folder of the host for a guest, with its device"),
    row("iscsi", "[user=NAME]...", NotYet("no iSCSI driver"), "iSCSI session parameters"),
    // USB
    row("usb", "", NotYet("no USB controller"), "on-board USB controller"),
    row("usbdevice", "NAME", NotYet("no USB controller"), "add a USB device"),
    // Display
    row("display", "none|...", Yes, "display; only 'none' is supported yet"),
    row("nographic", "", Yes, "no display; serial port and monitor share the terminal (Ctrl-A h for help)"),
    row("spice", "OPTION=VALUE...", NotYet("no SPICE server"), "SPICE server"),
    row("vga", "none|...", OnlyNone, "video card"),
    row("full-screen", "", NotYet("no display"), "start in full screen"),
    row("g", "WxH[xDEPTH]", NotYet("no display"), "initial resolution"),
    row("vnc", "DISPLAY", OnlyNone, "VNC server"),
    row("win2k-hack", "", Ignored, "older guests' workaround"),
    row("no-fd-bootchk", "", Ignored, "older guests' workaround"),
    row("acpitable", "FILE...", NotYet("no ACPI tables"), "add an ACPI table"),
    row("smbios", "type=N[,FIELD=VALUE...]", Yes, "what the machine says of its maker and parts (types 0, 1, 2, 3 and 11)"),
    // Network
    row("netdev", "TYPE,id=ID[,OPTION=VALUE...]", Yes, "network back end; JSON is understood"),
    row("nic", "TYPE[,model=DRIVER][,mac=ADDR][,OPTION=VALUE...]", Yes, "network back end with its card; 'none' for no network"),
    row("net", "none|...", OnlyNone, "network, old style"),
    // Character devices
    row("chardev", "BACKEND,id=ID[,mux=on|off][,OPTION=VALUE...]", Yes, "character back end ('-chardev help')"),
    row("tpmdev", "TYPE,id=ID...", NotYet("no TPM"), "TPM back end"),
    // Boot
    row("bios", "FILE", Yes, "firmware: a file, a name to search for, or 'none'"),
    row("pflash", "FILE", Yes, "image of a flash bank"),
    row("kernel", "FILE", Yes, "kernel image"),
    row("shim", "FILE", NotYet("no EFI shim loader"), "EFI shim"),
    row("append", "TEXT", Yes, "kernel command line"),
    row("initrd", "FILE", Yes, "initial RAM disk"),
    row("dtb", "FILE", Yes, "device tree"),
    row("compat", "POLICY...", Ignored, "policy for deprecated interfaces"),
    row("fw_cfg", "[name=]NAME,file=FILE|string=TEXT", Yes, "add a firmware configuration entry"),
    row("serial", "BACKEND", Yes, "back end of the next serial port: stdio, mon:stdio, null, none, file:PATH, pty, tcp:..., unix:..."),
    row("parallel", "BACKEND", Yes, "back end of the next parallel port"),
    row("monitor", "BACKEND", Yes, "monitor for people on a back end"),
    row("qmp", "BACKEND", Yes, "monitor for programs on a back end"),
    row("qmp-pretty", "BACKEND", Yes, "monitor for programs, with indented JSON"),
    row("mon", "[chardev=]ID[,mode=readline|control][,pretty=on|off]", Yes, "monitor on a character back end"),
    row("debugcon", "BACKEND", NotYet("no debug console device"), "debug console"),
    // Debug and expert options
    row("pidfile", "FILE", Yes, "write the process number to a file"),
    row("preconfig", "", NotYet("comes with QMP"), "wait for configuration before the machine is made"),
    row("S", "", Yes, "do not start the CPUs until 'cont'"),
    row("overcommit", "[mem-lock=on|off|on-fault][,cpu-pm=on|off]", Yes, "hints about the host's resources"),
    row("gdb", "BACKEND", Yes, "wait for a debugger on a back end"),
    row("s", "", Yes, "same as -gdb tcp::1234"),
    row("d", "ITEM,...", Yes, "log items ('-d help')"),
    row("D", "FILE", Yes, "log to a file"),
    row("dfilter", "RANGE,...", Yes, "limit the log to guest addresses: START+LEN, START-LEN, START..END"),
    row("seed", "N", Yes, "seed of random numbers"),
    row("L", "PATH", Yes, "folder searched for firmware; 'help' lists them"),
    row("enable-kvm", "", Yes, "same as -accel kvm"),
    row("xen-domid", "ID", NotYet("no Xen"), "Xen domain"),
    row("xen-attach", "", NotYet("no Xen"), "attach to a Xen domain"),
    row("xen-domid-restrict", "", NotYet("no Xen"), "restrict Xen operations"),
    row("no-reboot", "", Yes, "end instead of rebooting"),
    row("no-shutdown", "", Yes, "stop instead of ending"),
    row("action", "EVENT=ACTION...", Yes, "what reboot, shutdown, panic and watchdog do"),
    row("loadvm", "TAG", NotYet("snapshots come later"), "start from a saved state"),
    row("daemonize", "", Yes, "go to the background after start"),
    row("option-rom", "FILE", NotYet("this machine has no option ROMs"), "option ROM"),
    row("rtc", "[base=utc|localtime|DATE][,clock=host|rt|vm]", Yes, "real-time clock"),
    row("icount", "[shift=N|auto][,align=on|off][,sleep=on|off]", Yes, "time by counted instructions"),
    row("watchdog-action", "ACTION", Yes, "same as -action watchdog=ACTION"),
    row("echr", "CHAR", Yes, "terminal escape character instead of Ctrl-A"),
    row("incoming", "URI", NotYet("migration comes later"), "wait for a migrating machine"),
    row("only-migratable", "", Ignored, "refuse devices that cannot migrate"),
    row("nodefaults", "", Yes, "leave out devices that nobody asked for"),
    row("prom-env", "NAME=VALUE", NotYet("this machine has no such firmware"), "firmware variable"),
    row("semihosting", "", NotYet("no semihosting"), "semihosting"),
    row("semihosting-config", "OPTION=VALUE...", NotYet("no semihosting"), "semihosting"),
    row("old-param", "", NotYet("another architecture's"), "old boot parameters"),
    row("sandbox", "on|off...", OnlyNone, "system call filter"),
    row("readconfig", "FILE", Yes, "read options from a file"),
    row("no-user-config", "", Ignored, "no configuration files are read anyway"),
    row("trace", "PATTERN...", NotYet("use -d"), "trace events"),
    row("plugin", "FILE...", NotYet("no plugins"), "plugins"),
    row("qtest", "BACKEND", Yes, "speak the test protocol"),
    row("qtest-log", "FILE", Yes, "log of the test protocol"),
    row("run-with", "OPTION=VALUE...", NotYet("start it from a service manager"), "life cycle of the process"),
    row("msg", "[timestamp=on|off][,guest-name=on|off]", Yes, "form of messages"),
    row("dump-vmstate", "FILE", NotYet("migration comes later"), "describe saved states"),
    row("enable-sync-profile", "", Ignored, "profile of locks"),
    row("perfmap", "", Yes, "write /tmp/perf-PID.map for perf"),
    row("jitdump", "", Yes, "write jit-PID.dump for perf"),
    row("object", "TYPE,id=ID[,PROP=VALUE...]", Yes, "object ('-object help'); JSON is understood"),
    row("singlestep", "", Yes, "same as -accel tcg,one-insn-per-tb=on"),
];
