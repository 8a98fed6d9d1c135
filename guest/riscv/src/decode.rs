//! Decoder, operand structures, translator traits and disassembler, generated from `spec/*.insn`.
#![allow(clippy::all, missing_docs, reason = "generated; checked by the tests of this crate")]
#![allow(unused_parens, non_camel_case_types, unused_qualifications)]

include!(concat!(env!("OUT_DIR"), "/insn.rs"));
