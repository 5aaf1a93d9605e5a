//! TLS as a server and as a client, to the BCP 195 profile (RFC 9325; PS3.15 annexes B.12 and B.13): 1.2 and 1.3 only, forward
//! secrecy and authenticated encryption only. A server's certificate is always verified, clients' where roots for them are
//! configured.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::config::{PeerTlsConfig, TlsConfig};

const VERSIONS: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];

/// Certificates or key cannot be used: the operator's to mend.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read as PEM.
    #[error("{key} = {path}: {reason}", path = path.display())]
    File {
        /// Of the configuration.
        key: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Certificate and key do not belong together, or are of a kind that is not supported.
    #[error("certificate = {certificate} with key = {key}: {reason}", certificate = certificate.display(), key = key.display())]
    Pair {
        /// The certificate.
        certificate: PathBuf,
        /// The key.
        key: PathBuf,
        /// Why.
        reason: String,
    },
    /// No name that a certificate can have.
    #[error("server_name = {0:?} is neither a DNS name nor an IP address")]
    Name(String),
}

/// Reads the files and makes a server of them.
///
/// # Errors
/// Names the key of the configuration, the file, and what is wrong with it.
pub fn server_config(config: &TlsConfig) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(provider());
    let (chain, key) = own(&config.certificate, &config.key)?;
    let pair = |e| pair(&config.certificate, &config.key, &e);
    let builder =
        ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(VERSIONS).expect(SUITES_FIT);
    let builder = match &config.client_roots {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let roots = roots("client_roots", path)?;
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.map_err(|e| file("client_roots", path, e))?)
        }
    };
    builder.with_single_cert(chain, key).map(Arc::new).map_err(pair)
}

/// Calls one peer.
#[derive(Clone)]
pub struct Client {
    connector: TlsConnector,
    /// In the peer's certificate; the host that is called when not set.
    name: Option<ServerName<'static>>,
}

impl Client {
    /// Reads the files.
    ///
    /// # Errors
    /// Names the key of the configuration, the file, and what is wrong with it.
    pub fn new(config: &PeerTlsConfig) -> Result<Self, TlsError> {
        let builder = ClientConfig::builder_with_provider(Arc::new(provider()))
            .with_protocol_versions(VERSIONS)
            .expect(SUITES_FIT)
            .with_root_certificates(roots("roots", &config.roots)?);
        let client = match (&config.certificate, &config.key) {
            (Some(certificate), Some(key)) => {
                let (chain, private) = own(certificate, key)?;
                builder.with_client_auth_cert(chain, private).map_err(|e| pair(certificate, key, &e))?
            }
            _ => builder.with_no_client_auth(),
        };
        let name = config.server_name.clone().map(|name| server_name(&name).ok_or(TlsError::Name(name))).transpose()?;
        Ok(Self { connector: TlsConnector::from(Arc::new(client)), name })
    }

    /// The handshake, with a peer that was called under this name or address.
    ///
    /// # Errors
    /// The network's, or the peer's: it has no certificate of this name that the roots sign.
    pub async fn connect<S: AsyncRead + AsyncWrite + Unpin>(&self, host: &str, stream: S) -> io::Result<TlsStream<S>> {
        let name = self.name.clone().or_else(|| server_name(host));
        let name = name.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "its host is no name for TLS"))?;
        self.connector.connect(name, stream).await
    }
}

fn server_name(text: &str) -> Option<ServerName<'static>> {
    ServerName::try_from(text.to_owned()).ok()
}

const SUITES_FIT: &str = "there are suites for both versions";

/// A certificate with those up to its root, and its key.
fn own(certificate: &Path, key: &Path) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
    let chain = certificates("certificate", certificate)?;
    Ok((chain, PrivateKeyDer::from_pem_file(key).map_err(|e| file("key", key, e))?))
}

fn pair(certificate: &Path, key: &Path, reason: &rustls::Error) -> TlsError {
    TlsError::Pair { certificate: certificate.to_owned(), key: key.to_owned(), reason: reason.to_string() }
}

fn roots(key: &'static str, path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for root in certificates(key, path)? {
        roots.add(root).map_err(|e| file(key, path, e))?;
    }
    Ok(roots)
}

/// Named one by one, so that an update of the library adds none.
fn provider() -> CryptoProvider {
    use aws_lc_rs::cipher_suite as suite;
    CryptoProvider {
        cipher_suites: vec![
            suite::TLS13_AES_256_GCM_SHA384,
            suite::TLS13_AES_128_GCM_SHA256,
            suite::TLS13_CHACHA20_POLY1305_SHA256,
            suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
            suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
            suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
            suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
            suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
            suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
        ],
        ..aws_lc_rs::default_provider()
    }
}

fn certificates(key: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read.map_err(|e| file(key, path, e))? {
        none if none.is_empty() => Err(file(key, path, "there is no certificate (BEGIN CERTIFICATE) in it")),
        certificates => Ok(certificates),
    }
}

fn file(key: &'static str, path: &Path, reason: impl std::fmt::Display) -> TlsError {
    TlsError::File { key, path: path.to_owned(), reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_used_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let [certificate, key, other, empty] =
            ["c.pem", "k.pem", "o.pem", "e.pem"].map(|name| folder.path().join(name));
        let made = rcgen::generate_simple_self_signed(["localhost".into()]).expect("made");
        std::fs::write(&certificate, made.cert.pem()).expect("written");
        std::fs::write(&key, made.signing_key.serialize_pem()).expect("written");
        let another = rcgen::KeyPair::generate().expect("made");
        std::fs::write(&other, another.serialize_pem()).expect("written");
        std::fs::write(&empty, "").expect("written");
        let config = TlsConfig { certificate, key, client_roots: None };
        server_config(&config).expect("usable");
        server_config(&TlsConfig { client_roots: Some(config.certificate.clone()), ..config.clone() }).expect("usable");
        for (wrong, says) in [
            (TlsConfig { certificate: empty.clone(), ..config.clone() }, "certificate = "),
            (TlsConfig { key: folder.path().join("none"), ..config.clone() }, "key = "),
            (TlsConfig { client_roots: Some(empty.clone()), ..config.clone() }, "client_roots = "),
            (TlsConfig { key: other, ..config.clone() }, "with key = "),
        ] {
            let said = server_config(&wrong).expect_err("refused").to_string();
            assert!(said.contains(says), "{said}");
        }

        let peer = PeerTlsConfig {
            roots: config.certificate.clone(),
            certificate: Some(config.certificate.clone()),
            key: Some(config.key.clone()),
            server_name: Some("localhost".into()),
        };
        assert!(Client::new(&peer).is_ok());
        for (wrong, says) in [
            (PeerTlsConfig { roots: empty, ..peer.clone() }, "roots = "),
            (PeerTlsConfig { key: Some(folder.path().join("none")), ..peer.clone() }, "key = "),
            (PeerTlsConfig { key: Some(folder.path().join("o.pem")), ..peer.clone() }, "with key = "),
            (PeerTlsConfig { server_name: Some("no name".into()), ..peer.clone() }, "server_name = \"no name\""),
        ] {
            let said = Client::new(&wrong).err().expect("refused").to_string();
            assert!(said.contains(says), "{said}");
        }
    }
}
