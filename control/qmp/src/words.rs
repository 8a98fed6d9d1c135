//! Options of a command line that say what a command's arguments say.

use crate::{Error, json};
use options::{Grammar, List};
use serde_json::{Map, Value};

/// Reads `key=value,a.b=c` or JSON; `implied` is the key of a first value that has none; empty if
/// there is none. Dotted
/// keys become members of members, and numbers as keys elements of an array. The second value tells
/// how it was written.
///
/// # Errors
/// The text for the user.
pub fn nested(
    text: &str,
    implied: &'static str,
) -> Result<(Map<String, Value>, crate::Source), Error> {
    if text.starts_with('{') {
        return match json::parse(text).map_err(Error::new)? {
            Value::Object(members) => Ok((members, crate::Source::Json)),
            _ => Err(Error::new("JSON object expected")),
        };
    }
    if text.starts_with(',') {
        return Err(Error::new("Invalid parameter ''"));
    }
    let implied = (!implied.is_empty()).then_some(implied);
    let grammar = Grammar { implied, shorthand: false, json: false };
    let list = List::parse(text, grammar).map_err(|e| Error::new(e.message))?;
    let mut whole = Map::new();
    for item in &list.items {
        insert(&mut whole, &item.key, &item.value)?;
    }
    let Value::Object(members) = listed(Value::Object(whole), "")? else {
        return Err(Error::new("Parameters '*' used inconsistently"));
    };
    Ok((members, crate::Source::Words))
}

/// Longest key, and so the deepest nesting.
const MAX_KEY: usize = 1024;

fn insert(whole: &mut Map<String, Value>, key: &str, value: &str) -> Result<(), Error> {
    let mut at = whole;
    let mut steps = key.split('.').peekable();
    let mut done = 0;
    if key.len() > MAX_KEY {
        return Err(Error::new(format!("Invalid parameter '{key}'")));
    }
    while let Some(step) = steps.next() {
        if !well_formed(step) {
            return Err(Error::new(format!("Invalid parameter '{key}'")));
        }
        done += step.len();
        let clash = || Error::new(format!("Parameters '{}.*' used inconsistently", &key[..done]));
        if steps.peek().is_none() {
            if at.get(step).is_some_and(Value::is_object) {
                return Err(clash());
            }
            at.insert(step.to_owned(), value.into());
            break;
        }
        let next = at.entry(step).or_insert_with(|| Value::Object(Map::new()));
        at = next.as_object_mut().ok_or_else(clash)?;
        done += 1;
    }
    Ok(())
}

/// Whether a step of a key is a name or a number.
fn well_formed(step: &str) -> bool {
    let name = step.starts_with(|c: char| c.is_ascii_alphabetic())
        && step.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
    name || !step.is_empty() && step.bytes().all(|b| b.is_ascii_digit())
}

/// Makes arrays of the objects whose members are all numbers.
fn listed(value: Value, path: &str) -> Result<Value, Error> {
    let Value::Object(members) = value else { return Ok(value) };
    let below = |name: &str| if path.is_empty() { name.into() } else { format!("{path}.{name}") };
    let numbers =
        members.keys().filter(|key| key.starts_with(|c: char| c.is_ascii_digit())).count();
    if numbers != 0 && numbers != members.len() {
        return Err(Error::new(format!("Parameters '{path}.*' used inconsistently")));
    }
    let mut found = Map::new();
    for (name, member) in members {
        let member = listed(member, &below(&name))?;
        found.insert(name, member);
    }
    if numbers == 0 {
        return Ok(Value::Object(found));
    }
    let mut elements = Vec::new();
    for index in 0..found.len() {
        let element = found.remove(&index.to_string());
        let missing = || Error::new(format!("Parameter '{}' missing", below(&index.to_string())));
        elements.push(element.ok_or_else(missing)?);
    }
    Ok(Value::Array(elements))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn dotted_keys_nest_and_numbers_are_elements() {
        let (members, _) =
            nested("raw,file.driver=file,file.x=a,,b,c.0=x,c.1.y=z", "driver").unwrap();
        let expected = json!({
            "driver": "raw", "file": {"driver": "file", "x": "a,b"}, "c": ["x", {"y": "z"}]
        });
        assert_eq!(Value::Object(members), expected);
        assert_eq!(nested("{'a': 1}", "driver").unwrap().0, *json!({"a": 1}).as_object().unwrap());
    }

    #[test]
    fn contradictions_are_refused() {
        for (text, error) in [
            ("a.b=1,a=2", "Parameters 'a.*' used inconsistently"),
            ("a=1,a.b=2", "Parameters 'a.*' used inconsistently"),
            ("a.b.c=1,a.b=2", "Parameters 'a.b.*' used inconsistently"),
            ("a.0=1,a.b=2", "Parameters 'a.*' used inconsistently"),
            ("a.0=1,a.2=2", "Parameter 'a.1' missing"),
            ("a.b.=1", "Invalid parameter 'a.b.'"),
            ("=1", "Invalid parameter ''"),
            (",a=1", "Invalid parameter ''"),
            ("x,foo", "Expected '=' after parameter 'foo'"),
            ("{", "JSON parse error, premature EOI"),
            ("{x", "JSON parse error, invalid keyword 'x'"),
        ] {
            assert_eq!(nested(text, "driver").unwrap_err().text, error, "{text}");
        }
    }
}
