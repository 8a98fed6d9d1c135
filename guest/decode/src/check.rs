//! Mistakes that concern more than one line.

use std::collections::BTreeMap;

use crate::error::Errors;
use crate::spec::{Line, Spec};

pub(crate) fn check(spec: &Spec, errors: &mut Errors) {
    methods(spec, errors);
    targets(spec, errors);
    overlaps(spec, errors);
}

/// A mnemonic means one method: same file, same operands.
fn methods(spec: &Spec, errors: &mut Errors) {
    let mut seen: BTreeMap<&str, &Line> = BTreeMap::new();
    for line in &spec.lines {
        let Some(first) = seen.insert(&line.method, line) else { continue };
        let place = format!("{}:{}", first.place.file, first.place.line);
        if first.group != line.group {
            errors.add(&line.place, format!("`{}` is also in {place}", line.name));
        } else if first.key() != line.key() || first.target.is_some() != line.target.is_some() {
            errors.add(&line.place, format!("`{}` has other operands in {place}", line.name));
        }
    }
    let mut groups: BTreeMap<&str, &str> = BTreeMap::new();
    for (i, group) in spec.groups.iter().enumerate() {
        if let Some(other) = groups.insert(&group.name, &group.file)
            && let Some(line) = spec.lines.iter().find(|l| l.group == i)
        {
            errors.add(&line.place, format!("trait `{}` is also in {other}", group.name));
        }
    }
}

/// A short form stands for an instruction that has a method.
fn targets(spec: &Spec, errors: &mut Errors) {
    for line in &spec.lines {
        if let Some((to, _)) = &line.target
            && spec.lines[*to].target.is_some()
        {
            let name = &spec.lines[*to].name;
            errors.add(&line.place, format!("`as {name}`: that is a short form itself"));
        }
    }
}

/// Two lines that can be active together share no word, unless one is marked to take it.
fn overlaps(spec: &Spec, errors: &mut Errors) {
    for (i, line) in spec.lines.iter().enumerate() {
        for &under in &line.over {
            if let Some(word) = line.words.beyond(&spec.lines[under].words) {
                let (name, under) = (&line.name, &spec.lines[under].name);
                let text = format!("`{name} over {under}`: {word:#x} is no `{under}`");
                errors.add(&line.place, text);
            }
        }
        for (j, other) in spec.lines.iter().enumerate().take(i) {
            if line.over.contains(&j) || other.over.contains(&i) || !together(spec, line, other) {
                continue;
            }
            if let Some(word) = line.words.common(&other.words) {
                let place = format!("{}:{}", other.place.file, other.place.line);
                let text = format!(
                    "`{}` overlaps `{}` of {place}: both are {word:#0width$x}",
                    line.name,
                    other.name,
                    width = line.len as usize / 4 + 2,
                );
                errors.add(&line.place, text);
            }
        }
    }
}

/// Tells whether the extensions of both lines can be active at once.
fn together(spec: &Spec, a: &Line, b: &Line) -> bool {
    let clauses: Vec<_> = a.need.iter().chain(&b.need).collect();
    satisfiable(spec, &clauses, &mut Vec::new())
}

fn satisfiable(spec: &Spec, clauses: &[&Vec<usize>], chosen: &mut Vec<usize>) -> bool {
    let Some((first, rest)) = clauses.split_first() else { return true };
    first.iter().any(|&one| {
        let clash = |set: &Vec<usize>| {
            set.contains(&one) && chosen.iter().any(|c| *c != one && set.contains(c))
        };
        if spec.exclusive.iter().any(clash) {
            return false;
        }
        chosen.push(one);
        let ok = satisfiable(spec, rest, chosen);
        chosen.pop();
        ok
    })
}
