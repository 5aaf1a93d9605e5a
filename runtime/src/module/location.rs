//! `s3://BUCKET/PREFIX/NAME/VERSION`: where a package lies in a bucket.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A bucket, and a folder in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Location {
    bucket: String,
    /// Without `/` at its ends.
    folder: String,
}

impl Location {
    /// Its bucket.
    #[must_use]
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// What is called so in it.
    #[must_use]
    pub fn below(&self, name: &str) -> Self {
        let folder = if self.folder.is_empty() { name.to_owned() } else { format!("{}/{name}", self.folder) };
        Self { bucket: self.bucket.clone(), folder }
    }

    /// As a key of the bucket.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.folder
    }

    /// Name and version of the package that lies here, by its last two parts.
    ///
    /// # Errors
    /// What is missing.
    pub fn package(&self) -> Result<(&str, semver::Version), String> {
        let mut parts = self.folder.rsplit('/');
        let version = parts.next().and_then(|version| version.parse().ok());
        let (Some(version), Some(name)) = (version, parts.next()) else {
            return Err(format!(
                "{self} names no version: give s3://BUCKET/PREFIX/NAME/VERSION, as `gantry module push` prints it"
            ));
        };
        Ok((name, version))
    }

    /// Whether this is another one or lies in it.
    #[must_use]
    pub fn is_in(&self, other: &Self) -> bool {
        self.bucket == other.bucket
            && self
                .folder
                .strip_prefix(&other.folder)
                .is_some_and(|rest| other.folder.is_empty() || rest.is_empty() || rest.starts_with('/'))
    }
}

impl FromStr for Location {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const WANTED: &str = "write s3://BUCKET/PREFIX, with letters, digits and `.`, `_`, `-`, `+`, `=` in each part";
        let rest = text.strip_prefix("s3://").ok_or(WANTED)?;
        let (bucket, folder) = rest.split_once('/').unwrap_or((rest, ""));
        let folder = folder.strip_suffix('/').unwrap_or(folder);
        let fits = |part: &str| {
            !matches!(part, "" | "." | "..") && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-+=".contains(&b))
        };
        let in_bucket = folder.is_empty() || folder.split('/').all(fits);
        match fits(bucket) && in_bucket && text.len() <= 512 {
            true => Ok(Self { bucket: bucket.to_owned(), folder: folder.to_owned() }),
            false => Err(WANTED.to_owned()),
        }
    }
}

impl TryFrom<String> for Location {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Location> for String {
    fn from(location: Location) -> Self {
        location.to_string()
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}/{}", self.bucket, self.folder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Location {
        text.parse().expect(text)
    }

    #[test]
    fn a_package_is_named_by_where_it_lies() {
        let here = at("s3://bucket/a/b/lungs/1.2.3-rc.1+7/");
        assert_eq!((here.bucket(), here.key()), ("bucket", "a/b/lungs/1.2.3-rc.1+7"));
        let (name, version) = here.package().expect("a package");
        assert_eq!((name, version.to_string().as_str()), ("lungs", "1.2.3-rc.1+7"));
        assert_eq!(at("s3://bucket").below("lungs").below("1.0.0").to_string(), "s3://bucket/lungs/1.0.0");
        for none in ["s3://bucket", "s3://bucket/lungs", "s3://bucket/1.0.0", "s3://bucket/lungs/latest"] {
            assert!(at(none).package().is_err(), "{none}");
        }
    }

    #[test]
    fn a_source_holds_what_lies_in_it_and_nothing_beside_it() {
        let source = at("s3://bucket/vendor");
        assert!(at("s3://bucket/vendor/lungs/1.0.0").is_in(&source) && source.is_in(&source));
        assert!(at("s3://bucket/vendor").is_in(&at("s3://bucket/")));
        assert!(!at("s3://bucket/vendor-2/lungs").is_in(&source));
        assert!(!at("s3://other/vendor/lungs").is_in(&source));
    }

    #[test]
    fn what_is_no_place_is_refused() {
        for wrong in [
            "",
            "bucket/a",
            "https://bucket/a",
            "s3://",
            "s3:///a",
            "s3://b/a//c",
            "s3://b/../c",
            "s3://b/a b",
            "s3://b/a?x",
        ] {
            assert!(wrong.parse::<Location>().is_err(), "{wrong}");
        }
    }
}
