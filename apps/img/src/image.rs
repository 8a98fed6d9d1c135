//! Options that most commands share, and opening the images they name.

use crate::args::Args;
use crate::{Failure, Invocation};
pub(crate) use formats::Objects;
use formats::{
    FORMATS, Gate, HostFiles, ImageSpec, Rehearsal, check_image, open_image, rehearse_repair,
};
use graph::{CheckReport, Child, Fix, Node, OpenError, Role};
use protocols::CacheMode;
use std::sync::Arc;

pub(crate) const HELP: &str = "print this help and exit";
pub(crate) const QUIET: &str = "print nothing but errors";
pub(crate) const PROGRESS: &str = "show how far the operation is";
pub(crate) const FORMAT: &str = "format of FILENAME, instead of finding it out";
pub(crate) const IMAGE_OPTS: &str =
    "FILENAME is a complete image specification, not a file name (excludes --format)";
pub(crate) const FORCE_SHARE: &str = "open the image even if others write to it";
pub(crate) const OBJECT: &str = "an object that the image needs, as a secret with its key";
pub(crate) const OUTPUT: &str = "form of the output (human)";
pub(crate) const CACHE: &str = "cache mode of the image (writeback)";
pub(crate) const FILENAME: &str = "image file (or specification with --image-opts)";

/// Names of the formats we have.
pub(crate) fn format_names() -> Vec<&'static str> {
    let mut names: Vec<&str> = FORMATS.iter().map(|format| format.name()).collect();
    names.sort_unstable();
    names
}

/// Form of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    Human,
    Json,
}

impl Output {
    pub fn parse(called: &Invocation, args: &Args) -> Result<Self, Failure> {
        match args.value("output") {
            None | Some("human") => Ok(Self::Human),
            Some("json") => Ok(Self::Json),
            Some(other) => {
                Err(called.usage(format!("--output expects 'human' or 'json' not '{other}'")))
            }
        }
    }
}

impl Invocation {
    /// The only operand.
    pub fn one_operand<'a>(&self, args: &'a Args, complaint: &str) -> Result<&'a str, Failure> {
        match args.operands.as_slice() {
            [one] => Ok(one),
            _ => Err(self.usage(complaint)),
        }
    }
}

/// How the images of one command are opened.
#[derive(Clone)]
pub(crate) struct ImageArgs {
    format: Option<String>,
    pub image_opts: bool,
    pub force_share: bool,
    cache: CacheMode,
    secrets: Objects,
}

impl ImageArgs {
    /// From `--format` and the options that go with it.
    pub fn parse(args: &Args) -> Result<Self, Failure> {
        Self::with_cache(args, "cache option")
    }

    /// The same for commands that call the cache mode otherwise when it is wrong.
    pub fn with_cache(args: &Args, what: &str) -> Result<Self, Failure> {
        let mut parsed = Self::with_format(args, args.value("format"))?;
        parsed.set_cache(what, args.value("cache"))?;
        Ok(parsed)
    }

    /// For commands that have several formats.
    pub fn with_format(args: &Args, format: Option<&str>) -> Result<Self, Failure> {
        let image_opts = args.has("image-opts");
        if image_opts && format.is_some() {
            return Err(Failure::new("--image-opts and --format are mutually exclusive"));
        }
        Self::described(args, format, image_opts)
    }

    /// For the image of a command that has options of its own for it.
    pub fn described(args: &Args, format: Option<&str>, image_opts: bool) -> Result<Self, Failure> {
        Ok(Self {
            format: format.map(str::to_owned),
            image_opts,
            force_share: args.has("force-share"),
            cache: CacheMode::default(),
            secrets: args.objects()?,
        })
    }

    /// The same for another image of the command, which is a file.
    pub fn other(&self, format: Option<&str>) -> Self {
        Self { format: format.map(str::to_owned), image_opts: false, ..self.clone() }
    }

    /// Takes over the name of a cache mode, which messages call `what`.
    pub fn set_cache(&mut self, what: &str, mode: Option<&str>) -> Result<(), Failure> {
        self.cache = cache_mode(what, mode)?;
        Ok(())
    }

    /// Opens an image for reading; `change` asks for more.
    pub fn open(
        &self,
        filename: &str,
        change: impl FnOnce(&mut ImageSpec<'_>),
    ) -> Result<Arc<dyn Node>, Failure> {
        let mut spec = self.spec(filename);
        change(&mut spec);
        let opened = open_image(&spec, &HostFiles, &self.secrets)
            .map_err(|e| could_not_open(filename, e))?;
        opened.warnings.iter().for_each(|line| eprintln!("{line}"));
        Ok(opened.node)
    }

    /// Checks an image, and repairs it.
    pub fn check(
        &self,
        filename: &str,
        fix: Fix,
    ) -> Result<(&'static str, Option<CheckReport>), Failure> {
        let spec = ImageSpec { writable: fix != Fix::Nothing, ..self.spec(filename) };
        check_image(&spec, fix, &HostFiles, &self.secrets).map_err(|e| could_not_open(filename, e))
    }

    /// Tries a repair and changes nothing.
    pub fn rehearse_repair(&self, filename: &str, fix: Fix) -> Result<Option<Rehearsal>, Failure> {
        rehearse_repair(&self.spec(filename), fix, &HostFiles, &self.secrets)
            .map(|(_, rehearsal)| rehearsal)
            .map_err(|e| could_not_open(filename, e))
    }

    /// The secrets that were given.
    pub fn secrets(&self) -> &Objects {
        &self.secrets
    }

    fn spec<'a>(&'a self, filename: &'a str) -> ImageSpec<'a> {
        ImageSpec {
            name: filename,
            format: self.format.as_deref(),
            complete: self.image_opts,
            share: self.force_share,
            cache: self.cache,
            ..ImageSpec::default()
        }
    }
}

/// The cache mode of that name; without one, the usual.
pub(crate) fn cache_mode(what: &str, mode: Option<&str>) -> Result<CacheMode, Failure> {
    let Some(mode) = mode else { return Ok(CacheMode::default()) };
    CacheMode::named(mode).ok_or_else(|| Failure::new(format!("Invalid {what}: {mode}")))
}

fn could_not_open(filename: &str, error: OpenError) -> Failure {
    // The name is said already.
    let failure = Failure::from(error).without(&format!("{filename}: "));
    failure.within(format!("Could not open '{filename}'"))
}

/// Opens an image that another one names, for reading.
pub(crate) fn open_named(
    name: &str,
    format: Option<&str>,
    secrets: &Objects,
) -> Result<Arc<dyn Node>, Failure> {
    let spec = ImageSpec { name, format, ..ImageSpec::default() };
    Ok(open_image(&spec, &HostFiles, secrets)?.node)
}

/// An image without a name on `below`, which takes what is written.
pub(crate) fn temporary(below: Arc<dyn Node>) -> Result<Arc<dyn Node>, Failure> {
    let file = HostFiles.temporary()?;
    let options = formats::qcow2::CreateOptions::new(below.size());
    formats::qcow2::create(&file, "temporary overlay", &options)?;
    Ok(formats::overlay(&file, Some(below))?)
}

/// The children that hold an image's bytes.
pub(crate) fn stored_in(node: &dyn Node) -> Vec<Child> {
    node.children().into_iter().filter(|child| child.role != Role::Backing).collect()
}
