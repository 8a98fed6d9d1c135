//! Command lines and what becomes of them.

use crate::*;
use std::io;

struct Parts;

fn property(name: &'static str, kind: &'static str) -> PropertyInfo {
    PropertyInfo::new(name, kind, "")
}

fn machine(name: &'static str, max_cpus: u32) -> MachineInfo {
    MachineInfo {
        name: name.into(),
        aliases: Vec::new(),
        description: "A board".into(),
        default: name == "spike",
        max_cpus,
        default_cpu: "rv64".into(),
        default_ram: 128 << 20,
        serial_ports: 1,
        default_interface: if name == "virt" { Interface::Virtio } else { Interface::Ide },
        drives: Vec::new(),
        topology: TopologyLevels::default(),
        properties: Vec::new(),
    }
}

impl Catalog for Parts {
    fn machines(&self) -> Vec<MachineInfo> {
        let mut virt = machine("virt", 512);
        virt.properties =
            vec![property("aia", "none|aplic|aplic-imsic"), property("aclint", "bool")];
        virt.drives = vec![
            (Interface::Virtio, DriveSupport::Device("virtio-blk-pci".into())),
            (Interface::Pflash, DriveSupport::Board { slots: 2 }),
        ];
        vec![machine("spike", 8), virt, machine("none", 1)]
    }

    fn cpus(&self) -> Vec<CpuInfo> {
        let properties = vec![property("v", "bool"), property("vlen", "uint16")];
        vec![
            CpuInfo { name: "rv64".into(), properties },
            CpuInfo { name: "max".into(), properties: Vec::new() },
        ]
    }

    fn devices(&self) -> Vec<DeviceInfo> {
        let class = |name: &'static str, category: &'static str, properties| DeviceInfo {
            name: name.into(),
            alias: name.strip_suffix("-pci").map(Into::into),
            category: category.into(),
            ancestors: vec!["virtio-pci".into()],
            bus: "PCI".into(),
            description: "".into(),
            properties,
        };
        vec![
            class(
                "virtio-blk-pci",
                "Storage",
                vec![property("drive", "str"), property("addr", "str"), property("packed", "bool")],
            ),
            class(
                "virtio-rng-pci",
                "Misc",
                vec![property("rng", "link<rng-backend>"), property("max-bytes", "uint64")],
            ),
            class(
                "virtio-net-pci",
                "Network",
                vec![property("netdev", "str"), property("mac", "str")],
            ),
        ]
    }

    fn cpu_suffix(&self) -> Name {
        "-riscv-cpu".into()
    }

    fn accels(&self) -> Vec<AccelInfo> {
        let properties = vec![
            property("thread", "string"),
            property("one-insn-per-tb", "bool"),
            property("x-interpret", "bool"),
            property("tb-size", "uint32"),
        ];
        let tcg = AccelInfo { name: "tcg".into(), properties };
        vec![tcg, AccelInfo { name: "qtest".into(), properties: Vec::new() }]
    }

    fn objects(&self) -> Vec<ObjectInfo> {
        vec![
            ObjectInfo {
                name: "rng-random".into(),
                properties: vec![property("filename", "string")],
            },
            ObjectInfo { name: "rng-builtin".into(), properties: Vec::new() },
        ]
    }

    fn product(&self) -> String {
        "Tinamou 0.1.0".to_owned()
    }
}

/// Splits as a shell would, knowing only single quotes.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (number, piece) in line.split('\'').enumerate() {
        if number % 2 == 1 {
            words.push(piece.to_owned());
        } else {
            words.extend(piece.split_whitespace().map(str::to_owned));
        }
    }
    words
}

fn run(line: &str) -> Result<Outcome, Refusal> {
    let read = |path: &str| match path {
        "board.cfg" => Ok("[machine]\ntype = \"virt\"\n[memory]\nsize = \"256M\"\n".to_owned()),
        _ => Err(io::Error::from_raw_os_error(2)),
    };
    let env = Environment { program: "qemu-system-riscv64", catalog: &Parts, read: &read };
    plan(&env, &words(line))
}

fn planned(line: &str) -> Plan {
    match run(line) {
        Ok(Outcome::Run(plan)) => *plan,
        other => panic!("{line}: {other:?}"),
    }
}

fn printed(line: &str) -> String {
    match run(line) {
        Ok(Outcome::Print(text)) => text,
        other => panic!("{line}: {other:?}"),
    }
}

/// Command line => error line => first line of help; compared by hand with QEMU 10.0.2, whose line is
/// the same but for those marked with `*`.
const GOLDENS: &str = include_str!("../tests/errors.txt");

#[test]
fn wrong_command_lines_give_the_known_lines() {
    let mut now = String::new();
    for line in GOLDENS.lines() {
        if line.is_empty() || line.starts_with('#') {
            now += &format!("{line}\n");
            continue;
        }
        let mark = if line.starts_with("* ") { "* " } else { "" };
        let args = line.trim_start_matches("* ").split(" => ").next().unwrap_or_default();
        let (message, hint) = match run(args) {
            Err(refusal) => (refusal.message, refusal.hints.first().cloned()),
            Ok(outcome) => (format!("{outcome:?}"), None),
        };
        let hint = hint.map_or(String::new(), |hint| format!(" => {hint}"));
        now += &format!("{mark}{args} => {message}{hint}\n");
    }
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/errors.txt"), now).unwrap();
        return;
    }
    for (now, known) in now.lines().zip(GOLDENS.lines()) {
        assert_eq!(now, known, "BLESS=1 accepts what is said now");
    }
}

#[test]
fn a_machine_without_options_is_the_default_one() {
    let plan = planned("");
    assert_eq!((plan.machine.as_str(), plan.cpu.as_str()), ("spike", "rv64"));
    assert_eq!((plan.memory.size, plan.smp.cpus, plan.accel.name.as_str()), (128 << 20, 1, "tcg"));
    assert_eq!(plan.serials, [Some("serial0".to_owned())]);
    assert_eq!(plan.monitors[0].chardev, "compat_monitor0");
    assert_eq!(plan.warnings.len(), 1);
}

#[test]
fn a_kernel_boots_with_disk_and_terminal() {
    let plan = planned(
        "-M virt,aia=aplic -m 2G -smp 4 -nographic -kernel Image -initrd rd -append 'root=/dev/vda ro' \
         -drive file=a,,b.qcow2,if=none,id=d0,format=qcow2,cache=none -device virtio-blk-pci,drive=d0,packed=on \
         -object rng-random,id=r,filename=/dev/urandom -device virtio-rng-pci,rng=r -no-reboot",
    );
    assert_eq!(plan.machine_properties, [Property::new("aia", "aplic")]);
    assert_eq!((plan.memory.size, plan.smp.cpus, plan.smp.cores), (2 << 30, 4, 4));
    assert_eq!(plan.boot.append.as_deref(), Some("root=/dev/vda ro"));
    assert_eq!(plan.drives[0].file.as_deref(), Some("a,b.qcow2"));
    assert!(plan.drives[0].cache.direct);
    assert_eq!(plan.devices[0].to_string(), "virtio-blk-pci,drive=d0,packed=on");
    assert_eq!(plan.actions.reboot, RebootAction::Shutdown);
    let serial = &plan.chardevs[1];
    assert_eq!(plan.chardevs[0].id, "serial0");
    assert!(plan.chardevs[0].mux, "{serial:?}");
    assert_eq!(plan.chardevs[0].backend, CharBackend::Stdio { signal: false });
    assert_eq!(plan.monitors[0].chardev, "serial0");
}

#[test]
fn the_terminal_goes_where_the_options_say() {
    let ports = |line: &str| {
        let plan = planned(line);
        let stdio = plan.chardevs.iter().find(|c| matches!(c.backend, CharBackend::Stdio { .. }));
        let monitors: Vec<String> = plan.monitors.into_iter().map(|m| m.chardev).collect();
        (plan.serials, monitors, stdio.map(|c| (c.id.clone(), c.backend.clone())))
    };
    let serial0 = || vec![Some("serial0".to_owned())];
    let stdio = |id: &str, signal| Some((id.to_owned(), CharBackend::Stdio { signal }));
    assert_eq!(ports("-nographic"), (serial0(), vec!["serial0".into()], stdio("serial0", false)));
    assert_eq!(ports("-nographic -monitor none"), (serial0(), vec![], stdio("serial0", true)));
    assert_eq!(
        ports("-nographic -serial null"),
        (serial0(), vec!["compat_monitor0".into()], stdio("compat_monitor0", true))
    );
    assert_eq!(ports("-nodefaults -display none"), (vec![], vec![], None));
    assert_eq!(
        ports("-display none -serial mon:stdio -monitor none"),
        (serial0(), vec!["serial0".into()], stdio("serial0", false))
    );
    assert_eq!(
        ports("-nodefaults -chardev stdio,id=c,mux=on -serial chardev:c -mon c"),
        (vec![Some("c".into())], vec!["c".into()], stdio("c", true))
    );
}

#[test]
fn drives_find_their_places_and_devices() {
    let plan = planned(
        "-M virt a.img -hdb b.img -cdrom d.iso -pflash f0 -drive if=pflash,file=f1 \
         -drive if=none,file=e -snapshot",
    );
    let ids: Vec<&str> = plan.drives.iter().map(|d| d.id.as_str()).collect();
    assert_eq!(ids, ["virtio0", "virtio1", "virtio2", "pflash0", "pflash1", "none0"]);
    assert!(plan.drives[2].readonly && plan.drives[0].snapshot);
    let devices: Vec<String> = plan.devices.iter().map(ToString::to_string).collect();
    assert_eq!(devices.len(), 3);
    assert_eq!(devices[2], "virtio-blk-pci,drive=virtio2");
}

#[test]
fn topologies_are_completed_as_documented() {
    for (line, expected) in [
        ("4", (4, 4, 1, 4, 1)),
        ("sockets=2,cores=2", (4, 4, 2, 2, 1)),
        ("8,sockets=2,threads=2", (8, 8, 2, 2, 2)),
        ("8,cores=2", (8, 8, 4, 2, 1)),
        ("8,sockets=2,cores=2", (8, 8, 2, 2, 2)),
        ("2,maxcpus=8", (2, 8, 1, 8, 1)),
        ("maxcpus=4", (4, 4, 1, 4, 1)),
        ("4,dies=1,clusters=1", (4, 4, 1, 4, 1)),
    ] {
        let smp = planned(&format!("-M virt -smp {line}")).smp;
        let got = (smp.cpus, smp.max_cpus, smp.sockets, smp.cores, smp.threads);
        assert_eq!(got, expected, "{line}");
    }
}

#[test]
fn json_and_plain_forms_mean_the_same() {
    let json = planned(
        "-M virt -device '{\"driver\":\"virtio-rng-pci\",\"id\":\"r\",\"max-bytes\":1024}'",
    );
    let plain = planned("-M virt -device virtio-rng-pci,id=r,max-bytes=1024");
    let strip = |mut device: Device| {
        device.origin.clear();
        device
    };
    assert_eq!(strip(json.devices[0].clone()), strip(plain.devices[0].clone()));
}

#[test]
fn machine_properties_reach_their_options() {
    let plan =
        planned("-machine virt,memory.size=1G,smp.cpus=2,kernel=k,dumpdtb=x.dtb,accel=kvm:tcg");
    assert_eq!((plan.memory.size, plan.smp.cpus), (1 << 30, 2));
    assert_eq!(plan.boot.dumpdtb.as_deref(), Some("x.dtb"));
    assert!(plan.warnings.iter().any(|w| w == "falling back to tcg"), "{:?}", plan.warnings);
    let plan = planned("-readconfig board.cfg -accel tcg,thread=single,tb-size=64 -singlestep");
    assert_eq!((plan.machine.as_str(), plan.memory.size), ("virt", 256 << 20));
    assert_eq!(plan.accel.threading, Some(Threading::Single));
    assert!(plan.accel.one_insn_per_tb && plan.accel.tb_size == Some(64));
    assert_eq!(plan.accel.interpret, None);
    assert_eq!(planned("-accel tcg,x-interpret=on").accel.interpret, Some(true));
}

#[test]
fn lists_are_printed_instead_of_running() {
    assert!(printed("-version").starts_with("QEMU emulator version 10.0.2 (Tinamou 0.1.0)\n"));
    assert!(printed("-M help").contains("\nspike                A board (default)\n"));
    assert!(printed("-M virt,help").contains("  aclint=<bool>          - on/off\n"));
    assert!(printed("-cpu help").contains("  rv64\n"));
    assert!(printed("-device help").contains("Storage devices:\nname \"virtio-blk-pci\", bus PCI"));
    assert!(printed("-device virtio-rng,help").starts_with("virtio-rng-pci options:\n"));
    assert!(printed("-d help").contains("guest_errors"));
    assert!(printed("-chardev help").contains("  stdio\n"));
    assert_eq!(printed("-accel help"), "Accelerators supported in QEMU binary:\ntcg\n");
    assert!(printed("-object help").contains("  rng-builtin\n"));
    assert!(printed("-help").contains("\n-M [type=]NAME"));
}

#[test]
fn a_plan_prints_itself() {
    let text = planned("-M virt -nographic -hda x").to_string();
    assert!(
        text.contains("machine  virt\n") && text.contains("drive    virtio0 on virtio"),
        "{text}"
    );
}

#[test]
fn options_that_are_groups_have_help() {
    assert!(printed("-smp help").starts_with("smp-opts options:\n  books=<num>"));
    assert!(printed("-m help").contains("slots=<num>"));
    assert!(printed("-M virt,help").contains("dumpdtb=<string>"));
}

#[test]
fn no_argument_is_too_strange() {
    let values = [
        "",
        ",",
        ",,",
        "=",
        "=,=",
        "a",
        "a=",
        "a==b",
        "help",
        "?",
        "-",
        "{",
        "{}",
        "[1]",
        "null",
        "{\"driver\":{\"a\":[[]]}}",
        "virt,",
        "virt,smp.cpus=99999999999",
        "size=,maxmem=",
        "file=x,index=4294967295",
        "unit=4294967295,bus=4294967295,file=x,if=scsi",
        "0..",
        "+",
        "..",
        "18446744073709551615",
        "1-18446744073709551615",
        "tcp:",
        "tcp::",
        "udp:@",
        "unix:",
        "mon:",
        "mon:mon:stdio",
        "chardev:",
        "é=é,é",
        "type=,id=",
        "qom-type=rng-random,id=a",
        "x.y.z=1",
        "driver=virtio-blk-pci,drive=",
        "none,id=x",
        "base=9999-12-31T23:59:60",
        "cpus=1,maxcpus=4294967295",
    ];
    for row in OPTIONS {
        if row.argument.is_empty() {
            let _ = run(&format!("-{}", row.name));
            continue;
        }
        for value in values {
            let read = |_: &str| Ok(format!("[{}]\n{value} = \"{value}\"\n", row.name));
            let env = Environment { program: "x", catalog: &Parts, read: &read };
            let _ = plan(&env, &[format!("-{}", row.name), value.to_owned()]);
            let twice =
                ["-M", "virt", &format!("-{}", row.name), value, &format!("-{}", row.name), value];
            let _ = plan(&env, &twice.map(str::to_owned));
        }
    }
}
