//! `-smp`: how many CPUs, and how they are arranged.

use crate::Smp;
use crate::catalog::MachineInfo;
use crate::refusal::{Refusal, Result};
use options::{List, OptionGroup, option_group};

option_group! {
    /// `-smp`.
    pub(crate) struct SmpOptions in "smp-opts" {
        /// CPUs at start.
        "cpus" => cpus: Option<u32>,
        /// CPUs with all plugged.
        "maxcpus" => maxcpus: Option<u32>,
        /// Drawers on the board; 1 where the machine has none.
        "drawers" => drawers: Option<u32>,
        /// Books in a drawer; 1 where the machine has none.
        "books" => books: Option<u32>,
        /// Sockets in a book.
        "sockets" => sockets: Option<u32>,
        /// Dies in a socket.
        "dies" => dies: Option<u32>,
        /// Clusters in a die.
        "clusters" => clusters: Option<u32>,
        /// Modules in a cluster.
        "modules" => modules: Option<u32>,
        /// Cores in a module.
        "cores" => cores: Option<u32>,
        /// Threads in a core.
        "threads" => threads: Option<u32>,
    }
}

/// Checks `-smp` against what the machine can have, and fills in what was left out.
pub(crate) fn plan(place: &str, list: &List, machine: &MachineInfo) -> Result<Smp> {
    let given = SmpOptions::from_list(list).map_err(|e| Refusal::from(e).at(place))?;
    let all = [
        given.cpus,
        given.maxcpus,
        given.drawers,
        given.books,
        given.sockets,
        given.dies,
        given.clusters,
        given.modules,
        given.cores,
        given.threads,
    ];
    if all.contains(&Some(0)) {
        return Err(Refusal::new(
            "Invalid CPU topology: CPU topology parameters must be greater than zero",
        ));
    }
    let levels = machine.topology;
    for (name, value, known) in [
        ("drawers", given.drawers, false),
        ("books", given.books, false),
        ("dies", given.dies, levels.dies),
        ("clusters", given.clusters, levels.clusters),
        ("modules", given.modules, levels.modules),
    ] {
        if !known && value.is_some_and(|v| v > 1) {
            return Err(Refusal::new(format!(
                "{name} > 1 not supported by this machine's CPU topology"
            )));
        }
    }
    let smp = arrange(&given);
    check(&smp, machine)?;
    Ok(smp)
}

/// Fills in what was left out: cores first, then sockets, then threads.
fn arrange(given: &SmpOptions) -> Smp {
    let (dies, clusters, modules) =
        (given.dies.unwrap_or(1), given.clusters.unwrap_or(1), given.modules.unwrap_or(1));
    let between = product(&[dies, clusters, modules]);
    let (mut sockets, mut cores, mut threads) = (given.sockets, given.cores, given.threads);
    let asked = given.maxcpus.or(given.cpus);
    let share = |whole: u32, parts: &[u32]| {
        u32::try_from(u64::from(whole) / product(parts).saturating_mul(between).max(1)).unwrap_or(0)
    };
    if let Some(whole) = asked {
        if cores.is_none() {
            let (s, t) = (sockets.unwrap_or(1), threads.unwrap_or(1));
            (sockets, threads) = (Some(s), Some(t));
            cores = Some(share(whole, &[s, t]));
        } else if sockets.is_none() {
            let (c, t) = (cores.unwrap_or(1), threads.unwrap_or(1));
            threads = Some(t);
            sockets = Some(share(whole, &[c, t]));
        } else if threads.is_none() {
            threads = Some(share(whole, &[sockets.unwrap_or(1), cores.unwrap_or(1)]));
        }
    }
    let (sockets, cores, threads) =
        (sockets.unwrap_or(1), cores.unwrap_or(1), threads.unwrap_or(1));
    let total = product(&[sockets, cores, threads]).saturating_mul(between);
    let total = u32::try_from(total).unwrap_or(u32::MAX);
    let max_cpus = asked.unwrap_or(total);
    let cpus = given.cpus.unwrap_or(max_cpus);
    Smp { cpus, max_cpus, sockets, dies, clusters, modules, cores, threads }
}

fn product(levels: &[u32]) -> u64 {
    levels.iter().fold(1, |p: u64, n| p.saturating_mul(u64::from(*n)))
}

fn check(smp: &Smp, machine: &MachineInfo) -> Result<()> {
    let Smp { cpus, max_cpus, .. } = *smp;
    let levels = [smp.sockets, smp.dies, smp.clusters, smp.modules, smp.cores, smp.threads];
    if product(&levels) != u64::from(max_cpus) {
        return Err(Refusal::new(format!(
            "Invalid CPU topology: product of the hierarchy must match maxcpus: {} != maxcpus ({max_cpus})",
            hierarchy(smp, machine)
        )));
    }
    if max_cpus < cpus {
        return Err(Refusal::new(format!(
            "Invalid CPU topology: maxcpus must be equal to or greater than smp: {} == maxcpus \
             ({max_cpus}) < smp_cpus ({cpus})",
            hierarchy(smp, machine)
        )));
    }
    if max_cpus > machine.max_cpus {
        return Err(Refusal::new(format!(
            "Invalid SMP CPUs {max_cpus}. The max CPUs supported by machine '{}' is {}",
            machine.name, machine.max_cpus
        )));
    }
    Ok(())
}

fn hierarchy(smp: &Smp, machine: &MachineInfo) -> String {
    let known = machine.topology;
    [
        ("sockets", smp.sockets, true),
        ("dies", smp.dies, known.dies),
        ("clusters", smp.clusters, known.clusters),
        ("modules", smp.modules, known.modules),
        ("cores", smp.cores, true),
        ("threads", smp.threads, true),
    ]
    .iter()
    .filter(|(_, _, shown)| *shown)
    .map(|(name, count, _)| format!("{name} ({count})"))
    .collect::<Vec<_>>()
    .join(" * ")
}
