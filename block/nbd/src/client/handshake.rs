//! The client's side of the negotiation.

use super::{ExportInfo, Options, Tls};
use crate::address::{Address, Location, Stream};
use crate::meta::ALLOCATION;
use crate::wire::{
    self, Fields, MAX_OPTION, handshake, info, option, put_text, read, read_bytes, reply,
};
use std::io::{self, Write};
use std::time::Duration;

/// Most replies to one option.
const MAX_REPLIES: u32 = 100_000;
/// Most characters of what a server says about a refusal.
const MAX_SAID: usize = 4096;
/// How long a server may take for each step.
const PATIENCE: Duration = Duration::from_secs(30);

/// What was agreed upon.
#[derive(Clone, Debug, Default)]
pub(super) struct Agreed {
    pub info: ExportInfo,
    pub structured: bool,
    pub extended: bool,
    /// Identifier of the context that answers about ranges.
    pub context: Option<u32>,
}

/// Negotiates for one export.
pub(super) fn choose(
    stream: &mut Stream,
    location: &Location,
    options: &Options,
) -> io::Result<Agreed> {
    stream.set_patience(Some(PATIENCE))?;
    let mut agreed = Agreed::default();
    if let Some(info) = greet(stream)? {
        if options.tls.is_some() {
            return Err(said("Server does not support STARTTLS"));
        }
        if !location.export.is_empty() {
            return Err(said("Server does not support non-empty export names"));
        }
        agreed.info = info;
        stream.set_patience(None)?;
        return Ok(agreed);
    }
    secure(stream, &location.address, options.tls.as_ref())?;
    dialect(stream, &mut agreed)?;
    if agreed.structured {
        let wanted = options.context.as_deref().unwrap_or(ALLOCATION);
        let found = contexts(stream, option::SET_META_CONTEXT, &location.export, &[wanted])?;
        agreed.context = found.iter().find(|(_, name)| name == wanted).map(|(id, _)| *id);
    }
    agreed.info = describe(stream, option::GO, &location.export)?;
    stream.set_patience(None)?;
    Ok(agreed)
}

/// Asks the server at the other end for all its exports and what they are like.
///
/// # Errors
/// The connection breaks, or the server does not tell.
pub fn list(
    mut stream: Stream,
    address: &Address,
    tls: Option<&Tls>,
) -> io::Result<Vec<ExportInfo>> {
    stream.set_patience(Some(PATIENCE))?;
    if let Some(export) = greet(&mut stream)? {
        return match tls {
            Some(_) => Err(said("Server does not support STARTTLS")),
            None => Ok(vec![export]),
        };
    }
    secure(&mut stream, address, tls)?;
    let mut agreed = Agreed::default();
    dialect(&mut stream, &mut agreed)?;
    let mut names = Vec::new();
    ask(&mut stream, option::LIST, &[], |kind, data| {
        if kind == reply::SERVER {
            let mut fields = Fields(data);
            let name = fields.text()?;
            names.push((name, String::from_utf8_lossy(fields.0).into_owned()));
        }
        Ok(())
    })?;
    let mut exports = Vec::new();
    for (name, description) in names {
        let mut export = describe(&mut stream, option::INFO, &name)?;
        if agreed.structured {
            let found = contexts(&mut stream, option::LIST_META_CONTEXT, &name, &[])?;
            export.contexts = found.into_iter().map(|(_, name)| name).collect();
        }
        exports.push(ExportInfo { name, description, extended: agreed.extended, ..export });
    }
    send(&mut stream, option::ABORT, &[])?;
    stream.finish();
    Ok(exports)
}

/// Begins TLS if that is wanted.
fn secure(stream: &mut Stream, address: &Address, tls: Option<&Tls>) -> io::Result<()> {
    let Some(tls) = tls else { return Ok(()) };
    ask(stream, option::STARTTLS, &[], |_, _| Ok(()))?;
    let own_name = match address {
        Address::Tcp { host, .. } => Some(host.as_str()),
        _ => None,
    };
    stream.secure_to(&tls.credentials, tls.hostname.as_deref().or(own_name))
}

/// Hears what the server begins with. One of the old style tells of its only export and negotiates
/// nothing.
fn greet(stream: &mut Stream) -> io::Result<Option<ExportInfo>> {
    if read::<u64>(stream)? != wire::GREETING {
        return Err(said("Bad initial magic received"));
    }
    match read::<u64>(stream)? {
        wire::OPTION => {}
        wire::OLD_STYLE => return old_style(stream).map(Some),
        other => return Err(said(&format!("Bad server magic received: {other:#x}"))),
    }
    let offered: u16 = read(stream)?;
    if offered & handshake::FIXED_NEWSTYLE == 0 {
        return Err(wire::broken("the server lacks the fixed newstyle negotiation"));
    }
    let taken = u32::from(offered & (handshake::FIXED_NEWSTYLE | handshake::NO_ZEROES));
    stream.write_all(&taken.to_be_bytes())?;
    Ok(None)
}

/// The rest of what a server of the old style says: length and flags, and room for more.
fn old_style(stream: &mut Stream) -> io::Result<ExportInfo> {
    let size: u64 = read(stream)?;
    let flags: u32 = read(stream)?;
    if i64::try_from(size).is_err() {
        return Err(said("Length is too large"));
    }
    read_bytes(stream, wire::OLD_STYLE_ROOM)?;
    // The upper half are flags of the negotiation that there is not.
    let flags = flags as u16;
    Ok(ExportInfo {
        size,
        flags,
        block_sizes: (1, 4096, crate::MAX_PAYLOAD),
        ..ExportInfo::default()
    })
}

/// What the peer says, in its words.
fn said(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text.to_owned())
}

/// Asks for the best form of replies that the server has.
fn dialect(stream: &mut Stream, agreed: &mut Agreed) -> io::Result<()> {
    agreed.extended = offered(stream, option::EXTENDED_HEADERS)?;
    agreed.structured = agreed.extended || offered(stream, option::STRUCTURED_REPLY)?;
    Ok(())
}

/// Whether the server agrees to an option without data.
fn offered(stream: &mut Stream, kind: u32) -> io::Result<bool> {
    match ask(stream, kind, &[], |_, _| Ok(())) {
        Ok(()) => Ok(true),
        // A server that wants TLS says so again when it comes to the export, and the user is told then.
        Err(e) if e.kind() == io::ErrorKind::Unsupported => Ok(false),
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Ok(false),
        Err(e) => Err(e),
    }
}

fn send(stream: &mut Stream, kind: u32, data: &[u8]) -> io::Result<()> {
    let mut message = wire::OPTION.to_be_bytes().to_vec();
    message.extend_from_slice(&kind.to_be_bytes());
    // Options that are sent hold a name and a few numbers.
    message.extend_from_slice(&(data.len() as u32).to_be_bytes());
    message.extend_from_slice(data);
    stream.write_all(&message)
}

/// Sends an option and gives every reply to `hear`, up to the one that ends them.
fn ask(
    stream: &mut Stream,
    kind: u32,
    data: &[u8],
    mut hear: impl FnMut(u32, &[u8]) -> io::Result<()>,
) -> io::Result<()> {
    send(stream, kind, data)?;
    for _ in 0..MAX_REPLIES {
        if read::<u64>(stream)? != wire::OPTION_REPLY || read::<u32>(stream)? != kind {
            return Err(wire::broken("a reply to something else"));
        }
        let (what, len): (u32, u32) = (read(stream)?, read(stream)?);
        if len > MAX_OPTION {
            return Err(wire::broken("a reply is too long"));
        }
        let data = read_bytes(stream, len)?;
        match what {
            reply::ACK => return Ok(()),
            what if what & reply::ERROR != 0 => return Err(refused(kind, what, &data)),
            what => hear(what, &data)?,
        }
    }
    Err(wire::broken("replies without end"))
}

/// What a server says when it refuses.
fn refused(option: u32, what: u32, text: &[u8]) -> io::Error {
    use io::ErrorKind::{InvalidInput, NotFound, Other, PermissionDenied, Unsupported};
    let name = option::name(option);
    let (kind, words) = match what {
        reply::UNSUPPORTED => (Unsupported, format!("Unsupported option type {option} ({name})")),
        reply::POLICY => (Unsupported, format!("Denied by server for option {option} ({name})")),
        reply::INVALID => {
            (InvalidInput, format!("Invalid parameters for option {option} ({name})"))
        }
        reply::UNKNOWN => (NotFound, "Requested export not available".to_owned()),
        reply::TLS_REQUIRED => {
            let words = format!("TLS negotiation required before option {option} ({name})");
            (PermissionDenied, words + "\nDid you forget a valid tls-creds?")
        }
        reply::EXTENDED_REQUIRED => (Unsupported, "the server wants extended headers".to_owned()),
        _ => (Other, format!("the server refuses option {option} ({name})")),
    };
    // For people to read, so no more than they would.
    let said: String = String::from_utf8_lossy(text).chars().take(MAX_SAID).collect();
    let text = if said.is_empty() { words } else { format!("{words}\nserver reported: {said}") };
    io::Error::new(kind, text)
}

/// Asks about an export; with `GO` that is the choice.
fn describe(stream: &mut Stream, kind: u32, name: &str) -> io::Result<ExportInfo> {
    let mut data = Vec::new();
    put_text(&mut data, name);
    data.extend_from_slice(&2_u16.to_be_bytes());
    data.extend_from_slice(&info::DESCRIPTION.to_be_bytes());
    data.extend_from_slice(&info::BLOCK_SIZE.to_be_bytes());
    let block_sizes = (1, 4096, crate::MAX_PAYLOAD);
    let mut export = ExportInfo { name: name.to_owned(), block_sizes, ..ExportInfo::default() };
    let mut told = false;
    ask(stream, kind, &data, |what, data| {
        if what != reply::INFO {
            return Ok(());
        }
        let mut fields = Fields(data);
        match fields.number()? {
            info::EXPORT => {
                (export.size, export.flags, told) = (fields.number()?, fields.number()?, true);
            }
            info::DESCRIPTION => {
                export.description = String::from_utf8_lossy(fields.0).into_owned()
            }
            info::BLOCK_SIZE => {
                export.block_sizes = checked(fields.number()?, fields.number()?, fields.number()?)?;
            }
            _ => {}
        }
        Ok(())
    })?;
    if !told || i64::try_from(export.size).is_err() {
        return Err(wire::broken("the server does not tell how long the export is"));
    }
    Ok(export)
}

/// Block sizes as the protocol allows them.
fn checked(least: u32, preferred: u32, most: u32) -> io::Result<(u32, u32, u32)> {
    let fits = least.is_power_of_two() && least <= 65536 && most >= least;
    if fits && preferred.is_power_of_two() && preferred >= least {
        return Ok((least, preferred, most));
    }
    Err(wire::broken("block sizes that cannot be"))
}

/// Asks for contexts: identifiers and names.
fn contexts(
    stream: &mut Stream,
    kind: u32,
    export: &str,
    queries: &[&str],
) -> io::Result<Vec<(u32, String)>> {
    let mut data = Vec::new();
    put_text(&mut data, export);
    data.extend_from_slice(&(queries.len() as u32).to_be_bytes());
    queries.iter().for_each(|query| put_text(&mut data, query));
    let mut found = Vec::new();
    let asked = ask(stream, kind, &data, |what, data| {
        if what == reply::META_CONTEXT {
            let mut fields = Fields(data);
            found.push((fields.number()?, String::from_utf8_lossy(fields.0).into_owned()));
        }
        Ok(())
    });
    match asked {
        Err(e) if e.kind() == io::ErrorKind::Unsupported => Ok(Vec::new()),
        other => other.map(|()| found),
    }
}
