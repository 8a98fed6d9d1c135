//! Folders of certificates as `tls-creds-x509` wants them, made for one test.

use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};

/// An authority that signs.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    /// One of its own.
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, "authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Fills `folder` for a server called `localhost`, 127.0.0.1 and `server.test`.
    pub fn server(&self, folder: &Path) {
        self.fill(folder, "server", ExtendedKeyUsagePurpose::ServerAuth);
    }

    /// Fills `folder` for a client with a certificate of its own.
    pub fn client(&self, folder: &Path) {
        self.fill(folder, "client", ExtendedKeyUsagePurpose::ClientAuth);
    }

    /// Fills `folder` for a client without one.
    pub fn stranger(&self, folder: &Path) {
        std::fs::create_dir_all(folder).unwrap();
        std::fs::write(folder.join("ca-cert.pem"), self.0.pem()).unwrap();
    }

    fn fill(&self, folder: &Path, role: &str, purpose: ExtendedKeyUsagePurpose) {
        let names = ["localhost", "127.0.0.1", "server.test"].map(str::to_owned);
        let mut params = CertificateParams::new(names.to_vec()).unwrap();
        params.distinguished_name.push(DnType::CommonName, role);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages =
            vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages = vec![purpose];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        self.stranger(folder);
        std::fs::write(folder.join(format!("{role}-cert.pem")), certificate.pem()).unwrap();
        std::fs::write(folder.join(format!("{role}-key.pem")), key.serialize_pem()).unwrap();
    }
}
