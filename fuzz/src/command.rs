//! Command lines: what plans them, opens the drives they name, and makes their devices.
//!
//! Arguments are separated by newlines. What follows a NUL is the text of any `-readconfig` file.
//! Files are not the host's: each name is an image in memory.

use device::{DeviceClass, Property};
use formats::qcow2::{CreateOptions, create};
use formats::{DriveOptions, Gate, NewFile, Reason, add_blockdev, open_drive};
use graph::{Graph, Memory, NoSecrets, Node, OpenError};
use plan::{
    AccelInfo, Catalog, CpuInfo, DeviceInfo, DriveSupport, Environment, Interface, MachineInfo,
    ObjectInfo, Outcome, Plan, PropertyInfo, TopologyLevels, plan,
};
use protocols::FileOptions;
use riscv::model;
use std::sync::Arc;

/// Longest input: what people can type; nested structures must be refused long before.
const MOST: usize = 4096;

/// Feeds a command line.
pub fn feed(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(&input[..input.len().min(MOST)]) else { return };
    let (line, config) = text.split_once('\0').unwrap_or((text, ""));
    let args: Vec<String> = line.split('\n').map(str::to_owned).collect();
    let read = |_: &str| Ok(config.to_owned());
    let env = Environment { program: "qemu-system-riscv64", catalog: &Parts, read: &read };
    match plan(&env, &args) {
        Ok(Outcome::Run(plan)) => use_plan(&plan),
        Ok(Outcome::Print(text)) => assert!(!text.is_empty()),
        Err(refusal) => assert!(!refusal.report("x").is_empty()),
    }
}

fn pairs(list: &options::List) -> Vec<(String, String)> {
    list.items.iter().map(|item| (item.key.clone(), item.value.clone())).collect()
}

/// What an application does with a plan, as far as options decide it.
fn use_plan(plan: &Plan) {
    let _shown = format!("{plan:?}");
    let mut cpu = plan.cpu.clone();
    for property in &plan.cpu_properties {
        cpu.push_str(&format!(",{}={}", property.name, property.value));
    }
    if let Ok(config) = model::parse(&cpu) {
        let _isa = (config.isa_string(), machines_riscv::harts::info(&config));
    }
    let graph = Graph::new();
    for node in plan.blockdevs.iter().take(8) {
        let mut given = pairs(&node.options);
        given.push(("driver".into(), node.driver.clone()));
        given.push(("node-name".into(), node.node_name.clone()));
        let _opened = add_blockdev(given, &InMemory, &graph, &NoSecrets);
    }
    for drive in plan.drives.iter().take(8) {
        let mut given = pairs(&drive.driver_options);
        given.extend(drive.file.iter().map(|file| ("file".to_owned(), file.clone())));
        given.extend(drive.format.iter().map(|format| ("format".to_owned(), format.clone())));
        if let Ok(options) = DriveOptions::parse(given) {
            let _opened = open_drive(&options, &InMemory, &graph, &NoSecrets);
        }
    }
    for device in plan.devices.iter().take(8) {
        let given: Vec<_> =
            device.properties.iter().map(|p| (p.name.clone(), p.value.clone())).collect();
        let _made = virtio::build(&device.driver, &given, &Nothing);
    }
}

/// The machine has nothing to lend.
struct Nothing;

impl virtio::Backends for Nothing {
    fn drive(&self, _: &str) -> Option<virtio::Drive> {
        None
    }
}

/// Opens small images, whatever their names.
struct InMemory;

impl Gate for InMemory {
    fn open(&self, options: &FileOptions, _: Reason) -> Result<Arc<dyn Node>, OpenError> {
        let file = self.temporary()?;
        if options.filename.len().is_multiple_of(2) {
            create(&file, "image", &CreateOptions::new(1 << 20))?;
        }
        Ok(file)
    }
    fn temporary(&self) -> Result<Arc<dyn Node>, OpenError> {
        Ok(Arc::new(Memory::new(vec![0; 1 << 19], false)))
    }
    fn create(&self, _: &str, _: &NewFile) -> Result<Arc<dyn Node>, OpenError> {
        self.temporary()
    }
    fn exists(&self, _: &str) -> bool {
        true
    }
    fn remove(&self, _: &str) {}
}

/// What there is.
struct Parts;

fn property(name: &'static str, kind: &'static str) -> PropertyInfo {
    PropertyInfo::new(name, kind, "")
}

impl Catalog for Parts {
    fn machines(&self) -> Vec<MachineInfo> {
        vec![MachineInfo {
            name: "virt".into(),
            aliases: Vec::new(),
            description: "A board".into(),
            default: true,
            max_cpus: 8,
            default_cpu: "rv64".into(),
            default_ram: 128 << 20,
            serial_ports: 1,
            default_interface: Interface::Virtio,
            drives: vec![
                (Interface::Virtio, DriveSupport::Device("virtio-blk-device".into())),
                (Interface::Pflash, DriveSupport::Board { slots: 2 }),
            ],
            topology: TopologyLevels::default(),
            properties: vec![property("aia", "none|aplic"), property("aclint", "bool")],
        }]
    }
    fn cpus(&self) -> Vec<CpuInfo> {
        let properties: Vec<_> =
            model::properties().map(|(name, kind)| property(name, kind)).collect();
        let info =
            |name: &'static str| CpuInfo { name: name.into(), properties: properties.clone() };
        model::names().map(info).collect()
    }
    fn devices(&self) -> Vec<DeviceInfo> {
        let row = |p: &Property| property(p.name, p.kind);
        let info = |class: &&DeviceClass| DeviceInfo {
            name: class.name.into(),
            alias: class.aliases.first().map(|alias| (*alias).into()),
            category: "Misc".into(),
            ancestors: vec!["device".into()],
            bus: class.bus.name().into(),
            description: "".into(),
            properties: class.properties.iter().map(row).collect(),
        };
        virtio::CLASSES.iter().map(info).collect()
    }
    fn accels(&self) -> Vec<AccelInfo> {
        let properties = vec![property("thread", "string"), property("tb-size", "uint32")];
        vec![AccelInfo { name: "tcg".into(), properties }]
    }
    fn objects(&self) -> Vec<ObjectInfo> {
        let properties = vec![property("filename", "string")];
        vec![ObjectInfo { name: "rng-random".into(), properties }]
    }
    fn cpu_suffix(&self) -> plan::Name {
        "-riscv-cpu".into()
    }
    fn product(&self) -> String {
        "Fuzzed".to_owned()
    }
}

/// Command lines of which the plan's own tests know what to say, and some that are right.
pub fn seeds() -> Vec<Vec<u8>> {
    let wrong = include_str!("../../control/plan/tests/errors.txt");
    let wrong = wrong.lines().filter(|line| !line.starts_with('#'));
    let wrong = wrong.map(|line| line.trim_start_matches("* ").split(" => ").next().unwrap_or(""));
    let right = [
        "-M virt,aia=aplic -m 2G -smp 4 -nographic -kernel Image -append 'root=/dev/vda ro'",
        "-drive file=a,,b.qcow2,if=none,id=d0,format=qcow2,cache=none,file.locking=off,discard=unmap",
        "-device virtio-blk-pci,drive=d0,packed=on,num-queues=4 -drive if=none,file=ab,id=d0",
        "-blockdev driver=qcow2,node-name=n,file.driver=file,file.filename=ab,read-only=on",
        "-blockdev '{\"driver\":\"raw\",\"node-name\":\"n\",\"size\":512,\"file\":{\"driver\":\"file\",\"filename\":\"a\"}}'",
        "-device '{\"driver\":\"virtio-rng-pci\",\"max-bytes\":1024,\"period\":1000}'",
        "-chardev socket,id=c,host=localhost,port=4444,server=on,wait=off -serial chardev:c",
        "-cpu rv64,v=true,vlen=256,elen=64,pmp=on -accel tcg,thread=single -icount shift=auto",
        "-netdev user,id=n,hostfwd=tcp::5555-:22 -device virtio-net-pci,netdev=n,mac=52:54:00:12:34:56",
        "-smp 8,sockets=2,cores=2,threads=2,maxcpus=8 -rtc base=2020-01-01T00:00:00,clock=vm",
    ];
    let mut seeds: Vec<Vec<u8>> = wrong.chain(right).map(|line| words(line).into()).collect();
    let config =
        "-readconfig\nx\0[machine]\ntype = \"virt\"\n[drive \"d\"]\nfile = \"ab\"\nif = \"none\"\n";
    seeds.push(config.into());
    seeds
}

/// A line as arguments, split as a shell would that knows only single quotes.
fn words(line: &str) -> String {
    let mut words = Vec::new();
    for (number, piece) in line.split('\'').enumerate() {
        match number % 2 {
            1 => words.push(piece),
            _ => words.extend(piece.split_whitespace()),
        }
    }
    words.join("\n")
}
