//! `tls-creds-x509`: certificates and keys in the files of one folder.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use options::List;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{
    CertificateDer, CertificateRevocationListDer, PrivateKeyDer, ServerName, UnixTime,
};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use super::verify;
use crate::secret::host_text;

/// Which end of a connection credentials are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// Who connects.
    Client,
    /// Who is called.
    Server,
}

impl Endpoint {
    fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
        }
    }
}

/// Certificates and keys, read and checked.
pub struct Credentials {
    role: Role,
    /// The other side must show a certificate that the authority signed.
    verify_peer: bool,
}

enum Role {
    Client(Arc<ClientConfig>),
    Server(Arc<ServerConfig>),
}

/// What the folder holds.
struct Files {
    folder: PathBuf,
    roots: Arc<RootCertStore>,
    revoked: Vec<CertificateRevocationListDer<'static>>,
    own: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
}

impl Credentials {
    /// Reads what the options of the object name: `dir`, `endpoint`, `verify-peer`, `sanity-check`.
    ///
    /// # Errors
    /// With QEMU's words where scripts know them.
    pub(crate) fn parse(list: &mut List) -> Result<Self, String> {
        for waiting in ["passwordid", "priority"] {
            if list.take(waiting).is_some() {
                return Err(format!("not supported yet: {waiting}= of tls-creds-x509"));
            }
        }
        let endpoint = match list.take("endpoint").map(|item| item.value).as_deref() {
            None | Some("client") => Endpoint::Client,
            Some("server") => Endpoint::Server,
            Some(other) => {
                return Err(format!("Parameter 'endpoint' does not accept value '{other}'"));
            }
        };
        let mut switch = |key| list.take_bool(key).map_err(|e| e.to_string());
        let verify_peer = switch("verify-peer")?.unwrap_or(true);
        let sane = switch("sanity-check")?.unwrap_or(true);
        let folder = list.take("dir").ok_or("Missing 'dir' property value")?.value;
        Self::load(Path::new(&folder), endpoint, verify_peer, sane)
    }

    /// Reads the files of `folder` for one end of connections: `ca-cert.pem`, `ca-crl.pem` if there is
    /// one, and `server-cert.pem` with `server-key.pem`, or their client counterparts if they are there.
    /// `sane`: the own certificate must be what the other side will accept.
    ///
    /// # Errors
    /// A file that is needed is missing, or is not what its name says.
    pub fn load(
        folder: &Path,
        endpoint: Endpoint,
        verify_peer: bool,
        sane: bool,
    ) -> Result<Self, String> {
        let files = Files::read(folder, endpoint)?;
        if sane {
            files.check_own(endpoint)?;
        }
        let role = match endpoint {
            Endpoint::Client => Role::Client(Arc::new(files.client(verify_peer)?)),
            Endpoint::Server => Role::Server(Arc::new(files.server(verify_peer)?)),
        };
        Ok(Self { role, verify_peer })
    }

    /// Refuses credentials that are for the other end.
    ///
    /// # Errors
    /// With QEMU's words.
    pub fn check_endpoint(&self, wanted: Endpoint) -> Result<(), String> {
        let own = match self.role {
            Role::Client(_) => Endpoint::Client,
            Role::Server(_) => Endpoint::Server,
        };
        if own == wanted {
            return Ok(());
        }
        Err(format!("Expected TLS credentials for a {} endpoint", wanted.name()))
    }

    /// Begins a session with a server of that name.
    pub(super) fn client(&self, hostname: Option<&str>) -> io::Result<rustls::Connection> {
        let Role::Client(config) = &self.role else {
            return Err(invalid("Expected TLS credentials for a client endpoint"));
        };
        let name = match hostname {
            Some(name) => ServerName::try_from(name.to_owned())
                .map_err(|_| invalid(&format!("Certificate does not match the hostname {name}")))?,
            None if self.verify_peer => {
                return Err(invalid("No hostname for certificate validation"));
            }
            // Nobody looks at it; an address is not sent along.
            None => ServerName::IpAddress(std::net::Ipv4Addr::LOCALHOST.into()),
        };
        let session = rustls::ClientConnection::new(Arc::clone(config), name);
        session.map(Into::into).map_err(io::Error::other)
    }

    /// Begins a session with a client.
    pub(super) fn server(&self) -> io::Result<rustls::Connection> {
        let Role::Server(config) = &self.role else {
            return Err(invalid("Expected TLS credentials for a server endpoint"));
        };
        let session = rustls::ServerConnection::new(Arc::clone(config));
        session.map(Into::into).map_err(io::Error::other)
    }
}

fn invalid(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

impl Files {
    fn read(folder: &Path, endpoint: Endpoint) -> Result<Self, String> {
        let path = |name: &str| folder.join(name);
        let needed = |path: &Path| {
            fs::read(path).map_err(|e| {
                format!("Unable to access credentials {}: {}", path.display(), host_text(&e))
            })
        };
        let authority = path("ca-cert.pem");
        let not_authority =
            || format!("Unable to import CA certificate list {}", authority.display());
        let mut roots = RootCertStore::empty();
        for root in certificates(&needed(&authority)?).ok_or_else(not_authority)? {
            roots.add(root).map_err(|_| not_authority())?;
        }
        let list = path("ca-crl.pem");
        let revoked = match fs::read(&list) {
            Ok(text) => CertificateRevocationListDer::pem_slice_iter(&text)
                .collect::<Result<_, _>>()
                .map_err(|e| format!("Cannot load CRL {}: {e}", list.display()))?,
            Err(_) => Vec::new(),
        };
        let certificate = path(&format!("{}-cert.pem", endpoint.name()));
        let key = path(&format!("{}-key.pem", endpoint.name()));
        // A client may have none of its own, or both files.
        let own = if endpoint == Endpoint::Server || certificate.exists() || key.exists() {
            let (text, secret) = (needed(&certificate)?, zeroize::Zeroizing::new(needed(&key)?));
            let chain = certificates(&text).ok_or_else(|| {
                let kind = endpoint.name();
                format!("Unable to import {kind} certificate {}", certificate.display())
            })?;
            let secret = PrivateKeyDer::from_pem_slice(&secret)
                .map_err(|e| mismatch(&certificate, &key, &e.to_string()))?;
            Some((chain, secret))
        } else {
            None
        };
        Ok(Self { folder: folder.to_owned(), roots: Arc::new(roots), revoked, own })
    }

    /// Refuses an own certificate that no peer with the same authority would accept.
    fn check_own(&self, endpoint: Endpoint) -> Result<(), String> {
        let Some((chain, _)) = &self.own else { return Ok(()) };
        let Some((own, others)) = chain.split_first() else { return Ok(()) };
        let checked = match endpoint {
            Endpoint::Client => self
                .client_verifier()
                .and_then(|verifier| {
                    let seen = verifier.verify_client_cert(own, others, UnixTime::now());
                    seen.map_err(|e| verify::reason(&e))
                })
                .map(|_| ()),
            Endpoint::Server => verify::server_chain(&self.roots, own, others),
        };
        checked.map_err(|why| {
            let file = |name: &str| self.folder.join(name).display().to_string();
            let certificate = file(&format!("{}-cert.pem", endpoint.name()));
            if why == verify::EXPIRED {
                return format!("The {} certificate {certificate} has expired", endpoint.name());
            }
            let authority = file("ca-cert.pem");
            format!(
                "Our own certificate {certificate} failed validation against {authority}: {why}"
            )
        })
    }

    fn client_verifier(
        &self,
    ) -> Result<Arc<dyn rustls::server::danger::ClientCertVerifier>, String> {
        WebPkiClientVerifier::builder_with_provider(Arc::clone(&self.roots), verify::provider())
            .with_crls(self.revoked.iter().cloned())
            .allow_unknown_revocation_status()
            .build()
            .map_err(|e| e.to_string())
    }

    fn mismatch(&self, endpoint: Endpoint, error: &rustls::Error) -> String {
        let name = |part: &str| self.folder.join(format!("{}-{part}.pem", endpoint.name()));
        mismatch(&name("cert"), &name("key"), &error.to_string())
    }

    fn client(&self, verify_peer: bool) -> Result<ClientConfig, String> {
        let builder = ClientConfig::builder_with_provider(verify::provider())
            .with_safe_default_protocol_versions()
            .map_err(|e| e.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(verify::of_server(
                &self.roots,
                &self.revoked,
                verify_peer,
            )?);
        let mut config = match &self.own {
            Some((chain, key)) => builder
                .with_client_auth_cert(chain.clone(), key.clone_key())
                .map_err(|e| self.mismatch(Endpoint::Client, &e))?,
            None => builder.with_no_client_auth(),
        };
        config.resumption = rustls::client::Resumption::disabled();
        Ok(config)
    }

    fn server(&self, verify_peer: bool) -> Result<ServerConfig, String> {
        let builder = ServerConfig::builder_with_provider(verify::provider())
            .with_safe_default_protocol_versions()
            .map_err(|e| e.to_string())?;
        let builder = if verify_peer {
            builder.with_client_cert_verifier(self.client_verifier()?)
        } else {
            builder.with_no_client_auth()
        };
        let Some((chain, key)) = &self.own else {
            return Err("a server needs a certificate".to_owned());
        };
        let mut config = builder
            .with_single_cert(chain.clone(), key.clone_key())
            .map_err(|e| self.mismatch(Endpoint::Server, &e))?;
        config.send_tls13_tickets = 0;
        Ok(config)
    }
}

/// All certificates of a file in PEM form, at least one.
fn certificates(text: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(text).collect::<Result<_, _>>().ok()?;
    (!found.is_empty()).then_some(found)
}

fn mismatch(certificate: &Path, key: &Path, why: &str) -> String {
    format!("Cannot load certificate '{}' & key '{}': {why}", certificate.display(), key.display())
}
