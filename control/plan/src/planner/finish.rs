//! What all options together ask for: defaults, cross-checks, the plan.

use super::{DEFAULT, Planner};
use crate::chardevs::Short;
use crate::globals::{self, Reach};
use crate::machine::AccelOption;
use crate::refusal::{Refusal, Result};
use crate::{CharBackend, Chardev, Device, Display, Monitor, MonitorMode, Netdev, Plan, Qtest};
use crate::{chardevs, devices, drives, host, machine, memory, smp};
use options::List;

impl Planner<'_> {
    /// Checks everything together and fills in what was left out.
    pub(super) fn finish(mut self) -> Result<Plan> {
        let catalog = self.env.catalog;
        let classes = catalog.devices();
        if !self.accels.is_empty() {
            machine::accel(&self.accels, catalog, &mut Vec::new())?;
        }
        let info = machine::find(self.machine.get("type"), catalog.machines())?;
        let (machine_properties, routed) =
            machine::properties(&self.machine, &info, &mut self.boot)?;
        self.accel_of_machine(routed.accel.as_deref())?;
        let mut accel = machine::accel(&self.accels, catalog, &mut self.warnings)?;
        accel.one_insn_per_tb |= self.one_insn_per_tb;
        self.memory.1.items.splice(0..0, routed.memory);
        self.smp.1.items.splice(0..0, routed.smp);
        self.boot_options.items.splice(0..0, routed.boot);
        let memory = memory::plan(&self.memory.1, routed.memory_backend, &info)
            .map_err(|r| r.at(&self.memory.0))?;
        let smp = smp::plan(&self.smp.0, &self.smp.1, &info)?;
        host::boot(&self.boot_options, &mut self.boot)?;
        self.check_boot()?;
        let (cpu, mut cpu_properties) = match &self.cpu {
            Some(text) => machine::cpu(text, &catalog.cpus())?,
            None => (info.default_cpu.to_string(), Vec::new()),
        };
        let (serials, parallels, monitors) = self.front_ends()?;
        let (drives, implied) = drives::plan(&self.drives, self.snapshot, &info)?;
        let (mut planned, netdevs) = self.plan_devices(&classes)?;
        planned.extend(implied);
        let reach = Reach {
            classes: &classes,
            parts: &catalog.parts(),
            cpus: &catalog.cpus(),
            cpu_suffix: &catalog.cpu_suffix(),
        };
        let of_cpu = (cpu.as_str(), &mut cpu_properties);
        let ignored = globals::apply(&self.globals, &reach, &mut planned, of_cpu)?;
        self.warnings.extend(ignored);
        let objects = self.plan_objects()?;
        let qtest = self.plan_qtest()?;
        if let Some((place, _)) = &self.gdb {
            return Err(Refusal::new("not supported yet: the debugger's server").at(place));
        }
        let mut plan = Plan {
            machine: info.name.to_string(),
            machine_properties,
            cpu,
            cpu_properties,
            accel,
            memory,
            smp,
            boot: self.boot,
            chardevs: self.chardevs,
            serials,
            parallels,
            monitors,
            drives,
            blockdevs: self.blockdevs,
            devices: planned,
            netdevs,
            objects,
            globals: self.globals,
            fw_cfg: self.fw_cfg,
            stopped: self.stopped,
            no_defaults: self.no_defaults,
            actions: self.actions,
            name: self.name,
            smbios: self.smbios,
            process: self.process,
            uuid: self.uuid,
            rtc: self.rtc,
            log: self.log,
            perfmap: self.perfmap,
            jitdump: self.jitdump,
            qtest,
            gdb: self.gdb.map(|(_, text)| text),
            pidfile: self.pidfile,
            daemonize: self.daemonize,
            data_dirs: self.data_dirs,
            seed: self.seed,
            icount: self.icount,
            message_timestamps: self.message_timestamps,
            escape: self.escape,
            display: self.display,
            snapshot: self.snapshot,
            warnings: self.warnings,
        };
        if plan.daemonize {
            terminal_is_gone(&plan.chardevs)?;
        }
        devices::check_references(&plan, &classes)?;
        let unused = devices::unused(&plan);
        plan.warnings.extend(unused);
        Ok(plan)
    }

    fn accel_of_machine(&mut self, names: Option<&str>) -> Result<()> {
        let Some(names) = names else { return Ok(()) };
        if !self.accels.is_empty() {
            return Err(Refusal::new(
                "The -accel and \"-machine accel=\" options are incompatible",
            ));
        }
        for name in names.split(':') {
            self.accels.push(AccelOption::parse("", name)?);
        }
        Ok(())
    }

    fn check_boot(&self) -> Result<()> {
        let needs = |what: &str| {
            Err(Refusal::new(format!("{what} only allowed with -kernel option"))
                .hint("Give the kernel: -kernel FILE"))
        };
        if self.boot.kernel.is_none() {
            if self.boot.append.as_deref().is_some_and(|text| !text.is_empty()) {
                return needs("-append");
            }
            if self.boot.initrd.is_some() {
                return needs("-initrd");
            }
        }
        if self.daemonize && self.display == Display::Nographic {
            return Err(Refusal::new("-nographic cannot be used with -daemonize")
                .hint("Use -display none and a -serial that needs no terminal."));
        }
        if self.message_timestamps {
            return Err(Refusal::new("not supported yet: -msg timestamp=on"));
        }
        if self.icount.is_some() {
            return Err(Refusal::new("not supported yet: -icount: time follows the host"));
        }
        Ok(())
    }

    /// Serial ports, parallel ports and monitors with their back ends, and the implied ones.
    #[expect(clippy::type_complexity, reason = "three lists that belong together")]
    fn front_ends(&mut self) -> Result<(Vec<Option<String>>, Vec<Option<String>>, Vec<Monitor>)> {
        self.default_front_ends();
        let mut monitors = Vec::new();
        for (number, ((place, text), mode, pretty)) in
            std::mem::take(&mut self.monitors).into_iter().enumerate()
        {
            let chardev = self
                .back_end(&format!("compat_monitor{number}"), &place, &text, &mut monitors)
                .map_err(|r| r.at(&place))?;
            monitors.extend(chardev.map(|chardev| Monitor { chardev, mode, pretty }));
        }
        let mut ports = [Vec::new(), Vec::new()];
        let given = [std::mem::take(&mut self.serials), std::mem::take(&mut self.parallels)];
        for ((label, given), ports) in ["serial", "parallel"].iter().zip(given).zip(&mut ports) {
            for (number, (place, text)) in given.into_iter().enumerate() {
                let id = self
                    .back_end(&format!("{label}{number}"), &place, &text, &mut monitors)
                    .map_err(|r| r.at(&place))?;
                ports.push(id);
            }
        }
        for (place, monitor) in std::mem::take(&mut self.mons) {
            let ids = || self.chardevs.iter().map(|c| c.id.as_str());
            if !ids().any(|id| id == monitor.chardev) {
                return Err(devices::missing_chardev(&monitor.chardev, ids()).at(&place));
            }
            monitors.push(monitor);
        }
        let [serials, parallels] = ports;
        Ok((serials, parallels, monitors))
    }

    /// Adds the front ends that exist unless something says otherwise.
    fn default_front_ends(&mut self) {
        if self.no_defaults {
            return;
        }
        let serial = self.serials.is_empty();
        let monitor = self.monitors.is_empty() && self.mons.is_empty();
        let given = |text: &str| (DEFAULT.to_owned(), text.to_owned());
        if self.display == Display::Nographic {
            if self.parallels.is_empty() {
                self.parallels.push(given("null"));
            }
            match (serial, monitor) {
                (true, true) => self.serials.push(given("mon:stdio")),
                (true, false) => self.serials.push(given("stdio")),
                (false, true) => {
                    self.monitors.push((given("stdio"), MonitorMode::Readline, false));
                }
                (false, false) => {}
            }
            return;
        }
        if serial {
            self.serials.push(given("vc:80Cx24C"));
        }
        if self.parallels.is_empty() {
            self.parallels.push(given("vc:80Cx24C"));
        }
        if monitor {
            self.monitors.push((given("vc:80Cx24C"), MonitorMode::Readline, false));
        }
        if serial && monitor && self.display == Display::Default {
            self.warnings.push(
                "warning: there is no display yet; -nographic puts the serial port on this terminal".into(),
            );
        }
    }

    /// The back end a front end asks for: its id, made when it is new.
    fn back_end(
        &mut self,
        id: &str,
        place: &str,
        text: &str,
        monitors: &mut Vec<Monitor>,
    ) -> Result<Option<String>> {
        match chardevs::short(id, text)? {
            Short::None => Ok(None),
            Short::Reference(id) => Ok(Some(id)),
            Short::New(chardev, monitor) => {
                self.add_chardev(place, *chardev)?;
                if monitor {
                    let (chardev, mode) = (id.to_owned(), MonitorMode::Readline);
                    monitors.push(Monitor { chardev, mode, pretty: false });
                }
                Ok(Some(id.to_owned()))
            }
        }
    }

    fn plan_devices(
        &mut self,
        classes: &[crate::DeviceInfo],
    ) -> Result<(Vec<Device>, Vec<Netdev>)> {
        let mut planned = Vec::new();
        for (place, list) in &self.devices {
            planned.push(devices::device(place, list, classes).map_err(|r| r.at(place))?);
        }
        let mut netdevs = std::mem::take(&mut self.netdevs);
        for (number, (place, list)) in self.nics.iter().enumerate() {
            let (netdev, device) =
                self.nic_parts(number, place, list, classes).map_err(|r| r.at(place))?;
            netdevs.push(netdev);
            planned.push(device);
        }
        Ok((planned, netdevs))
    }

    /// The back end and the card of a `-nic`.
    fn nic_parts(
        &self,
        number: usize,
        place: &str,
        list: &List,
        classes: &[crate::DeviceInfo],
    ) -> Result<(Netdev, Device)> {
        let mut list = list.clone();
        let model = list.take("model").ok_or_else(|| {
            Refusal::new("Parameter 'model' is missing").hint("Name the card: model=DRIVER")
        })?;
        let mac = list.take("mac");
        let id = list.take_id()?.unwrap_or_else(|| format!("#net{number}"));
        let kind = list.take("type").map_or_else(|| "user".to_owned(), |item| item.value);
        let mut card = List::default();
        card.set("driver", &model.value);
        card.set("netdev", &id);
        if let Some(mac) = mac {
            card.set("mac", &mac.value);
        }
        let device = devices::device(place, &card, classes)?;
        Ok((Netdev { kind, id, options: list, origin: place.to_owned() }, device))
    }

    fn plan_objects(&self) -> Result<Vec<crate::Object>> {
        let types = self.env.catalog.objects();
        self.objects
            .iter()
            .map(|(place, list)| devices::object(place, list, &types).map_err(|r| r.at(place)))
            .collect()
    }

    fn plan_qtest(&mut self) -> Result<Option<Qtest>> {
        let Some((place, text)) = self.qtest.take() else { return Ok(None) };
        let chardev =
            self.back_end("qtest", &place, &text, &mut Vec::new()).map_err(|r| r.at(&place))?;
        Ok(chardev.map(|chardev| Qtest { chardev, log: self.qtest_log.take() }))
    }
}

/// Refuses back ends on a terminal that the process in the background does not have.
fn terminal_is_gone(chardevs: &[Chardev]) -> Result<()> {
    let is_stdio = |c: &&Chardev| matches!(c.backend, CharBackend::Stdio { .. });
    match chardevs.iter().find(is_stdio) {
        Some(chardev) => Err(Refusal::new("cannot use stdio with -daemonize").at(&chardev.origin)),
        None => Ok(()),
    }
}
