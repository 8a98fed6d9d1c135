//! What Linux tells of a running process (proc(5)) and of this host.

use std::fs;
use std::path::PathBuf;

use crate::tools::{At, Result};

/// Ticks per second in `/proc/PID/stat`: the same on every Linux that runs us.
const TICKS: f64 = 100.0;

/// A mapping at least this large is the guest's RAM.
const RAM: u64 = 512 << 20;

/// A process at one moment.
pub struct Process {
    /// Seconds of CPU time in user mode, all threads.
    pub user: f64,
    /// Resident memory, MiB.
    pub resident: f64,
    /// The part of it that is guest RAM, MiB.
    pub guest_ram: f64,
}

/// Looks at a process.
///
/// # Errors
/// When it has ended.
pub fn process(id: u32) -> Result<Process> {
    let (resident, guest_ram) = memory(&read(id, "smaps")?);
    Ok(Process { user: times(&read(id, "stat")?).0, resident, guest_ram })
}

/// Seconds of CPU time a process has used, in user mode and in the kernel.
///
/// # Errors
/// When it has ended.
pub fn busy(id: u32) -> Result<f64> {
    let (user, system) = times(&read(id, "stat")?);
    Ok(user + system)
}

/// Seconds of CPU time that those used whom this process started and who have ended.
///
/// # Errors
/// When the host does not tell.
pub fn busy_children() -> Result<f64> {
    let stat = read(std::process::id(), "stat")?;
    let after = stat.rsplit(')').next().unwrap_or_default();
    let ticks = after.split_whitespace().skip(13).take(2);
    Ok(ticks.map(|word| word.parse().unwrap_or(0.0)).sum::<f64>() / TICKS)
}

fn read(id: u32, name: &str) -> Result<String> {
    let path = PathBuf::from(format!("/proc/{id}/{name}"));
    fs::read_to_string(&path).at("reading", &path)
}

/// The fields `utime` and `stime`; the program's name before them may hold
/// anything.
fn times(stat: &str) -> (f64, f64) {
    let after = stat.rsplit(')').next().unwrap_or_default();
    let mut ticks = after.split_whitespace().skip(11).map(|word| word.parse().unwrap_or(0.0));
    let mut seconds = || ticks.next().unwrap_or(0.0) / TICKS;
    (seconds(), seconds())
}

/// Resident MiB in all, and in runs of neighbouring mappings as large as RAM.
fn memory(smaps: &str) -> (f64, f64) {
    let (mut all, mut ram) = (0, 0);
    let (mut start, mut end, mut inside) = (0, 0, 0);
    let mut close = |start: u64, end: u64, inside: u64| {
        if end - start >= RAM {
            ram += inside;
        }
    };
    for line in smaps.lines() {
        if let Some((from, to)) = addresses(line) {
            if from != end {
                close(start, end, inside);
                (start, inside) = (from, 0);
            }
            end = to;
        } else if let Some(rest) = line.strip_prefix("Rss:") {
            let kib: u64 = rest.trim().trim_end_matches(" kB").parse().unwrap_or(0);
            all += kib;
            inside += kib;
        }
    }
    close(start, end, inside);
    (all as f64 / 1024.0, ram as f64 / 1024.0)
}

fn addresses(line: &str) -> Option<(u64, u64)> {
    let (from, to) = line.split(' ').next()?.split_once('-')?;
    Some((u64::from_str_radix(from, 16).ok()?, u64::from_str_radix(to, 16).ok()?))
}

/// The host's processor, in words.
pub fn host() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("model name"));
    let name =
        line.and_then(|line| line.split_once(": ")).map_or("unknown processor", |pair| pair.1);
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{count} CPUs of {name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guest_ram_is_told_from_the_rest() {
        let smaps = "1000-2000 rw-p 0\nSize: 4 kB\nRss:                1024 kB\n\
            10000000-20000000 rw-p 0\nRss:  2048 kB\n20000000-40000000 rw-p 0\nRss: 4096 kB\n\
            50000000-50001000 rw-p 0\nRss: 1024 kB\n";
        assert_eq!(memory(smaps), (8.0, 6.0));
    }

    #[test]
    fn a_name_with_a_bracket_does_not_hide_the_time() {
        assert_eq!(times("1 (a) b) S 1 1 1 0 -1 0 0 0 0 0 250 9 0"), (2.5, 0.09));
    }
}
