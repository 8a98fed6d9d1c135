//! The specification language: what it means, and what it refuses.

use decode::{Source, Spec, Tree, compile};

const HEAD: &str = "
extensions base more other rv32 rv64
exclusive rv32 rv64
names x zero ra sp gp
show target
field rd x
field rs1 x
field rs2 x
field rd' x is rd + 8
field imm signed dec
field uimm unsigned hex is imm
field rm dec where != {5, 6}
operands R rd rs1 rs2
";

fn parse(lines: &str) -> Result<Spec, String> {
    let source = Source { name: "spec/test.insn".into(), text: format!("{HEAD}{lines}") };
    Spec::parse(&[source]).map_err(|errors| {
        let messages: Vec<_> = errors.iter().map(|e| e.message.clone()).collect();
        messages.join("; ")
    })
}

fn refused(lines: &str) -> String {
    match parse(lines) {
        Ok(_) => panic!("accepted: {lines}"),
        Err(message) => message,
    }
}

/// A small generator of words; the seed makes failures repeat.
fn words(seed: u64) -> impl FnMut() -> u32 {
    let mut x = seed | 1;
    move || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        (x >> 16) as u32
    }
}

const GOOD: &str = "
[base]
add    0000000 rs2:5 rs1:5 000 rd:5 0110011   {rd}, {rs1}, {rs2}
li     imm:12 00000 000 rd:5 0010011          {rd}, {imm}
nop    0000000 00000 00000 000 00000 0110011  over add
beq    imm[12|10:5] rs2:5 rs1:5 000 imm[4:1|11] 1100011   {rs1}, {rs2}, {imm}
c.addi 000 imm[5] rd:5 imm[4:0] 01            {rd}, {imm}   where rd != {0, 2}, imm != 0
c.li   110 uimm[5] 00 rd':3 uimm[4:0] 01      {rd}, {imm}   as li
[more rv32]
slli   0000000 rs2:5 rs1:5 001 rd:5 0010011   {rd}, {rs1}, {rs2}
[more rv64]
slli   000000- rs2:5 rs1:5 001 rd:5 0010011   {rd}, {rs1}, {rs2}
[more|other]
mul{rm} 0000001 rs2:5 rs1:5 rm:3 rd:5 0110011   {rd}, {rs1}, {rs2}
";

#[test]
fn random_words_of_a_line_decode_to_the_line() {
    let spec = parse(GOOD).unwrap();
    let tree = Tree::of(&spec);
    let mut next = words(7);
    for (i, line) in spec.lines.iter().enumerate() {
        let mut hits = 0;
        for _ in 0..2000 {
            let word = next() & !line.words.cube.mask | line.words.cube.value;
            if !line.words.contains(word) {
                continue;
            }
            let active = |e: usize| line.need.iter().flatten().any(|n| *n == e) || e == 0;
            let found = spec.find(word, &active).expect("the line itself fits");
            assert!(found == i || spec.lines[found].over.contains(&i), "{word:#x}");
            assert!(tree.candidates(word).contains(&found), "{word:#x}");
            hits += 1;
        }
        assert!(hits > 0, "{}", line.name);
    }
}

#[test]
fn the_tree_agrees_with_linear_search_on_any_word() {
    let spec = parse(GOOD).unwrap();
    let tree = Tree::of(&spec);
    let mut next = words(11);
    for round in 0..20_000 {
        let line = &spec.lines[round % spec.lines.len()];
        let noise = next() & next() & next();
        let word = (next() & !line.words.cube.mask | line.words.cube.value) ^ noise;
        let all = |e: usize| e != 3;
        let first = tree.candidates(word).iter().copied().find(|i| {
            let line = &spec.lines[*i];
            line.words.contains(word) && line.need.iter().all(|any| any.iter().any(|e| all(*e)))
        });
        assert_eq!(first, spec.find(word, &all), "{word:#x}");
    }
}

#[test]
fn split_immediates_are_put_together_and_extended() {
    let spec = parse(GOOD).unwrap();
    let imm = |name: &str, word: u32| {
        let line = spec.lines.iter().find(|l| l.name == name).unwrap();
        line.operand("imm").unwrap().value(word)
    };
    assert_eq!(imm("beq", 0xfe00_0ee3), -4);
    assert_eq!(imm("beq", 0x0000_00e3), 1 << 11);
    assert_eq!(imm("beq", 0x8000_0063), -4096);
    assert_eq!(imm("c.addi", 0x107d), -1);
    assert_eq!(imm("c.li", 0xd07d), 63);
    let line = spec.lines.iter().find(|l| l.name == "c.li").unwrap();
    assert_eq!(line.operand("rd").unwrap().value(0xc001), 8);
}

#[test]
fn conditions_take_words_out() {
    let spec = parse(GOOD).unwrap();
    let all = |_| true;
    let name = |word| spec.find(word, &all).map(|i| spec.lines[i].name.as_str());
    assert_eq!(name(0x0085), Some("c.addi"), "rd 1, imm 1");
    assert_eq!(name(0x0105), None, "rd 2");
    assert_eq!(name(0x0081), None, "imm 0");
    assert_eq!(name(0x0200_0033), Some("mul{rm}"));
    assert_eq!(name(0x0200_5033), None, "rm 5 by the field's own condition");
    assert_eq!(name(0x0000_0033), Some("nop"), "taken from add");
    assert_eq!(name(0x0000_00b3), Some("add"));
}

#[test]
fn generated_code_has_the_promised_items() {
    let source = Source { name: "spec/zba.insn".into(), text: format!("{HEAD}{GOOD}") };
    let text = compile(&[source], "crate::show").unwrap();
    for item in [
        "pub trait Zba {",
        "fn add(&mut self, a: R);",
        "fn nop(&mut self);",
        "fn slli(&mut self, a: R);",
        "pub struct R {",
        "pub rd: u8,",
        "pub imm: i64,",
        "pub fn lookup(insn: u32, ext: ExtSet) -> Option<u16> {",
        "pub fn dispatch<T: Isa + ?Sized>(t: &mut T, insn: u32, ext: ExtSet) -> bool {",
    ] {
        assert!(text.contains(item), "{item}");
    }
    assert!(!text.contains("fn c_li("), "a short form has no method");
    assert_eq!(text.matches("fn slli(").count(), 1);
}

#[test]
fn a_pending_file_has_no_trait() {
    let source = Source {
        name: "spec/v.insn".into(),
        text: "pending\n[base]\nvadd 00 rd:5 000000000 0000000000000000".into(),
    };
    let head = Source { name: "spec/a.insn".into(), text: format!("{HEAD}{GOOD}") };
    let text = compile(&[head, source], "crate::show").unwrap();
    assert!(!text.contains("trait V"));
    assert!(text.contains("name: \"vadd\""));
}

#[test]
fn a_pattern_of_the_wrong_length_is_refused() {
    let message = refused("[base]\nadd 0000000 rs2:5 rs1:5 000 rd:5 011001 {rd}");
    assert_eq!(message, "the pattern has 31 bits; it takes 16 or 32");
}

#[test]
fn an_immediate_with_a_gap_is_refused() {
    let message = refused("[base]\nx imm[11:6] rs2:5 rs1:5 0000 imm[4:0] 0100011");
    assert_eq!(message, "bit 5 of `imm` is missing");
    let message = refused("[base]\nx imm[11:5] rs2:5 rs1:5 00 imm[5:0] 0100011");
    assert_eq!(message, "bit 5 of `imm` is there twice");
}

#[test]
fn unknown_names_are_refused() {
    let line = |l: &str| refused(&format!("[base]\n{l}"));
    assert_eq!(line("x 00000000000 vd:5 0000000000000000"), "unknown field `vd`");
    assert_eq!(refused("[bass]\n"), "unknown extension `bass`");
    assert_eq!(refused("field q y"), "unknown way to print `y`");
    assert_eq!(
        line("x 00000000000 rd:5 0000000000000000 {rs1}"),
        "operand `{rs1}` of the text is not in the pattern"
    );
    assert_eq!(line("x 00000000000 rd:5 0000000000000000 {rd:y}"), "unknown way to print `y`");
    assert_eq!(line("x 0000000000000000 over y"), "`over y`: no such instruction");
    assert_eq!(line("x 0000000000000000 as y"), "`as y`: no such instruction");
    assert_eq!(refused("alias a b"), "the alias stands for no instruction");
    assert_eq!(line("x 00000000000 rd:5 where rs1 != 0"), "`rs1` is not in the pattern");
}

#[test]
fn overlaps_are_refused_unless_extensions_exclude_each_other() {
    let a = "a 0000000000000000000000000 rd:5 01\n";
    let b = "b 00000000000000000000000000000 rm:3\n";
    let clash = "`b` overlaps `a` of spec/test.insn:15: both are 0x00000001";
    assert_eq!(refused(&format!("[base]\n{a}[more]\n{b}")), clash);
    assert!(parse(&format!("[rv32]\n{a}[rv64]\n{b}")).is_ok());
    let clash = "`b` overlaps `a` of spec/test.insn:15: both are 0x00000001";
    assert_eq!(refused(&format!("[rv32|rv64]\n{a}[rv64]\n{b}")), clash);
    let apart = "b 00000000000000000000000000000 rm:3 where rm == {0, 2}\n";
    assert!(parse(&format!("[base]\n{a}[more]\n{apart}")).is_ok());
}

#[test]
fn short_and_long_encodings_overlap_too() {
    let message = refused("[base]\na 00000000000 rd:5\nb 0000000000000000 00000000000 rd:5\n");
    assert_eq!(message, "`b` overlaps `a` of spec/test.insn:15: both are 0x00000000");
}

#[test]
fn over_must_lie_inside() {
    let message = refused("[base]\na 00000000000 rd:5 where rd != 3\nb 00000000000000 -1 over a\n");
    assert_eq!(message, "`b over a`: 0x3 is no `a`");
}

#[test]
fn duplicates_are_refused() {
    let line = "a 00000000000 rd:5";
    assert_eq!(refused(&format!("[base]\n{line}\n{line}")), "`a` is twice in this section");
    let other = "a 11111111111 rs1:5";
    let message = refused(&format!("[base]\n{line}\n[more]\n{other}"));
    assert_eq!(message, "`a` has other operands in spec/test.insn:15");
    assert_eq!(refused("field rd x"), "field `rd` is declared twice");
    assert_eq!(refused("extensions base"), "extension `base` is declared twice");
    let message = refused("[base]\na 0000 rd':3 0000 rd:5");
    assert_eq!(message, "two fields give the operand `rd`");
}

#[test]
fn the_same_mnemonic_in_two_files_is_refused() {
    let a = Source { name: "a.insn".into(), text: format!("{HEAD}[base]\nx 00000000000 rd:5") };
    let b = Source { name: "b.insn".into(), text: "[base]\nx 11111111111 rd:5".into() };
    let errors = Spec::parse(&[a, b]).err().unwrap();
    assert_eq!(errors[0].to_string(), "b.insn:2: `x` is also in a.insn:15");
}

#[test]
fn impossible_conditions_are_refused() {
    let line = |c: &str| refused(&format!("[base]\nx 00000000000 rd:5 where {c}"));
    assert_eq!(line("rd != 32"), "`rd` is never 32");
    assert_eq!(line("rd == 1, rd == 2"), "`rd` is never 2");
    assert_eq!(line("rd == 1, rd != 1"), "no word fulfils the conditions of `x`");
    assert_eq!(line("rd < 1"), "`rd < 1`: expected `==` or `!=`");
}

#[test]
fn a_short_form_gives_every_operand() {
    let add = "[base]\nadd 0000000 rs2:5 rs1:5 000 rd:5 0110011\n";
    let short = |text: &str| refused(&format!("{add}c.add 00000000001 rd:5 as {text}"));
    assert_eq!(short("add rs1=rd"), "`as add`: nothing gives `rs2`");
    assert_eq!(short("add rs1=rd rs2=300"), "`as add`: 300 does not fit `rs2`");
    assert_eq!(short("add rs3=rd"), "`as add`: it has no operand `rs3`");
    let chain = "c.one 00000001000 rd:5 as add rs1=rd rs2=rd\nc.two 00000010000 rd:5 as c.one";
    assert_eq!(refused(&format!("{add}{chain}")), "`as c.one`: that is a short form itself");
}

#[test]
fn lines_that_are_no_lines_are_refused() {
    assert_eq!(refused("add"), "`add` has no bit pattern");
    assert_eq!(refused("[base"), "a section header ends with `]`");
    assert_eq!(refused("x 0000000000000000"), "an instruction stands before the first `[section]`");
    assert_eq!(refused("[base]\nx rd:50"), "`rd:50`: the width of a field is 1 to 32");
    assert_eq!(
        refused("[base]\nx imm[3:5]"),
        "`[3:5]` is no range of bits (highest first, below 32)"
    );
    assert_eq!(refused("[base]\nx 00000000000 rd:5 {rd"), "`{rd`: `{` without `}`");
}
