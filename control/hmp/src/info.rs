//! What `info` can tell.

/// A subject of `info`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the subcommand of its name, described in the table")]
pub enum Topic {
    Block,
    Blockstats,
    Chardev,
    Cpus,
    History,
    Iothreads,
    Irq,
    Jit,
    Mem,
    MemorySize,
    Mtree,
    Name,
    Network,
    Pci,
    Pic,
    Qdm,
    Qtree,
    Ramblock,
    Registers,
    Roms,
    Status,
    Uuid,
    Version,
    Virtio,
}

/// A row of the table of subjects.
pub(crate) struct Row {
    pub name: &'static str,
    /// Form of the arguments, as shown.
    pub arguments: &'static str,
    /// Letters of the options it takes.
    pub flags: &'static str,
    pub help: &'static str,
    pub topic: Topic,
}

const fn row(
    name: &'static str,
    arguments: &'static str,
    flags: &'static str,
    help: &'static str,
    topic: Topic,
) -> Row {
    Row { name, arguments, flags, help, topic }
}

/// Every subject, by name.
#[rustfmt::skip]
pub(crate) const TOPICS: &[Row] = &[
    row("block", "[-n] [-v] [device]", "nv", "show block devices (-n: named nodes; -v: details)", Topic::Block),
    row("blockstats", "", "", "show counters of block devices", Topic::Blockstats),
    row("chardev", "", "", "show the character devices", Topic::Chardev),
    row("cpus", "", "", "show infos for each CPU", Topic::Cpus),
    row("history", "", "", "show the command line history", Topic::History),
    row("iothreads", "", "", "show iothreads", Topic::Iothreads),
    row("irq", "", "", "show how often each interrupt came", Topic::Irq),
    row("jit", "", "", "show what the translator did", Topic::Jit),
    row("mem", "", "", "show the active virtual memory mappings", Topic::Mem),
    row("memory_size_summary", "", "", "show the sizes of base and pluggable memory in bytes", Topic::MemorySize),
    row("mtree", "[-f][-d][-o][-D]", "fdoD", "show memory tree (-f: flat view; -o: owners; -D: disabled regions too)", Topic::Mtree),
    row("name", "", "", "show the name of the guest", Topic::Name),
    row("network", "", "", "show network cards and back ends", Topic::Network),
    row("pci", "", "", "show PCI devices", Topic::Pci),
    row("pic", "", "", "show the state of interrupt controllers", Topic::Pic),
    row("qdm", "", "", "show the device classes", Topic::Qdm),
    row("qtree", "[-b]", "b", "show device tree (-b: brief, omit properties)", Topic::Qtree),
    row("ramblock", "", "", "show blocks of RAM", Topic::Ramblock),
    row("registers", "[-a|vcpu]", "a", "show the registers of the CPU (-a: of all; vcpu: of that one)", Topic::Registers),
    row("roms", "", "", "show what was loaded into memory", Topic::Roms),
    row("status", "", "", "show whether the machine runs", Topic::Status),
    row("uuid", "", "", "show the UUID of the machine", Topic::Uuid),
    row("version", "", "", "show the version", Topic::Version),
    row("virtio", "", "", "list virtio devices", Topic::Virtio),
];
