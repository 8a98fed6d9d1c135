//! From items to a specification: looks names up and places bits.

use std::collections::BTreeMap;

use crate::cube::{Cube, Words};
use crate::error::{Errors, Place};
use crate::spec::{
    Alias, Field, Group, Line, Operand, Other, Part, Piece, Show, Spec, Test, Type, Value, camel,
};
use crate::syntax::{AliasItem, Condition, FieldItem, Item, Kind, LineItem, Right, Source, Token};

/// Words that Rust reserves: a method called so gets an underscore.
const KEYWORDS: &[&str] = &[
    "as", "async", "await", "box", "break", "const", "continue", "crate", "do", "dyn", "else",
    "enum", "extern", "false", "final", "fn", "for", "gen", "if", "impl", "in", "let", "loop",
    "macro", "match", "mod", "move", "mut", "override", "priv", "pub", "ref", "return", "self",
    "static", "struct", "super", "trait", "true", "try", "type", "typeof", "unsafe", "unsized",
    "use", "virtual", "where", "while", "yield",
];

pub(crate) fn resolve(sources: &[Source], items: Vec<Vec<Item>>, errors: &mut Errors) -> Spec {
    let mut spec = Spec::default();
    spec.shows.insert("dec".into(), Show::Decimal);
    spec.shows.insert("hex".into(), Show::Hex);
    for item in items.iter().flatten() {
        let done = declare(&mut spec, &item.kind);
        errors.keep(&item.place, done);
    }
    for item in items.iter().flatten() {
        let done = relate(&mut spec, &item.kind);
        errors.keep(&item.place, done);
    }
    let mut raw = Vec::new();
    for (source, items) in sources.iter().zip(items) {
        file(&mut spec, source, items, &mut raw, errors);
    }
    set_types(&mut spec);
    link(&mut spec, &raw, errors);
    spec
}

/// Declarations that stand for themselves.
fn declare(spec: &mut Spec, kind: &Kind) -> Result<(), String> {
    match kind {
        Kind::Extensions(names) => {
            for name in names {
                if spec.extensions.contains(name) {
                    return Err(format!("extension `{name}` is declared twice"));
                }
                spec.extensions.push(name.clone());
            }
            (spec.extensions.len() <= 128)
                .then_some(())
                .ok_or("more than 128 extensions".to_string())
        }
        Kind::Names(name, list) => add_show(spec, name, Show::Names(list.clone())),
        Kind::Show(names) => names.iter().try_for_each(|name| add_show(spec, name, Show::Function)),
        Kind::Operands(name, fields) => {
            if spec.forms.iter().any(|(n, _)| n == name) {
                return Err(format!("operands `{name}` are declared twice"));
            }
            spec.forms.push((name.clone(), fields.clone()));
            Ok(())
        }
        _ => Ok(()),
    }
}

fn add_show(spec: &mut Spec, name: &str, show: Show) -> Result<(), String> {
    match spec.shows.insert(name.into(), show) {
        Some(_) => Err(format!("`{name}` is declared twice")),
        None => Ok(()),
    }
}

/// Declarations that need others.
fn relate(spec: &mut Spec, kind: &Kind) -> Result<(), String> {
    match kind {
        Kind::Exclusive(names) => {
            let set = extensions(spec, names)?;
            spec.exclusive.push(set);
        }
        Kind::Imply(from, to) => {
            let pair = (extensions(spec, from)?, extensions(spec, to)?);
            spec.implies.push(pair);
        }
        Kind::Field(item) => add_field(spec, item)?,
        _ => {}
    }
    Ok(())
}

fn extensions(spec: &Spec, names: &[String]) -> Result<Vec<usize>, String> {
    let find = |name: &String| spec.extensions.iter().position(|e| e == name);
    names.iter().map(|n| find(n).ok_or(format!("unknown extension `{n}`"))).collect()
}

fn add_field(spec: &mut Spec, item: &FieldItem) -> Result<(), String> {
    if !spec.shows.contains_key(&item.show) {
        return Err(format!("unknown way to print `{}`", item.show));
    }
    let (operand, add) = item.operand.clone().unwrap_or((item.name.clone(), 0));
    let field = Field {
        signed: item.signed,
        show: item.show.clone(),
        operand,
        add,
        except: item.except.clone(),
    };
    match spec.fields.insert(item.name.clone(), field) {
        Some(_) => Err(format!("field `{}` is declared twice", item.name)),
        None => Ok(()),
    }
}

/// What is looked up when all lines are known.
#[derive(Default)]
struct Raw {
    over: Vec<String>,
    target: Option<(String, Vec<(String, Right)>)>,
}

/// The lines of one file.
fn file(
    spec: &mut Spec,
    source: &Source,
    items: Vec<Item>,
    raw: &mut Vec<Raw>,
    errors: &mut Errors,
) {
    let stem = source.name.rsplit(['/', '\\']).next().unwrap_or_default();
    let stem = stem.split('.').next().unwrap_or_default();
    let mut group = Group { name: camel(stem), file: source.name.clone(), pending: false };
    let mut need: Option<Vec<Vec<usize>>> = None;
    let mut section: Vec<String> = Vec::new();
    let first = spec.lines.len();
    for Item { place, kind } in items {
        match kind {
            Kind::Trait(name) => group.name = name,
            Kind::Pending => group.pending = true,
            Kind::Section(names) => {
                let found: Result<_, _> = names.iter().map(|any| extensions(spec, any)).collect();
                need = errors.keep(&place, found).or(Some(Vec::new()));
                section.clear();
            }
            Kind::Alias(item) => {
                if let Some(alias) = errors.keep(&place, alias(&place, item)) {
                    spec.aliases.push(alias);
                }
            }
            Kind::Line(mut item) => {
                let Some(need) = need.clone() else {
                    errors.add(&place, "an instruction stands before the first `[section]`");
                    continue;
                };
                if section.contains(&item.mnemonic) {
                    errors.add(&place, format!("`{}` is twice in this section", item.mnemonic));
                    continue;
                }
                section.push(item.mnemonic.clone());
                let later =
                    Raw { over: std::mem::take(&mut item.over), target: item.target.take() };
                if let Some(mut line) = errors.keep(&place, line(spec, &place, item)) {
                    (line.need, line.group) = (need, spec.groups.len());
                    spec.lines.push(line);
                    raw.push(later);
                }
            }
            _ => {}
        }
    }
    if spec.lines.len() > first {
        spec.groups.push(group);
    }
}

fn line(spec: &Spec, place: &Place, item: LineItem) -> Result<Line, String> {
    let (mut words, len, mut operands) = pattern(spec, &item.pattern)?;
    operands.reverse();
    for condition in &item.conditions {
        constrain(&mut words, &operands, condition)?;
    }
    if words.any().is_none() {
        return Err(format!("no word fulfils the conditions of `{}`", item.mnemonic));
    }
    let line = Line {
        place: place.clone(),
        mnemonic: pieces(&item.mnemonic)?,
        method: method(&item.mnemonic),
        name: item.mnemonic,
        group: 0,
        need: Vec::new(),
        len,
        words,
        operands,
        text: pieces(&item.text)?,
        over: Vec::new(),
        target: None,
    };
    for piece in line.mnemonic.iter().chain(&line.text) {
        check_piece(spec, piece, &|name| line.operand(name).is_some())?;
    }
    Ok(line)
}

fn check_piece(spec: &Spec, piece: &Piece, known: &dyn Fn(&str) -> bool) -> Result<(), String> {
    match piece {
        Piece::Operand(name, _) if !known(name) => {
            Err(format!("operand `{{{name}}}` of the text is not in the pattern"))
        }
        Piece::Operand(_, show) if !show.is_empty() && !spec.shows.contains_key(show) => {
            Err(format!("unknown way to print `{show}`"))
        }
        _ => Ok(()),
    }
}

/// Name of the trait's method: without `{…}`, with underscores.
fn method(mnemonic: &str) -> String {
    let mut name = String::new();
    let mut inside = false;
    for c in mnemonic.chars() {
        match c {
            '{' => inside = true,
            '}' => inside = false,
            _ if inside => {}
            c if c.is_ascii_alphanumeric() => name.push(c.to_ascii_lowercase()),
            _ => name.push('_'),
        }
    }
    if KEYWORDS.contains(&name.as_str()) {
        name.push('_');
    }
    name
}

/// Splits `{rd}, {imm:hex}`.
fn pieces(text: &str) -> Result<Vec<Piece>, String> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        let (inside, after) =
            after.split_once('}').ok_or_else(|| format!("`{text}`: `{{` without `}}`"))?;
        if !before.is_empty() {
            out.push(Piece::Literal(before.into()));
        }
        let (name, show) = inside.split_once(':').unwrap_or((inside, ""));
        out.push(Piece::Operand(name.into(), show.into()));
        rest = after;
    }
    if !rest.is_empty() {
        out.push(Piece::Literal(rest.into()));
    }
    Ok(out)
}

/// Words, length and operands (from the left) of a pattern.
fn pattern(spec: &Spec, tokens: &[Token]) -> Result<(Words, u32, Vec<Operand>), String> {
    let width = |t: &Token| match t {
        Token::Bits(b) => b.len() as u32,
        Token::Field(_, slices) => slices.iter().map(|(high, low)| high - low + 1).sum(),
    };
    let total: u32 = tokens.iter().map(width).sum();
    if total != 16 && total != 32 {
        return Err(format!("the pattern has {total} bits; it takes 16 or 32"));
    }
    let mut at = total;
    let mut cube = Cube::ALL;
    let mut operands: Vec<(String, Operand)> = Vec::new();
    for token in tokens {
        match token {
            Token::Bits(bits) => {
                for c in bits.chars() {
                    at -= 1;
                    cube.mask |= u32::from(c != '-') << at;
                    cube.value |= u32::from(c == '1') << at;
                }
            }
            Token::Field(name, slices) => {
                let parts = slices.iter().map(|(high, low)| {
                    let len = high - low + 1;
                    at -= len;
                    Part { from: at, to: *low, len }
                });
                let parts: Vec<_> = parts.collect();
                match operands.iter_mut().find(|(n, _)| n == name) {
                    Some((_, operand)) => operand.parts.extend(parts),
                    None => operands.push((name.clone(), new_operand(spec, name, parts)?)),
                }
            }
        }
    }
    let mut words = Words { cube, holes: Vec::new() };
    for (name, operand) in &mut operands {
        check_parts(name, operand)?;
        let except = &spec.fields[name].except;
        words.holes.extend(except.iter().filter_map(|value| operand.equals(*value)));
    }
    let operands: Vec<_> = operands.into_iter().map(|(_, o)| o).collect();
    for (i, operand) in operands.iter().enumerate() {
        if operands.iter().skip(i + 1).any(|o| o.name == operand.name) {
            return Err(format!("two fields give the operand `{}`", operand.name));
        }
    }
    Ok((words, total, operands))
}

fn new_operand(spec: &Spec, name: &str, parts: Vec<Part>) -> Result<Operand, String> {
    let field = spec.fields.get(name).ok_or(format!("unknown field `{name}`"))?;
    Ok(Operand {
        name: field.operand.clone(),
        parts,
        signed: field.signed == Some(true),
        add: field.add,
        show: field.show.clone(),
    })
}

/// Each value bit from the lowest to the highest comes from one place; joins adjacent runs.
fn check_parts(name: &str, operand: &mut Operand) -> Result<(), String> {
    operand.parts.sort_by_key(|p| p.to);
    let mut joined: Vec<Part> = Vec::new();
    for part in &operand.parts {
        let Some(last) = joined.last_mut() else {
            joined.push(*part);
            continue;
        };
        let end = last.to + last.len;
        if part.to < end {
            return Err(format!("bit {} of `{name}` is there twice", part.to));
        }
        if part.to > end {
            return Err(format!("bit {end} of `{name}` is missing"));
        }
        if part.from == last.from + last.len {
            last.len += part.len;
        } else {
            joined.push(*part);
        }
    }
    operand.parts = joined;
    Ok(())
}

/// Takes the words that break a condition out of the set.
fn constrain(words: &mut Words, operands: &[Operand], c: &Condition) -> Result<(), String> {
    let find = |name: &str| {
        operands.iter().find(|o| o.name == name).ok_or(format!("`{name}` is not in the pattern"))
    };
    let operand = find(&c.field)?;
    let few = |o: &Operand| {
        o.values().ok_or(format!("`{}` is too wide for this condition; at most 8 bits", o.name))
    };
    if let [Right::Operand(other)] = &c.right[..] {
        let other = find(other)?;
        for value in few(operand)? {
            let Some(mine) = operand.equals(value) else { continue };
            let theirs = few(other)?.into_iter().filter(|v| (*v == value) != c.equal);
            let cubes = theirs.filter_map(|v| mine.and(other.equals(v)?));
            words.holes.extend(cubes);
        }
        return Ok(());
    }
    let mut numbers = Vec::new();
    for right in &c.right {
        match right {
            Right::Number(n) if operand.equals(*n).is_none() => {
                return Err(format!("`{}` is never {n}", c.field));
            }
            Right::Number(n) => numbers.push(*n),
            Right::Operand(_) => return Err("a set holds numbers only".into()),
        }
    }
    match (c.equal, &numbers[..]) {
        (true, [only]) => {
            let fixed = operand.equals(*only).and_then(|cube| words.cube.and(cube));
            words.cube = fixed.ok_or(format!("`{}` is never {only}", c.field))?;
        }
        (true, _) => {
            let others = few(operand)?.into_iter().filter(|v| !numbers.contains(v));
            words.holes.extend(others.filter_map(|v| operand.equals(v)));
        }
        (false, _) => words.holes.extend(numbers.iter().filter_map(|v| operand.equals(*v))),
    }
    Ok(())
}

fn alias(place: &Place, item: AliasItem) -> Result<Alias, String> {
    let tests = item.conditions.into_iter().map(|c| Test {
        operand: c.field,
        equal: c.equal,
        with: c
            .right
            .into_iter()
            .map(|r| match r {
                Right::Number(n) => Other::Number(n),
                Right::Operand(o) => Other::Operand(o),
            })
            .collect(),
    });
    Ok(Alias {
        place: place.clone(),
        mnemonic: pieces(&item.mnemonic)?,
        of: method(&item.of),
        text: pieces(&item.text)?,
        tests: tests.collect(),
    })
}

/// The type of an operand is wide enough for all lines.
fn set_types(spec: &mut Spec) {
    let mut types: BTreeMap<String, Type> = BTreeMap::new();
    let immediate =
        |name: &str| spec.fields.values().any(|f| f.operand == name && f.signed.is_some());
    for operand in spec.lines.iter().flat_map(|l| &l.operands) {
        let highest = (1_i64 << operand.width()) - 1 + operand.add;
        let fits = [Type::U8, Type::U16, Type::U32].into_iter().find(|t| t.holds(highest));
        let wanted = if immediate(&operand.name) { None } else { fits };
        let slot = types.entry(operand.name.clone()).or_insert(Type::U8);
        *slot = (*slot).max(wanted.unwrap_or(Type::I64));
    }
    spec.types = types;
}

/// Looks up the lines that lines name.
fn link(spec: &mut Spec, raw: &[Raw], errors: &mut Errors) {
    for (i, raw) in raw.iter().enumerate() {
        let place = spec.lines[i].place.clone();
        for name in &raw.over {
            let found = positions(spec, name);
            if found.is_empty() {
                errors.add(&place, format!("`over {name}`: no such instruction"));
            }
            spec.lines[i].over.extend(found);
        }
        if let Some((name, args)) = &raw.target
            && let Some(target) = errors.keep(&place, target(spec, i, name, args))
        {
            spec.lines[i].target = Some(target);
        }
    }
    for alias in &spec.aliases {
        let Some(line) = spec.lines.iter().find(|l| l.method == alias.of) else {
            errors.add(&alias.place, "the alias stands for no instruction");
            continue;
        };
        let known = |name: &str| line.operand(name).is_some();
        for piece in alias.mnemonic.iter().chain(&alias.text) {
            errors.keep(&alias.place, check_piece(spec, piece, &known));
        }
        for test in &alias.tests {
            let others = test.with.iter().filter_map(|o| match o {
                Other::Operand(name) => Some(name),
                Other::Number(_) => None,
            });
            for name in others.chain([&test.operand]).filter(|n| !known(n)) {
                errors.add(&alias.place, format!("`{name}` is no operand of `{}`", line.name));
            }
        }
    }
}

fn positions(spec: &Spec, name: &str) -> Vec<usize> {
    (0..spec.lines.len()).filter(|i| spec.lines[*i].name == name).collect()
}

/// `as add rs1=rd`: what each operand of `add` is.
fn target(
    spec: &Spec,
    from: usize,
    name: &str,
    args: &[(String, Right)],
) -> Result<(usize, Vec<(String, Value)>), String> {
    let line = &spec.lines[from];
    let to = *positions(spec, name).first().ok_or(format!("`as {name}`: no such instruction"))?;
    let wanted = &spec.lines[to];
    if let Some((arg, _)) = args.iter().find(|(n, _)| wanted.operand(n).is_none()) {
        return Err(format!("`as {name}`: it has no operand `{arg}`"));
    }
    let value = |operand: &Operand| {
        let given = args.iter().find(|(n, _)| *n == operand.name).map(|(_, right)| right.clone());
        match given.unwrap_or(Right::Operand(operand.name.clone())) {
            Right::Number(n) if spec.types[&operand.name].holds(n) => Ok(Value::Number(n)),
            Right::Number(n) => Err(format!("`as {name}`: {n} does not fit `{}`", operand.name)),
            Right::Operand(o) => line
                .operand(&o)
                .map(|o| Value::Field(o.clone()))
                .ok_or(format!("`as {name}`: nothing gives `{}`", operand.name)),
        }
    };
    let values = wanted.operands.iter().map(|o| Ok((o.name.clone(), value(o)?)));
    Ok((to, values.collect::<Result<_, String>>()?))
}
