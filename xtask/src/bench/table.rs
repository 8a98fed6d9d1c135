//! The measurements as Markdown.

use super::{COLD_INSTRUCTIONS, Kind, PROGRAMS, Peer};

/// Programs and what they are about.
type Programs<'a> = &'a [(&'static str, Kind)];

/// Two values and how they compare.
struct Row {
    name: String,
    their: f64,
    our: f64,
    ratio: f64,
}

/// The whole report; `busy`: programs by the emulator's CPU time.
pub fn report(their: &Peer, our: &Peer, busy: bool) -> String {
    let mut text = String::from("### Machine (Tinamou / QEMU: less is better)\n\n");
    text.push_str(&head("measured", "Tinamou / QEMU"));
    let rows = [
        ("user CPU seconds to user space", "ready user"),
        ("wall seconds to user space", "ready wall"),
        ("MiB resident then", "ready resident"),
        ("MiB resident beyond guest RAM", "ready beyond"),
        ("milliseconds from start to end of an empty machine", "start"),
        ("nanoseconds per instruction that runs once", "cold"),
    ];
    for (name, key) in rows {
        let scale = if key == "cold" { 1e6 / COLD_INSTRUCTIONS } else { 1.0 };
        if let Some(row) = compare(name, key, their, our) {
            let (a, b) = (row.their * scale, row.our * scale);
            text.push_str(&line(&Row { their: a, our: b, ratio: b / a, ..row }));
        }
    }
    let clock = if busy { "CPU time of the emulator" } else { "the guest's time" };
    text.push_str(&format!(
        "\n### Programs in the guest (milliseconds of {clock}; QEMU / Tinamou: more is better)\n\n"
    ));
    text.push_str(&head("program", "QEMU / Tinamou"));
    for (kind, title) in GROUPS {
        let rows = group(PROGRAMS, kind, busy, [their, our]);
        rows.iter().for_each(|row| text.push_str(&line(row)));
        if let Some(mean) = mean(&rows) {
            text.push_str(&format!("| **{title}, geometric mean** | | | **{mean:.2}** |\n"));
        }
    }
    if let (Some(a), Some(b)) = (scaling(their), scaling(our)) {
        text.push_str("\n### Two virtual CPUs (work done in the time of one; 2 is best)\n\n");
        text.push_str(&head("measured", "Tinamou / QEMU"));
        text.push_str(&line(&Row { name: "scaling".into(), their: a, our: b, ratio: b / a }));
    }
    text
}

/// Groups of programs that have a mean.
const GROUPS: [(Kind, &str); 6] = [
    (Kind::Integer, "integers"),
    (Kind::Calls, "calls"),
    (Kind::Float, "floating point"),
    (Kind::Vectors, "vectors"),
    (Kind::Memory, "memory"),
    (Kind::Units, "x87, ciphers"),
];

/// The programs of a group.
fn group(programs: Programs<'_>, kind: Kind, busy: bool, [their, our]: [&Peer; 2]) -> Vec<Row> {
    let programs = programs.iter().filter(|(_, each)| *each == kind);
    let row = |(name, _): &(&str, Kind)| compare(name, &key(name, busy), their, our);
    programs.filter_map(row).collect()
}

fn key(name: &str, busy: bool) -> String {
    if busy { format!("{name} busy") } else { name.to_string() }
}

/// The report on programs in user mode for a guest, beside those of the host.
pub fn user(
    guest: &str,
    programs: Programs<'_>,
    [their, our, host]: [&Peer; 3],
    busy: bool,
) -> String {
    let clock = if busy { "CPU time" } else { "the program's time" };
    let mut text =
        format!("### {guest} (milliseconds of {clock}; QEMU / Tinamou: more is better)\n\n");
    text.push_str("| program | QEMU | Tinamou | native | QEMU / Tinamou |\n");
    text.push_str("| --- | ---: | ---: | ---: | ---: |\n");
    let beside = |row: &Row| {
        let native = host.median(&key(&row.name, busy));
        let native = native.map_or(String::new(), |time| format!("{time:.2}"));
        let Row { name, their, our, ratio } = row;
        format!("| {name} | {their:.2} | {our:.2} | {native} | {ratio:.2} |\n")
    };
    for (kind, title) in GROUPS {
        let rows = group(programs, kind, busy, [their, our]);
        rows.iter().for_each(|row| text.push_str(&beside(row)));
        if let Some(mean) = mean(&rows) {
            text.push_str(&format!("| **{title}, geometric mean** | | | | **{mean:.2}** |\n"));
        }
    }
    for (name, key) in [("syscalls", key("syscalls", busy)), ("start", "start".into())] {
        text.extend(compare(name, &key, their, our).map(|row| beside(&row)));
    }
    text
}

fn head(name: &str, ratio: &str) -> String {
    format!("| {name} | QEMU | Tinamou | {ratio} |\n| --- | ---: | ---: | ---: |\n")
}

fn line(row: &Row) -> String {
    let Row { name, their, our, ratio } = row;
    format!("| {name} | {their:.2} | {our:.2} | {ratio:.2} |\n")
}

fn compare(name: &str, key: &str, their: &Peer, our: &Peer) -> Option<Row> {
    let (their, our) = (their.median(key)?, our.median(key)?);
    Some(Row { name: name.into(), their, our, ratio: their / our })
}

fn mean(rows: &[Row]) -> Option<f64> {
    let sum: f64 = rows.iter().map(|row| row.ratio.ln()).sum();
    (!rows.is_empty()).then(|| (sum / rows.len() as f64).exp())
}

fn scaling(peer: &Peer) -> Option<f64> {
    Some(2.0 * peer.median("one-process")? / peer.median("two-processes")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_say_how_much_faster_and_the_mean_is_geometric() {
        let (mut their, mut our) = (Peer::default(), Peer::default());
        for (name, a, b) in [("nbody", 400.0, 100.0), ("matmul", 100.0, 100.0)] {
            their.add(name, a);
            our.add(name, b);
        }
        let text = report(&their, &our, false);
        assert!(text.contains("| nbody | 400.00 | 100.00 | 4.00 |"), "{text}");
        assert!(text.contains("floating point, geometric mean** | | | **2.00**"), "{text}");
        assert!(!text.contains("scaling"));
    }
}
