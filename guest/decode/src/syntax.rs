//! From the text of a specification to items; nothing is looked up yet.

use crate::error::{Errors, Place};

/// A specification file.
pub struct Source {
    /// Path or name, as errors shall show it.
    pub name: String,
    /// Contents.
    pub text: String,
}

/// One item of a specification and where it begins.
pub(crate) struct Item {
    pub place: Place,
    pub kind: Kind,
}

pub(crate) enum Kind {
    /// `[a b|c]`: all of these, each one of several alternatives.
    Section(Vec<Vec<String>>),
    Extensions(Vec<String>),
    Exclusive(Vec<String>),
    Imply(Vec<String>, Vec<String>),
    Names(String, Vec<String>),
    Show(Vec<String>),
    Field(FieldItem),
    Operands(String, Vec<String>),
    Trait(String),
    Pending,
    Alias(AliasItem),
    Line(LineItem),
}

/// `field NAME [signed|unsigned] SHOW [is OPERAND + N] [where != {…}]`
pub(crate) struct FieldItem {
    pub name: String,
    pub signed: Option<bool>,
    pub show: String,
    pub operand: Option<(String, i64)>,
    pub except: Vec<i64>,
}

/// `alias MNEMONIC INSTRUCTION TEXT where …`
pub(crate) struct AliasItem {
    pub mnemonic: String,
    pub of: String,
    pub text: String,
    pub conditions: Vec<Condition>,
}

/// `MNEMONIC PATTERN TEXT where … over … as …`
pub(crate) struct LineItem {
    pub mnemonic: String,
    pub pattern: Vec<Token>,
    pub text: String,
    pub conditions: Vec<Condition>,
    pub over: Vec<String>,
    pub target: Option<(String, Vec<(String, Right)>)>,
}

/// Part of a bit pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    /// Fixed and ignored bits: `01-`.
    Bits(String),
    /// `name:5` or `name[12|10:5]`: value bits (high, low), from the left.
    Field(String, Vec<(u32, u32)>),
}

/// `field != {1, 2}`, `field == 0`, `field != other`
pub(crate) struct Condition {
    pub field: String,
    pub equal: bool,
    pub right: Vec<Right>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Right {
    Number(i64),
    Operand(String),
}

/// Splits a file into items.
pub(crate) fn parse(source: &Source, errors: &mut Errors) -> Vec<Item> {
    let mut items = Vec::new();
    for (line, text) in logical_lines(&source.text) {
        let place = Place { file: source.name.clone(), line };
        if let Some(kind) = errors.keep(&place, item(&text)) {
            items.push(Item { place, kind });
        }
    }
    items
}

/// Lines without comments, with those that end in `\` joined to the next.
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let mut out: Vec<(usize, String)> = Vec::new();
    let mut joined = false;
    for (number, line) in text.lines().enumerate() {
        let line = if line.trim_start().starts_with('#') { "" } else { line };
        let line = line.split_once(" # ").map_or(line, |(code, _)| code).trim_end();
        let (line, more) = line.strip_suffix('\\').map_or((line, false), |l| (l, true));
        match out.last_mut() {
            Some((_, last)) if joined => last.push_str(line),
            _ if line.trim().is_empty() => {}
            _ => out.push((number + 1, line.to_string())),
        }
        joined = more;
    }
    out
}

fn item(text: &str) -> Result<Kind, String> {
    let text = text.trim();
    if let Some(rest) = text.strip_prefix('[') {
        let inner = rest.strip_suffix(']').ok_or("a section header ends with `]`")?;
        let need = words(inner).map(|w| w.split('|').map(String::from).collect()).collect();
        return Ok(Kind::Section(need));
    }
    let (head, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let list = || words(rest).map(String::from).collect::<Vec<_>>();
    let named = |list: Vec<String>| match list.split_first() {
        Some((name, rest)) if !rest.is_empty() => Ok((name.clone(), rest.to_vec())),
        _ => Err(format!("`{head}` wants a name and a list")),
    };
    match head {
        "extensions" => Ok(Kind::Extensions(list())),
        "exclusive" => Ok(Kind::Exclusive(list())),
        "imply" => {
            let (from, to) = rest.split_once("=>").ok_or("`imply` wants `A … => B …`")?;
            let own = |s| words(s).map(String::from).collect();
            Ok(Kind::Imply(own(from), own(to)))
        }
        "names" => named(list()).map(|(n, l)| Kind::Names(n, l)),
        "show" => Ok(Kind::Show(list())),
        "field" => field(rest).map(Kind::Field),
        "operands" => named(list()).map(|(n, l)| Kind::Operands(n, l)),
        "trait" if words(rest).count() == 1 => Ok(Kind::Trait(rest.trim().into())),
        "pending" if rest.trim().is_empty() => Ok(Kind::Pending),
        "alias" => alias(rest).map(Kind::Alias),
        mnemonic => instruction(mnemonic, rest).map(Kind::Line),
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split_whitespace()
}

fn field(rest: &str) -> Result<FieldItem, String> {
    let (rest, except) = match rest.split_once(" where ") {
        Some((rest, set)) => {
            let set = set.trim().strip_prefix("!=").ok_or("a field's `where` wants `!= {…}`")?;
            let numbers = right_side(set)?.into_iter().map(|r| match r {
                Right::Number(n) => Ok(n),
                Right::Operand(o) => Err(format!("`{o}` is not a number")),
            });
            (rest, numbers.collect::<Result<_, _>>()?)
        }
        None => (rest, Vec::new()),
    };
    let mut words = words(rest).peekable();
    let name = words.next().ok_or("`field` wants a name")?.to_string();
    let signed = match words.peek() {
        Some(&"signed") => Some(true),
        Some(&"unsigned") => Some(false),
        _ => None,
    };
    if signed.is_some() {
        words.next();
    }
    let show = words.next().ok_or("`field` wants the way to print it")?.to_string();
    let rest: Vec<_> = words.collect();
    let operand = match rest[..] {
        [] => None,
        ["is", operand, "+", n] => Some((operand.to_string(), number(n)?)),
        ["is", operand] => Some((operand.to_string(), 0)),
        _ => return Err(format!("`{}`: expected `is OPERAND + N`", rest.join(" "))),
    };
    Ok(FieldItem { name, signed, show, operand, except })
}

fn alias(rest: &str) -> Result<AliasItem, String> {
    let mut parts = rest.trim_start().splitn(2, char::is_whitespace);
    let mnemonic = parts.next().filter(|m| !m.is_empty()).ok_or("`alias` wants a mnemonic")?;
    let rest = parts.next().unwrap_or("").trim_start();
    let (of, rest) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    if of.is_empty() {
        return Err("`alias` wants the instruction it stands for".into());
    }
    let clauses = clauses(rest)?;
    if !clauses.over.is_empty() || clauses.target.is_some() {
        return Err("an alias has only `where`".into());
    }
    Ok(AliasItem {
        mnemonic: mnemonic.into(),
        of: of.into(),
        text: clauses.text,
        conditions: clauses.conditions,
    })
}

fn instruction(mnemonic: &str, rest: &str) -> Result<LineItem, String> {
    let mut pattern = Vec::new();
    let mut rest = rest.trim_start();
    while !rest.is_empty() {
        let (word, after) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        let Some(token) = token(word)? else { break };
        pattern.push(token);
        rest = after.trim_start();
    }
    if pattern.is_empty() {
        return Err(format!("`{mnemonic}` has no bit pattern"));
    }
    let Clauses { text, conditions, over, target } = clauses(rest)?;
    Ok(LineItem { mnemonic: mnemonic.into(), pattern, text, conditions, over, target })
}

/// A pattern token, or `None` if the word is none.
fn token(word: &str) -> Result<Option<Token>, String> {
    if word.chars().all(|c| matches!(c, '0' | '1' | '-')) {
        return Ok(Some(Token::Bits(word.into())));
    }
    if !word.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return Ok(None);
    }
    if let Some((name, slices)) = word.strip_suffix(']').and_then(|w| w.split_once('[')) {
        let slices = slices.split('|').map(slice).collect::<Result<Vec<_>, _>>()?;
        return Ok(Some(Token::Field(name.into(), slices)));
    }
    let Some((name, len)) = word.split_once(':') else { return Ok(None) };
    match len.parse() {
        Ok(len @ 1..=32) => Ok(Some(Token::Field(name.into(), vec![(len - 1, 0)]))),
        _ => Err(format!("`{word}`: the width of a field is 1 to 32")),
    }
}

/// `10:5` or `7`
fn slice(text: &str) -> Result<(u32, u32), String> {
    let (high, low) = text.split_once(':').unwrap_or((text, text));
    match (high.parse(), low.parse()) {
        (Ok(high), Ok(low)) if low <= high && high < 32 => Ok((high, low)),
        _ => Err(format!("`[{text}]` is no range of bits (highest first, below 32)")),
    }
}

#[derive(Default)]
struct Clauses {
    text: String,
    conditions: Vec<Condition>,
    over: Vec<String>,
    target: Option<(String, Vec<(String, Right)>)>,
}

/// Splits `TEXT [where …] [over …] [as …]`.
fn clauses(rest: &str) -> Result<Clauses, String> {
    let mut parts: Vec<(&str, Vec<&str>)> = vec![("", Vec::new())];
    for word in words(rest) {
        match (word, parts.last_mut()) {
            ("where" | "over" | "as", _) => parts.push((word, Vec::new())),
            (_, Some((_, list))) => list.push(word),
            (_, None) => {}
        }
    }
    let mut out = Clauses::default();
    for (keyword, list) in parts {
        match keyword {
            "where" => {
                out.conditions.extend(conditions(&list.join(" "))?);
            }
            "over" => out.over.extend(list.into_iter().map(String::from)),
            "as" => {
                let (name, args) = list.split_first().ok_or("`as` wants an instruction")?;
                let args = args.iter().map(|a| argument(a)).collect::<Result<_, _>>()?;
                out.target = Some((name.to_string(), args));
            }
            _ => out.text = list.join(" "),
        }
    }
    Ok(out)
}

/// `rs1=rd` or `rs1=0`
fn argument(text: &str) -> Result<(String, Right), String> {
    let (name, value) = text.split_once('=').ok_or(format!("`{text}`: expected name=value"))?;
    Ok((name.into(), one(value)?))
}

/// `rd != {0, 2}, imm != 0`
fn conditions(text: &str) -> Result<Vec<Condition>, String> {
    let mut depth = 0;
    let split = text.split(|c| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        c == ',' && depth == 0
    });
    split
        .map(|part| {
            let (field, equal, right) = match (part.split_once("!="), part.split_once("==")) {
                (Some((field, right)), _) => (field, false, right),
                (_, Some((field, right))) => (field, true, right),
                _ => return Err(format!("`{}`: expected `==` or `!=`", part.trim())),
            };
            Ok(Condition { field: field.trim().into(), equal, right: right_side(right)? })
        })
        .collect()
}

/// `{1, 2}`, `3` or `rs1`
fn right_side(text: &str) -> Result<Vec<Right>, String> {
    let text = text.trim();
    match text.strip_prefix('{').and_then(|t| t.strip_suffix('}')) {
        Some(list) => list.split(',').map(one).collect(),
        None => one(text).map(|r| vec![r]),
    }
}

fn one(text: &str) -> Result<Right, String> {
    let text = text.trim();
    match text.starts_with(|c: char| c.is_ascii_alphabetic()) {
        true => Ok(Right::Operand(text.into())),
        false => number(text).map(Right::Number),
    }
}

fn number(text: &str) -> Result<i64, String> {
    let (digits, negative) = text.strip_prefix('-').map_or((text, false), |d| (d, true));
    let value = match digits.strip_prefix("0x") {
        Some(hex) => i64::from_str_radix(hex, 16),
        None => digits.parse(),
    };
    match value {
        Ok(v) => Ok(if negative { -v } else { v }),
        Err(_) => Err(format!("`{text}` is not a number")),
    }
}
