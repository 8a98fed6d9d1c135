//! The generated code, compiled: it is kept in `golden/sample.out`, so that a change of the generator shows.
//!
//! To write it anew: `UPDATE_GOLDEN=1 cargo test -p decode --test generated`, twice.

use decode::{Source, compile};

const SAMPLE: &str = include_str!("golden/sample.insn");
const GOLDEN: &str = include_str!("golden/sample.out");

#[expect(clippy::all, dead_code, reason = "generated, and not all of it is used here")]
mod insn {
    include!("golden/sample.out");
}

/// What the generated code prints with.
mod show {
    use std::fmt::{Result, Write};

    pub(crate) fn target(out: &mut dyn Write, offset: i64, at: &crate::insn::At) -> Result {
        write!(out, "{:#x}", at.pc.wrapping_add_signed(offset))
    }
}

use insn::{
    Ext, ExtSet, I, INSNS, OffsetRd, R, Sample, disassemble, disassemble_plain, dispatch, lookup,
};

/// Writes down what is called.
#[derive(Default)]
struct Log(Vec<String>);

impl Sample for Log {
    fn add(&mut self, a: R) {
        self.0.push(format!("add {} {} {}", a.rd, a.rs1, a.rs2));
    }
    fn pause(&mut self) {
        self.0.push("pause".into());
    }
    fn addi(&mut self, a: I) {
        self.0.push(format!("addi {} {} {}", a.rd, a.rs1, a.imm));
    }
    fn jal(&mut self, a: OffsetRd) {
        self.0.push(format!("jal {} {}", a.rd, a.offset));
    }
    fn match_(&mut self, a: R) {
        self.0.push(format!("match {} {} {}", a.rd, a.rs1, a.rs2));
    }
}

/// The method that `insn` calls, with its operands.
fn call(insn: u32, ext: &[Ext]) -> String {
    let mut log = Log::default();
    let legal = dispatch(&mut log, insn, ExtSet::of(ext));
    assert_eq!(legal, log.0.len() == 1);
    log.0.pop().unwrap_or_else(|| "illegal".into())
}

#[test]
fn the_generator_writes_what_is_kept() {
    let source = Source { name: "spec/sample.insn".into(), text: SAMPLE.into() };
    let text = compile(&[source], "crate::show").unwrap();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/sample.out");
        return std::fs::write(path, text).unwrap();
    }
    assert!(text == GOLDEN, "the generated code has changed; see the top of this file");
}

#[test]
fn dispatch_calls_the_method_with_its_operands() {
    assert_eq!(call(0x0031_00b3, &[Ext::Base]), "add 1 2 3");
    assert_eq!(call(0xfff1_0093, &[Ext::Base]), "addi 1 2 -1");
    assert_eq!(call(0xffdf_f06f, &[Ext::Base]), "jal 0 -4");
    assert_eq!(call(0x0030_0033, &[Ext::Base]), "pause");
}

#[test]
fn dispatch_looks_at_the_extensions() {
    assert_eq!(call(0x0031_00b3, &[]), "illegal");
    assert_eq!(call(0x0231_00b3, &[Ext::Base, Ext::W64]), "illegal");
    assert_eq!(call(0x0231_00b3, &[Ext::Extra, Ext::W32]), "illegal");
    assert_eq!(call(0x0231_00b3, &[Ext::Extra, Ext::W64]), "match 1 2 3");
    assert_eq!(call(0x0231_00b3, &[Ext::Half, Ext::W64]), "match 1 2 3");
}

#[test]
fn short_forms_call_the_long_one() {
    assert_eq!(call(0x1089, &[Ext::Half]), "addi 2 2 -30");
    assert_eq!(call(0xffff_0001, &[Ext::Half]), "addi 0 0 0");
    assert_eq!(call(0x0081, &[Ext::Half]), "illegal");
}

#[test]
fn texts_have_aliases_and_plain_forms() {
    let ext = ExtSet::all().without(Ext::W32);
    let both = |insn| (disassemble_plain(insn, 0x1000, ext), disassemble(insn, 0x1000, ext));
    let pair = |a: &str, b: &str| (Some(a.to_string()), Some(b.to_string()));
    assert_eq!(both(0x0000_0013), pair("addi    zero, zero, 0", "nop"));
    assert_eq!(both(0x0010_8093), pair("addi    ra, ra, 1", "inc     ra"));
    assert_eq!(both(0x1089), pair("c.addi  sp, -30", "addi    sp, sp, -30"));
    assert_eq!(both(0x0085), pair("c.addi  sp, 1", "inc     sp"));
    assert_eq!(both(0xffdf_f06f), pair("jal     zero, 0xffc", "jal     zero, 0xffc"));
    assert_eq!(both(0x0102_8033), pair("add     zero, ?5, ?16", "add     zero, ?5, ?16"));
    assert_eq!(both(0xffff_ffff), (None, None));
}

#[test]
fn the_list_describes_every_encoding() {
    let info = |name: &str| INSNS.iter().find(|i| i.name == name).unwrap();
    let set = ExtSet::of(&[Ext::Half, Ext::W64]);
    assert!(info("match").available(set) && !info("add").available(set));
    assert!(info("add").available(set.closed()), "half brings base");
    assert_eq!((info("c.addi").len, info("add").len), (2, 4));
    assert_eq!(INSNS[usize::from(info("c.addi").means)].name, "addi");
    assert!(info("c.addi").matches(0x1089) && !info("c.addi").matches(0x0081));
    assert_eq!(lookup(0x0031_00b3, set.closed()), Some(0));
    assert_eq!(format!("{set:?}"), r#"{"half", "w64"}"#);
    assert_eq!(Ext::from_name("w64"), Some(Ext::W64));
}
