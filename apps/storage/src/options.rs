//! The command line: each option that describes something runs the command that does the same.

use crate::daemon::Daemon;
use crate::{chardevs, nbd_server, objects};
use img::{NO_SHORT, Opt, flag, takes};
use qmp::{Arguments, Dispatcher, Error, Server, Source};
use serde_json::{Map, Value};
use std::process::ExitCode;

pub(crate) static OPTIONS: &[Opt] = &[
    flag('h', "help", "display this help and exit"),
    takes('T', "trace", "TRACE", "[[enable=]PATTERN][,events=FILE][,file=FILE]: tracing options"),
    flag('V', "version", "output version information and exit"),
    takes(
        NO_SHORT,
        "blockdev",
        "BLOCKDEV",
        "[driver=]DRIVER[,node-name=NODE][,KEY=VALUE...]: open a block node",
    ),
    takes(NO_SHORT, "chardev", "CHARDEV", "KIND,id=ID[,KEY=VALUE...]: open a character device"),
    flag(NO_SHORT, "daemonize", "go to the background once everything is there"),
    takes(
        NO_SHORT,
        "export",
        "EXPORT",
        "[type=]nbd,id=ID,node-name=NODE[,name=NAME][,writable=on|off][,bitmap=NAME]: export a block \
         node (nbd requires --nbd-server)",
    ),
    takes(
        NO_SHORT,
        "monitor",
        "MONITOR",
        "[chardev=]ID[,mode=control][,pretty[=on|off]]: a QMP monitor on a character device",
    ),
    takes(
        NO_SHORT,
        "nbd-server",
        "SERVER",
        "addr.type=inet,addr.host=HOST,addr.port=PORT or addr.type=unix,addr.path=PATH\
         [,tls-creds=ID][,max-connections=N]: the server of NBD exports",
    ),
    takes(
        NO_SHORT,
        "object",
        "OBJECT",
        "TYPE,id=ID[,KEY=VALUE...]: make an object; 'help' lists types",
    ),
    takes(
        NO_SHORT,
        "pidfile",
        "PATH",
        "write the number of the process to this file once all is there",
    ),
];

/// What options are applied to.
pub(crate) struct Setup<'a> {
    pub dispatcher: &'a Dispatcher<Daemon>,
    pub server: &'a Server<Daemon>,
}

type Apply = fn(&Setup<'_>, &str) -> Result<(), Error>;

/// What options with a description do, in the order of the command line.
pub(crate) const APPLY: &[(&str, Apply)] = &[
    ("blockdev", |setup, text| setup.command("blockdev-add", text, "driver")),
    ("chardev", chardev),
    ("export", |setup, text| setup.command("block-export-add", text, "type")),
    ("monitor", monitor),
    ("nbd-server", |setup, text| {
        let given = setup.checked("NbdServerOptions", text, "")?;
        nbd_server::start_flat(setup.dispatcher.context(), &given).map(|_| ())
    }),
    ("object", |setup, text| {
        setup.command("object-add", text, "qom-type").map_err(|mut error| {
            if error.text.ends_with("expects an identifier") {
                error.text.push_str(IDENTIFIERS);
            }
            error
        })
    }),
    ("trace", |_, text| {
        let pattern = text.strip_prefix("enable=").unwrap_or(text);
        eprintln!("qemu-storage-daemon: warning: trace event '{pattern}' does not exist");
        Ok(())
    }),
];

/// What people are told of identifiers.
const IDENTIFIERS: &str =
    "\nIdentifiers consist of letters, digits, '-', '.', '_', starting with a letter.";

/// Options whose value can be `help`, and what they say then.
pub(crate) fn help_for(option: &str, value: &str) -> Option<Result<ExitCode, Error>> {
    let asks = |word: &str| word == "help" || word == "?";
    let (first, rest) = value.split_once(',').unwrap_or((value, ""));
    let wanted = asks(first) || value.split(',').any(asks);
    if !wanted {
        return None;
    }
    let text = match option {
        "chardev" => Some(chardevs::help()),
        "object" if asks(first) => Some(objects::help()),
        "object" if asks(rest) => Some(objects::help_of(first).unwrap_or_else(objects::help)),
        "trace" => Some(String::new()),
        "blockdev" | "export" | "monitor" | "nbd-server" => {
            return Some(Err(Error::new("Help is not available for this option")));
        }
        _ => None,
    }?;
    print!("{text}");
    Some(Ok(ExitCode::SUCCESS))
}

impl Setup<'_> {
    /// Runs the command that does what the option describes.
    fn command(&self, name: &str, text: &str, implied: &'static str) -> Result<(), Error> {
        let (mut given, source) = qmp::nested(text, implied)?;
        if name == "block-export-add" {
            one_bitmap(&mut given, source);
        }
        self.dispatcher.call(name, given, source).map(|_| ())
    }

    /// The members of a type that only an option has.
    fn checked(&self, name: &str, text: &str, implied: &'static str) -> Result<Arguments, Error> {
        let (given, source) = qmp::nested(text, implied)?;
        let schema = self.dispatcher.schema();
        let of_type = schema.named(name).ok_or_else(|| Error::not_yet(name))?;
        schema.check(of_type, given, source).map(Arguments::new)
    }
}

/// `bitmap=NAME` is the older form of `bitmaps.0=NAME`.
fn one_bitmap(given: &mut Map<String, Value>, source: Source) {
    if source == Source::Words
        && !given.contains_key("bitmaps")
        && let Some(name) = given.shift_remove("bitmap")
    {
        given.insert("bitmaps".to_owned(), Value::Array(vec![name]));
    }
}

fn chardev(setup: &Setup<'_>, text: &str) -> Result<(), Error> {
    let config = plan::parse_chardev(text).map_err(|refusal| Error::new(refusal.message))?;
    let id = &config.id;
    if setup.dispatcher.context().chardevs.contains(id) {
        let text = format!("attempt to add duplicate property '{id}' to object (type 'container')");
        return Err(Error::new(text));
    }
    let pty = chardevs::open(setup.dispatcher.context(), &config)?;
    if let Some(path) = pty {
        println!("char device redirected to {path} (label {})", config.id);
    }
    Ok(())
}

fn monitor(setup: &Setup<'_>, text: &str) -> Result<(), Error> {
    let given = setup.checked("MonitorOptions", text, "chardev")?;
    if given.text("mode") == "readline" {
        return Err(Error::new("Only QMP is supported"));
    }
    let id = given.text("chardev");
    let chardevs = &setup.dispatcher.context().chardevs;
    if !chardevs.contains(id) {
        return Err(Error::new(format!("chardev \"{id}\" not found")));
    }
    let port = chardevs.port(id);
    let port = port.ok_or_else(|| Error::new(format!("chardev '{id}' is already in use")))?;
    setup.server.attach(port, given.switch("pretty") == Some(true));
    Ok(())
}
