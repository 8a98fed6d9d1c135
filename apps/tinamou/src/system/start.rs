//! From a plan to a machine that is ready to run.

use crate::system::control;
use crate::system::disks::{self, Disks};
use crate::system::files;
use crate::system::lent::{self, Lent};
use crate::system::life::Life;
use crate::system::monitor::{self, Target, Views};
use crate::system::show;
use crate::system::testing;
use crate::system::views::{self, BoardViews};
use chardev::{Chardevs, Port, Request, Sink};
use device::Cause;
use hmp::Monitor;
use machine::{Event, Events, Machine, Threading};
use machines_riscv::spike;
use machines_riscv::virt::{self, Aia, DeviceSpec, Inputs, VirtConfig};
use plan::{Plan, RtcBase, RtcClock};
use riscv::Feature;
use riscv::model;
use std::sync::{Arc, OnceLock};
use time::{Clock, WallClock};

/// A machine, and what must live as long as it does.
pub struct Started {
    /// The machine, paused.
    pub machine: Machine,
    /// Whether it runs.
    pub life: Arc<Life>,
    /// Its disks.
    pub disks: Arc<Disks>,
    _monitors: Vec<Monitor>,
    _test_server: Option<qtest::Server>,
    /// Its character back ends, which serve nobody yet.
    pub chardevs: Arc<Chardevs>,
    _serial: Option<Arc<dyn Sink>>,
}

/// Builds what the plan asks for. Nothing when all it asked for was a device tree.
///
/// # Errors
/// The first thing that cannot be had.
pub fn start(program: &str, plan: &Plan, events: &Events) -> Result<Option<Started>, String> {
    let to_save: Arc<OnceLock<Arc<Disks>>> = Arc::default();
    let on_request = {
        let (events, to_save) = (events.clone(), Arc::clone(&to_save));
        move |request| match request {
            Request::Quit => events.send(Event::Shutdown(Cause::HostQmpQuit, 0)),
            Request::SaveDisks => save_disks(&events, to_save.get()),
        }
    };
    let chardevs =
        Arc::new(Chardevs::start(plan.escape, on_request).map_err(|e| format!("chardevs: {e}"))?);
    chardevs.hold();
    for config in &plan.chardevs {
        let option = match config.origin.as_str() {
            "" => format!("-chardev id={}", config.id),
            origin => origin.to_owned(),
        };
        let notice = |line: &str| match line.strip_prefix("info: ") {
            Some(_) => eprintln!("{program}: {option}: {line}"),
            // Where a pseudo-terminal is: scripts read it from standard output.
            None => println!("{line}"),
        };
        chardevs.open(config, &notice).map_err(|e| format!("{option}: {e}"))?;
    }
    let serial_id = plan.serials.first().and_then(Option::as_deref);
    let port = |id: &str| chardevs.port(id).ok_or_else(|| format!("chardev '{id}' is in use"));
    let serial = serial_id.map(port).transpose()?;
    let disks = Arc::new(disks::open(program, plan)?);
    let _first = to_save.set(Arc::clone(&disks));
    let by_itself = plan.accel.name != "qtest";
    let clock = match by_itself {
        true => Clock::following_host().map_err(|e| format!("timers: {e}"))?,
        false => Clock::manual(),
    };
    let board = if plan.machine == "spike" {
        let inputs = spike_inputs(plan, &clock, events, serial)?;
        let cpu = inputs.cpu.clone();
        let board = spike::build(inputs).map_err(|e| e.to_string())?;
        let harts = plan.smp.cpus as usize;
        let tellers = views::spike(harts);
        Board {
            machine: board.machine,
            serial_input: board.console_input,
            fdt: board.fdt,
            views: BoardViews { cpu, cache: board.cache, tellers },
        }
    } else {
        let lent = lent::lend(program, plan, &disks, &chardevs)?;
        let inputs = inputs(plan, &clock, events, serial, (&disks, &lent))?;
        let (config, cpu) = (inputs.config.clone(), inputs.cpu.clone());
        let board = virt::build(inputs).map_err(|e| e.to_string())?;
        let tellers = views::virt(config, board.plugs, board.pci);
        Board {
            machine: board.machine,
            serial_input: board.serial_input,
            fdt: board.fdt,
            views: BoardViews { cpu, cache: board.cache, tellers },
        }
    };
    if let Some(path) = &plan.boot.dumpdtb {
        std::fs::write(path, &board.fdt)
            .map_err(|e| format!("-machine dumpdtb={path}: {}", show::plain(&e)))?;
        eprintln!("{program}: info: dtb dumped to {path}. Exiting.");
        return Ok(None);
    }
    let life = Arc::new(Life::new(by_itself));
    let target = Arc::new(Target {
        events: events.clone(),
        life: Arc::clone(&life),
        disks: Arc::clone(&disks),
        chardevs: Arc::downgrade(&chardevs),
        views: Views::new(plan, board.views),
        cpus: board.machine.cpu_count(),
    });
    let server = testing::attach(plan, &chardevs, &board.machine)?;
    // Before anybody can know that the machine is there.
    control::catch_signals(program, events);
    let monitors = monitor::attach(plan, &chardevs, &target)?;
    Ok(Some(Started {
        machine: board.machine,
        life,
        disks,
        _monitors: monitors,
        _test_server: server,
        chardevs,
        _serial: board.serial_input,
    }))
}

/// Has the control thread write back what snapshots hold.
fn save_disks(events: &Events, disks: Option<&Arc<Disks>>) {
    let Some(disks) = disks.map(Arc::clone) else { return };
    events.send(Event::Do(Box::new(move |machine| {
        if let Err(why) = monitor::still(machine, || disks.commit("all")) {
            eprintln!("{why}");
        }
    })));
}

/// What all boards have.
struct Board {
    machine: Machine,
    serial_input: Option<Arc<dyn Sink>>,
    fdt: Vec<u8>,
    views: BoardViews,
}

fn spike_inputs(
    plan: &Plan,
    clock: &Clock,
    events: &Events,
    console: Option<Port>,
) -> Result<spike::Inputs, String> {
    Ok(spike::Inputs {
        cpu: cpu(plan)?,
        harts: plan.smp.cpus as usize,
        ram_len: plan.memory.size,
        clock: clock.clone(),
        events: events.clone(),
        threading: threading(plan),
        translator: translator(plan),
        console,
        boot: files::boot_files(plan)?,
        signature: signature(plan)?,
    })
}

/// `-machine signature=` and `signature-granularity=`.
fn signature(plan: &Plan) -> Result<Option<spike::Signature>, String> {
    let Some(path) = machine_property(plan, "signature") else { return Ok(None) };
    let file = std::fs::File::create(path);
    let file = file.map_err(|e| format!("-machine signature={path}: {}", show::plain(&e)))?;
    let granularity = machine_property(plan, "signature-granularity");
    let granularity = granularity.and_then(options::parse_number).unwrap_or(16);
    let granularity = u8::try_from(granularity).unwrap_or(u8::MAX);
    Ok(Some(spike::Signature { file: Box::new(file), granularity }))
}

/// The CPU model with its properties.
fn cpu(plan: &Plan) -> Result<riscv::Config, String> {
    let mut text = plan.cpu.clone();
    for property in &plan.cpu_properties {
        text.push_str(&format!(",{}={}", property.name, property.value));
    }
    model::parse(&text).map_err(|e| format!("-cpu {text}: {e}"))
}

fn threading(plan: &Plan) -> Threading {
    match plan.accel.threading {
        Some(plan::Threading::Single) => Threading::Single,
        _ => Threading::Multi,
    }
}

fn translator(plan: &Plan) -> runtime::Options {
    let defaults = runtime::Options::default();
    let one = plan.accel.one_insn_per_tb;
    let logs = |item: &trace::Item| plan.log.items.contains(item);
    // Who asks for single instructions and to see each as it is entered means all of them.
    let all_seen = one && [trace::Item::Exec, trace::Item::Cpu].iter().any(logs);
    runtime::Options {
        max_insns: if one { 1 } else { defaults.max_insns },
        no_chain: all_seen || logs(&trace::Item::NoChain),
        perf_map: plan.perfmap,
        jit_dump: plan.jitdump,
        interpret: plan.accel.interpret.unwrap_or(defaults.interpret),
        code_bytes: plan.accel.tb_size.map_or(defaults.code_bytes, |mib| (mib as usize) << 20),
        ..defaults
    }
}

fn inputs<'a>(
    plan: &Plan,
    clock: &Clock,
    events: &Events,
    serial: Option<Port>,
    (disks, lent): (&Disks, &'a Lent<'a>),
) -> Result<Inputs<'a>, String> {
    let mut cpu = cpu(plan)?;
    let aia = aia(plan)?;
    if aia == Aia::AplicImsic {
        // Interrupt files are reached through the CSRs of these.
        cpu.features = cpu.features.set(Feature::Smaia, true).set(Feature::Ssaia, true);
    }
    let info = machines_riscv::harts::info(&cpu);
    let harts = vec![info; plan.smp.cpus as usize];
    let mut config = VirtConfig::new(machines_riscv::harts::xlen(&cpu), harts, plan.memory.size);
    config.counters = cpu.hpm_counters;
    config.rng_seed = seed(plan)?;
    config.aia = aia;
    set_interrupts(&mut config, plan)?;
    let legacy = plan.globals.iter().rev().find(|g| g.driver == "virtio-mmio");
    config.modern_slots = legacy.is_some_and(|g| options::parse_bool(&g.value) == Some(false));
    Ok(Inputs {
        config,
        cpu,
        clock: clock.clone(),
        wall: wall_clock(plan, clock)?,
        events: events.clone(),
        threading: threading(plan),
        translator: translator(plan),
        serial,
        flash: disks::flash(plan, disks),
        boot: files::boot_files(plan)?,
        firmware: files::firmware_config(plan)?,
        devices: plan.devices.iter().map(device_spec).collect(),
        backends: lent,
    })
}

fn device_spec(device: &plan::Device) -> DeviceSpec {
    let bus = device.bus.iter().map(|bus| ("bus".to_owned(), bus.clone()));
    let others = device.properties.iter().map(|p| (p.name.clone(), p.value.clone()));
    DeviceSpec {
        driver: device.driver.clone(),
        id: device.id.clone(),
        properties: others.chain(bus).collect(),
        origin: device.origin.clone(),
    }
}

/// The last value given for a property of the machine.
fn machine_property<'a>(plan: &'a Plan, name: &str) -> Option<&'a str> {
    let property = plan.machine_properties.iter().rev().find(|p| p.name == name);
    property.map(|p| p.value.as_str())
}

/// `-machine aia=`.
fn aia(plan: &Plan) -> Result<Aia, String> {
    match machine_property(plan, "aia") {
        None | Some("none") => Ok(Aia::None),
        Some("aplic") => Ok(Aia::Aplic),
        Some("aplic-imsic") => Ok(Aia::AplicImsic),
        Some(_) => {
            let valid = "Valid values are none, aplic, and aplic-imsic.";
            Err(format!("Invalid AIA interrupt controller type\n{valid}"))
        }
    }
}

/// `-machine aia-guests=`, `acpi=` and `aclint=`.
fn set_interrupts(config: &mut VirtConfig, plan: &Plan) -> Result<(), String> {
    if let Some(text) = machine_property(plan, "aia-guests") {
        let guests = text.parse().ok().filter(|n| *n <= virt::MAX_GUESTS);
        config.aia_guests = guests.ok_or_else(|| {
            let max = virt::MAX_GUESTS;
            format!("Invalid number of AIA IMSIC guests\nValid values be between 0 and {max}.")
        })?;
    }
    config.acpi = !matches!(machine_property(plan, "acpi"), Some("off" | "false" | "no" | "n"));
    config.aclint = matches!(machine_property(plan, "aclint"), Some("on" | "true" | "yes" | "y"));
    Ok(())
}

/// Entropy for the guest's kernel: the host's, or what follows from `-seed`.
fn seed(plan: &Plan) -> Result<[u8; 32], String> {
    let mut bytes = [0; 32];
    match plan.seed {
        Some(seed) => {
            // SplitMix64: any seed gives 32 bytes without a pattern.
            let mut state = seed;
            for chunk in bytes.chunks_exact_mut(8) {
                state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let z = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
                chunk.copy_from_slice(&(z ^ z >> 31).to_le_bytes());
            }
        }
        None => {
            use std::io::Read;
            std::fs::File::open("/dev/urandom")
                .and_then(|mut file| file.read_exact(&mut bytes))
                .map_err(|e| format!("/dev/urandom: {e}"))?;
        }
    }
    Ok(bytes)
}

fn wall_clock(plan: &Plan, clock: &Clock) -> Result<WallClock, String> {
    if plan.rtc.clock != RtcClock::Host {
        return Err("not supported yet: -rtc clock=".into());
    }
    match plan.rtc.base {
        RtcBase::Utc => Ok(WallClock::host_utc(clock.clone())),
        RtcBase::LocalTime => Err("not supported yet: -rtc base=localtime".into()),
        RtcBase::At(seconds) => Ok(WallClock::starting_at(clock.clone(), seconds)),
    }
}
