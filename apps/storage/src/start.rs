//! From the command line to a running daemon, and to its end.

use crate::daemon::Daemon;
use crate::options::{APPLY, OPTIONS, Setup, help_for};
use host::daemon::{self, Side, Waiting};
use host::signals::Endings;
use img::Args;
use qmp::Server;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};

/// Runs the daemon under the name `program` with these arguments.
pub fn run(program: &str, words: &[String]) -> ExitCode {
    start(program, words).unwrap_or_else(|text| {
        eprintln!("{program}: {text}");
        ExitCode::FAILURE
    })
}

fn start(program: &str, words: &[String]) -> Result<ExitCode, String> {
    let args = Args::parse(program, &[OPTIONS], words).map_err(|failure| {
        let line = failure.line(program);
        let first = line.lines().next().unwrap_or_default();
        first.strip_prefix(&format!("{program}: ")).unwrap_or(first).to_owned()
    })?;
    if let Some(word) = args.operands.first() {
        return Err(format!("{word}: Unexpected argument"));
    }
    if args.has("help") {
        print!(
            "{}",
            img::usage(
                &format!(
                    "Usage: {program} [options]\nStorage daemon: block nodes, jobs and exports, driven through QMP.\n\n"
                ),
                OPTIONS
            )
        );
        return Ok(ExitCode::SUCCESS);
    }
    if args.has("version") {
        println!("{}", img::version(program));
        return Ok(ExitCode::SUCCESS);
    }
    for (option, value) in args.given() {
        if let Some(helped) = help_for(option, value) {
            return helped.map_err(|error| format!("--{option} {value}: {error}"));
        }
    }
    let waiting = if args.has("daemonize") {
        let cannot = |e| format!("Failed to daemonize: {}", graph::host_text(&e));
        match daemon::split().map_err(cannot)? {
            Side::Front(code) => return Ok(code),
            Side::Back(waiting) => Some(waiting),
        }
    } else {
        None
    };
    serve(&args, waiting).map(|()| ExitCode::SUCCESS)
}

/// Serves until it is told to end.
fn serve(args: &Args, waiting: Option<Waiting>) -> Result<(), String> {
    let cannot = |e: io::Error| format!("Failed to start: {}", graph::host_text(&e));
    let (end, ended) = channel();
    catch_signals(end.clone()).map_err(cannot)?;
    let dispatcher = Daemon::new(end).map_err(cannot)?;
    let daemon = dispatcher.context();
    // Monitors hear nothing before everything is there.
    daemon.chardevs.hold();
    let server =
        Server::start(Arc::clone(&dispatcher), Arc::clone(&daemon.events)).map_err(cannot)?;
    let setup = Setup { dispatcher: &dispatcher, server: &server };
    let served = set_up(args, &setup).and_then(|()| {
        let pidfile = args.value("pidfile").map(PidFile::write).transpose()?;
        if let Some(waiting) = waiting {
            waiting.release().map_err(cannot)?;
        }
        daemon.chardevs.release();
        // The other end is held by the commands and by whoever waits for signals.
        let _ = ended.recv();
        Ok(pidfile)
    });
    server.finish();
    daemon.shut_down();
    served.map(drop)
}

fn set_up(args: &Args, setup: &Setup<'_>) -> Result<(), String> {
    for (option, value) in args.given() {
        if let Some((_, apply)) = APPLY.iter().find(|(name, _)| *name == option) {
            apply(setup, value).map_err(|error| format!("--{option} {value}: {error}"))?;
        }
    }
    Ok(())
}

fn catch_signals(end: Sender<()>) -> io::Result<()> {
    let mut endings = Endings::catch()?;
    let thread = std::thread::Builder::new().name("signals".into());
    thread.spawn(move || {
        if endings.wait().is_ok() {
            // Nobody listens once the daemon has ended.
            let _ = end.send(());
        }
    })?;
    Ok(())
}

/// A file with the number of this process, locked as long as it runs.
struct PidFile {
    path: String,
    _file: File,
}

impl PidFile {
    fn write(path: &str) -> Result<Self, String> {
        let failed = |what: &str, error: &io::Error| {
            format!("cannot create PID file: {what} '{path}': {}", graph::host_text(error))
        };
        let opened = OpenOptions::new().write(true).create(true).truncate(false).open(path);
        let mut file = opened.map_err(|e| failed("Could not create", &e))?;
        host::file::lock_exclusive(&file).map_err(|e| failed("Cannot lock pid file", &e))?;
        let text = format!("{}\n", std::process::id());
        let written = file.set_len(0).and_then(|()| file.write_all(text.as_bytes()));
        written.map_err(|e| failed("Failed to write pid file", &e))?;
        Ok(Self { path: path.to_owned(), _file: file })
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // Somebody else may have removed it.
        let _ = std::fs::remove_file(&self.path);
    }
}
