//! JSON as QEMU's tools lay it out: four spaces, an empty list or object over two lines.

use serde_json::Value;

/// The text of a value, with a line break at its end.
pub(crate) fn pretty(value: &Value) -> String {
    let mut text = String::new();
    write(&mut text, value, 0);
    text.push('\n');
    text
}

fn write(text: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Array(items) => {
            block(text, ('[', ']'), items.iter(), depth, |text, item| write(text, item, depth + 1));
        }
        Value::Object(members) => {
            block(text, ('{', '}'), members.iter(), depth, |text, (key, item)| {
                text.push_str(&Value::from(key.as_str()).to_string());
                text.push_str(": ");
                write(text, item, depth + 1);
            })
        }
        scalar => text.push_str(&scalar.to_string()),
    }
}

fn block<T>(
    text: &mut String,
    (open, close): (char, char),
    items: impl Iterator<Item = T>,
    depth: usize,
    mut write_item: impl FnMut(&mut String, T),
) {
    text.push(open);
    for (row, item) in items.enumerate() {
        text.push_str(if row == 0 { "\n" } else { ",\n" });
        text.push_str(&"    ".repeat(depth + 1));
        write_item(text, item);
    }
    text.push('\n');
    text.push_str(&"    ".repeat(depth));
    text.push(close);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_layout_is_the_tools() {
        let value = json!({"children": [], "info": {"size": 5, "names": ["a", "b"]}, "on": true});
        let expected = "{\n    \"children\": [\n    ],\n    \"info\": {\n        \"size\": 5,\n        \
             \"names\": [\n            \"a\",\n            \"b\"\n        ]\n    },\n    \"on\": true\n}\n";
        assert_eq!(pretty(&value), expected);
    }
}
