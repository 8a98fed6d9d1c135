//! The image that is open, and requests that are under way.

use super::commands::{self, Outcome};
use super::manner::Manner;
use crate::Failure;
use crate::image::{self, Objects};
use formats::{HostFiles, ImageSpec, Manager, open_image};
use graph::{Edge, Graph, Node, Permissions};
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
    pub manner: Manner,
    /// Further options of the driver, as `-o` has them.
    pub driver: Vec<&'a str>,
}

/// An image that is open.
pub(super) struct Opened {
    pub node: Arc<dyn Node>,
    /// The image itself: `node`, or what is below its copy-on-read filter.
    pub image: Arc<dyn Node>,
    edge: Arc<Edge>,
    graph: Arc<Graph>,
    manner: Manner,
}

/// What the commands of one run share.
pub(super) struct Session {
    program: String,
    secrets: Objects,
    opened: Option<Opened>,
    under_way: Vec<JoinHandle<()>>,
}

impl Session {
    pub fn new(program: &str, secrets: Objects) -> Self {
        Self { program: program.to_owned(), secrets, opened: None, under_way: Vec::new() }
    }

    /// Opens an image; the one that was open is closed first.
    pub fn open(&mut self, name: &str, options: &OpenOptions<'_>) -> Result<(), Failure> {
        let described = options.complete || (name.is_empty() && !options.driver.is_empty());
        let failed = |f: Failure| match described {
            true => f.within("can't open"),
            false => f.without(&format!("{name}: ")).within(format!("can't open device {name}")),
        };
        let manner = options.manner;
        let (description, complete) = if options.driver.is_empty() {
            (name.to_owned(), options.complete)
        } else {
            (describe(name, &options.driver).map_err(failed)?, true)
        };
        let spec = ImageSpec {
            name: &description,
            format: options.format.as_deref(),
            complete,
            writable: !manner.read_only && !manner.snapshot,
            share: manner.share,
            cache: manner.cache,
            aio: manner.aio,
            ignore_discards: manner.ignore_discards,
            ..ImageSpec::default()
        };
        if manner.share && !manner.read_only && !manner.snapshot {
            let text = "force-share=on can only be used with read-only images";
            return Err(failed(Failure::new(text)));
        }
        self.close();
        let opened = open_image(&spec, &HostFiles, &self.secrets).map_err(|e| failed(e.into()))?;
        opened.warnings.iter().for_each(|line| eprintln!("{line}"));
        if manner.copy_on_read && manner.read_only {
            return Err(failed(Failure::new("Can't use copy-on-read on read-only device")));
        }
        // An overlay that nobody can write to shows what is below it.
        let image = match manner.snapshot && !manner.read_only {
            true => image::temporary(opened.node).map_err(failed)?,
            false => opened.node,
        };
        let node = match manner.copy_on_read {
            true => {
                filters::copy_on_read(Arc::clone(&image), None).map_err(|e| failed(e.into()))?
            }
            false => Arc::clone(&image),
        };
        let (edge, graph) = (opened.edge, opened.graph);
        self.opened = Some(Opened { node, image, edge, graph, manner });
        Ok(())
    }

    /// Gives the image other options, and its user other rights: to write, or not to.
    pub fn reopen(
        &mut self,
        mut changes: Vec<(String, String)>,
        writable: Option<bool>,
        cache: Option<CacheMode>,
    ) -> Result<(), Failure> {
        self.wait_for_all();
        let Some(opened) = &mut self.opened else { return Ok(()) };
        if opened.manner.snapshot {
            return Err(Failure::new("Could not open a temporary overlay again"));
        }
        if opened.manner.copy_on_read && writable == Some(false) {
            return Err(Failure::new("Can't set a node to r/o with copy-on-read enabled"));
        }
        let mut set = |key: &str, on: bool| {
            changes.push((key.to_owned(), if on { "on" } else { "off" }.to_owned()));
        };
        if let Some(mode) = cache {
            set("cache.direct", mode.direct);
            set("cache.no-flush", mode.no_flush);
        }
        if let Some(on) = writable {
            set("read-only", !on);
        }
        let Some(member) = opened.edge.target() else { return Ok(()) };
        let (graph, before) = (&opened.graph, opened.edge.permissions());
        if writable == Some(false) {
            graph.require(&opened.edge, Permissions::READER)?;
        }
        let manager = Manager { graph, gate: &HostFiles, secrets: &self.secrets };
        let mut done = manager.change(&member, changes);
        if done.is_ok() && writable == Some(true) {
            done = graph.require(&opened.edge, Permissions::WRITER);
        }
        if done.is_err() {
            // It was allowed before.
            let _ = graph.require(&opened.edge, before);
        }
        done?;
        opened.manner.cache = cache.unwrap_or(opened.manner.cache);
        Ok(())
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
