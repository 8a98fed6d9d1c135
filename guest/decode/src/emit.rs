//! Writes a specification as Rust.

use std::collections::{BTreeMap, BTreeSet};

use crate::spec::{Group, Line, Operand, Other, Part, Piece, Show, Spec, Test, Value, camel};
use crate::tree::Tree;

/// What is the same for every ISA.
const PRELUDE: &str = include_str!("../runtime/prelude.rs");

/// Appends a line; writing to a string succeeds.
macro_rules! put {
    ($out:expr, $($arg:tt)*) => {{
        $out.push_str(&format!($($arg)*));
        $out.push('\n');
    }};
}

/// Getters and constructors, each written once.
#[derive(Default)]
struct Functions {
    getters: BTreeMap<(Vec<Part>, bool, i64), usize>,
    makers: BTreeMap<(String, String), usize>,
}

/// Operands of a line by name: its own, or what a short form gives.
type Values<'a> = BTreeMap<&'a str, Value>;

/// The module's source; `show` is the path of the module with the printing functions.
pub(crate) fn emit(spec: &Spec, show: &str) -> String {
    let mut out = String::from("// Generated from the instruction specification: do not edit.\n");
    let mut functions = Functions::default();
    extensions(&mut out, spec);
    PRELUDE.lines().filter(|l| !l.starts_with("//!")).for_each(|l| put!(out, "{l}"));
    forms(&mut out, spec);
    traits(&mut out, spec);
    lookup(&mut out, spec);
    dispatch(&mut out, spec, &mut functions);
    list(&mut out, spec);
    texts(&mut out, spec, show, &mut functions);
    functions.emit(&mut out);
    out
}

fn extensions(out: &mut String, spec: &Spec) {
    put!(out, "/// An extension, or another condition that encodings depend on.");
    put!(out, "#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]");
    put!(out, "#[repr(u8)]\npub enum Ext {{");
    for name in &spec.extensions {
        put!(out, "    /// `{name}`\n    {},", camel(name));
    }
    put!(out, "}}\nimpl Ext {{");
    let all: Vec<_> = spec.extensions.iter().map(|n| format!("Self::{}", camel(n))).collect();
    put!(
        out,
        "    /// Every extension.\n    pub const ALL: &'static [Self] = &[{}];",
        all.join(", ")
    );
    put!(out, "    const NAMES: &'static [&'static str] = &{:?};", spec.extensions);
    put!(out, "    /// Name as the specification spells it.");
    put!(out, "    pub fn name(self) -> &'static str {{ Self::NAMES[self as usize] }}");
    put!(out, "    /// The extension with that name.");
    put!(out, "    pub fn from_name(name: &str) -> Option<Self> {{");
    put!(out, "        let at = Self::NAMES.iter().position(|n| *n == name)?;");
    put!(out, "        Self::ALL.get(at).copied()\n    }}\n}}");
    let implies = spec.implies.iter().map(|(a, b)| format!("({:#x}, {:#x})", bits(a), bits(b)));
    let implies: Vec<_> = implies.collect();
    put!(out, "const IMPLIES: &[(u128, u128)] = &[{}];", implies.join(", "));
}

fn bits(set: &[usize]) -> u128 {
    set.iter().fold(0, |m, e| m | 1 << e)
}

/// Single alternatives as one set, real choices as a list of sets.
fn need(line: &Line) -> (u128, Vec<u128>) {
    let all = line.need.iter().filter(|any| any.len() == 1).fold(0, |m, any| m | bits(any));
    (all, line.need.iter().filter(|any| any.len() > 1).map(|any| bits(any)).collect())
}

fn forms(out: &mut String, spec: &Spec) {
    let used: BTreeSet<_> = spec.lines.iter().map(|l| spec.form(l)).collect();
    for (name, fields) in used.iter().filter(|(_, fields)| !fields.is_empty()) {
        put!(out, "/// Operands `{}`.", fields.join(", "));
        put!(out, "#[derive(Clone, Copy, Debug, PartialEq, Eq)]\npub struct {name} {{");
        for field in fields {
            put!(out, "    /// `{field}`\n    pub {field}: {},", spec.types[field].name());
        }
        put!(out, "}}");
    }
}

fn traits(out: &mut String, spec: &Spec) {
    let mut bounds = Vec::new();
    for (i, group) in spec.groups.iter().enumerate().filter(|(_, g)| !g.pending) {
        let mut methods = BTreeMap::new();
        let own = |l: &&Line| l.group == i && l.target.is_none();
        for line in spec.lines.iter().filter(own) {
            methods.entry(&line.method).or_insert(line);
        }
        if methods.is_empty() {
            continue;
        }
        bounds.push(group.name.clone());
        let file = group.file.rsplit('/').next().unwrap_or_default();
        put!(out, "/// Instructions of `{file}`.\npub trait {} {{", group.name);
        for line in spec.lines.iter().filter(own) {
            if methods.remove(&line.method).is_none() {
                continue;
            }
            put!(out, "    /// `{} {}`", line.name, written(&line.text));
            let arg = match spec.form(line) {
                (_, fields) if fields.is_empty() => String::new(),
                (name, _) => format!(", a: {name}"),
            };
            put!(out, "    fn {}(&mut self{arg});", line.method);
        }
        put!(out, "}}");
    }
    let bounds = bounds.join(" + ");
    put!(out, "/// Everything that the dispatcher calls.\npub trait Isa: {bounds} {{}}");
    put!(out, "impl<T: {bounds}> Isa for T {{}}");
}

fn written(pieces: &[Piece]) -> String {
    let one = |piece: &Piece| match piece {
        Piece::Literal(text) => text.clone(),
        Piece::Operand(name, _) => format!("{{{name}}}"),
    };
    pieces.iter().map(one).collect()
}

fn lookup(out: &mut String, spec: &Spec) {
    put!(out, "/// Index in `INSNS` of the encoding of `insn`; `None` if it is illegal.");
    put!(out, "pub fn lookup(insn: u32, ext: ExtSet) -> Option<u16> {{");
    branch(out, spec, &Tree::of(spec), 0, 1);
    put!(out, "    None\n}}");
}

fn branch(out: &mut String, spec: &Spec, tree: &Tree, known: u32, depth: usize) {
    let pad = "    ".repeat(depth);
    match tree {
        Tree::Leaf(lines) => {
            for &i in lines {
                let test = condition(&spec.lines[i], known);
                put!(out, "{pad}if {test} {{ return Some({i}); }}");
            }
        }
        Tree::Switch { shift, mask, arms, rest } => {
            put!(out, "{pad}match insn >> {shift} & {mask:#x} {{");
            for (value, tree) in arms {
                put!(out, "{pad}    {value:#x} => {{");
                branch(out, spec, tree, known | mask << shift, depth + 2);
                put!(out, "{pad}    }}");
            }
            put!(out, "{pad}    _ => {{");
            branch(out, spec, rest, known, depth + 2);
            put!(out, "{pad}    }}\n{pad}}}");
        }
    }
}

/// What is left to ask about a line when the bits in `known` are known to fit.
fn condition(line: &Line, known: u32) -> String {
    let mut tests = Vec::new();
    let left = line.words.cube.mask & !known;
    if left != 0 {
        tests.push(format!("insn & {left:#x} == {:#x}", line.words.cube.value & left));
    }
    for hole in &line.words.holes {
        tests.push(format!("insn & {:#x} != {:#x}", hole.mask, hole.value));
    }
    let (all, any) = need(line);
    if all != 0 {
        tests.push(format!("ext.0 & {all:#x} == {all:#x}"));
    }
    tests.extend(any.iter().map(|any| format!("ext.0 & {any:#x} != 0")));
    if tests.is_empty() { "true".into() } else { tests.join(" && ") }
}

/// The line whose method is called, and the values of its operands.
fn meaning<'a>(spec: &'a Spec, i: usize) -> (usize, Values<'a>) {
    let line = &spec.lines[i];
    match &line.target {
        Some((to, values)) => {
            (*to, values.iter().map(|(name, v)| (name.as_str(), v.clone())).collect())
        }
        None => (i, own(line)),
    }
}

fn own(line: &Line) -> Values<'_> {
    line.operands.iter().map(|o| (o.name.as_str(), Value::Field(o.clone()))).collect()
}

fn pending(spec: &Spec, line: &Line) -> bool {
    let group = |l: &Line| -> &Group { &spec.groups[l.group] };
    let target = line.target.as_ref().is_some_and(|(to, _)| group(&spec.lines[*to]).pending);
    group(line).pending || target
}

fn dispatch(out: &mut String, spec: &Spec, functions: &mut Functions) {
    let mut calls: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for i in (0..spec.lines.len()).filter(|i| !pending(spec, &spec.lines[*i])) {
        let (to, values) = meaning(spec, i);
        let target = &spec.lines[to];
        let (form, fields) = spec.form(target);
        let arg = match fields.is_empty() {
            true => String::new(),
            false => functions.maker(spec, &form, &fields, &values),
        };
        let group = &spec.groups[target.group].name;
        let comma = if arg.is_empty() { "" } else { ", " };
        let call = format!("{group}::{}(t{comma}{arg})", target.method);
        calls.entry(call).or_default().push(i.to_string());
    }
    put!(out, "/// Calls the method of `insn`; `false` if it is illegal with these extensions.");
    put!(out, "pub fn dispatch<T: Isa + ?Sized>(t: &mut T, insn: u32, ext: ExtSet) -> bool {{");
    put!(out, "    let Some(line) = lookup(insn, ext) else {{ return false }};\n    match line {{");
    for (call, lines) in calls {
        put!(out, "        {} => {call},", lines.join(" | "));
    }
    put!(out, "        _ => return false,\n    }}\n    true\n}}");
}

fn list(out: &mut String, spec: &Spec) {
    put!(out, "/// Every encoding, in the order of the specification.");
    put!(out, "pub const INSNS: &[InsnInfo] = &[");
    for (i, line) in spec.lines.iter().enumerate() {
        let cube = line.words.cube;
        let holes = line.words.holes.iter().map(|h| format!("({:#x}, {:#x})", h.mask, h.value));
        let holes: Vec<_> = holes.collect();
        let (all, any) = need(line);
        let any: Vec<_> = any.iter().map(|a| format!("ExtSet({a:#x})")).collect();
        let means = line.target.as_ref().map_or(i, |(to, _)| *to);
        put!(
            out,
            "    InsnInfo {{ name: {:?}, len: {}, mask: {:#x}, value: {:#x}, holes: &[{}], \
             all: ExtSet({all:#x}), any: &[{}], means: {means}, pending: {}, group: {:?} }},",
            line.name,
            line.len / 8,
            cube.mask,
            cube.value,
            holes.join(", "),
            any.join(", "),
            pending(spec, line),
            spec.groups[line.group].name,
        );
    }
    put!(out, "];");
}

fn texts(out: &mut String, spec: &Spec, show: &str, functions: &mut Functions) {
    for (name, how) in &spec.shows {
        if let Show::Names(names) = how {
            put!(out, "const {}: &[&str] = &{names:?};", constant(name));
        }
    }
    put!(out, "static TEXTS: &[(&Text, &[Text])] = &[");
    for (i, line) in spec.lines.iter().enumerate() {
        let mut texts = Printer { spec, show, functions };
        let plain = texts.text("|_| true", &line.mnemonic, &line.text, line, &own(line));
        let (to, values) = meaning(spec, i);
        let target = &spec.lines[to];
        let mut others = Vec::new();
        for alias in spec.aliases.iter().filter(|a| a.of == target.method) {
            let Some(when) = texts.tests(&alias.tests, &values) else { continue };
            others.push(texts.text(&when, &alias.mnemonic, &alias.text, target, &values));
        }
        if to != i {
            others.push(texts.text("|_| true", &target.mnemonic, &target.text, target, &values));
        }
        put!(out, "    (&{plain}, &[{}]),", others.join(", "));
    }
    put!(out, "];");
}

fn constant(name: &str) -> String {
    format!("NAMES_{}", name.to_ascii_uppercase())
}

/// Writes texts as Rust values.
struct Printer<'a> {
    spec: &'a Spec,
    show: &'a str,
    functions: &'a mut Functions,
}

impl Printer<'_> {
    fn text(
        &mut self,
        when: &str,
        mnemonic: &[Piece],
        operands: &[Piece],
        line: &Line,
        values: &Values,
    ) -> String {
        let mut list = |pieces: &[Piece]| {
            let pieces: Vec<_> = pieces.iter().map(|p| self.piece(p, line, values)).collect();
            pieces.join(", ")
        };
        let (mnemonic, operands) = (list(mnemonic), list(operands));
        format!("Text {{ when: {when}, mnemonic: &[{mnemonic}], operands: &[{operands}] }}")
    }

    fn piece(&mut self, piece: &Piece, line: &Line, values: &Values) -> String {
        let (name, how) = match piece {
            Piece::Literal(text) => return format!("Piece::Text({text:?})"),
            Piece::Operand(name, how) => (name, how),
        };
        let default = || line.operand(name).map(|o| o.show.clone()).unwrap_or_default();
        let how = if how.is_empty() { default() } else { how.clone() };
        let value = match &values[name.as_str()] {
            Value::Number(n) => format!("Value::Is({n})"),
            Value::Field(o) => format!("Value::Get({})", self.functions.getter(o)),
        };
        match &self.spec.shows[&how] {
            Show::Names(_) => format!("Piece::Named({value}, {})", constant(&how)),
            Show::Function => format!("Piece::Call({value}, {}::{how})", self.show),
            Show::Decimal => format!("Piece::Call({value}, show_dec)"),
            Show::Hex => format!("Piece::Call({value}, show_hex)"),
        }
    }

    /// Comparisons as a closure; `None` if they never hold.
    fn tests(&mut self, tests: &[Test], values: &Values) -> Option<String> {
        let mut parts = Vec::new();
        for test in tests {
            parts.extend(self.test(test, values)?);
        }
        if parts.is_empty() {
            return Some("|_| true".into());
        }
        Some(format!("|w: u32| {}", parts.join(" && ")))
    }

    /// One comparison: nothing if it always holds, `None` if it never does.
    fn test(&mut self, test: &Test, values: &Values) -> Option<Option<String>> {
        let value = |name: &String| values[name.as_str()].clone();
        let left = value(&test.operand);
        let mut parts = Vec::new();
        for other in &test.with {
            let right = match other {
                Other::Number(n) => Value::Number(*n),
                Other::Operand(name) => value(name),
            };
            match (&left, &right) {
                (Value::Number(a), Value::Number(b)) if (a == b) == test.equal => {
                    // One of several equalities holds; of inequalities all must.
                    if test.equal {
                        return Some(None);
                    }
                }
                (Value::Number(_), Value::Number(_)) if test.equal => {}
                (Value::Number(_), Value::Number(_)) => return None,
                _ => {
                    let compare = if test.equal { "==" } else { "!=" };
                    let (a, b) = (self.word(&left), self.word(&right));
                    parts.push(format!("{a} {compare} {b}"));
                }
            }
        }
        match parts.len() {
            0 if test.equal => None,
            0 => Some(None),
            1 => Some(parts.pop()),
            _ => Some(Some(format!("({})", parts.join(if test.equal { " || " } else { " && " })))),
        }
    }

    /// A value as an expression of the word `w`.
    fn word(&mut self, value: &Value) -> String {
        match value {
            Value::Number(n) => format!("{n}"),
            Value::Field(o) => format!("{}(w)", self.functions.getter(o)),
        }
    }
}

impl Functions {
    /// Name of the function that reads an operand.
    fn getter(&mut self, o: &Operand) -> String {
        let next = self.getters.len();
        let key = (o.parts.clone(), o.signed, o.add);
        format!("get{}", self.getters.entry(key).or_insert(next))
    }

    /// A call of the function that fills a structure.
    fn maker(&mut self, spec: &Spec, form: &str, fields: &[String], values: &Values) -> String {
        let filled = fields.iter().map(|field| {
            let kind = spec.types[field].name();
            match &values[field.as_str()] {
                Value::Number(n) => format!("{field}: {n}"),
                Value::Field(o) => format!("{field}: {}(w) as {kind}", self.getter(o)),
            }
        });
        let body = filled.collect::<Vec<_>>().join(", ");
        let next = self.makers.len();
        let n = self.makers.entry((form.into(), body)).or_insert(next);
        format!("make{n}(insn)")
    }

    fn emit(&self, out: &mut String) {
        for ((parts, signed, add), n) in &self.getters {
            put!(
                out,
                "#[inline(always)]\nfn get{n}(w: u32) -> i64 {{ {} }}",
                read(parts, *signed, *add)
            );
        }
        for ((form, body), n) in &self.makers {
            let word = if body.contains("(w)") { "w" } else { "_" };
            put!(
                out,
                "#[inline(always)]\nfn make{n}({word}: u32) -> {form} {{ {form} {{ {body} }} }}"
            );
        }
    }
}

/// Expression for an operand's value in the word `w`.
fn read(parts: &[Part], signed: bool, add: i64) -> String {
    let width = parts.iter().map(|p| p.to + p.len).max().unwrap_or(0);
    let parts = parts.iter().map(|p| {
        let mask = (1_u64 << p.len) - 1;
        format!("(w >> {} & {mask:#x}) << {}", p.from, p.to)
    });
    let raw = parts.collect::<Vec<_>>().join(" | ");
    let free = 32 - width;
    let value = match signed {
        true => format!("i64::from((({raw}) << {free}) as i32 >> {free})"),
        false => format!("i64::from({raw})"),
    };
    if add == 0 { value } else { format!("{value} + {add}") }
}
