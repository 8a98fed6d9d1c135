//! The commands.

use crate::cursor::Cursor;
use crate::info::{Row, TOPICS, Topic};
use crate::session::Session;
use crate::target::{Action, InfoRequest, Space};
use crate::{dump, session};
use std::fmt::Write as _;
use std::io::Write as _;

/// What a command says: text, or what was wrong.
pub(crate) type Said = Result<String, Wrong>;

/// Why a command did nothing.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// The arguments are wrong: help is offered.
    Arguments(String),
    /// It could not be done.
    Failed(String),
}

impl From<String> for Wrong {
    fn from(text: String) -> Self {
        Self::Arguments(text)
    }
}

/// A command.
pub(crate) struct Command {
    /// Its names, separated by `|`.
    pub names: &'static str,
    /// Form of the arguments, as shown.
    pub arguments: &'static str,
    pub help: &'static str,
    pub run: fn(&mut Session, &mut Cursor<'_>) -> Said,
}

impl Command {
    /// Whether `name` means it.
    pub fn answers_to(&self, name: &str) -> bool {
        self.names.split('|').any(|known| known == name)
    }

    fn line(&self) -> String {
        format!("{} {} -- {}\n", self.names, self.arguments, self.help)
    }
}

const fn command(
    names: &'static str,
    arguments: &'static str,
    help: &'static str,
    run: fn(&mut Session, &mut Cursor<'_>) -> Said,
) -> Command {
    Command { names, arguments, help, run }
}

/// Every command, by name.
#[rustfmt::skip]
pub(crate) const COMMANDS: &[Command] = &[
    command("chardev-send-break", "id", "send a break on a character device", send_break),
    command("commit", "device|all", "write what snapshots hold back to the images", |s, c| word_action(s, c, "commit: block device name", Action::Commit)),
    command("cont|c", "", "resume emulation", |s, _| act(s, Action::Continue)),
    command("cpu", "index", "set the CPU that x, info registers and others look at", cpu),
    command("gva2gpa", "addr", "show the guest physical address of a guest virtual one", gva2gpa),
    command("help|?", "[cmd]", "show the help", help),
    command("info", "[subcommand]", "show various information about the system state", info),
    command("log", "item1[,...]", "log these items ('none' for nothing)", |s, c| word_action(s, c, "items", Action::Log)),
    command("logfile", "filename", "log to a file", |s, c| word_action(s, c, "filename", Action::LogFile)),
    command("memsave", "addr size file", "save 'size' bytes of virtual memory from 'addr' on", |s, c| save(s, c, false)),
    command("pmemsave", "addr size file", "save 'size' bytes of physical memory from 'addr' on", |s, c| save(s, c, true)),
    command("print|p", "/fmt expr", "print the value of an expression ($reg reads a CPU register)", print),
    command("quit|q", "", "quit the emulator", |s, _| act(s, Action::Quit)),
    command("ringbuf_read", "device size", "read and show what a ring keeps", ring_read),
    command("stop|s", "", "stop emulation", |s, _| act(s, Action::Stop)),
    command("sum", "addr size", "compute the checksum of a memory region", sum),
    command("system_powerdown", "", "press the power button", |s, _| act(s, Action::PowerDown)),
    command("system_reset", "", "reset the system", |s, _| act(s, Action::Reset)),
    command("x", "/fmt addr", "virtual memory dump starting at 'addr'", |s, c| examine(s, c, false)),
    command("xp", "/fmt addr", "physical memory dump starting at 'addr'", |s, c| examine(s, c, true)),
];

/// Runs one line and returns what it says.
pub(crate) fn run(session: &mut Session, line: &str) -> String {
    let mut cursor = Cursor::new(line);
    let name = cursor.name();
    if name.is_empty() {
        return String::new();
    }
    let Some(command) = COMMANDS.iter().find(|command| command.answers_to(name)) else {
        return format!("unknown command: '{}'\n", line.trim());
    };
    let mut said = (command.run)(session, &mut cursor);
    if said.is_ok() && !cursor.is_at_end() && !takes_all(command) {
        said = Err(Wrong::Arguments(extraneous(command.names)));
    }
    match said {
        Ok(text) => text,
        Err(Wrong::Failed(text)) => format!("Error: {text}\n"),
        Err(Wrong::Arguments(text)) => {
            let topic = if name == "info" { info_name(line) } else { name.to_owned() };
            format!("{text}\nTry \"help {topic}\" for more information\n")
        }
    }
}

/// Whether it deals with every argument itself.
fn takes_all(command: &Command) -> bool {
    matches!(command.names, "help|?" | "info")
}

fn info_name(line: &str) -> String {
    let words: Vec<&str> = line.split_whitespace().take(2).collect();
    words.join(" ")
}

fn extraneous(name: &str) -> String {
    format!("{name}: extraneous characters at the end of line")
}

/// An action of the machine, once the line is known to hold nothing else.
fn act(session: &mut Session, action: Action) -> Said {
    session.pending = Some(action);
    Ok(String::new())
}

fn word_action(
    session: &mut Session,
    cursor: &mut Cursor<'_>,
    what: &str,
    action: fn(String) -> Action,
) -> Said {
    let word = cursor.word()?.ok_or_else(|| Wrong::Arguments(format!("{what} expected")))?;
    act(session, action(word))
}

fn send_break(session: &mut Session, cursor: &mut Cursor<'_>) -> Said {
    word_action(session, cursor, "id", Action::SendBreak)
}

fn cpu(session: &mut Session, cursor: &mut Cursor<'_>) -> Said {
    let index = expression(session, cursor)?;
    match usize::try_from(index).ok().filter(|index| *index < session.target.cpus()) {
        Some(index) => {
            session.cpu = index;
            Ok(String::new())
        }
        None => Ok("invalid CPU index\n".to_owned()),
    }
}

fn expression(session: &Session, cursor: &mut Cursor<'_>) -> Result<u64, Wrong> {
    let registers = |name: &str| session.target.register(session.cpu, name);
    Ok(cursor.expression(&registers)?)
}

fn gva2gpa(session: &mut Session, cursor: &mut Cursor<'_>) -> Said {
    let address = expression(session, cursor)?;
    Ok(match session.target.translate(session.cpu, address) {
        Some(physical) => format!("gpa: {physical:#x}\n"),
        None => "Unmapped\n".to_owned(),
    })
}

fn help(_: &mut Session, cursor: &mut Cursor<'_>) -> Said {
    let Some(name) = cursor.word()? else {
        return Ok(COMMANDS.iter().map(Command::line).collect());
    };
    if name == "info" {
        let Some(topic) = cursor.word()? else { return Ok(topics()) };
        return Ok(TOPICS
            .iter()
            .find(|row| row.name == topic)
            .map_or_else(|| format!("unknown command: 'info {topic}'\n"), topic_line));
    }
    Ok(COMMANDS
        .iter()
        .find(|command| command.answers_to(&name))
        .map_or_else(|| format!("unknown command: '{name}'\n"), Command::line))
}

fn topic_line(row: &Row) -> String {
    format!("info {} {} -- {}\n", row.name, row.arguments, row.help)
}

fn topics() -> String {
    TOPICS.iter().map(topic_line).collect()
}

fn info(session: &mut Session, cursor: &mut Cursor<'_>) -> Said {
    let Some(name) = cursor.word()? else { return Ok(topics()) };
    let Some(row) = TOPICS.iter().find(|row| row.name == name) else {
        return Ok(format!("unknown command: 'info {name}'\n"));
    };
    let flags = match row.flags {
        "" => Vec::new(),
        allowed => cursor.flags(allowed).map_err(|text| format!("{name}: {text}"))?,
    };
    let mut request = InfoRequest { topic: row.topic, cpu: session.cpu, flags, argument: None };
    match row.topic {
        Topic::Registers => return registers(session, cursor, request),
        Topic::Block => request.argument = cursor.word()?,
        _ => {}
    }
    if !cursor.is_at_end() {
        return Err(Wrong::Arguments(extraneous(&name)));
    }
    match row.topic {
        Topic::Version => Ok(format!("{}{}\n", session::QEMU_VERSION, session.product)),
        Topic::Status => Ok(format!("VM status: {}\n", session.target.status())),
        Topic::History => Ok(session.history()),
        _ => told(session, &request),
    }
}

fn told(session: &Session, request: &InfoRequest) -> Said {
    session.target.info(request).map_err(Wrong::Failed)
}

fn registers(session: &Session, cursor: &mut Cursor<'_>, mut request: InfoRequest) -> Said {
    if request.has('a') {
        let mut text = String::new();
        for cpu in 0..session.target.cpus() {
            request.cpu = cpu;
            let _ = write!(text, "\nCPU#{cpu}\n{}", told(session, &request)?);
        }
        return Ok(text);
    }
    if !cursor.is_at_end() {
        let index = expression(session, cursor)?;
        if !cursor.is_at_end() {
            return Err(Wrong::Arguments(extraneous("registers")));
        }
        match usize::try_from(index).ok().filter(|index| *index < session.target.cpus()) {
            Some(index) => request.cpu = index,
            None => return Ok(format!("CPU#{index} not available\n")),
        }
    }
    Ok(format!("\nCPU#{}\n{}", request.cpu, told(session, &request)?))
}

fn print(session: &mut Session, cursor: &mut Cursor<'_>) -> Said {
    let (_, format) = session.format.read(cursor.format())?;
    let value = expression(session, cursor)?;
    if cursor.is_at_end() {
        session.format.style = format.style;
    }
    Ok(format!("{}\n", dump::value(format.style, value)))
}

fn examine(session: &mut Session, cursor: &mut Cursor<'_>, physical: bool) -> Said {
    let (count, format) = session.format.read(cursor.format())?;
    let address = expression(session, cursor)?;
    if !cursor.is_at_end() {
        // Refused by the caller; nothing is read.
        return Ok(String::new());
    }
    session.format = format;
    let space = if physical { Space::Physical } else { Space::Virtual { cpu: session.cpu } };
    Ok(dump::memory(&*session.target, space, address, count, format))
}

fn sum(session: &mut Session, cursor: &mut Cursor<'_>) -> Said {
    let (address, size) = (expression(session, cursor)?, expression(session, cursor)?);
    let mut sum: u16 = 0;
    blocks(session, Space::Physical, address, size, &mut |block| {
        for byte in block {
            // The BSD checksum: rotate right, add.
            sum = sum.rotate_right(1).wrapping_add(u16::from(*byte));
        }
        Ok(())
    })?;
    Ok(format!("{sum:05}\n"))
}

/// Reads memory piece by piece.
fn blocks(
    session: &Session,
    space: Space,
    address: u64,
    size: u64,
    take: &mut dyn FnMut(&[u8]) -> Result<(), String>,
) -> Result<(), Wrong> {
    let mut done = 0;
    while done < size {
        let mut buffer = [0; 4096];
        let at = address.wrapping_add(done);
        // Pieces end where pages do, so that what is mapped is read.
        let length = (size - done).min(4096 - at % 4096);
        let piece = &mut buffer[..usize::try_from(length).unwrap_or(4096)];
        if session.target.read_memory(space, at, piece).is_err() {
            let text = format!("Invalid addr {at:#018x}/size {} specified", size - done);
            return Err(Wrong::Failed(text));
        }
        take(piece).map_err(Wrong::Failed)?;
        done += length;
    }
    Ok(())
}

fn save(session: &mut Session, cursor: &mut Cursor<'_>, physical: bool) -> Said {
    let (address, size) = (expression(session, cursor)?, expression(session, cursor)?);
    let path = cursor.word()?.ok_or_else(|| "filename expected".to_owned())?;
    if !cursor.is_at_end() {
        return Ok(String::new());
    }
    let failed = |error: std::io::Error| {
        let text = error.to_string();
        let reason = text.split(" (os error").next().unwrap_or_default().to_owned();
        format!("Could not open '{path}': {reason}")
    };
    let mut file = std::fs::File::create(&path).map_err(|e| Wrong::Failed(failed(e)))?;
    let space = if physical { Space::Physical } else { Space::Virtual { cpu: session.cpu } };
    blocks(session, space, address, size, &mut |block| file.write_all(block).map_err(failed))?;
    Ok(String::new())
}

fn ring_read(session: &mut Session, cursor: &mut Cursor<'_>) -> Said {
    let id = cursor.word()?.ok_or_else(|| "device expected".to_owned())?;
    let most = usize::try_from(expression(session, cursor)?).unwrap_or(usize::MAX);
    let bytes = session.target.read_ring(&id, most);
    let bytes = bytes.ok_or_else(|| Wrong::Failed(format!("{id} is not a ringbuf device")))?;
    let mut text = String::new();
    for byte in bytes {
        match byte {
            b'\\' => text.push_str("\\\\"),
            b'\n' | b'\t' | 0x20..=0x7e => text.push(char::from(byte)),
            _ => {
                let _ = write!(text, "\\u{byte:04X}");
            }
        }
    }
    text.push('\n');
    Ok(text)
}
