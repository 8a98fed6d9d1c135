//! One request after the other.

use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use graph::OpenError;
use rustls::crypto::ring;
use ureq::http::{HeaderMap, StatusCode};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, TlsProvider, parse_pem};
use ureq::{Agent, Proxy};

/// How a server is asked.
#[derive(Clone, Debug)]
pub struct Options {
    /// Address of the image.
    pub url: String,
    /// Bytes that are fetched beyond what is read.
    pub readahead: u64,
    /// The server's certificate must be signed by an authority that the host trusts.
    pub sslverify: bool,
    /// How long a request may take; no limit without.
    pub timeout: Option<Duration>,
    /// What the `Cookie` header says.
    pub cookie: Option<String>,
    /// Name and password for the server.
    pub user: Option<(String, String)>,
    /// Name and password for the proxy that the environment names.
    pub proxy_user: Option<(String, String)>,
}

impl Options {
    /// Bytes that are fetched beyond what is read, unless told otherwise.
    pub const READAHEAD: u64 = 256 << 10;
    /// How long a request may take, unless told otherwise.
    pub const TIMEOUT: Duration = Duration::from_secs(5);

    /// Nothing but an address.
    pub fn new(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            readahead: Self::READAHEAD,
            sslverify: true,
            timeout: Some(Self::TIMEOUT),
            cookie: None,
            user: None,
            proxy_user: None,
        }
    }
}

/// Times that a request is made before its failure is reported.
const ATTEMPTS: u32 = 3;
/// Longest header of a response.
const MAX_HEADER: usize = 64 << 10;

/// Where systems keep the authorities that they trust.
const AUTHORITIES: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// A server and what to tell it.
pub(crate) struct Client {
    agent: Agent,
    url: String,
    headers: Vec<(&'static str, String)>,
}

/// What a server says of an image.
pub(crate) struct Told {
    /// Length in bytes.
    pub size: Option<u64>,
    /// Parts of it can be asked for.
    pub ranges: bool,
}

impl Client {
    pub fn new(options: &Options) -> Result<Self, OpenError> {
        let mut headers = Vec::new();
        if let Some(cookie) = &options.cookie {
            headers.push(("Cookie", cookie.clone()));
        }
        if let Some((name, password)) = &options.user {
            let pair = options::base64::encode(format!("{name}:{password}").as_bytes());
            headers.push(("Authorization", format!("Basic {pair}")));
        }
        let tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .unversioned_rustls_crypto_provider(Arc::new(ring::default_provider()))
            .disable_verification(!options.sslverify)
            .root_certs(RootCerts::Specific(Arc::new(authorities(options)?)))
            .build();
        let config = Agent::config_builder()
            .tls_config(tls)
            .http_status_as_error(false)
            .timeout_global(options.timeout)
            .max_response_header_size(MAX_HEADER)
            .proxy(proxy(options)?)
            .user_agent("")
            .build();
        Ok(Self { agent: config.new_agent(), url: options.url.clone(), headers })
    }

    /// Asks what the image is like.
    ///
    /// # Errors
    /// The server cannot be reached, or refuses.
    pub fn head(&self) -> io::Result<Told> {
        let answer = retried(|| {
            let mut request = self.agent.head(&self.url);
            for (name, value) in &self.headers {
                request = request.header(*name, value);
            }
            request.call().map_err(failure)
        })?;
        refused(answer.status())?;
        let headers = answer.headers();
        let ranges = text(headers, "accept-ranges")
            .is_some_and(|units| units.split(',').any(|u| u.trim().eq_ignore_ascii_case("bytes")));
        let size = text(headers, "content-length").and_then(|len| len.trim().parse().ok());
        Ok(Told { size, ranges })
    }

    /// Reads `len` bytes at `offset`, both inside of an image of `size` bytes.
    ///
    /// # Errors
    /// The server cannot be reached, refuses, or gives something else than it was asked for.
    pub fn fetch(&self, offset: u64, len: usize, size: u64) -> io::Result<Vec<u8>> {
        let last = offset + (len as u64).max(1) - 1;
        retried(|| {
            let mut request = self.agent.get(&self.url);
            for (name, value) in &self.headers {
                request = request.header(*name, value);
            }
            let answer = request.header("Range", format!("bytes={offset}-{last}")).call();
            let answer = answer.map_err(failure)?;
            refused(answer.status())?;
            if answer.status() != StatusCode::PARTIAL_CONTENT {
                return Err(Failed::ForGood(io::Error::other(NO_RANGES)));
            }
            let range = text(answer.headers(), "content-range").and_then(parse_range);
            if range
                .is_none_or(|(start, total)| start != offset || total.is_some_and(|t| t != size))
            {
                let why = "the server gives another part than it was asked for";
                return Err(Failed::ForGood(io::Error::new(io::ErrorKind::InvalidData, why)));
            }
            let mut bytes = vec![0; len];
            let mut body = answer.into_body();
            body.as_reader().read_exact(&mut bytes).map_err(Failed::Perhaps)?;
            Ok(bytes)
        })
    }
}

/// What a server that only gives whole files is told.
pub(crate) const NO_RANGES: &str = "Server does not support 'range' (byte ranges).";

/// Why a request came to nothing.
enum Failed {
    /// The connection; another one may do.
    Perhaps(io::Error),
    /// The server has answered.
    ForGood(io::Error),
}

/// Makes a request, again if the connection breaks: one that was kept may have been closed.
fn retried<T>(mut request: impl FnMut() -> Result<T, Failed>) -> io::Result<T> {
    for _ in 1..ATTEMPTS {
        match request() {
            Ok(answer) => return Ok(answer),
            Err(Failed::ForGood(why)) => return Err(why),
            Err(Failed::Perhaps(_)) => {}
        }
    }
    request().map_err(|failed| match failed {
        Failed::Perhaps(why) | Failed::ForGood(why) => why,
    })
}

fn failure(error: ureq::Error) -> Failed {
    match error {
        ureq::Error::Io(why) => Failed::Perhaps(why),
        ureq::Error::ConnectionFailed | ureq::Error::Protocol(_) => {
            Failed::Perhaps(io::Error::new(io::ErrorKind::ConnectionRefused, error.to_string()))
        }
        ureq::Error::Timeout(_) => {
            let why = "Operation timed out".to_owned();
            Failed::ForGood(io::Error::new(io::ErrorKind::TimedOut, why))
        }
        other => Failed::ForGood(io::Error::other(other.to_string())),
    }
}

/// Refuses an answer that has no content to give.
fn refused(status: StatusCode) -> Result<(), Failed> {
    if status.is_success() {
        return Ok(());
    }
    let text = format!("The requested URL returned error: {}", status.as_u16());
    Err(Failed::ForGood(io::Error::other(text)))
}

impl From<Failed> for io::Error {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Perhaps(why) | Failed::ForGood(why) => why,
        }
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// First byte and, if it is told, length of the whole, from `bytes FIRST-LAST/TOTAL`.
fn parse_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.trim().strip_prefix("bytes")?.trim_start().split_once('/')?;
    let start = range.split_once('-')?.0.trim().parse().ok()?;
    let total = match total.trim() {
        "*" => None,
        number => Some(number.parse().ok()?),
    };
    Some((start, total))
}

/// The authorities that the host trusts; none are needed for http, or if nobody looks.
fn authorities(options: &Options) -> Result<Vec<Certificate<'static>>, OpenError> {
    if !options.sslverify {
        return Ok(Vec::new());
    }
    let named = std::env::var("SSL_CERT_FILE").ok();
    let paths = named.as_deref().into_iter().chain(AUTHORITIES.iter().copied());
    let Some(bundle) = paths.filter_map(|path| std::fs::read(path).ok()).next() else {
        // Every certificate will be refused, with words.
        return Ok(Vec::new());
    };
    let items = parse_pem(&bundle).filter_map(|item| match item {
        Ok(PemItem::Certificate(certificate)) => Some(certificate),
        _ => None,
    });
    Ok(items.collect())
}

/// The proxy that the environment names, with a name and a password of the user's.
fn proxy(options: &Options) -> Result<Option<Proxy>, OpenError> {
    let Some((proxy, (name, password))) = Proxy::try_from_env().zip(options.proxy_user.as_ref())
    else {
        return Ok(Proxy::try_from_env());
    };
    let built = Proxy::builder(proxy.protocol())
        .host(proxy.host())
        .port(proxy.port())
        .username(name)
        .password(password)
        .build();
    built.map(Some).map_err(|e| OpenError::Option(format!("CURL: Error opening file: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read() {
        assert_eq!(parse_range("bytes 5-9/100"), Some((5, Some(100))));
        assert_eq!(parse_range("bytes 5-9/*"), Some((5, None)));
        for wrong in ["", "bytes", "bytes */100", "items 1-2/3", "bytes 1-2", "bytes x-2/3"] {
            assert_eq!(parse_range(wrong), None, "{wrong}");
        }
    }
}
