//! What the reader makes of streams, as QEMU 10.0 does.

use super::*;
use serde_json::json;

/// What a stream gives: values as text, errors as they are.
fn read(bytes: &[u8]) -> Vec<String> {
    let mut reader = Reader::default();
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let (taken, outcome) = reader.feed(&bytes[at..]);
        at += taken;
        found.extend(outcome.map(|o| o.map_or_else(|e| e, |value| compact(&value))));
    }
    found.extend(reader.end().map(|o| o.map_or_else(|e| e, |value| compact(&value))));
    found
}

/// Each input with what QEMU 10.0 makes of it: values, or texts after "JSON parse error, ".
const READ: &[(&[u8], &[&str])] = &[
    (b"{'a': 'b\"'}", &[r#"{"a": "b\""}"#]),
    (b"{}{}[1]", &["{}", "{}", "[1]"]),
    (b"1", &["1"]),
    (b"1a", &["1", "!invalid keyword 'a'"]),
    (b"0x1", &["0", "!invalid keyword 'x'", "1"]),
    (b"-0", &["0"]),
    (b"1.5e+3", &["1500.0"]),
    (b"18446744073709551615", &["18446744073709551615"]),
    (b"100000000000000000000", &["1e+20"]),
    (b"true false null", &["true", "false", "null"]),
    (b"{\"a\":01}", &["!stray '01'", "!expecting value"]),
    (b"{\"a\":01 x}", &["!stray '01'", "!expecting value"]),
    (b"01 {\"a\":1}", &["!stray '01'", r#"{"a": 1}"#]),
    (b"01\"}{\"a\":1}", &["!stray '01'", "!expecting value", r#"{"a": 1}"#]),
    (b"@ 1", &["!stray '@'"]),
    (b"@\n1", &["!stray '@'", "1"]),
    (b"@, 1", &["!stray '@'", "!expecting value", "1"]),
    (b"@ \x01 }", &["!stray '@'", "!stray '\u{1}'", "!expecting value"]),
    (b"\xff{}", &["!stray '\u{fffd}'", "{}"]),
    (b"\"a\x01x\"", &["!stray '\"a\u{1}'"]),
    (b"-}", &["!stray '-}'"]),
    (b"-x1}", &["!stray '-x'", "!expecting value"]),
    (b"1.e", &["!stray '1.e'"]),
    (b".5", &["!stray '.'"]),
    (b"truE", &["!invalid keyword 'tru'", "!stray 'E'"]),
    (b"%s", &["!stray '%'"]),
    (b"{\"a\" 1}}", &["!missing : in object pair", "!expecting value"]),
    (b"{\"a\"}", &["!missing : in object pair"]),
    (b"{\"a\":}", &["!expecting value"]),
    (b"{\"a\":1,}", &["!expecting value"]),
    (b"{\"a\":1,2}", &["!key is not a string in object"]),
    (b"{\"a\":1 \"b\":2}", &["!expected separator in dict"]),
    (b"{\"a\":1]", &["!expected separator in dict"]),
    (b"[1 2]", &["!expected separator in list"]),
    (b"[,]", &["!expecting value"]),
    (b"[} ]", &["!expecting value", "!expecting value"]),
    (b"[{]}]", &["!expecting value", "!expecting value"]),
    (b"{]}", &["!expecting value", "!expecting value"]),
    (b"[1,2", &["!premature EOI"]),
    (b"[{]", &["!expecting value"]),
    (b"{\"a\":1,\"a\":2}", &["!duplicate key"]),
    (b"\"\\q\"", &["!invalid escape sequence in string"]),
    (b"\"\\u12\"", &["!\\u12\" is not a valid Unicode character"]),
    (b"\"\\ud800x\"", &["!\\ud800 is not a valid Unicode character"]),
    (b"\"\\ufffe\"", &["!\\ufffe is not a valid Unicode character"]),
    (b"\"\\ud83d\\ude00\"", &[r#""\uD83D\uDE00""#]),
    (b"\"\xc3\xa9\x7f\"", &[r#""\u00E9\u007F""#]),
    (b"\"\xc3\"", &["!invalid UTF-8 sequence in string"]),
    (b"\"\xef\xbf\xbf\"", &["!invalid UTF-8 sequence in string"]),
    (b"\"a\xc0\x80b\xc0\"", &["!invalid UTF-8 sequence in string"]),
    (b"\"a\xc0\x80b\"", &[r#""a\u0000b""#]),
    (b"\"\\/\\b\\f\\n\\r\\t\\'\"", &[r#""/\b\f\n\r\t'""#]),
];

#[test]
fn values_and_errors_are_as_the_protocol_has_them() {
    for (input, expected) in READ {
        let expected: Vec<_> =
            expected.iter().map(|text| text.replacen('!', "JSON parse error, ", 1)).collect();
        assert_eq!(read(input), expected, "{:?}", String::from_utf8_lossy(input));
    }
}

#[test]
fn a_value_may_come_in_pieces() {
    let mut reader = Reader::default();
    let text = br#"{"a": [1, "x\u00e9"], "b": null}"#;
    for byte in &text[..text.len() - 1] {
        assert_eq!(reader.feed(&[*byte]), (1, None));
    }
    let (_, found) = reader.feed(&text[text.len() - 1..]);
    assert_eq!(found, Some(Ok(json!({"a": [1, "x\u{e9}"], "b": null}))));
}

#[test]
fn limits_hold_and_the_reader_goes_on() {
    let deep = [vec![b'['; MAX_DEPTH], vec![b']'; MAX_DEPTH]].concat();
    assert_eq!(read(&deep).len(), 1);
    let deeper = [vec![b'['; MAX_DEPTH + 1], b"\n1 ".to_vec()].concat();
    assert_eq!(read(&deeper), ["JSON nesting depth limit exceeded", "1"]);
    let many = [b"[".to_vec(), b"1,".repeat(MAX_TOKENS / 2)].concat();
    assert_eq!(read(&many), ["JSON token count limit exceeded"]);
    let long = [b"\"".to_vec(), vec![b'x'; MAX_BYTES + 8], b"\"\n2 ".to_vec()].concat();
    assert_eq!(read(&long), ["JSON token size limit exceeded", "2"]);
}

#[test]
fn both_forms_are_as_the_peer_prints_them() {
    let value = json!({"a": [], "b": {}, "c": [1, {"d": "\u{1}"}]});
    assert_eq!(compact(&value), r#"{"a": [], "b": {}, "c": [1, {"d": "\u0001"}]}"#);
    assert_eq!(
        pretty(&value),
        "{\n    \"a\": [\n    ],\n    \"b\": {\n    },\n    \"c\": [\n        1,\n        {\n            \
         \"d\": \"\\u0001\"\n        }\n    ]\n}"
    );
}

#[test]
fn a_text_is_one_value() {
    assert_eq!(parse("{'a': 1} "), Ok(json!({"a": 1})));
    assert!(parse("{} {}").is_err());
    assert!(parse("{").is_err());
    assert_eq!(parse("17"), Ok(json!(17)));
}
