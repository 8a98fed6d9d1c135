//! `qemu-nbd`: serves a disk image to other processes and hosts, and lists what a server has.

mod device;

use crate::Failure;
use crate::args::{Args, NO_SHORT, Opt, flag, takes};
use crate::image::{self, Objects};
use crate::text;
use crypto::{Credentials, Endpoint};
use device::Device;
use formats::{DETECT_ZEROES, DISCARD, HostFiles, ImageSpec, UNMAP_WANTS_DISCARD, open_image};
use graph::{Aio, DetectZeroes, Node};
use host::daemon::{self, Side, Waiting};
use host::signals::Endings;
use nbd::{Address, DEFAULT_PORT, Export, ExportInfo, Exports, Listener, Reception, Stream, Tls};
use protocols::CacheMode;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

static OPTIONS: &[Opt] = &[
    flag('h', "help", image::HELP),
    flag('V', "version", "display version info and exit"),
    takes('p', "port", "PORT", "port to listen on (10809)"),
    takes('b', "bind", "IFACE", "address to listen on (0.0.0.0)"),
    takes('k', "socket", "PATH", "listen on a socket of the host instead"),
    takes('e', "shared", "NUM", "serve so many clients at a time (1); 0 for any number"),
    flag('t', "persistent", "go on when the last client leaves"),
    flag('v', "verbose", "say more"),
    takes('x', "export-name", "NAME", "name of the export (empty)"),
    takes('D', "description", "TEXT", "description of the export for people"),
    takes(
        NO_SHORT,
        "handshake-limit",
        "N",
        "seconds that a client may take to choose (10); 0 for any number",
    ),
    takes('o', "offset", "OFFSET", "begin at this byte of the image"),
    flag('A', "allocation-depth", "tell which layer of the backing chain has each range"),
    takes('B', "bitmap", "NAME", "tell what a persistent dirty bitmap noted"),
    flag('L', "list", "list the exports of a server"),
    takes(NO_SHORT, "object", "OBJDEF", image::OBJECT),
    takes(NO_SHORT, "tls-creds", "ID", "use TLS with these credentials"),
    takes(NO_SHORT, "tls-authz", "ID", "let in whom this object allows"),
    takes(NO_SHORT, "tls-hostname", "NAME", "name that the server's certificate must have"),
    takes('T', "trace", "TRACE", "specify tracing options"),
    flag(NO_SHORT, "fork", "go to the background once clients can connect"),
    takes(NO_SHORT, "pid-file", "PATH", "write the number of the process to this file"),
    takes(NO_SHORT, "selinux-label", "LABEL", "label of the socket"),
    takes('c', "connect", "DEV", "let the kernel show the image as this device"),
    flag('d', "disconnect", "take the image away from a device"),
    takes('f', "format", "FORMAT", image::FORMAT),
    flag('r', "read-only", "clients cannot write"),
    flag('s', "snapshot", "keep what clients write in a temporary file"),
    takes(
        'l',
        "load-snapshot",
        "SNAPSHOT",
        "serve this internal snapshot: its id or name, or snapshot.id=ID, snapshot.name=NAME",
    ),
    flag('n', "nocache", "the same as --cache=none"),
    takes(NO_SHORT, "cache", "MODE", image::CACHE),
    takes(NO_SHORT, "aio", "MODE", "threads, native or io_uring"),
    takes(NO_SHORT, "discard", "MODE", "what happens to discards: ignore or unmap"),
    takes(NO_SHORT, "detect-zeroes", "MODE", "what happens to writes of zeroes: off, on, unmap"),
    flag(NO_SHORT, "image-opts", image::IMAGE_OPTS),
];

/// Options that are known and wait.
const WAITING: &[&str] = &["trace", "selinux-label"];

/// Runs the tool under the name `program` with these arguments.
pub fn run(program: &str, words: &[String]) -> ExitCode {
    start(program, words).unwrap_or_else(|failure| {
        eprintln!("{}", failure.line(program));
        ExitCode::from(failure.code)
    })
}

fn start(program: &str, words: &[String]) -> Result<ExitCode, Failure> {
    let args = Args::parse(program, &[OPTIONS], words)?;
    if args.has("help") {
        print!("{}", help(program));
        return Ok(ExitCode::SUCCESS);
    }
    if args.has("version") {
        println!("{}", crate::version(program));
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(option) = WAITING.iter().find(|option| args.has(option)) {
        return Err(Failure::new(format!("not supported yet: --{option}")));
    }
    if !args.has("tls-creds")
        && let Some(option) = ["tls-authz", "tls-hostname"].iter().find(|o| args.has(o))
    {
        return Err(Failure::new(format!("--{option} is not permitted without --tls-creds")));
    }
    if args.has("tls-authz") {
        return Err(Failure::new("not supported yet: --tls-authz"));
    }
    if args.has("disconnect") {
        let [device] = args.operands.as_slice() else { return Err(operands(program)) };
        return device::disconnect(device);
    }
    if args.has("connect") {
        check_connect(&args)?;
    }
    if args.has("list") {
        return list(&args).map(|()| ExitCode::SUCCESS);
    }
    let [filename] = args.operands.as_slice() else { return Err(operands(program)) };
    let plan = Plan::parse(&args)?;
    // The number of this process is told, and the one in the background has another.
    let handed = handed_over(&args)?;
    let background = args.has("fork") || (args.has("connect") && !args.has("verbose"));
    let waiting = if background {
        let cannot = |e| Failure::io("Failed to go to the background", &e);
        match daemon::split().map_err(cannot)? {
            Side::Front(code) => return Ok(code),
            Side::Back(waiting) => Some(waiting),
        }
    } else {
        None
    };
    serve(&args, filename, &plan, handed, waiting).map(|()| ExitCode::SUCCESS)
}

fn operands(program: &str) -> Failure {
    let text = "Invalid number of arguments\nTry `";
    Failure::complete(format!("{program}: {text}{program} --help' for more information."))
}

/// Refuses what does not go with a device.
fn check_connect(args: &Args) -> Result<(), Failure> {
    let text = if args.has("list") {
        "List mode is incompatible with per-device settings"
    } else if args.has("tls-creds") {
        "TLS is not supported with a host device"
    } else if args.value("export-name").is_some_and(|name| !name.is_empty()) {
        "Requested export not available\nserver reported: export '' not present"
    } else {
        return Ok(());
    };
    Err(Failure::new(text))
}

/// Options that say where to listen, and what messages call that.
const PLACES: &[(&str, &str)] = &[
    ("connect", "NBD device"),
    ("socket", "Unix socket"),
    ("bind", "The interface"),
    ("port", "TCP port number"),
];

/// The socket that systemd hands over with the first connection (`sd_listen_fds(3)`).
fn handed_over(args: &Args) -> Result<Option<Listener>, Failure> {
    /// Where the sockets begin.
    const FIRST: i32 = 3;
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u32>().ok());
    let (Some(pid), Some(count)) = (number("LISTEN_PID"), number("LISTEN_FDS")) else {
        return Ok(None);
    };
    if pid != std::process::id() || count == 0 {
        return Ok(None);
    }
    if count > 1 {
        let text = "qemu-nbd does not support socket activation with LISTEN_FDS > 1";
        return Err(Failure::new(text));
    }
    if let Some((_, what)) = PLACES.iter().find(|(option, _)| args.has(option)) {
        return Err(Failure::new(format!("{what} can't be set when using socket activation")));
    }
    let adopted = host::inherited::adopt(FIRST).and_then(Listener::adopted);
    adopted.map(Some).map_err(|e| Failure::io("Socket activation failed", &e))
}

/// What the numbers on the command line say.
struct Plan {
    address: Address,
    /// Clients at a time; 0 for any number.
    shared: u64,
    offset: u64,
    handshake_limit: Option<Duration>,
    cache: CacheMode,
    /// Discards take effect.
    discard: bool,
    detect_zeroes: DetectZeroes,
    aio: Aio,
}

impl Plan {
    fn parse(args: &Args) -> Result<Self, Failure> {
        let number = |option, what: &str, default| {
            let Some(word) = args.value(option) else { return Ok(default) };
            let parsed = word.parse::<u64>().ok().filter(|n| i32::try_from(*n).is_ok());
            parsed.ok_or_else(|| Failure::new(format!("Invalid {what} '{word}'")))
        };
        let mode =
            if args.has("nocache") { "none" } else { args.value("cache").unwrap_or("writeback") };
        let invalid = || Failure::new(format!("Invalid cache mode `{mode}'"));
        let (discard, detect_zeroes) = blanks(args)?;
        let aio = args.value("aio").unwrap_or("threads");
        let aio =
            Aio::named(aio).ok_or_else(|| Failure::new(format!("Invalid aio mode '{aio}'")))?;
        let seconds = number("handshake-limit", "handshake limit", 10)?;
        Ok(Self {
            address: address(args)?,
            shared: number("shared", "shared device number", 1)?,
            offset: offset(args.value("offset").unwrap_or("0"))?,
            handshake_limit: (seconds != 0).then(|| Duration::from_secs(seconds)),
            cache: CacheMode::named(mode).ok_or_else(invalid)?,
            discard,
            detect_zeroes,
            aio,
        })
    }
}

/// What becomes of discards and of zeroes; what is wrong is told of the first option that is.
fn blanks(args: &Args) -> Result<(bool, DetectZeroes), Failure> {
    let refuse = |text: String| Err(Failure::new(text));
    let (mut discard, mut detect) = (None, DetectZeroes::Off);
    for (option, mode) in args.given() {
        match option {
            "discard" => match DISCARD.iter().find(|(name, _)| *name == mode) {
                Some((_, on)) => discard = Some(*on),
                None => return refuse(format!("Invalid discard mode `{mode}'")),
            },
            "detect-zeroes" => match DETECT_ZEROES.iter().find(|(name, _)| *name == mode) {
                Some((_, DetectZeroes::Unmap)) if discard != Some(true) => {
                    return refuse(UNMAP_WANTS_DISCARD.to_owned());
                }
                Some((_, found)) => detect = *found,
                None => {
                    return refuse(format!(
                        "Failed to parse detect_zeroes mode: invalid parameter value: {mode}"
                    ));
                }
            },
            _ => {}
        }
    }
    Ok((discard.unwrap_or(true), detect))
}

fn offset(word: &str) -> Result<u64, Failure> {
    let invalid = |_| Failure::new(format!("Invalid offset '{word}'"));
    text::parse_bytes("offset", word).map_err(invalid)
}

/// Where to listen, or whom to ask.
fn address(args: &Args) -> Result<Address, Failure> {
    if let Some(path) = args.value("socket") {
        if !path.starts_with('/') {
            return Err(Failure::new("socket path must be absolute"));
        }
        return Ok(Address::Unix(path.to_owned()));
    }
    let host = args.value("bind").unwrap_or("0.0.0.0").to_owned();
    let Some(word) = args.value("port") else {
        return Ok(Address::Tcp { host, port: DEFAULT_PORT });
    };
    match word.parse() {
        Ok(port) => Ok(Address::Tcp { host, port }),
        Err(_) if word.parse::<u64>().is_ok() => {
            Err(Failure::new(format!("Invalid port '{word}': the highest is {}", u16::MAX)))
        }
        Err(_) => Err(Failure::new(format!(
            "address resolution failed for {host}:{word}: Servname not supported for ai_socktype"
        ))),
    }
}

/// Serves until the last client leaves, or for good.
fn serve(
    args: &Args,
    filename: &str,
    plan: &Plan,
    handed: Option<Listener>,
    waiting: Option<Waiting>,
) -> Result<(), Failure> {
    let secrets = args.objects()?;
    let tls = credentials(args, &secrets, Endpoint::Server)?;
    let image = open(args, filename, plan, &secrets)?;
    let node = window(&image, plan.offset)?;
    let mut export = Export::new(
        args.value("export-name").unwrap_or_default(),
        args.value("description").unwrap_or_default(),
        Arc::clone(&node),
        !args.has("read-only"),
        plan.shared != 1,
    )
    .within(image, plan.offset);
    if args.has("allocation-depth") {
        export = export.with_allocation_depth();
    }
    for name in args.values("bitmap") {
        let missing = |_| Failure::new(format!("Bitmap '{name}' is not found"));
        export = export.with_bitmap(name).map_err(missing)?;
    }
    let shown = args.value("connect").map(|name| Device::open(name, args.has("verbose")));
    let shown = shown.transpose()?;
    let listener = match &shown {
        None => Some(handed.map_or_else(|| bind(&plan.address), Ok)?),
        Some(_) => None,
    };
    if let Some(path) = args.value("pid-file") {
        let written = std::fs::write(path, format!("{}\n", std::process::id()));
        written.map_err(|e| Failure::io(format!("Could not create '{path}'"), &e))?;
    }
    match (shown, listener) {
        (Some(device), _) => device.serve(&export, waiting)?,
        (None, Some(listener)) => {
            if let Some(waiting) = waiting {
                waiting.release().map_err(|e| Failure::io("Failed to go to the background", &e))?;
            }
            let mut exports = Exports::new(vec![export]);
            if let Some(tls) = tls {
                exports = exports.with_tls(tls);
            }
            wait_for_the_end(args, plan, listener, exports)?;
        }
        (None, None) => {}
    }
    node.flush().map_err(|e| Failure::io(filename, &e))?;
    for path in [args.value("socket"), args.value("pid-file")].into_iter().flatten() {
        // Somebody else may have removed it.
        let _ = std::fs::remove_file(path);
    }
    Ok(())
}

fn bind(address: &Address) -> Result<Listener, Failure> {
    if let Address::Unix(path) = address
        && std::os::unix::net::UnixStream::connect(path).is_err()
        && Path::new(path).exists()
    {
        // Nobody listens there any more.
        let _ = std::fs::remove_file(path);
    }
    Listener::bind(address).map_err(|e| Failure::new(address.bind_failure(&e)))
}

/// What `--tls-creds` names.
fn credentials(
    args: &Args,
    secrets: &Objects,
    endpoint: Endpoint,
) -> Result<Option<Arc<Credentials>>, Failure> {
    let Some(id) = args.value("tls-creds") else { return Ok(None) };
    let found = secrets.keys().tls(id, endpoint);
    found.map(Some).map_err(|text| Failure::new(format!("Failed to get TLS creds: {text}")))
}

fn open(
    args: &Args,
    filename: &str,
    plan: &Plan,
    secrets: &Objects,
) -> Result<Arc<dyn Node>, Failure> {
    let snapshot = args.value("load-snapshot");
    let spec = ImageSpec {
        name: filename,
        format: args.value("format"),
        complete: args.has("image-opts"),
        writable: !args.has("read-only") && snapshot.is_none() && !args.has("snapshot"),
        cache: plan.cache,
        ignore_discards: !plan.discard,
        detect_zeroes: plan.detect_zeroes,
        aio: plan.aio,
        ..ImageSpec::default()
    };
    let failed = |f: Failure| f.within(format!("Failed to blk_new_open '{filename}'"));
    let opened = open_image(&spec, &HostFiles, secrets).map_err(|e| failed(e.into()))?;
    opened.warnings.iter().for_each(|line| eprintln!("{line}"));
    let node = match snapshot {
        Some(wanted) => crate::commands::convert::snapshot(&*opened.node, wanted)?,
        None => opened.node,
    };
    if args.has("snapshot") { image::temporary(node) } else { Ok(node) }
}

/// The image from `offset` on.
fn window(image: &Arc<dyn Node>, offset: u64) -> Result<Arc<dyn Node>, Failure> {
    if offset == 0 {
        return Ok(Arc::clone(image));
    }
    if offset >= image.size() {
        return Err(Failure::new(format!(
            "Offset ({offset}) has to be smaller than the image size ({})",
            image.size()
        )));
    }
    Ok(Arc::new(formats::Raw::window(Arc::clone(image), offset, None)?))
}

fn wait_for_the_end(
    args: &Args,
    plan: &Plan,
    listener: Listener,
    exports: Exports,
) -> Result<(), Failure> {
    let reception = Arc::new(Reception::new(listener, plan.shared));
    let mut endings = Endings::catch().map_err(|e| Failure::io("Failed to catch signals", &e))?;
    let ending = Arc::clone(&reception);
    std::thread::spawn(move || {
        if endings.wait().is_ok() {
            // The others do not wait for this thread.
            let _ = ending.stop();
        }
    });
    let (verbose, limit) = (args.has("verbose"), plan.handshake_limit);
    let serving = Arc::clone(&reception);
    let server = std::thread::spawn(move || {
        serving.run(&|stream| {
            let served = nbd::serve(&exports, stream, limit);
            if let (true, Err(error)) = (verbose, served) {
                eprintln!("qemu-nbd: a client left: {}", graph::host_text(&error));
            }
        });
    });
    reception.wait_for_end(args.has("persistent"));
    if reception.stop().is_ok() {
        // With the last client and its export the image is closed; a thread that panicked said so itself.
        let _ = server.join();
    }
    Ok(())
}

fn list(args: &Args) -> Result<(), Failure> {
    let address = address(args)?;
    let secrets = args.objects()?;
    let hostname = args.value("tls-hostname").map(str::to_owned);
    let tls = credentials(args, &secrets, Endpoint::Client)?;
    let tls = tls.map(|credentials| Tls { credentials, hostname });
    let stream = Stream::connect(&address)
        .map_err(|e| Failure::io(format!("Failed to connect to '{address}'"), &e))?;
    let exports = nbd::list(stream, &address, tls.as_ref())
        .map_err(|e| Failure::new(graph::host_text(&e)))?;
    println!("exports available: {}", exports.len());
    exports.iter().for_each(|export| print!("{}", described(export)));
    Ok(())
}

/// Names of what an export can do, by bit; the first bit says that there are any.
const ABILITIES: [&str; 13] = [
    "",
    "readonly",
    "flush",
    "fua",
    "rotational",
    "trim",
    "zeroes",
    "df",
    "multi",
    "resize",
    "cache",
    "fast-zero",
    "block-status-payload",
];

fn described(export: &ExportInfo) -> String {
    let mut text = format!(" export: '{}'\n", export.name);
    if !export.description.is_empty() {
        text.push_str(&format!("  description: {}\n", export.description));
    }
    text.push_str(&format!("  size:  {}\n", export.size));
    let abilities = ABILITIES.iter().enumerate().skip(1);
    let abilities = abilities.filter(|(bit, _)| export.flags >> bit & 1 != 0);
    let names: String = abilities.map(|(_, name)| format!("{name} ")).collect();
    text.push_str(&format!("  flags: {:#x} ( {names})\n", export.flags));
    let (least, preferred, most) = export.block_sizes;
    text.push_str(&format!(
        "  min block: {least}\n  opt block: {preferred}\n  max block: {most}\n"
    ));
    let bits = if export.extended { 64 } else { 32 };
    text.push_str(&format!("  transaction size: {bits}-bit\n"));
    if !export.contexts.is_empty() {
        text.push_str(&format!("  available meta contexts: {}\n", export.contexts.len()));
        export.contexts.iter().for_each(|name| text.push_str(&format!("   {name}\n")));
    }
    text
}

fn help(program: &str) -> String {
    let options = crate::option_lines(&[OPTIONS]);
    format!(
        "Serves a disk image over the Network Block Device protocol.\n\n\
         usage: {program} [OPTIONS] FILE\n       {program} -L [OPTIONS]\n\n{options}"
    )
}
