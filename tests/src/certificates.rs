//! Certificates of our own, in files.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, PKCS_RSA_SHA256, RsaKeySize};

/// What signs others.
#[derive(Debug)]
pub struct Root {
    folder: PathBuf,
    /// Its certificate.
    pub path: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Root {
    /// Makes one of this name; all that is its own lies in `folder`.
    ///
    /// # Panics
    /// When it cannot be written.
    #[must_use]
    pub fn new(folder: &Path, name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let (key, path) = (KeyPair::generate().expect("a key"), folder.join(format!("{name}.pem")));
        std::fs::write(&path, params.self_signed(&key).expect("signed").pem()).expect("written");
        Self { folder: folder.to_owned(), path, issuer: Issuer::new(params, key) }
    }

    /// A certificate for this name and for 127.0.0.1, and its key on P-256.
    ///
    /// # Panics
    /// When they cannot be written.
    #[must_use]
    pub fn sign(&self, name: &str) -> [PathBuf; 2] {
        self.sign_key(name, name, &KeyPair::generate().expect("a key"))
    }

    /// The same with an RSA key.
    ///
    /// # Panics
    /// When they cannot be written.
    #[must_use]
    pub fn sign_rsa(&self, name: &str) -> [PathBuf; 2] {
        let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).expect("a key");
        self.sign_key(name, &format!("{name}-rsa"), &key)
    }

    fn sign_key(&self, name: &str, file: &str, key: &KeyPair) -> [PathBuf; 2] {
        let mut params = CertificateParams::new(vec![name.to_owned(), "127.0.0.1".into()]).expect("parameters");
        params.distinguished_name.push(DnType::CommonName, name);
        let pair = ["pem", "key"].map(|kind| self.folder.join(format!("{file}.{kind}")));
        std::fs::write(&pair[0], params.signed_by(key, &self.issuer).expect("signed").pem()).expect("written");
        std::fs::write(&pair[1], key.serialize_pem()).expect("written");
        pair
    }
}

/// A root, and a certificate of it with its key, for a server and for a client.
///
/// # Panics
/// When they cannot be written.
#[must_use]
pub fn certificates(folder: &Path) -> [PathBuf; 5] {
    let root = Root::new(folder, "root");
    let [[server, server_key], [client, client_key]] = ["localhost", "client"].map(|name| root.sign(name));
    [root.path, server, server_key, client, client_key]
}
