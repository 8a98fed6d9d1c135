//! Images as the tools name them: a path, `json:{…}`, or a complete description (`--image-opts`).

use std::sync::Arc;

use graph::{
    Aio, CheckReport, DetectZeroes, Edge, Fix, Graph, Node, OpenError, Permissions, Secrets, User,
};
use options::{Grammar, List};
use protocols::{Access, CacheMode, FileOptions, Locking};

use crate::drive::detecting;
use crate::format::{OpenRequest, Purpose, format_named};
use crate::gate::{Gate, Reason};
use crate::keys::{Keys, Style};
use crate::open::{Inherited, Opener, Parts, known, not_yet};
use crate::rehearsal::{Rehearsal, Scratch};
use crate::remote;

/// An image as named on a command line.
#[derive(Clone, Debug, Default)]
pub struct ImageSpec<'a> {
    /// A path, `json:{…}`, or with `complete` the image's options.
    pub name: &'a str,
    /// Format; found out from the content without.
    pub format: Option<&'a str>,
    /// `name` is a list of options (`driver=qcow2,file.filename=x`).
    pub complete: bool,
    /// Open it for writing.
    pub writable: bool,
    /// Others may be writing to it.
    pub share: bool,
    /// Cache mode.
    pub cache: CacheMode,
    /// How requests of its files are carried out, unless these say otherwise.
    pub aio: Aio,
    /// Discards do nothing unless the image's options say otherwise.
    pub ignore_discards: bool,
    /// What happens to writes of zeroes unless the image's options say otherwise.
    pub detect_zeroes: DetectZeroes,
    /// What for.
    pub purpose: Purpose,
    /// Leave backing files closed: the image shows what it holds itself.
    pub without_backing: bool,
}

/// An image that was opened.
pub struct OpenedImage {
    /// The topmost node, through the user's edge.
    pub node: Arc<dyn Node>,
    /// That edge.
    pub edge: Arc<Edge>,
    /// Where all its nodes are.
    pub graph: Arc<Graph>,
    /// Lines for standard error, without the program's name.
    pub warnings: Vec<String>,
}

/// Opens an image.
///
/// # Errors
/// With QEMU's words where scripts know them.
pub fn open_image(
    spec: &ImageSpec<'_>,
    gate: &dyn Gate,
    secrets: &dyn Secrets,
) -> Result<OpenedImage, OpenError> {
    let graph = Graph::new();
    let mut opener = Opener::new(gate, &graph, secrets);
    let (driver, mut pairs, guessed) = opener.describe(spec)?;
    pairs.push(("driver".to_owned(), driver.clone()));
    if !pairs.iter().any(|(key, _)| key == "detect-zeroes") {
        pairs.extend(detecting(spec.detect_zeroes));
    }
    if guessed && driver == "raw" && spec.writable {
        opener.warn_of_guess(spec.name);
        opener.guessed = true;
    }
    let member = opener.node(Keys::new(pairs, Style::Drive), &inherited(spec))?;
    let warnings = opener.warnings;
    let needs = if spec.writable { Permissions::WRITER } else { Permissions::READER };
    let edge = graph.attach(&member, User::Device(String::new()), needs)?;
    Ok(OpenedImage { node: Arc::clone(&edge) as Arc<dyn Node>, edge, graph, warnings })
}

/// Checks an image, and repairs what `fix` allows: the format's name, and the report unless the format
/// has nothing to check.
///
/// # Errors
/// As for opening; an I/O error of the file.
pub fn check_image(
    spec: &ImageSpec<'_>,
    fix: Fix,
    gate: &dyn Gate,
    secrets: &dyn Secrets,
) -> Result<(&'static str, Option<CheckReport>), OpenError> {
    checked(spec, fix, gate, secrets, |file| file)
}

/// Finds out what a repair would do, without writing anything: the format's name, and what would be
/// unless the format has nothing to check.
///
/// # Errors
/// As for [`check_image`]; when more would change than memory should hold.
pub fn rehearse_repair(
    spec: &ImageSpec<'_>,
    fix: Fix,
    gate: &dyn Gate,
    secrets: &dyn Secrets,
) -> Result<(&'static str, Option<Rehearsal>), OpenError> {
    let mut scratch = None;
    let (format, report) = checked(spec, fix, gate, secrets, |file| {
        Arc::clone(scratch.insert(Arc::new(Scratch::new(file)))) as Arc<dyn Node>
    })?;
    let differences = scratch.map_or(Ok((0, 0, 0)), |scratch| scratch.differences());
    let (bytes, places, longer) = differences.map_err(|e| OpenError::host(spec.name, e))?;
    Ok((format, report.map(|report| Rehearsal { report, bytes, places, longer })))
}

/// Checks an image in what `through` makes of its file.
fn checked(
    spec: &ImageSpec<'_>,
    fix: Fix,
    gate: &dyn Gate,
    secrets: &dyn Secrets,
    through: impl FnOnce(Arc<dyn Node>) -> Arc<dyn Node>,
) -> Result<(&'static str, Option<CheckReport>), OpenError> {
    let graph = Graph::new();
    let mut opener = Opener::new(gate, &graph, secrets);
    let (driver, pairs, _) = opener.describe(spec)?;
    let Some(format) = format_named(&driver) else { return Err(unknown(&driver)) };
    let mut keys = Keys::new(pairs, Style::Drive);
    let common = Inherited { without_backing: true, ..inherited(spec) };
    let name = graph.reserve(None)?;
    let Parts { file, filename, children, .. } = opener.parts(format, &mut keys, &common, &name)?;
    let request = OpenRequest {
        file: through(file),
        path: &filename,
        read_only: common.read_only && fix == Fix::Nothing,
        purpose: Purpose::Use,
        children,
        discard: common.discard,
        options: &mut keys,
        secrets,
    };
    Ok((format.name(), format.check(request, fix)?))
}

fn inherited(spec: &ImageSpec<'_>) -> Inherited {
    Inherited {
        read_only: !spec.writable,
        cache: spec.cache,
        aio: spec.aio,
        discard: !spec.ignore_discards,
        share: spec.share,
        purpose: spec.purpose,
        without_backing: spec.without_backing,
        ..Inherited::default()
    }
}

/// A format that was recognised, if we can open it.
fn ours(format: &'static str) -> Result<&'static str, OpenError> {
    match known(format) {
        Some(true) => Ok(format),
        _ => Err(not_yet(format)),
    }
}

fn unknown(driver: &str) -> OpenError {
    match known(driver) {
        Some(_) => not_yet(driver),
        None => OpenError::Option(format!("Unknown driver '{driver}'")),
    }
}

pub(crate) type Pairs = Vec<(String, String)>;

impl Opener<'_> {
    /// The driver and its options, and whether the driver was found out from the content.
    fn describe(&mut self, spec: &ImageSpec<'_>) -> Result<(String, Pairs, bool), OpenError> {
        let mut pairs = match spec.name.strip_prefix("json:") {
            Some(json) if !spec.complete => described_in_json(json)?,
            None if !spec.complete => remote::pairs_of(spec.name)?,
            _ => described(spec.name, Grammar::strict("file"))?,
        };
        let own = pairs.iter().position(|(key, _)| key == "driver");
        if let Some(driver) = own.map(|at| pairs.remove(at).1) {
            return Ok((driver, pairs, false));
        }
        if let Some(format) = spec.format {
            return match known(format) {
                Some(true) => Ok((format.to_owned(), pairs, false)),
                _ => Err(unknown(format)),
            };
        }
        if remote::is_remote(&pairs) {
            return Ok((self.guess_remote(&pairs)?.to_owned(), pairs, true));
        }
        let filename = pairs.iter().find(|(key, _)| key == "file.filename");
        let Some((_, filename)) = filename else {
            return Ok(("raw".to_owned(), pairs, false));
        };
        let format = self.guess(filename, spec.cache)?;
        Ok((format.to_owned(), pairs, true))
    }

    /// Looks at the content of a file without locking it.
    pub fn guess(&self, filename: &str, cache: CacheMode) -> Result<&'static str, OpenError> {
        let options = FileOptions {
            read_only: true,
            cache,
            locking: Locking::Off,
            access: Access::RAW_READ,
            ..FileOptions::named(filename)
        };
        let format = self.probe(&*self.gate.open(&options, Reason::Named)?, filename)?;
        ours(format)
    }

    /// Looks at the content of what the options of the `file` child name.
    pub fn guess_remote(&mut self, pairs: &Pairs) -> Result<&'static str, OpenError> {
        let mut keys = Keys::new(pairs.clone(), Style::Drive);
        let below = keys.child("file").unwrap_or_else(|| Keys::new([], Style::Drive));
        let inherited = Inherited { read_only: true, ..Inherited::default() };
        let node = self.node(below, &inherited)?.node();
        let format = self.probe(&*node, &node.info().filename)?;
        ours(format)
    }

    /// Says that a writable image was taken for raw by its looks.
    pub fn warn_of_guess(&mut self, filename: &str) {
        self.warnings.extend([
            format!(
                "WARNING: Image format was not specified for '{filename}' and probing guessed raw."
            ),
            "         Automatically detecting the format is dangerous for raw images, write \
             operations on block 0 will be restricted."
                .to_owned(),
            "         Specify the 'raw' format explicitly to remove the restrictions.".to_owned(),
        ]);
    }
}

/// What follows `json:` in a file's name, as pairs with dotted keys.
pub(crate) fn described_in_json(text: &str) -> Result<Pairs, OpenError> {
    let first = text.trim_start().chars().next();
    if first.is_some_and(|first| !"{[\"-".contains(first) && !first.is_ascii_digit()) {
        let word: String =
            text.trim_start().chars().take_while(char::is_ascii_alphabetic).collect();
        let text =
            format!("Could not parse the JSON options: JSON parse error, invalid keyword '{word}'");
        return Err(OpenError::Option(text));
    }
    if first != Some('{') {
        return Err(OpenError::Option("Invalid JSON object given".to_owned()));
    }
    described(text, Grammar::strict("driver"))
        .map_err(|e| OpenError::Option(format!("Could not parse the JSON options: {e}")))
}

/// Options in one of the two forms, as pairs with dotted keys.
pub(crate) fn described(text: &str, grammar: Grammar) -> Result<Pairs, OpenError> {
    let list = List::parse(text, grammar).map_err(|e| OpenError::Option(e.to_string()))?;
    Ok(list.into_pairs())
}
