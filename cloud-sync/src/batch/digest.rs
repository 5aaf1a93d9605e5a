//! SHA-256 (FIPS 180-4), by which objects are named.

use std::fmt;
use std::io::Read;
use std::path::Path;
use std::str::FromStr;

use aws_lc_rs::digest::{Context, SHA256, digest};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A SHA-256; as text 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// That of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self::from_library(digest(&SHA256, bytes))
    }

    /// Digest and size in bytes of a file, read piece by piece.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn of_file(path: &Path) -> std::io::Result<(Self, u64)> {
        let mut file = std::fs::File::open(path)?;
        let mut digester = Digester::default();
        let mut piece = vec![0; 256 * 1024];
        loop {
            match file.read(&mut piece)? {
                0 => return Ok(digester.finish()),
                read => digester.update(piece.get(..read).unwrap_or_default()),
            }
        }
    }

    /// The 32 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Where an object of this digest lies, below the root of a site: `objects/sha256/ab/abcd…`.
    #[must_use]
    pub fn path(&self) -> String {
        let hex = self.to_string();
        format!("objects/sha256/{}/{hex}", hex.get(..2).unwrap_or_default())
    }

    fn from_library(digest: aws_lc_rs::digest::Digest) -> Self {
        Self(digest.as_ref().try_into().expect("a SHA-256 has 32 bytes"))
    }
}

/// A digest in the making, and how many bytes it is of.
#[derive(Clone)]
pub struct Digester {
    context: Context,
    bytes: u64,
}

impl Default for Digester {
    fn default() -> Self {
        Self { context: Context::new(&SHA256), bytes: 0 }
    }
}

impl Digester {
    /// Goes on with these bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.context.update(bytes);
        self.bytes += bytes.len() as u64;
    }

    /// How many bytes it was given.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Digest and size in bytes of all that was given.
    #[must_use]
    pub fn finish(self) -> (Digest, u64) {
        (Digest::from_library(self.context.finish()), self.bytes)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{self}")
    }
}

impl FromStr for Digest {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WANTED: &str = "a SHA-256 is 64 lower-case hexadecimal digits";
        let digits = text.as_bytes();
        if digits.len() != 64 {
            return Err(WANTED);
        }
        let value = |digit: u8| match digit {
            b'0'..=b'9' => Some(digit - b'0'),
            b'a'..=b'f' => Some(digit - b'a' + 10),
            _ => None,
        };
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = match (value(pair[0]), value(pair[1])) {
                (Some(high), Some(low)) => (high << 4) | low,
                _ => return Err(WANTED),
            };
        }
        Ok(Self(bytes))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FIPS 180-4's own example.
    #[test]
    fn a_digest_is_that_of_the_standard_and_reads_back() {
        let digest = Digest::of(b"abc");
        let text = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(digest.to_string(), text);
        assert_eq!(text.parse(), Ok(digest));
        assert_eq!(digest.path(), format!("objects/sha256/ba/{text}"));
        for wrong in ["", "ba", &text.to_uppercase(), &text.replace('b', "g")] {
            assert!(wrong.parse::<Digest>().is_err(), "{wrong}");
        }
    }
}
