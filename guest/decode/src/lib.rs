//! Compiler for instruction specifications: one line per encoding becomes a decoder, operand
//! structures, traits for the translator, a disassembler and a list for generators of tests.
//!
//! The language and the generated code are described in `README.md`. Used from the `build.rs` of an
//! ISA's crate:
//!
//! ```no_run
//! fn main() -> std::process::ExitCode {
//!     decode::build("spec", "crate::disasm", "insn.rs")
//! }
//! ```
//!
//! ISAs of opcode maps have a language of their own: [`opcodes`].

mod check;
mod cube;
mod emit;
mod error;
pub mod opcodes;
mod resolve;
mod spec;
mod syntax;
mod tree;

use std::path::Path;
use std::process::ExitCode;
use std::{env, fs, io};

pub use cube::{Cube, Words};
pub use error::{Place, SpecError};
pub use spec::{Alias, Group, Line, Operand, Other, Part, Piece, Show, Spec, Test, Type, Value};
pub use syntax::Source;
pub use tree::Tree;

/// Compiles specification files into Rust; `show` is the path of the module that holds the functions
/// declared with `show`.
///
/// # Errors
///
/// Every mistake found in the specification.
pub fn compile(sources: &[Source], show: &str) -> Result<String, Vec<SpecError>> {
    Ok(emit::emit(&Spec::parse(sources)?, show))
}

/// For a build script: compiles every `*.insn` file of `folder` into `$OUT_DIR/<output>`.
///
/// Prints the mistakes and fails if there are any.
pub fn build(folder: &str, show: &str, output: &str) -> ExitCode {
    build_with(folder, "insn", output, |sources| compile(sources, show))
}

/// For build scripts: compiles the files of `folder` that end with `extension` into `$OUT_DIR/<output>`.
fn build_with(
    folder: &str,
    extension: &str,
    output: &str,
    compile: impl FnOnce(&[Source]) -> Result<String, Vec<SpecError>>,
) -> ExitCode {
    println!("cargo::rerun-if-changed={folder}");
    let sources = match read_files(Path::new(folder), extension) {
        Ok(sources) => sources,
        Err(e) => {
            println!("cargo::error={folder}: {e}");
            return ExitCode::FAILURE;
        }
    };
    let text = match compile(&sources) {
        Ok(text) => text,
        Err(errors) => {
            errors.iter().for_each(|e| println!("cargo::error={e}"));
            return ExitCode::FAILURE;
        }
    };
    let path = Path::new(&env::var_os("OUT_DIR").unwrap_or_default()).join(output);
    if let Err(e) = fs::write(&path, text) {
        println!("cargo::error={}: {e}", path.display());
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Reads the `*.insn` files of a folder, in the order of their names.
///
/// # Errors
///
/// The folder or a file cannot be read.
pub fn read_folder(folder: &Path) -> io::Result<Vec<Source>> {
    read_files(folder, "insn")
}

fn read_files(folder: &Path, extension: &str) -> io::Result<Vec<Source>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == extension) {
            paths.push(path);
        }
    }
    paths.sort();
    let read = |path: &std::path::PathBuf| {
        Ok(Source { name: path.display().to_string(), text: fs::read_to_string(path)? })
    };
    paths.iter().map(read).collect()
}
