//! The site's key, and what derives from it: UIDs, pseudonyms, days.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

const KEY_BYTES_MIN: usize = 16;
const KEY_BYTES_MAX: usize = 1024;
/// Of pseudonyms: without letters that read as others, and without vowels that could make words.
const ALPHABET: &[u8; 32] = b"0123456789BCDFGHJKLMNPQRSTVWXYZ_";
const PSEUDONYM_CHARACTERS: usize = 16;

/// The key of a site. With it the same source has the same UIDs and pseudonyms in every file, run and result; without it
/// nobody can tell which is whose, or that two keys' are the same patient's.
///
/// There is one copy of the key in memory, which is zeroed when the last one lets go of it; what derives from it while something is
/// computed lies on the stack for as long.
#[derive(Clone)]
pub struct Secret {
    key: Arc<Zeroizing<Vec<u8>>>,
}

/// The key cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// Too short or too long.
    #[error(
        "a key has {KEY_BYTES_MIN} to {KEY_BYTES_MAX} bytes and this one {0}; make one with `head -c 32 /dev/urandom`"
    )]
    Length(usize),
    /// The operating system refuses.
    #[error("the key cannot be read: {0}")]
    Unreadable(std::io::ErrorKind),
}

impl Secret {
    /// A key of 16 to 1024 random bytes.
    ///
    /// # Errors
    /// Where it is shorter or longer.
    pub fn new(key: &[u8]) -> Result<Self, SecretError> {
        if !(KEY_BYTES_MIN..=KEY_BYTES_MAX).contains(&key.len()) {
            return Err(SecretError::Length(key.len()));
        }
        Ok(Self { key: Arc::new(Zeroizing::new(key.to_vec())) })
    }

    /// The key in a file.
    ///
    /// # Errors
    /// Where it cannot be read, or is shorter or longer.
    pub fn read(path: &Path) -> Result<Self, SecretError> {
        Self::take(path, KEY_BYTES_MAX + 1)
    }

    /// A key of one's own, which is forgotten with the process.
    ///
    /// # Errors
    /// Where the system has no random bytes.
    pub fn random() -> Result<Self, SecretError> {
        Self::take(Path::new("/dev/urandom"), 32)
    }

    fn take(path: &Path, most: usize) -> Result<Self, SecretError> {
        // Never moved while it grows: what was moved would not be zeroed.
        let mut bytes = Zeroizing::new(Vec::with_capacity(most));
        let file = File::open(path).map_err(|e| SecretError::Unreadable(e.kind()))?;
        file.take(most as u64).read_to_end(&mut bytes).map_err(|e| SecretError::Unreadable(e.kind()))?;
        Self::new(&bytes)
    }

    pub(crate) fn digest(&self, purpose: &str, of: &[u8]) -> [u8; 32] {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes keys of any length");
        mac.update(purpose.as_bytes());
        mac.update(&[0]);
        mac.update(of);
        mac.finalize().into_bytes().into()
    }

    /// The UID that stands for this one: `2.25.` and a UUID of version 8 (PS3.5 B.2), at most 44 characters.
    pub(super) fn uid(&self, of: &str) -> String {
        let digest = self.digest("uid", of.as_bytes());
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest[..16]);
        let number = u128::from_be_bytes(bytes) & !(0xF << 76) & !(0b11 << 62) | (8 << 76) | (0b10 << 62);
        format!("2.25.{number}")
    }

    /// What stands for a value of this kind: 16 characters, so that it fits the shortest VR (SH).
    pub(crate) fn pseudonym(&self, kind: &str, of: &str) -> String {
        let digest = self.digest(kind, of.as_bytes());
        digest.iter().take(PSEUDONYM_CHARACTERS).map(|byte| char::from(ALPHABET[usize::from(byte & 31)])).collect()
    }

    /// Whether it could be a pseudonym.
    pub(super) fn is_pseudonym(text: &str) -> bool {
        text.len() == PSEUDONYM_CHARACTERS && text.bytes().all(|byte| ALPHABET.contains(&byte))
    }

    /// What stands for the digest of a file that stays: who has the file could tell whose it is otherwise.
    pub(super) fn digest_of_digest(&self, of: &str) -> String {
        self.digest("digest", of.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// By how many days the dates of this patient move: 1 to `most` into the past.
    pub(super) fn days(&self, patient: &str, most: u32) -> i32 {
        let digest = self.digest("days", patient.as_bytes());
        let number = u64::from_be_bytes([
            digest[0], digest[1], digest[2], digest[3], digest[4], digest[5], digest[6], digest[7],
        ]);
        let days = 1 + number % u64::from(most.max(1));
        -i32::try_from(days).unwrap_or(1)
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(byte: u8) -> Secret {
        Secret::new(&[byte; 32]).expect("32 bytes")
    }

    #[test]
    fn a_uid_is_the_same_under_one_key_and_another_under_another() {
        let uid = secret(1).uid("1.2.3");
        assert_eq!(uid, secret(1).uid("1.2.3"));
        assert_ne!(uid, secret(2).uid("1.2.3"));
        assert_ne!(uid, secret(1).uid("1.2.4"));
        let number: u128 = uid.strip_prefix("2.25.").and_then(|n| n.parse().ok()).expect("a number");
        assert_eq!((number >> 76 & 0xF, number >> 62 & 3), (8, 2), "version and variant of a UUID");
        assert!(uid.len() <= 64);
    }

    #[test]
    fn pseudonyms_of_different_kinds_cannot_be_linked() {
        let secret = secret(1);
        assert_ne!(secret.pseudonym("patient", "4711"), secret.pseudonym("accession", "4711"));
        assert_eq!(secret.pseudonym("patient", "4711").len(), 16);
    }

    #[test]
    fn days_are_between_one_and_the_most() {
        let secret = secret(1);
        let days: Vec<i32> = (0..500).map(|n| secret.days(&n.to_string(), 10)).collect();
        assert_eq!((days.iter().min(), days.iter().max()), (Some(&-10), Some(&-1)));
    }

    #[test]
    fn a_key_says_nothing_and_must_be_long_enough() {
        assert_eq!(format!("{:?}", secret(7)), "Secret(..)");
        assert_eq!(Secret::new(b"short").err(), Some(SecretError::Length(5)));
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), [7; 32]).expect("written");
        assert_eq!(Secret::read(file.path()).expect("a key").uid("1.2.3"), secret(7).uid("1.2.3"));
        std::fs::write(file.path(), [7; KEY_BYTES_MAX + 9]).expect("written");
        assert_eq!(Secret::read(file.path()).err(), Some(SecretError::Length(KEY_BYTES_MAX + 1)));
        let missing = Secret::read(Path::new("/nowhere/key")).err();
        assert_eq!(missing, Some(SecretError::Unreadable(std::io::ErrorKind::NotFound)));
        assert_ne!(Secret::random().expect("a key").uid("1.2.3"), Secret::random().expect("a key").uid("1.2.3"));
    }
}
