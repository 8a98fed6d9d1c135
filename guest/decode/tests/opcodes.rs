//! Mistakes in opcode maps are found, and say where they are.

use decode::Source;
use decode::opcodes::{Language, compile};

fn language() -> Language {
    Language {
        maps: &["onebyte", "0f"],
        kinds: &[("E", true), ("G", true), ("I", false)],
        types: &["b", "v"],
        fixed: &["AL"],
        attributes: &["lock"],
        features: vec!["bmi1".to_owned()],
    }
}

fn errors(text: &str) -> Vec<String> {
    let source = Source { name: "spec/some.map".to_owned(), text: text.to_owned() };
    match compile(&[source], &language()) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn entries_become_tables_a_trait_and_a_dispatcher() {
    let text = "[onebyte]\n00 add Eb,Gb lock\n80/0 add Eb,Ib\n[0f]\n40-4F cmov{cc} Gv,Ev\n";
    let source = Source { name: "spec/some_file.map".to_owned(), text: text.to_owned() };
    let out = compile(&[source], &language()).expect("nothing is wrong");
    for part in ["pub trait SomeFile", "fn add(", "fn cmovcc(", "\"cmovge\"", "Op::Cmovcc"] {
        assert!(out.contains(part), "{part}: {out}");
    }
}

#[test]
fn entries_that_fit_the_same_instruction_overlap() {
    assert_eq!(errors("[0f]\nBC bsf Gv,Ev np\nBC tzcnt Gv,Ev F3\n"), Vec::<String>::new());
    let found = errors("[0f]\nBC bsf Gv,Ev\nBC tzcnt Gv,Ev F3\n");
    assert_eq!(found, ["spec/some.map:3: overlaps 2"]);
}

#[test]
fn entries_of_an_opcode_agree_about_modrm() {
    let found = errors("[0f]\nBC bsf Gv,Ev np\nBC other F3\n");
    assert_eq!(found, ["spec/some.map:3: line 2 disagrees about a ModRM byte"]);
}

#[test]
fn unknown_words_are_errors() {
    let found = errors("[0f]\nBC bsf Gv,Ev nope\nBD bsr Gv,Ev +other\n[1f]\nXY x\n");
    let places =
        ["some.map:2: unknown word", "some.map:3: unknown feature", "some.map:4: unknown map"];
    for place in places {
        assert!(found.iter().any(|e| e.contains(place)), "{place}: {found:?}");
    }
}

#[test]
fn a_method_belongs_to_one_file() {
    let source = |name: &str, text: &str| Source { name: name.to_owned(), text: text.to_owned() };
    let files = [source("a.map", "[0f]\n00 x Eb\n"), source("b.map", "[0f]\n01 x Eb\n")];
    let errors = compile(&files, &language()).expect_err("two files have it");
    assert_eq!(errors[0].to_string(), "b.map:2: method `x` is A's");
}
