//! A plan as text.

use crate::{Device, Drive, Plan, Property};
use std::fmt;

impl fmt::Display for Property {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.value.replace(',', ",,"))
    }
}

/// `name,prop=value,…`.
fn with_properties(name: &str, properties: &[Property]) -> String {
    properties.iter().fold(name.to_owned(), |text, p| format!("{text},{p}"))
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.driver)?;
        for (key, value) in [("id", &self.id), ("bus", &self.bus)] {
            if let Some(value) = value {
                write!(f, ",{key}={value}")?;
            }
        }
        f.write_str(&with_properties("", &self.properties))
    }
}

impl fmt::Display for Drive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}", self.id, self.interface.name())?;
        write!(f, " bus {} unit {}: ", self.bus, self.unit)?;
        write!(f, "{}", self.file.as_deref().unwrap_or("(no file)"))?;
        write!(f, " format {}", self.format.as_deref().unwrap_or("(probed)"))?;
        write!(f, "{}", if self.readonly { " read-only" } else { "" })?;
        write!(f, "{}", if self.snapshot { " snapshot" } else { "" })
    }
}

/// One line for each thing asked for; what is absent is left out.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "machine  {}", with_properties(&self.machine, &self.machine_properties))?;
        writeln!(f, "cpu      {}", with_properties(&self.cpu, &self.cpu_properties))?;
        let smp = &self.smp;
        writeln!(
            f,
            "smp      {} of {}: {} sockets, {} dies, {} clusters, {} modules, {} cores, {} threads",
            smp.cpus,
            smp.max_cpus,
            smp.sockets,
            smp.dies,
            smp.clusters,
            smp.modules,
            smp.cores,
            smp.threads
        )?;
        writeln!(f, "accel    {}", with_properties(&self.accel.name, &self.accel.properties))?;
        writeln!(f, "memory   {} of {} bytes", self.memory.size, self.memory.max)?;
        let boot = &self.boot;
        for (name, value) in [
            ("bios", &boot.bios),
            ("kernel", &boot.kernel),
            ("initrd", &boot.initrd),
            ("append", &boot.append),
            ("dtb", &boot.dtb),
            ("dumpdtb", &boot.dumpdtb),
            ("name", &self.name),
        ] {
            if let Some(value) = value {
                writeln!(f, "{name:<8} {value}")?;
            }
        }
        for chardev in &self.chardevs {
            let mux = if chardev.mux { " (mux)" } else { "" };
            writeln!(f, "chardev  {}: {:?}{mux}", chardev.id, chardev.backend)?;
        }
        for (name, ports) in [("serial", &self.serials), ("parallel", &self.parallels)] {
            for (number, port) in ports.iter().enumerate() {
                writeln!(f, "{name:<8} {number}: {}", port.as_deref().unwrap_or("none"))?;
            }
        }
        for monitor in &self.monitors {
            writeln!(f, "monitor  {} ({})", monitor.chardev, monitor.mode.name())?;
        }
        self.drives.iter().try_for_each(|drive| writeln!(f, "drive    {drive}"))?;
        for node in &self.blockdevs {
            writeln!(f, "node     {}: {}", node.node_name, node.driver)?;
        }
        self.devices.iter().try_for_each(|device| writeln!(f, "device   {device}"))?;
        for netdev in &self.netdevs {
            writeln!(f, "netdev   {}: {}", netdev.id, netdev.kind)?;
        }
        for object in &self.objects {
            let name = format!("{}: {}", object.id, object.kind);
            writeln!(f, "object   {}", with_properties(&name, &object.properties))?;
        }
        for warning in &self.warnings {
            writeln!(f, "warning  {warning}")?;
        }
        Ok(())
    }
}
