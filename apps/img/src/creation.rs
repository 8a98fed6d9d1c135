//! Making an image: options from the command line, checked against the format's table.

use crate::Failure;
use crate::image::{self, Objects};
use formats::{CreateRequest, FILE_OPTIONS, Format, HostFiles, format_named};
use graph::{ImageOption, ImageOptions, OpenError};
use options::{Grammar, List};
use std::io;

/// A new image in the making.
pub(crate) struct Creation {
    format: &'static dyn Format,
    options: ImageOptions,
}

impl Creation {
    /// An image of the named format, with the format's defaults.
    pub fn new(format: &str) -> Result<Self, Failure> {
        let found = find(format)?;
        if found.create_options().is_empty() {
            let text = format!("Format driver '{format}' does not support image creation");
            return Err(Failure::new(text));
        }
        let options = ImageOptions::new(&[found.create_options(), FILE_OPTIONS]);
        Ok(Self { format: found, options })
    }

    pub fn options(&self) -> &ImageOptions {
        &self.options
    }

    pub fn options_mut(&mut self) -> &mut ImageOptions {
        &mut self.options
    }

    pub fn format(&self) -> &'static dyn Format {
        self.format
    }

    /// Takes over the text of one `-o`.
    pub fn set_all(&mut self, text: &str) -> Result<(), Failure> {
        set_all(&mut self.options, text)
    }

    /// Whether the format has this option.
    pub fn knows(&self, name: &str) -> bool {
        self.options.table().iter().any(|row| row.name == name)
    }

    /// Takes over `-b` and `-F`.
    pub fn backing(&mut self, file: Option<&str>, format: Option<&str>) -> Result<(), Failure> {
        let name = self.format.name();
        for (key, value, what) in
            [("backing_file", file, "Backing file"), ("backing_fmt", format, "Backing format")]
        {
            let Some(value) = value else { continue };
            if !self.knows(key) {
                return Err(Failure::new(format!("{what} not supported for file format '{name}'")));
            }
            self.options.set(key, value)?;
        }
        Ok(())
    }

    /// Settles the length of the disk: as given, else that of the backing file, which is opened to be
    /// sure that it is there.
    pub fn size(
        &mut self,
        given: Option<u64>,
        open_backing: bool,
        secrets: &Objects,
        path: &str,
    ) -> Result<(), Failure> {
        if let Some(size) = given {
            if self.options.is_set("size") {
                return Err(Failure::new("The image size must be specified only once"));
            }
            self.options.set_number("size", size)?;
        }
        if let Some(name) = self.options.text("backing_file").map(str::to_owned) {
            self.check_backing(&name, open_backing, secrets, path)?;
        }
        if self.options.is_set("size") {
            return Ok(());
        }
        Err(Failure::new("Image creation needs a size parameter"))
    }

    fn check_backing(
        &mut self,
        name: &str,
        open: bool,
        secrets: &Objects,
        path: &str,
    ) -> Result<(), Failure> {
        if name == path {
            return Err(Failure::new(
                "Error: Trying to create an image with the same filename as the backing file",
            ));
        }
        let format = self.options.text("backing_fmt").map(str::to_owned);
        let without_format = "Backing file specified without backing format";
        if !open {
            return if format.is_some() { Ok(()) } else { Err(Failure::new(without_format)) };
        }
        let full = formats::beside(path, name);
        let opened = image::open_named(&full, format.as_deref(), secrets);
        let node = opened.map_err(|f| f.followed_by("Could not open backing image."))?;
        if format.is_none() {
            let found = node.info().driver;
            return Err(Failure::new(format!("{without_format}\nDetected format of {found}.")));
        }
        if !self.options.is_set("size") {
            self.options.set_number("size", node.size())?;
        }
        Ok(())
    }

    /// The line that tells what is made.
    pub fn announcement(&self, filename: &str) -> String {
        let mut text = format!("Formatting '{filename}', fmt={}", self.format.name());
        for (name, value) in self.options.shown() {
            // As the option would be written.
            text.push_str(&format!(" {name}={}", value.replace(',', ",,")));
        }
        text
    }

    /// Makes the image.
    pub fn run(&self, filename: &str, secrets: &Objects) -> Result<(), Failure> {
        let path = filename.strip_prefix("file:").unwrap_or(filename);
        let request = CreateRequest { path, options: &self.options, gate: &HostFiles, secrets };
        // Who names the file in the message already need not do so twice.
        self.format.create(&request).map_err(|error| match error {
            OpenError::Host { source, .. } if source.kind() == io::ErrorKind::FileTooLarge => {
                let hint = match self.knows("cluster_size") {
                    true => " (try using a larger cluster size)",
                    false => "",
                };
                let name = self.format.name();
                let text = "The image size is too large for file format";
                Failure::new(format!("{text} '{name}'{hint}"))
            }
            error => Failure::from(error).without(&format!("{path}: ")),
        })
    }
}

fn find(format: &str) -> Result<&'static dyn Format, Failure> {
    if let Some(found) = format_named(format) {
        return Ok(found);
    }
    let near = options::nearest(format, image::format_names());
    let hint = near.map(|n| format!(" (did you mean '{n}'?)")).unwrap_or_default();
    Err(Failure::new(format!("Unknown file format '{format}'{hint}")))
}

/// Sets every `name=value` of an `-o` text.
pub(crate) fn set_all(options: &mut ImageOptions, text: &str) -> Result<(), Failure> {
    let list = List::parse(text, Grammar::BARE).map_err(|e| Failure::new(e.to_string()))?;
    for item in &list.items {
        let known = |name: &str| options.table().iter().any(|row| row.name == name);
        match item.key.strip_prefix("no") {
            // A bare `nofoo` turns foo off.
            Some(switch) if item.short && !known(&item.key) && known(switch) => {
                options.set(switch, "off")?;
            }
            _ => options.set(&item.key, &item.value)?,
        }
    }
    Ok(())
}

/// Whether an `-o` text asks for the list of options.
pub(crate) fn wants_help(texts: &[&str]) -> bool {
    let parsed = texts.iter().filter_map(|text| List::parse(text, Grammar::BARE).ok());
    parsed.into_iter().any(|list| list.wants_help())
}

/// The options of a format for `create`.
pub(crate) fn help(format: &str) -> Result<String, Failure> {
    let creation = Creation::new(format)?;
    let lines = option_lines(creation.format.create_options());
    Ok(format!(
        "Supported {format} options:\n{lines}\n\
         The protocol level may support further options.\n\
         Specify the target filename to include those options.\n"
    ))
}

/// The options of a new file called something, whatever holds it.
pub(crate) fn help_with_file(format: &str) -> Result<String, Failure> {
    let creation = Creation::new(format)?;
    Ok(format!("Supported options:\n{}", option_lines(creation.options.table())))
}

/// One line for each option, in alphabetical order.
pub(crate) fn option_lines(table: &[ImageOption]) -> String {
    let mut lines: Vec<String> = table
        .iter()
        .map(|row| {
            let value = format!("{}=<{}>", row.name, row.kind.name());
            format!("  {value:<22} - {}\n", row.help)
        })
        .collect();
    lines.sort();
    lines.concat()
}
