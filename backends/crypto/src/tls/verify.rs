//! Whether a certificate is one to trust, and QEMU's words when it is not.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

/// A certificate whose time is over.
pub(super) const EXPIRED: &str = "The certificate has expired";

/// The algorithms that are used.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// What is wrong, in words that scripts know.
pub(super) fn reason(error: &Error) -> String {
    let Error::InvalidCertificate(why) = error else { return error.to_string() };
    match why {
        // An issuer of that name with another key is another issuer.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "The certificate hasn't got a known issuer"
        }
        CertificateError::Revoked => "The certificate has been revoked",
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => EXPIRED,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "The certificate is not yet activated"
        }
        _ => return format!("The certificate is not trusted: {why}"),
    }
    .to_owned()
}

/// The verifier that a client uses.
pub(super) fn of_server(
    roots: &Arc<RootCertStore>,
    revoked: &[CertificateRevocationListDer<'static>],
    verify_peer: bool,
) -> Result<Arc<dyn ServerCertVerifier>, String> {
    if !verify_peer {
        return Ok(Arc::new(Anybody(provider())));
    }
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::clone(roots), provider())
        .with_crls(revoked.iter().cloned())
        .allow_unknown_revocation_status()
        .build();
    verifier.map(|v| v as Arc<dyn ServerCertVerifier>).map_err(|e| e.to_string())
}

/// Whether the authority signed a server's certificate, whatever name it has.
pub(super) fn server_chain(
    roots: &Arc<RootCertStore>,
    own: &CertificateDer<'_>,
    others: &[CertificateDer<'_>],
) -> Result<(), String> {
    let verifier = of_server(roots, &[], true)?;
    let nobody = ServerName::try_from("name.invalid").map_err(|e| e.to_string())?;
    match verifier.verify_server_cert(own, others, &nobody, &[], UnixTime::now()) {
        // The name is looked at last.
        Ok(_) => Ok(()),
        Err(Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        )) => Ok(()),
        Err(e) => Err(reason(&e)),
    }
}

/// `verify-peer=off`: whoever holds the key of its own certificate is let in.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _own: &CertificateDer<'_>,
        _others: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, cert, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, cert, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
