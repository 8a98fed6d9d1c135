//! The negotiation: which export, and in which dialect.

use super::{Client, Export, Exports};
use crate::address::Stream;
use crate::meta::Context;
use crate::wire::{self, Fields, MAX_OPTION, info, option, put_text, read, read_bytes, reply};
use crate::{MAX_PAYLOAD, wire::handshake};
use std::io::{self, Write};

/// Most options that a client can send before it chooses.
const MAX_OPTIONS: u32 = 1000;

/// What both sides agreed upon.
pub(super) struct Agreed<'a> {
    pub export: &'a Export,
    /// Replies come in chunks.
    pub structured: bool,
    /// Headers have room for long lengths.
    pub extended: bool,
    /// Contexts that were chosen; the identifier is the index.
    pub contexts: Vec<Context>,
    /// The export stays as long as this does.
    _client: Client<'a>,
}

impl<'a> Agreed<'a> {
    /// What holds without any negotiation.
    pub fn without_negotiation(export: &'a Export, stream: &Stream) -> io::Result<Self> {
        let client = export.enter(stream)?;
        let (structured, extended, contexts) = Default::default();
        Ok(Self { export, structured, extended, contexts, _client: client })
    }
}

struct Handshake<'a, 's> {
    exports: &'a Exports,
    stream: &'s mut Stream,
    no_zeroes: bool,
    structured: bool,
    extended: bool,
    /// Contexts chosen, and for which export.
    chosen: Option<(&'a str, Vec<Context>)>,
}

/// Negotiates; `None` if the client leaves. Afterwards the stream is the one to go on with.
pub(super) fn run<'a>(exports: &'a Exports, stream: &mut Stream) -> io::Result<Option<Agreed<'a>>> {
    let mut greeting = Vec::new();
    greeting.extend_from_slice(&wire::GREETING.to_be_bytes());
    greeting.extend_from_slice(&wire::OPTION.to_be_bytes());
    let offered = handshake::FIXED_NEWSTYLE | handshake::NO_ZEROES;
    greeting.extend_from_slice(&offered.to_be_bytes());
    stream.write_all(&greeting)?;
    let flags: u32 = read(stream)?;
    if flags & !u32::from(offered) != 0 {
        return Err(wire::broken("the client has flags that were not offered"));
    }
    if let Some(own) = &exports.tls {
        if !wait_for_tls(stream)? {
            return Ok(None);
        }
        stream.secure_from(own)?;
    }
    let no_zeroes = flags & u32::from(handshake::NO_ZEROES) != 0;
    let (structured, extended, chosen) = (false, false, None);
    Handshake { exports, stream, no_zeroes, structured, extended, chosen }.haggle()
}

/// Refuses everything until the client begins TLS; `false` if it leaves.
fn wait_for_tls(stream: &mut Stream) -> io::Result<bool> {
    for _ in 0..MAX_OPTIONS {
        let (kind, data) = next_option(stream)?;
        match (kind, data.as_deref()) {
            (option::EXPORT_NAME, _) => {
                return Err(wire::broken("the client does not begin with TLS"));
            }
            (option::ABORT, _) => {
                // Who leaves may not wait for the answer.
                let _ = answer(stream, kind, reply::ACK, &[]);
                return Ok(false);
            }
            (option::STARTTLS, Some([])) => {
                answer(stream, kind, reply::ACK, &[])?;
                return Ok(true);
            }
            (option::STARTTLS, _) => {
                answer(stream, kind, reply::INVALID, b"OPT_STARTTLS has no data")?;
            }
            _ => {
                let text = format!("Option {kind:#x} not permitted before TLS");
                answer(stream, kind, reply::TLS_REQUIRED, text.as_bytes())?;
            }
        }
    }
    Err(wire::broken("the client sends options without end"))
}

/// Reads an option and its data, if that is not too long.
fn next_option(stream: &mut Stream) -> io::Result<(u32, Option<Vec<u8>>)> {
    if read::<u64>(stream)? != wire::OPTION {
        return Err(wire::broken("an option begins wrongly"));
    }
    let (kind, len): (u32, u32) = (read(stream)?, read(stream)?);
    if len > MAX_OPTION {
        wire::skip(stream, u64::from(len))?;
        return Ok((kind, None));
    }
    Ok((kind, Some(read_bytes(stream, len)?)))
}

fn answer(stream: &mut Stream, kind: u32, what: u32, data: &[u8]) -> io::Result<()> {
    let mut message = Vec::with_capacity(20 + data.len());
    message.extend_from_slice(&wire::OPTION_REPLY.to_be_bytes());
    message.extend_from_slice(&kind.to_be_bytes());
    message.extend_from_slice(&what.to_be_bytes());
    // What is answered is shorter than an option may be, or a few names.
    message.extend_from_slice(&(data.len() as u32).to_be_bytes());
    message.extend_from_slice(data);
    stream.write_all(&message)
}

impl<'a> Handshake<'a, '_> {
    fn haggle(mut self) -> io::Result<Option<Agreed<'a>>> {
        for _ in 0..MAX_OPTIONS {
            let (kind, data) = next_option(self.stream)?;
            let Some(data) = data else {
                self.answer(kind, reply::TOO_BIG, b"the option is too long")?;
                continue;
            };
            match kind {
                option::EXPORT_NAME => return self.export_name(&data).map(Some),
                option::ABORT => {
                    // Who leaves may not wait for the answer.
                    let _ = self.answer(kind, reply::ACK, &[]);
                    return Ok(None);
                }
                option::GO | option::INFO => {
                    let Some(export) = self.describe(kind, &data)? else { continue };
                    if kind == option::GO {
                        // Noted before it is told, so that the export does not go in between.
                        let client = export.enter(self.stream)?;
                        self.answer(kind, reply::ACK, &[])?;
                        return Ok(Some(self.agree(export, client)));
                    }
                    self.answer(kind, reply::ACK, &[])?;
                }
                option::LIST => self.list(&data)?,
                option::STRUCTURED_REPLY => self.structured_reply(&data)?,
                option::EXTENDED_HEADERS => self.extended_headers(&data)?,
                option::LIST_META_CONTEXT | option::SET_META_CONTEXT => {
                    self.meta_context(kind, &data)?;
                }
                option::STARTTLS if self.exports.tls.is_some() => {
                    self.answer(kind, reply::INVALID, b"TLS already enabled")?;
                }
                option::STARTTLS => self.answer(kind, reply::POLICY, b"TLS not configured")?,
                _ => self.answer(kind, reply::UNSUPPORTED, b"unknown option")?,
            }
        }
        Err(wire::broken("the client sends options without end"))
    }

    fn agree(self, export: &'a Export, client: Client<'a>) -> Agreed<'a> {
        let contexts = match self.chosen {
            Some((name, contexts)) if name == export.name => contexts,
            _ => Vec::new(),
        };
        let (structured, extended) = (self.structured, self.extended);
        Agreed { export, structured, extended, contexts, _client: client }
    }

    fn answer(&mut self, kind: u32, what: u32, data: &[u8]) -> io::Result<()> {
        answer(self.stream, kind, what, data)
    }

    /// The oldest way to choose: there is no way to refuse but to hang up.
    fn export_name(self, data: &[u8]) -> io::Result<Agreed<'a>> {
        let name = std::str::from_utf8(data).map_err(|_| wire::broken("a name is not UTF-8"))?;
        let export = self.exports.named(name);
        let export = export.ok_or_else(|| wire::broken("the client wants an unknown export"))?;
        let mut message = Vec::new();
        message.extend_from_slice(&export.node.size().to_be_bytes());
        message.extend_from_slice(&export.abilities().to_be_bytes());
        if !self.no_zeroes {
            message.extend_from_slice(&[0; 124]);
        }
        let client = export.enter(self.stream)?;
        self.stream.write_all(&message)?;
        Ok(self.agree(export, client))
    }

    /// Tells about an export, all but the last answer; `None` if there is none of that name.
    fn describe(&mut self, kind: u32, data: &[u8]) -> io::Result<Option<&'a Export>> {
        let mut fields = Fields(data);
        let parsed = fields.text().and_then(|name| {
            let count: u16 = fields.number()?;
            let wanted =
                (0..count).map(|_| fields.number::<u16>()).collect::<io::Result<Vec<_>>>()?;
            Ok((name, wanted))
        });
        let Ok((name, wanted)) = parsed else {
            self.answer(kind, reply::INVALID, b"the option is malformed")?;
            return Ok(None);
        };
        let Some(export) = self.exports.named(&name) else {
            self.answer(kind, reply::UNKNOWN, not_present(&name).as_bytes())?;
            return Ok(None);
        };
        for what in [info::NAME, info::DESCRIPTION, info::BLOCK_SIZE, info::EXPORT] {
            let text = match what {
                info::NAME => export.name.as_bytes().to_vec(),
                info::DESCRIPTION => export.description.as_bytes().to_vec(),
                info::BLOCK_SIZE => block_sizes(export),
                _ => {
                    let mut message = export.node.size().to_be_bytes().to_vec();
                    message.extend_from_slice(&export.abilities_in(self.structured).to_be_bytes());
                    message
                }
            };
            let unasked = matches!(what, info::EXPORT | info::BLOCK_SIZE);
            if unasked || wanted.contains(&what) && !text.is_empty() {
                let message = [what.to_be_bytes().as_slice(), &text].concat();
                self.answer(kind, reply::INFO, &message)?;
            }
        }
        Ok(Some(export))
    }

    fn list(&mut self, data: &[u8]) -> io::Result<()> {
        if !data.is_empty() {
            return self.answer(option::LIST, reply::INVALID, b"the option has no data");
        }
        for export in &self.exports.list {
            let mut message = Vec::new();
            put_text(&mut message, &export.name);
            message.extend_from_slice(export.description.as_bytes());
            self.answer(option::LIST, reply::SERVER, &message)?;
        }
        self.answer(option::LIST, reply::ACK, &[])
    }

    fn structured_reply(&mut self, data: &[u8]) -> io::Result<()> {
        let kind = option::STRUCTURED_REPLY;
        if !data.is_empty() || self.structured {
            return self.answer(kind, reply::INVALID, b"only once, and without data");
        }
        self.structured = true;
        self.answer(kind, reply::ACK, &[])
    }

    fn extended_headers(&mut self, data: &[u8]) -> io::Result<()> {
        let kind = option::EXTENDED_HEADERS;
        if !data.is_empty() || self.extended {
            return self.answer(kind, reply::INVALID, b"only once, and without data");
        }
        (self.extended, self.structured) = (true, true);
        self.answer(kind, reply::ACK, &[])
    }

    fn meta_context(&mut self, kind: u32, data: &[u8]) -> io::Result<()> {
        let listing = kind == option::LIST_META_CONTEXT;
        if !listing {
            self.chosen = None;
            if !self.structured {
                return self.answer(kind, reply::INVALID, b"structured replies come first");
            }
        }
        let mut fields = Fields(data);
        let parsed = fields.text().and_then(|name| {
            let count: u32 = fields.number()?;
            // Each takes four bytes at least, so the loop ends with the data.
            let queries = (0..count).map(|_| fields.text()).collect::<io::Result<Vec<_>>>()?;
            Ok((name, queries))
        });
        let Ok((name, queries)) = parsed else {
            return self.answer(kind, reply::INVALID, b"the option is malformed");
        };
        let Some(export) = self.exports.named(&name) else {
            return self.answer(kind, reply::UNKNOWN, not_present(&name).as_bytes());
        };
        let wanted = |context: &&Context| {
            listing && queries.is_empty() || queries.iter().any(|q| context.answers(q, listing))
        };
        let found: Vec<Context> = export.contexts.iter().filter(wanted).cloned().collect();
        for (id, context) in found.iter().enumerate() {
            let id = if listing { 0 } else { id as u32 };
            let message = [id.to_be_bytes().as_slice(), context.name().as_bytes()].concat();
            self.answer(kind, reply::META_CONTEXT, &message)?;
        }
        if !listing {
            self.chosen = Some((&export.name, found));
        }
        self.answer(kind, reply::ACK, &[])
    }
}

fn not_present(name: &str) -> String {
    format!("export '{name}' not present")
}

/// Smallest, preferred and largest length of a request.
fn block_sizes(export: &Export) -> Vec<u8> {
    let limits = export.node.limits();
    let least = limits.request_alignment.max(1);
    let preferred = limits.discard_granularity.clamp(4096, MAX_PAYLOAD).max(least);
    [least, preferred, MAX_PAYLOAD].iter().flat_map(|n| n.to_be_bytes()).collect()
}

impl Export {
    /// As [`Export::abilities`], with what only structured replies can do.
    fn abilities_in(&self, structured: bool) -> u16 {
        let whole = if structured { wire::ability::DONT_FRAGMENT } else { 0 };
        self.abilities() | whole
    }
}
