//! The image that is open, and requests that are under way.

use super::commands::{self, Outcome};
use crate::Failure;
use crate::image::Secrets;
use formats::{HostFiles, ImageSpec, open_image};
use graph::Node;
use options::{Grammar, List};
use protocols::CacheMode;
use std::sync::Arc;
use std::thread::JoinHandle;

/// How an image is to be opened.
#[derive(Clone, Debug, Default)]
pub(super) struct OpenOptions<'a> {
    pub format: Option<String>,
    /// The name is a list of options.
    pub complete: bool,
    pub read_only: bool,
    pub cache: Option<&'a str>,
    pub share: bool,
    /// Further options of the driver, as `-o` has them.
    pub driver: Vec<&'a str>,
}

/// An image that is open.
pub(super) struct Opened {
    pub node: Arc<dyn Node>,
    pub name: String,
    complete: bool,
    format: Option<String>,
}

/// What the commands of one run share.
pub(super) struct Session {
    program: String,
    secrets: Secrets,
    opened: Option<Opened>,
    under_way: Vec<JoinHandle<()>>,
}

impl Session {
    pub fn new(program: &str, secrets: Secrets) -> Self {
        Self { program: program.to_owned(), secrets, opened: None, under_way: Vec::new() }
    }

    /// Opens an image; the one that was open is closed first.
    pub fn open(&mut self, name: &str, options: &OpenOptions<'_>) -> Result<(), Failure> {
        let failed = |f: Failure| match options.complete {
            true => f.within("can't open"),
            false => f.without(&format!("{name}: ")).within(format!("can't open device {name}")),
        };
        let mode = options.cache.unwrap_or("writeback");
        let cache = CacheMode::named(mode)
            .ok_or_else(|| Failure::new(format!("invalid cache option: {mode}")))?;
        let (description, complete) = if options.driver.is_empty() {
            (name.to_owned(), options.complete)
        } else {
            (describe(name, &options.driver).map_err(failed)?, true)
        };
        let spec = ImageSpec {
            name: &description,
            format: options.format.as_deref(),
            complete,
            writable: !options.read_only,
            share: options.share,
            cache,
            ..ImageSpec::default()
        };
        self.close();
        let opened = open_image(&spec, &HostFiles, &self.secrets).map_err(|e| failed(e.into()))?;
        opened.warnings.iter().for_each(|line| eprintln!("{line}"));
        self.opened = Some(Opened {
            node: opened.node,
            name: description,
            complete,
            format: options.format.clone(),
        });
        Ok(())
    }

    /// Opens the same image again in another way.
    pub fn reopen(&mut self, read_only: bool, cache: Option<&str>) -> Result<(), Failure> {
        let Some(Opened { node, name, complete, format }) = self.opened.take() else {
            return Err(Failure::new("no file open, try 'help open'"));
        };
        node.flush().map_err(|e| Failure::io("flush failed", &e))?;
        drop(node);
        let options = OpenOptions { format, complete, read_only, cache, ..OpenOptions::default() };
        self.open(&name, &options)
    }

    /// Closes the image, when all requests are done.
    pub fn close(&mut self) {
        self.wait_for_all();
        if let Some(opened) = self.opened.take()
            && let Err(error) = opened.node.flush()
            && !opened.node.read_only()
        {
            self.complain(&format!("flush failed: {}", graph::host_text(&error)));
        }
    }

    pub fn opened(&self) -> Option<&Opened> {
        self.opened.as_ref()
    }

    /// Runs work beside the following commands.
    pub fn begin(&mut self, work: impl FnOnce() + Send + 'static) {
        self.under_way.push(std::thread::spawn(work));
    }

    /// Waits for everything that was begun.
    pub fn wait_for_all(&mut self) {
        for work in self.under_way.drain(..) {
            // A worker that panicked said so itself.
            let _ = work.join();
        }
    }

    /// A line on standard error with the program's name.
    pub fn complain(&self, text: &str) {
        eprintln!("{}: {text}", self.program);
    }

    /// Runs one command.
    pub fn command(&mut self, line: &str) -> Outcome {
        let words = super::letters::words(line);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match words.split_first() {
            Some((name, arguments)) => commands::run(self, name, arguments),
            None => Outcome::Done,
        }
    }
}

/// A file name with further options as one description.
fn describe(name: &str, options: &[&str]) -> Result<String, Failure> {
    let mut text = options.join(",");
    let list = List::parse(&text, Grammar::BARE).map_err(|e| Failure::new(e.to_string()))?;
    let name = name.replace(',', ",,");
    if !name.is_empty() && list.get("file.filename").is_none() && list.get("filename").is_none() {
        text.push_str(&format!(",file.filename={name}"));
    }
    Ok(text)
}
