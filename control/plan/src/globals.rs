//! `-global`: properties of every device of a class, and of the classes below it.

use crate::catalog::{CpuInfo, DeviceInfo, PropertyInfo};
use crate::devices::check_property;
use crate::refusal::{Refusal, Result};
use crate::{Device, Global, Property};
use options::Item;

/// What `-global` can reach.
pub(crate) struct Reach<'a> {
    /// Classes of `-device`.
    pub classes: &'a [DeviceInfo],
    /// Parts that boards have by themselves.
    pub parts: &'a [DeviceInfo],
    /// CPU models.
    pub cpus: &'a [CpuInfo],
    /// What the name of a model ends in as a class: `-riscv-cpu`.
    pub cpu_suffix: &'a str,
}

impl Reach<'_> {
    /// The class of all models.
    fn any_cpu(&self) -> &str {
        self.cpu_suffix.trim_start_matches('-')
    }

    /// Whether there is such a class at all.
    fn knows(&self, name: &str) -> bool {
        let classes = self.classes.iter().chain(self.parts);
        let model = name.strip_suffix(self.cpu_suffix);
        classes.into_iter().any(|class| is_a(class, name))
            || name == self.any_cpu()
            || model.is_some_and(|model| self.cpus.iter().any(|cpu| cpu.name == model))
    }
}

/// Whether `class` is, or descends from, the class called `name`.
fn is_a(class: &DeviceInfo, name: &str) -> bool {
    class.name == name || class.ancestors.iter().any(|ancestor| ancestor == name)
}

/// Gives devices and the CPU their properties; those of their own come after, and so win.
/// The result is warnings.
///
/// # Errors
/// A device has no such property, or the value does not fit it.
pub(crate) fn apply(
    globals: &[Global],
    reach: &Reach<'_>,
    devices: &mut [Device],
    (cpu, cpu_properties): (&str, &mut Vec<Property>),
) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    for device in devices {
        let Some(class) = reach.classes.iter().find(|c| c.name == device.driver.as_str()) else {
            continue;
        };
        let reaching: Vec<&Global> = globals.iter().filter(|g| is_a(class, &g.driver)).collect();
        let given = properties(&reaching, &class.name, &class.properties)?;
        device.properties.splice(0..0, given);
    }
    for part in reach.parts {
        let reaching: Vec<&Global> = globals.iter().filter(|g| is_a(part, &g.driver)).collect();
        properties(&reaching, &part.name, &part.properties)?;
    }
    let class = format!("{cpu}{}", reach.cpu_suffix);
    if let Some(model) = reach.cpus.iter().find(|known| known.name == cpu) {
        let is_cpu = |g: &&Global| g.driver == class || g.driver == reach.any_cpu();
        let reaching: Vec<&Global> = globals.iter().filter(is_cpu).collect();
        cpu_properties.splice(0..0, properties(&reaching, &class, &model.properties)?);
    }
    for Global { driver, property, .. } in globals.iter().filter(|g| !reach.knows(&g.driver)) {
        warnings.push(format!("warning: global {driver}.{property} has invalid class name"));
    }
    Ok(warnings)
}

fn properties(globals: &[&Global], owner: &str, known: &[PropertyInfo]) -> Result<Vec<Property>> {
    let property = |global: &&Global| {
        let Global { driver, property, value } = global;
        check_property(owner, &Item::new(property, value), known).map_err(|refusal: Refusal| {
            refusal.at(&format!("can't apply global {driver}.{property}={value}"))
        })?;
        Ok(Property::new(property, value))
    };
    globals.iter().map(property).collect()
}
