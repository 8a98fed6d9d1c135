//! Which crate may depend on which: the folders are the layers, in the order of
//! ARCHITECTURE.md, and each may use those above it.

use std::collections::BTreeMap;

use super::manifest::Manifest;

/// Top to bottom.
const LAYERS: &[&str] = &[
    "base", "vm", "engine", "guest", "backends", "block", "devices", "boot", "machines", "user",
    "control", "apps", "tests", "xtask", "fuzz",
];

/// Arrows that the order would allow and the design does not.
const ABSENT: &[(&str, &str, &str)] = &[
    ("engine/ir", "vm", "the IR stands alone"),
    ("engine/opt", "vm", "passes know the IR only"),
    ("backends", "engine", "a back end serves devices"),
    ("backends", "guest", "a back end serves devices"),
    ("block", "vm", "images are used without any machine"),
    ("block", "engine", "images are used without any machine"),
    ("block", "guest", "images are used without any machine"),
    ("devices", "engine", "a device cannot tell who runs the CPU"),
    ("devices", "guest", "a device cannot tell who runs the CPU"),
    ("control", "devices", "only machines and apps name concrete parts"),
    ("control", "machines", "only machines and apps name concrete parts"),
    ("control", "guest", "only machines and apps name concrete parts"),
];

/// Arrows that point the wrong way, each with its reason.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("engine/interp", "guest/softfloat", "arithmetic that knows no ISA but its rules as data"),
    ("engine/opt", "guest/softfloat", "folding constants gives what running them gives"),
    ("engine/codegen", "guest/softfloat", "what the host's units cannot do exactly"),
    ("engine/runtime", "guest/softfloat", "what the host's units cannot do exactly"),
    (
        "user/linux",
        "control/gdb",
        "the protocol knows no target: whatever has threads implements its trait",
    ),
];

/// The arrows that should not be there.
pub fn check(manifests: &[Manifest]) -> Vec<String> {
    let folders: BTreeMap<&str, &str> =
        manifests.iter().map(|each| (&*each.name, &*each.folder)).collect();
    let mut complaints = Vec::new();
    for manifest in manifests {
        let from = &*manifest.folder;
        if layer(from).is_none() {
            complaints.push(format!("{from}: lies in no layer"));
        }
        for dependency in &manifest.dependencies {
            let Some(to) = folders.get(&*dependency.name) else { continue };
            if let Some(why) = wrong(from, to, dependency.for_tests) {
                complaints.push(format!("{from} -> {to}: {why}"));
            }
        }
    }
    complaints
}

/// What is wrong with an arrow, if anything. Tests may reach down the layers,
/// yet never across an absence.
fn wrong(from: &str, to: &str, for_tests: bool) -> Option<String> {
    let listed = |table: &[(&str, &str, &'static str)]| {
        let row = table.iter().find(|(a, b, _)| inside(from, a) && inside(to, b));
        row.map(|(_, _, why)| *why)
    };
    if listed(EXCEPTIONS).is_some() {
        return None;
    }
    if let Some(why) = listed(ABSENT) {
        return Some(why.to_string());
    }
    let against = layer(from) < layer(to);
    (against && !for_tests).then(|| "points from an upper layer to a lower one".to_string())
}

fn inside(folder: &str, place: &str) -> bool {
    folder.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn layer(folder: &str) -> Option<usize> {
    let top = folder.split('/').next()?;
    LAYERS.iter().position(|layer| *layer == top)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrows_follow_the_layers() {
        assert_eq!(wrong("vm/memory", "base/host", false), None);
        assert!(wrong("base/host", "vm/memory", false).is_some());
        assert_eq!(wrong("vm/memory", "devices/serial", true), None);
        assert_eq!(wrong("devices/virtio", "devices/pci", false), None);
    }

    #[test]
    fn absences_hold_for_tests_too() {
        assert!(wrong("block/formats", "vm/state", false).is_some());
        assert!(wrong("devices/serial", "guest/riscv", true).is_some());
        assert!(wrong("engine/ir", "vm/cpu", false).is_some());
        assert_eq!(wrong("engine/irony", "vm/cpu", false), None);
    }

    #[test]
    fn an_exception_is_one_arrow() {
        assert_eq!(wrong("engine/interp", "guest/softfloat", false), None);
        assert!(wrong("engine/interp", "guest/riscv", false).is_some());
    }
}
