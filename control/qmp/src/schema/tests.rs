//! Arguments and options against the declarations, and the declarations themselves.

use super::*;
use crate::json;
use serde_json::{Map, Value, json};

fn members(text: &str) -> Map<String, Value> {
    match json::parse(text) {
        Ok(Value::Object(members)) => members,
        other => panic!("{text}: {other:?}"),
    }
}

/// Commands with arguments, and the texts of QEMU 10.0's errors; an empty one where there is none.
const CHECKED: &[(&str, &str, &str)] = &[
    ("block-dirty-bitmap-add", "{'node': 'n', 'name': 'b'}", ""),
    ("block-dirty-bitmap-add", "{}", "Parameter 'node' is missing"),
    (
        "block-dirty-bitmap-add",
        "{'node': 1, 'name': 'b'}",
        "Invalid parameter type for 'node', expected: string",
    ),
    (
        "block-dirty-bitmap-add",
        "{'node': 'n', 'name': 'b', 'granularity': 'z'}",
        "Parameter 'granularity' expects uint64",
    ),
    (
        "block-dirty-bitmap-add",
        "{'node': 'n', 'name': 'b', 'granularity': -1}",
        "Parameter 'granularity' expects uint32_t",
    ),
    (
        "block-dirty-bitmap-add",
        "{'node': 'n', 'name': 'b', 'persistent': 1}",
        "Invalid parameter type for 'persistent', expected: boolean",
    ),
    (
        "block-dirty-bitmap-add",
        "{'foo': 1, 'node': 'n', 'name': 'b'}",
        "Parameter 'foo' is unexpected",
    ),
    ("block_resize", "{'size': 1.0}", "Invalid parameter type for 'size', expected: integer"),
    ("block_resize", "{'size': -1}", ""),
    ("blockdev-add", "{'node-name': 'a'}", "Parameter 'driver' is missing"),
    ("blockdev-add", "{'driver': 'x'}", "Parameter 'driver' does not accept value 'x'"),
    ("blockdev-add", "{'driver': 'file'}", "Parameter 'filename' is missing"),
    (
        "blockdev-add",
        "{'driver': 'file', 'filename': 'f', 'size': 3}",
        "Parameter 'size' is unexpected",
    ),
    (
        "blockdev-add",
        "{'driver': 'raw', 'file': 5}",
        "Invalid parameter type for 'file', expected: BlockdevRef",
    ),
    (
        "blockdev-add",
        "{'driver': 'raw', 'file': {'driver': 'nope'}}",
        "Parameter 'driver' does not accept value 'nope'",
    ),
    (
        "blockdev-add",
        "{'driver': 'raw', 'file': {'driver': 5}}",
        "Invalid parameter type for 'file.driver', expected: string",
    ),
    (
        "blockdev-add",
        "{'driver': 'raw', 'file': {'driver': 'file', 'filename': 'x', 'zz': 1}}",
        "Parameter 'file.zz' is unexpected",
    ),
    ("blockdev-add", "{'driver': 'qcow2', 'file': 'x', 'backing': null}", ""),
    (
        "blockdev-add",
        "{'driver': 'quorum', 'children': ['a', 5]}",
        "Invalid parameter type for 'null', expected: BlockdevRef",
    ),
    ("transaction", "{'actions': [{'type': 'abort'}]}", "Parameter 'actions[0].data' is missing"),
    (
        "transaction",
        "{'actions': [5]}",
        "Invalid parameter type for 'actions[0]', expected: object",
    ),
    (
        "block-dirty-bitmap-merge",
        "{'node': 'n', 'target': 't', 'bitmaps': ['a', {'node': 'x'}]}",
        "Parameter 'bitmaps[1].name' is missing",
    ),
    ("qmp_capabilities", "{'enable': ['x']}", "Parameter 'null' does not accept value 'x'"),
    ("qmp_capabilities", "{'enable': 5}", "Invalid parameter type for 'enable', expected: array"),
];

#[test]
fn arguments_are_checked_with_the_peers_texts() {
    let schema = Schema::whole();
    for (command, arguments, expected) in CHECKED {
        let data = schema.entry(command).unwrap().data;
        let error = schema.check(data, members(arguments), Source::Json).err();
        let text = error.map(|e| e.text).unwrap_or_default();
        assert_eq!(text, *expected, "{command} {arguments}");
    }
}

#[test]
fn words_become_numbers_and_switches() {
    let schema = Schema::whole();
    let check = |name: &str, text: &str| {
        let (members, source) = crate::nested(text, "driver").unwrap();
        schema.check(schema.named(name).unwrap(), members, source)
    };
    let address = "addr.type=inet,addr.host=::1,addr.port=1,addr.to=2";
    let found = check("NbdServerOptions", &format!("{address},max-connections=5")).unwrap();
    let expected = json!({
        "addr": {"type": "inet", "host": "::1", "port": "1", "to": 2}, "max-connections": 5
    });
    assert_eq!(Value::Object(found), expected);
    for (name, text, expected) in [
        ("NbdServerOptions", "addr=5", "Invalid parameter type for 'addr', expected: object"),
        ("MonitorOptions", "chardev=m,pretty=maybe", "Parameter 'pretty' expects 'on' or 'off'"),
        ("MonitorOptions", "mode=control", "Parameter 'chardev' is missing"),
        ("BlockdevOptions", "null-co,size=5Q", "Parameter 'size' expects integer"),
        ("BlockdevOptions", "null-co,latency-ns=1.5", "Parameter 'latency-ns' expects integer"),
        (
            "BlockdevOptions",
            "quorum,children=a",
            "Invalid parameter type for 'children', expected: array",
        ),
    ] {
        assert_eq!(check(name, text).unwrap_err().text, expected, "{text}");
    }
    let all = format!("{address},max-connections=4294967296");
    let error = check("NbdServerOptions", &all).unwrap_err();
    assert_eq!(error.text, "Parameter 'max-connections' expects uint32_t");
}

const SMALL: &str = "
    enum Kind { one, two !old }
    object Base { name: str }
    object Thing : Base { kind: Kind, parts?: [Thing] !new } by kind { two: Extra }
    object Extra { size: size, any?: Reference }
    alternate Reference { Base, str }    # told apart by JSON
    command make Thing -> [str] oob
    command other { n: int } !unstable
    event MADE { name: str } limited by name
";

#[test]
fn the_schema_is_told_with_numbers_for_names() {
    let schema = Schema::parse(SMALL).unwrap();
    let told = schema.describe(&|name| name != "other");
    let expected = json!([
        {"name": "make", "ret-type": "[str]", "meta-type": "command", "arg-type": "0", "allow-oob": true},
        {"name": "MADE", "meta-type": "event", "arg-type": "1"},
        {"name": "0", "tag": "kind", "variants": [
            {"case": "two", "type": "3"}, {"case": "one", "type": "4"}
        ], "members": [
            {"name": "name", "type": "str"},
            {"name": "kind", "type": "2"},
            {"name": "parts", "default": null, "type": "[0]", "features": ["new"]}
        ], "meta-type": "object"},
        {"name": "[str]", "element-type": "str", "meta-type": "array"},
        {"name": "str", "json-type": "string", "meta-type": "builtin"},
        {"name": "1", "members": [{"name": "name", "type": "str"}], "meta-type": "object"},
        {"name": "2", "members": [{"name": "one"}, {"name": "two", "features": ["old"]}],
         "values": ["one", "two"], "meta-type": "enum"},
        {"name": "[0]", "element-type": "0", "meta-type": "array"},
        {"name": "3", "members": [
            {"name": "size", "type": "int"}, {"name": "any", "default": null, "type": "5"}
        ], "meta-type": "object"},
        {"name": "4", "members": [], "meta-type": "object"},
        {"name": "int", "json-type": "int", "meta-type": "builtin"},
        {"name": "5", "members": [{"type": "6"}, {"type": "str"}], "meta-type": "alternate"},
        {"name": "6", "members": [{"name": "name", "type": "str"}], "meta-type": "object"}
    ]);
    // The order of members in an object means nothing.
    let (told, expected) = (told.as_array().unwrap(), expected.as_array().unwrap());
    assert_eq!(told.len(), expected.len());
    for (told, expected) in told.iter().zip(expected) {
        assert_eq!(told, expected);
    }
}

#[test]
fn mistakes_in_declarations_are_found() {
    for (text, error) in [
        ("enum A { a", "at the end: '}' expected"),
        ("enum A { a b }", "line 1: '}' expected"),
        ("enum A { a }\nenum A { b }", "'A' is declared twice"),
        ("command a B", "'B' is used and not declared"),
        ("command a\ncommand a", "a command or event is declared twice"),
        ("thing A {}", "'thing' declares nothing"),
        ("enum A { & }", "line 1: stray '& }'"),
    ] {
        let found = Schema::parse(text).unwrap_err();
        assert!(found.contains(error), "{text}: {found}");
    }
}

#[test]
fn every_tag_is_a_member_with_words_for_its_branches() {
    let schema = Schema::whole();
    for of_type in &schema.types {
        let Kind::Object(object) = &of_type.kind else { continue };
        let Some((tag, branches)) = &object.branches else { continue };
        let members = schema.members(object);
        let tag = members.iter().find(|member| member.name == *tag);
        let tag = tag.unwrap_or_else(|| panic!("{}: no tag", of_type.name));
        let Kind::Enum(words) = &schema.get(tag.kind).kind else { panic!("{}", of_type.name) };
        for (value, branch) in branches {
            assert!(words.iter().any(|word| word.name == *value), "{}: {value}", of_type.name);
            assert!(matches!(schema.get(*branch).kind, Kind::Object(_)), "{}", of_type.name);
        }
    }
}
