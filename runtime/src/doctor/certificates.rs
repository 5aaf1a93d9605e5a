//! Certificates and keys: whether they can be read, fit one another, and are valid for long enough.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::{Check, State};
use crate::certificate;
use crate::config::{PeerTlsConfig, TlsConfig};
use crate::tls::{self, TlsError};

/// Certificates that end within so many days are warned of.
const EXPIRY_WARN_DAYS: i64 = 30;

pub(super) fn certificates(name: &'static str, tls: &TlsConfig) -> Vec<Check> {
    let files = std::iter::once(&tls.certificate).chain(&tls.client_roots).map(|path| certificates_in(name, path));
    together(name, files.chain([key(name, &tls.key)]).collect(), tls::server_config(tls))
}

pub(super) fn peer(name: &'static str, tls: &PeerTlsConfig) -> Vec<Check> {
    let files = std::iter::once(&tls.roots).chain(&tls.certificate).map(|path| certificates_in(name, path));
    let files = files.chain(tls.key.iter().map(|path| key(name, path))).collect();
    together(name, files, tls::Client::new(tls))
}

/// Files that are sound one by one need not be so together.
fn together<T>(name: &'static str, mut checks: Vec<Check>, made: Result<T, TlsError>) -> Vec<Check> {
    let sound = checks.iter().all(|check| check.state != State::Fail);
    if let Err(e) = made
        && sound
    {
        checks.push(Check::fail(
            name,
            e.to_string(),
            "name a certificate (X.509 version 3) and the key that it is for",
        ));
    }
    checks
}

fn key(name: &'static str, path: &Path) -> Check {
    let (shown, key) = (path.display(), PrivateKeyDer::from_pem_file(path));
    let open = std::fs::metadata(path).is_ok_and(|m| m.permissions().mode() & 0o077 != 0);
    match key {
        Err(e) => Check::fail(name, format!("{shown}: no private key in PEM: {e}"), "name the key of the certificate"),
        Ok(_) if open => Check::warn(name, format!("others can read the key {shown}"), "chmod 0600"),
        Ok(_) => Check::ok(name, format!("{shown} is a private key")),
    }
}

/// All certificates of a file: the one that ends first counts.
fn certificates_in(name: &'static str, path: &Path) -> Check {
    let shown = path.display();
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let read = match read {
        Ok(read) if read.is_empty() => {
            return Check::fail(name, format!("{shown}: no certificate in it"), "name a file in PEM");
        }
        Ok(read) => read,
        Err(e) => return Check::fail(name, format!("{shown}: {e}"), "name a file in PEM that can be read"),
    };
    let ends: Option<Vec<_>> = read.iter().map(|der| certificate::not_after(der)).collect();
    let Some(end) = ends.and_then(|ends| ends.into_iter().min()) else {
        return Check::fail(name, format!("{shown}: a certificate in it is not sound"), "have it issued again");
    };
    let days = end.signed_duration_since(chrono::Utc::now().naive_utc()).num_days();
    let found = format!("{shown} is valid until {} ({days} days)", end.format("%Y-%m-%d"));
    match days {
        ..0 => Check::fail(name, format!("{shown} ended on {}", end.format("%Y-%m-%d")), "renew it"),
        0..EXPIRY_WARN_DAYS => Check::warn(name, found, "renew it"),
        _ => Check::ok(name, found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issue(folder: &Path, year: i32) -> TlsConfig {
        let key = rcgen::KeyPair::generate().expect("a key");
        let mut params = rcgen::CertificateParams::new(vec!["gantry.test".into()]).expect("a name");
        params.not_after = rcgen::date_time_ymd(year, 5, 17);
        let issued = params.self_signed(&key).expect("a certificate");
        let tls = TlsConfig { certificate: folder.join("c.pem"), key: folder.join("k.pem"), client_roots: None };
        std::fs::write(&tls.certificate, issued.pem()).expect("written");
        std::fs::write(&tls.key, key.serialize_pem()).expect("written");
        std::fs::set_permissions(&tls.key, PermissionsExt::from_mode(0o600)).expect("private");
        tls
    }

    #[test]
    fn the_end_of_a_certificate_is_read() {
        let folder = tempfile::tempdir().expect("a folder");
        // UTCTime up to 2049, GeneralizedTime after.
        for (year, state, says) in [
            (2020, State::Fail, "ended on 2020-05-17"),
            (2049, State::Ok, "2049-05-17"),
            (2090, State::Ok, "2090-05-17"),
        ] {
            let checks = certificates("dimse.tls", &issue(folder.path(), year));
            assert_eq!(checks[0].state, state, "{checks:?}");
            assert!(checks[0].found.contains(says), "{checks:?}");
            assert_eq!(checks[1].state, State::Ok, "{checks:?}");
        }
    }

    #[test]
    fn files_that_are_absent_or_none_are_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let tls = issue(folder.path(), 2049);
        let peer = |tls: &TlsConfig| {
            let (roots, key) = (tls.certificate.clone(), Some(tls.key.clone()));
            let peer = PeerTlsConfig { roots, certificate: Some(tls.certificate.clone()), key, server_name: None };
            super::peer("pacs.tls", &peer).iter().map(|check| check.state).collect::<Vec<_>>()
        };
        assert_eq!(peer(&tls), [State::Ok; 3]);
        std::fs::remove_file(&tls.key).expect("removed");
        assert_eq!(certificates("dimse.tls", &tls)[1].state, State::Fail);
        assert_eq!(peer(&tls), [State::Ok, State::Ok, State::Fail]);
    }

    #[test]
    fn a_key_of_another_certificate_is_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut tls = issue(folder.path(), 2049);
        tls.key = folder.path().join("other.pem");
        std::fs::write(&tls.key, rcgen::KeyPair::generate().expect("a key").serialize_pem()).expect("written");
        std::fs::set_permissions(&tls.key, PermissionsExt::from_mode(0o600)).expect("private");
        let checks = certificates("web.tls", &tls);
        let states: Vec<State> = checks.iter().map(|check| check.state).collect();
        assert_eq!(states, [State::Ok, State::Ok, State::Fail], "{checks:?}");
        assert!(checks[2].found.contains("with key = "), "{checks:?}");
    }
}
