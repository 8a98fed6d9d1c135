//! Options in order: what each of them says. `finish.rs` makes the [`Plan`] of it.

mod finish;

use crate::argv::{self, Occurrence};
use crate::catalog::Catalog;
use crate::drives::DriveOption;
use crate::machine::AccelOption;
use crate::refusal::{Refusal, Result};
use crate::table::Support;
use crate::{
    Actions, Blockdev, Boot, Chardev, Display, FwCfg, Global, Icount, Interface, Log, Monitor,
    MonitorMode, Netdev, PanicAction, Plan, Property, RebootAction, Rtc, RtcBase, RtcClock,
    ShutdownAction, Smbios, WatchdogAction,
};
use crate::{chardevs, devices, drives, host, lists, log, memory, smp};
use options::{Grammar, List, OptionGroup};

/// Deepest nesting of `-readconfig`.
const MAX_CONFIG_DEPTH: u32 = 8;

/// What planning may ask of its surroundings.
pub struct Environment<'a> {
    /// Name of the program, for usage texts.
    pub program: &'a str,
    /// What exists.
    pub catalog: &'a dyn Catalog,
    /// Reads a text file (`-readconfig`).
    pub read: &'a dyn Fn(&str) -> std::io::Result<String>,
}

/// What a command line asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Text to print on standard output; the process then ends with success.
    Print(String),
    /// A machine to build and run.
    Run(Box<Plan>),
}

/// Plans what `args` (without the program's name) ask for. Touches nothing but through `env`.
///
/// # Errors
/// When something in it is wrong, unknown or not supported yet: the first such thing.
pub fn plan(env: &Environment<'_>, args: &[String]) -> Result<Outcome> {
    let mut planner = Planner::new(env);
    for occurrence in argv::split(args)? {
        planner.take(&occurrence, 0)?;
        if let Some(text) = planner.print {
            return Ok(Outcome::Print(text));
        }
    }
    planner.finish().map(|plan| Outcome::Run(Box::new(plan)))
}

/// A front end's back end as given: the option as written, and its argument.
type Given = (String, String);

struct Planner<'a> {
    env: &'a Environment<'a>,
    print: Option<String>,
    machine: List,
    cpu: Option<String>,
    accels: Vec<AccelOption>,
    one_insn_per_tb: bool,
    memory: (String, List),
    smp: (String, List),
    boot_options: List,
    boot: Boot,
    chardevs: Vec<Chardev>,
    serials: Vec<Given>,
    parallels: Vec<Given>,
    monitors: Vec<(Given, MonitorMode, bool)>,
    mons: Vec<(String, Monitor)>,
    drives: Vec<DriveOption>,
    blockdevs: Vec<Blockdev>,
    devices: Vec<(String, List)>,
    nics: Vec<(String, List)>,
    netdevs: Vec<Netdev>,
    objects: Vec<(String, List)>,
    globals: Vec<Global>,
    fw_cfg: Vec<FwCfg>,
    qtest: Option<Given>,
    qtest_log: Option<String>,
    gdb: Option<Given>,
    actions: Actions,
    name: Option<String>,
    smbios: Vec<Smbios>,
    process: Option<String>,
    uuid: Option<[u8; 16]>,
    rtc: Rtc,
    log: Log,
    perfmap: bool,
    jitdump: bool,
    pidfile: Option<String>,
    daemonize: bool,
    data_dirs: Vec<String>,
    seed: Option<u64>,
    icount: Option<Icount>,
    message_timestamps: bool,
    escape: u8,
    display: Display,
    snapshot: bool,
    stopped: bool,
    no_defaults: bool,
    warnings: Vec<String>,
}

/// Where front ends that nobody asked for come from.
const DEFAULT: &str = "default";

type Handler = fn(&mut Planner<'_>, &str, &str) -> Result<()>;

/// What each option does with its argument: `(planner, option as written, argument)`.
const HANDLERS: &[(&str, Handler)] = &[
    ("h", |p, _, _| p.help()),
    ("help", |p, _, _| p.help()),
    ("version", |p, _, _| p.show(lists::version(p.env.catalog))),
    ("machine", |p, _, text| p.machine(text)),
    ("M", |p, _, text| p.machine(text)),
    ("cpu", |p, _, text| p.cpu(text)),
    ("accel", |p, place, text| p.accel(place, text)),
    ("enable-kvm", |p, place, _| p.accel(place, "kvm")),
    ("singlestep", |p, _, _| set(&mut p.one_insn_per_tb, true)),
    ("smp", |p, place, text| {
        merge(&mut p.smp, place, text, "cpus")?;
        smp::SmpOptions::from_list(&p.smp.1)?;
        Ok(())
    }),
    ("m", |p, place, text| {
        merge(&mut p.memory, place, text, "size")?;
        memory::MemoryOptions::from_list(&p.memory.1)?;
        Ok(())
    }),
    ("boot", |p, _, text| extend(&mut p.boot_options, List::parse(text, Grammar::loose("order"))?)),
    ("bios", |p, _, text| set(&mut p.boot.bios, Some(text.to_owned()))),
    ("kernel", |p, _, text| set(&mut p.boot.kernel, Some(text.to_owned()))),
    ("initrd", |p, _, text| set(&mut p.boot.initrd, Some(text.to_owned()))),
    ("append", |p, _, text| set(&mut p.boot.append, Some(text.to_owned()))),
    ("dtb", |p, _, text| set(&mut p.boot.dtb, Some(text.to_owned()))),
    ("chardev", |p, place, text| p.chardev(place, text)),
    ("serial", |p, place, text| push(&mut p.serials, given(place, text))),
    ("parallel", |p, place, text| push(&mut p.parallels, given(place, text))),
    ("monitor", |p, place, text| p.monitor(place, text, MonitorMode::Readline, false)),
    ("qmp", |p, place, text| p.monitor(place, text, MonitorMode::Control, false)),
    ("qmp-pretty", |p, place, text| p.monitor(place, text, MonitorMode::Control, true)),
    ("mon", |p, place, text| p.mon(place, text)),
    ("drive", |p, place, text| p.drive(place, text)),
    ("hda", |p, place, text| p.disk(place, text, "0", None)),
    ("hdb", |p, place, text| p.disk(place, text, "1", None)),
    ("hdc", |p, place, text| p.disk(place, text, "2", None)),
    ("hdd", |p, place, text| p.disk(place, text, "3", None)),
    ("fda", |p, place, text| p.disk(place, text, "0", Some(Interface::Floppy))),
    ("fdb", |p, place, text| p.disk(place, text, "1", Some(Interface::Floppy))),
    ("cdrom", |p, place, text| {
        let pairs = [("file", text), ("index", "2"), ("media", "cdrom")];
        p.drives.push(DriveOption::new(place, &pairs, None));
        Ok(())
    }),
    ("pflash", |p, place, text| p.flash(place, text, Interface::Pflash)),
    ("mtdblock", |p, place, text| p.flash(place, text, Interface::Mtd)),
    ("sd", |p, place, text| p.flash(place, text, Interface::Sd)),
    ("blockdev", |p, place, text| {
        p.blockdevs.push(drives::blockdev(place, text)?);
        Ok(())
    }),
    ("snapshot", |p, _, _| set(&mut p.snapshot, true)),
    ("device", |p, place, text| p.device(place, text)),
    ("netdev", |p, place, text| p.netdev(place, text)),
    ("nic", |p, place, text| p.nic(place, text)),
    ("object", |p, place, text| p.object(place, text)),
    ("global", |p, _, text| {
        p.globals.push(devices::global(text)?);
        Ok(())
    }),
    ("set", |p, _, text| p.set_argument(text)),
    ("fw_cfg", |p, place, text| {
        p.fw_cfg.push(host::fw_cfg(place, text, &mut p.warnings)?);
        Ok(())
    }),
    ("action", |p, _, text| host::actions(text, &mut p.actions)),
    ("no-reboot", |p, _, _| set(&mut p.actions.reboot, RebootAction::Shutdown)),
    ("no-shutdown", |p, _, _| set(&mut p.actions.shutdown, ShutdownAction::Pause)),
    ("watchdog-action", |p, _, text| host::actions(&format!("watchdog={text}"), &mut p.actions)),
    ("smbios", |p, _, text| push(&mut p.smbios, host::smbios(text)?)),
    ("overcommit", |_, _, text| host::overcommit(text)),
    ("name", |p, _, text| p.name(text)),
    ("uuid", |p, _, text| set(&mut p.uuid, Some(host::uuid(text)?))),
    ("rtc", |p, _, text| set(&mut p.rtc, host::rtc(text)?)),
    ("d", |p, _, text| p.log_items(text)),
    ("D", |p, _, text| set(&mut p.log.file, Some(log::file(text)?))),
    ("dfilter", |p, _, text| log::ranges(text, &mut p.log.ranges)),
    ("perfmap", |p, _, _| set(&mut p.perfmap, true)),
    ("jitdump", |p, _, _| set(&mut p.jitdump, true)),
    ("qtest", |p, place, text| set(&mut p.qtest, Some((place.to_owned(), text.to_owned())))),
    ("qtest-log", |p, _, text| set(&mut p.qtest_log, Some(text.to_owned()))),
    ("gdb", |p, place, text| set(&mut p.gdb, Some((place.to_owned(), text.to_owned())))),
    ("s", |p, place, _| set(&mut p.gdb, Some((place.to_owned(), "tcp::1234".to_owned())))),
    ("S", |p, _, _| set(&mut p.stopped, true)),
    ("pidfile", |p, _, text| set(&mut p.pidfile, Some(text.to_owned()))),
    ("daemonize", |p, _, _| set(&mut p.daemonize, true)),
    ("L", |p, _, text| p.data_dir(text)),
    ("seed", |p, _, text| p.seed(text)),
    ("icount", |p, _, text| set(&mut p.icount, Some(host::icount(text)?))),
    ("msg", |p, _, text| p.message_form(text)),
    ("echr", |p, _, text| set(&mut p.escape, host::escape(text)?)),
    ("nographic", |p, _, _| set(&mut p.display, Display::Nographic)),
    ("display", |p, _, text| p.display(text)),
    ("nodefaults", |p, _, _| set(&mut p.no_defaults, true)),
];

type Help = fn() -> String;

/// What `help` as the argument shows, for options that are groups of keys.
const HELP: &[(&str, Help)] = &[
    ("action", host::ActionOptions::help),
    ("boot", host::BootOptions::help),
    ("fw_cfg", host::FwCfgOptions::help),
    ("icount", host::IcountOptions::help),
    ("m", memory::MemoryOptions::help),
    ("mon", MonOptions::help),
    ("msg", host::MessageOptions::help),
    ("name", host::NameOptions::help),
    ("overcommit", host::OvercommitOptions::help),
    ("rtc", host::RtcOptions::help),
    ("smp", smp::SmpOptions::help),
];

fn set<T>(place: &mut T, value: T) -> Result<()> {
    *place = value;
    Ok(())
}

fn push<T>(list: &mut Vec<T>, value: T) -> Result<()> {
    list.push(value);
    Ok(())
}

fn given(place: &str, text: &str) -> Given {
    (place.to_owned(), text.to_owned())
}

fn extend(list: &mut List, more: List) -> Result<()> {
    list.items.extend(more.items);
    Ok(())
}

fn merge(list: &mut (String, List), place: &str, text: &str, first: &'static str) -> Result<()> {
    place.clone_into(&mut list.0);
    extend(&mut list.1, List::parse(text, Grammar::loose(first))?)
}

impl<'a> Planner<'a> {
    fn new(env: &'a Environment<'a>) -> Self {
        Self {
            env,
            print: None,
            machine: List::default(),
            cpu: None,
            accels: Vec::new(),
            one_insn_per_tb: false,
            memory: ("-m".to_owned(), List::default()),
            smp: ("-smp".to_owned(), List::default()),
            boot_options: List::default(),
            boot: Boot::default(),
            chardevs: Vec::new(),
            serials: Vec::new(),
            parallels: Vec::new(),
            monitors: Vec::new(),
            mons: Vec::new(),
            drives: Vec::new(),
            blockdevs: Vec::new(),
            devices: Vec::new(),
            nics: Vec::new(),
            netdevs: Vec::new(),
            objects: Vec::new(),
            globals: Vec::new(),
            fw_cfg: Vec::new(),
            qtest: None,
            qtest_log: None,
            gdb: None,
            actions: Actions {
                reboot: RebootAction::Reset,
                shutdown: ShutdownAction::Poweroff,
                panic: PanicAction::Shutdown,
                watchdog: WatchdogAction::Reset,
            },
            name: None,
            smbios: Vec::new(),
            process: None,
            uuid: None,
            rtc: Rtc { base: RtcBase::Utc, clock: RtcClock::Host },
            log: Log::default(),
            perfmap: false,
            jitdump: false,
            pidfile: None,
            daemonize: false,
            data_dirs: Vec::new(),
            seed: None,
            icount: None,
            message_timestamps: false,
            escape: 1,
            display: Display::Default,
            snapshot: false,
            stopped: false,
            no_defaults: false,
            warnings: Vec::new(),
        }
    }

    fn take(&mut self, option: &Occurrence, depth: u32) -> Result<()> {
        let Occurrence { row, place, value } = option;
        match row.support {
            Support::Ignored => return Ok(()),
            Support::NotYet(why) => {
                return Err(Refusal::new(format!("-{}: not supported yet: {why}", row.name)));
            }
            Support::OnlyNone => return only_none(row.name, value).map_err(|r| r.at(place)),
            Support::Yes => {}
        }
        if row.name == "readconfig" {
            return self.read_config(place, value, depth);
        }
        if matches!(value.as_str(), "help" | "?")
            && let Some((_, text)) = HELP.iter().find(|(name, _)| *name == row.name)
        {
            return self.show(text());
        }
        let (_, handler) = HANDLERS
            .iter()
            .find(|(name, _)| *name == row.name)
            .expect("every supported option has a handler; a test checks it");
        handler(self, place, value).map_err(|r| r.at(place))
    }

    fn read_config(&mut self, place: &str, path: &str, depth: u32) -> Result<()> {
        if depth >= MAX_CONFIG_DEPTH {
            return Err(Refusal::new("configuration files read each other").at(place));
        }
        let text = (self.env.read)(path).map_err(|error| {
            let reason = error.to_string();
            let reason = reason.split(" (os error").next().unwrap_or_default();
            Refusal::new(format!("Could not open '{path}': {reason}")).at(place)
        })?;
        for option in argv::config(place, &text)? {
            self.take(&option, depth + 1)?;
        }
        Ok(())
    }

    fn show(&mut self, text: String) -> Result<()> {
        self.print.get_or_insert(text);
        Ok(())
    }

    fn help(&mut self) -> Result<()> {
        let text = lists::help(self.env.program, self.env.catalog);
        self.show(text)
    }

    fn machine(&mut self, text: &str) -> Result<()> {
        let list = List::parse(text, Grammar::strict("type"))?;
        let wants_help = list.wants_help();
        extend(&mut self.machine, list)?;
        match (wants_help, self.machine.get("type")) {
            (false, _) => Ok(()),
            (true, None) => self.show(lists::machines(self.env.catalog)),
            (true, name) => {
                let text = lists::machine_options(name, self.env.catalog)?;
                self.show(text)
            }
        }
    }

    fn cpu(&mut self, text: &str) -> Result<()> {
        if matches!(text, "help" | "?") {
            return self.show(lists::cpus(self.env.catalog));
        }
        if let Some(model) = text.strip_suffix(",help") {
            let text = lists::cpu_options(model, self.env.catalog)?;
            return self.show(text);
        }
        self.cpu = Some(text.to_owned());
        Ok(())
    }

    fn accel(&mut self, place: &str, text: &str) -> Result<()> {
        if matches!(text, "help" | "?") {
            return self.show(lists::accels(self.env.catalog));
        }
        self.accels.push(AccelOption::parse(place, text)?);
        Ok(())
    }

    fn chardev(&mut self, place: &str, text: &str) -> Result<()> {
        if matches!(text, "help" | "?") || text.ends_with(",help") {
            return self.show(lists::chardevs(text.contains(',')));
        }
        let chardev = chardevs::chardev(text)?;
        self.add_chardev(place, chardev)
    }

    fn add_chardev(&mut self, place: &str, mut chardev: Chardev) -> Result<()> {
        if place != DEFAULT {
            place.clone_into(&mut chardev.origin);
        }
        if self.chardevs.iter().any(|c| c.id == chardev.id) {
            return Err(Refusal::new(format!("Duplicate ID '{}' for chardev", chardev.id)));
        }
        let is_stdio = |c: &Chardev| matches!(c.backend, crate::CharBackend::Stdio { .. });
        if is_stdio(&chardev) && self.chardevs.iter().any(is_stdio) {
            return Err(Refusal::new("cannot use stdio by multiple character devices")
                .hint("Serial port and monitor can share it: -serial mon:stdio"));
        }
        self.chardevs.push(chardev);
        Ok(())
    }

    fn monitor(&mut self, place: &str, text: &str, mode: MonitorMode, pretty: bool) -> Result<()> {
        if mode == MonitorMode::Control && text != "none" {
            return Err(Refusal::new("not supported yet: the protocol for programs (QMP)")
                .hint("-monitor gives the monitor for people."));
        }
        self.monitors.push(((place.to_owned(), text.to_owned()), mode, pretty));
        Ok(())
    }

    fn mon(&mut self, place: &str, text: &str) -> Result<()> {
        let mut list = List::parse(text, Grammar::loose("chardev"))?;
        list.take_id()?;
        let given = MonOptions::from_list(&list)?;
        let chardev =
            given.chardev.ok_or_else(|| Refusal::new("Parameter 'chardev' is missing"))?;
        if given.mode == MonitorMode::Control {
            return Err(Refusal::new("not supported yet: mode=control (QMP)"));
        }
        let monitor = Monitor { chardev, mode: given.mode, pretty: given.pretty };
        self.mons.push((place.to_owned(), monitor));
        Ok(())
    }

    fn drive(&mut self, place: &str, text: &str) -> Result<()> {
        let list = List::parse(text, Grammar::BARE)?;
        self.drives.push(DriveOption { place: place.to_owned(), list, interface: None });
        Ok(())
    }

    fn disk(&mut self, place: &str, file: &str, index: &str, on: Option<Interface>) -> Result<()> {
        let pairs = [("file", file), ("index", index), ("media", "disk")];
        let kept = if on.is_some() { &pairs[..2] } else { &pairs };
        self.drives.push(DriveOption::new(place, kept, on));
        Ok(())
    }

    fn flash(&mut self, place: &str, file: &str, on: Interface) -> Result<()> {
        self.drives.push(DriveOption::new(place, &[("file", file)], Some(on)));
        Ok(())
    }

    fn device(&mut self, place: &str, text: &str) -> Result<()> {
        let grammar = Grammar { implied: Some("driver"), shorthand: true, json: true };
        let list = List::parse(text, grammar)?;
        if !list.wants_help() {
            self.devices.push((place.to_owned(), list));
            return Ok(());
        }
        let text = match list.get("driver") {
            Some(driver) => lists::device_options(driver, self.env.catalog)?,
            None => lists::devices(self.env.catalog),
        };
        self.show(text)
    }

    fn netdev(&mut self, place: &str, text: &str) -> Result<()> {
        if matches!(text, "help" | "?") {
            let head = "Available netdev backend types:\n".to_owned();
            return self.show(devices::NETDEVS.iter().fold(head, |text, kind| text + kind + "\n"));
        }
        self.netdevs.push(devices::netdev(place, text)?);
        Ok(())
    }

    fn nic(&mut self, place: &str, text: &str) -> Result<()> {
        let list = List::parse(text, Grammar::strict("type"))?;
        if list.get("type") != Some("none") {
            self.nics.push((place.to_owned(), list));
        }
        Ok(())
    }

    fn object(&mut self, place: &str, text: &str) -> Result<()> {
        let list = List::parse(text, Grammar::strict("qom-type"))?;
        if !list.wants_help() {
            self.objects.push((place.to_owned(), list));
            return Ok(());
        }
        let text = match list.get("qom-type") {
            Some(kind) => lists::object_options(kind, self.env.catalog)?,
            None => lists::objects(self.env.catalog),
        };
        self.show(text)
    }

    /// `-set GROUP.ID.ARG=VALUE`.
    fn set_argument(&mut self, text: &str) -> Result<()> {
        let bad = || {
            Refusal::new(format!("can't parse: \"{text}\""))
                .hint("Its form is -set GROUP.ID.ARG=VALUE.")
        };
        let (path, value) = text.split_once('=').ok_or_else(bad)?;
        let (group, rest) = path.split_once('.').ok_or_else(bad)?;
        let (id, key) = rest.split_once('.').ok_or_else(bad)?;
        let devices = self.devices.iter_mut().map(|(_, list)| ("device", list));
        let drives = self.drives.iter_mut().map(|drive| ("drive", &mut drive.list));
        let found =
            devices.chain(drives).find(|(kind, list)| *kind == group && list.get("id") == Some(id));
        match found {
            Some((_, list)) => {
                list.set(key, value);
                Ok(())
            }
            None => Err(Refusal::new(format!("there is no {group} \"{id}\" defined"))),
        }
    }

    fn name(&mut self, text: &str) -> Result<()> {
        let given = host::NameOptions::from_list(&List::parse(text, Grammar::loose("guest"))?)?;
        self.name = given.guest.or(self.name.take());
        self.process = given.process.or(self.process.take());
        Ok(())
    }

    fn log_items(&mut self, text: &str) -> Result<()> {
        if matches!(text, "help" | "?") {
            return self.show(log::help());
        }
        log::items(text, &mut self.log.items)
    }

    fn data_dir(&mut self, path: &str) -> Result<()> {
        if path == "help" {
            let folders = self.data_dirs.iter().fold(String::new(), |text, dir| text + dir + "\n");
            return self.show(folders);
        }
        self.data_dirs.push(path.to_owned());
        Ok(())
    }

    fn seed(&mut self, text: &str) -> Result<()> {
        let number = options::parse_number(text)
            .ok_or_else(|| Refusal::new(format!("Invalid seed number: {text}")))?;
        set(&mut self.seed, Some(number))
    }

    fn message_form(&mut self, text: &str) -> Result<()> {
        let list = List::parse(text, Grammar::BARE)?;
        set(&mut self.message_timestamps, host::MessageOptions::from_list(&list)?.timestamp)
    }

    fn display(&mut self, text: &str) -> Result<()> {
        let kind = text.split(',').next().unwrap_or_default();
        match kind {
            "none" => set(&mut self.display, Display::None),
            "help" => self.show("Available display backend types:\nnone\n".to_owned()),
            "gtk" | "sdl" | "curses" | "vnc" | "spice-app" | "egl-headless" | "dbus" | "cocoa" => {
                Err(Refusal::new(format!("not supported yet: display '{kind}'"))
                    .hint("-display none and -nographic work."))
            }
            _ => Err(Refusal::new(format!("Parameter 'type' does not accept value '{kind}'"))
                .suggesting(kind, ["none"])),
        }
    }
}

options::option_group! {
    /// `-mon`.
    struct MonOptions in "mon" {
        /// Its back end.
        "chardev" => chardev: Option<String>,
        /// readline or control.
        "mode" => mode: MonitorMode = MonitorMode::Readline,
        /// Whether JSON is indented.
        "pretty" => pretty: bool = false,
    }
}

/// Accepts `none` and `off`, and back ends that do nothing.
fn only_none(name: &str, value: &str) -> Result<()> {
    let list =
        List::parse(value, Grammar { implied: Some("driver"), shorthand: true, json: true })?;
    match list.get("driver") {
        Some("none" | "off") => Ok(()),
        _ => Err(Refusal::new(format!("not supported yet: only '-{name} none' is"))),
    }
}

impl Property {
    /// A property with the given name and value.
    pub fn new(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), value: value.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::OPTIONS;

    #[test]
    fn every_supported_option_has_a_handler() {
        for row in OPTIONS.iter().filter(|row| row.support == Support::Yes) {
            let handled = HANDLERS.iter().any(|(name, _)| *name == row.name);
            assert!(handled || row.name == "readconfig", "-{}", row.name);
        }
        for (name, _) in HANDLERS {
            assert!(OPTIONS.iter().any(|row| row.name == *name), "-{name}");
        }
    }
}
