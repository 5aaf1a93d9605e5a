//! TLS as a server, to the BCP 195 profile (RFC 9325; PS3.15 annexes B.12 and B.13): 1.2 and 1.3 only, forward secrecy and
//! authenticated encryption only, and clients' certificates where roots for them are configured.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

use crate::config::TlsConfig;

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
}

/// Reads the files and makes a server of them.
///
/// # Errors
/// Names the key of the configuration, the file, and what is wrong with it.
pub fn server_config(config: &TlsConfig) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(provider());
    let chain = certificates("certificate", &config.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&config.key).map_err(|e| file("key", &config.key, e))?;
    let pair = |e: rustls::Error| TlsError::Pair {
        certificate: config.certificate.clone(),
        key: config.key.clone(),
        reason: e.to_string(),
    };
    let versions = &[&rustls::version::TLS13, &rustls::version::TLS12];
    let builder =
        ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(versions).map_err(pair)?;
    let builder = match &config.client_roots {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for root in certificates("client_roots", path)? {
                roots.add(root).map_err(|e| file("client_roots", path, e))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.map_err(|e| file("client_roots", path, e))?)
        }
    };
    builder.with_single_cert(chain, key).map(Arc::new).map_err(pair)
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
    }
}
