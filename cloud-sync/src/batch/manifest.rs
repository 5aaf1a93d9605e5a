//! What a batch is, as versioned JSON; `docs/sync.md` documents it.

use std::collections::BTreeMap;

use aws_smithy_types::base64;
use serde::{Deserialize, Serialize};

use super::{Digest, Failure, Id, Site};
use crate::catalog::Table;

/// The one that this program writes, and the newest it reads.
pub const MANIFEST_VERSION: u32 = 1;
/// No manifest is larger: what is read from a bucket is bounded by it.
pub(crate) const MANIFEST_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Every object of a batch by its digest, and what made it. Nothing in it was ever in a patient's record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`MANIFEST_VERSION`].
    pub version: u32,
    /// Its name.
    pub batch: Id,
    /// Which hospital, by its pseudonym.
    pub site: Site,
    /// When it was sealed: RFC 3339, UTC, whole seconds.
    pub sealed: String,
    /// The modules that objects name.
    pub modules: Vec<Module>,
    /// In the order in which they came.
    pub studies: Vec<Study>,
    /// Its rows in the catalogue: a file for each table that has some.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub catalog: Vec<Part>,
}

/// A file of the catalogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// Of which table.
    pub table: Table,
    /// SHA-256.
    pub sha256: Digest,
    /// Size.
    pub bytes: u64,
    /// How many rows it has.
    pub rows: u64,
}

/// One study's part of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Study {
    /// Of this part; new UIDs of the study are in its objects only.
    pub record: Id,
    /// How it was de-identified.
    pub profile: Profile,
    /// Instances, results, verdicts, timings.
    pub objects: Vec<Object>,
}

/// How a study was de-identified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// What the policy calls it.
    pub name: String,
    /// SHA-256 over the profile with its options, as the de-identifier writes it.
    pub digest: Digest,
}

/// One object of the bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Object {
    /// What it is to the study.
    pub kind: Kind,
    /// What it is as a file.
    pub format: Format,
    /// SHA-256, and by it its key.
    pub sha256: Digest,
    /// Size.
    pub bytes: u64,
    /// The digest of the module that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module: Option<Digest>,
}

/// What an object is to its study.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// What the hospital acquired.
    Instance,
    /// What a module made of it.
    Result,
    /// What a person said of that.
    Verdict,
    /// How long it took.
    Timing,
}

/// What an object is as a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// PS3.10; as media type `application/dicom`.
    Dicom,
    /// RFC 8259; as media type `application/json`.
    Json,
}

impl Format {
    /// Its media type.
    #[must_use]
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Dicom => "application/dicom",
            Self::Json => "application/json",
        }
    }
}

/// A module as it was when it ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Module {
    /// As its manifest says.
    pub name: String,
    /// As its manifest says.
    pub version: String,
    /// Of its manifest, which names all of its files.
    pub digest: Digest,
    /// Its models.
    pub models: Vec<Model>,
}

/// A model of a module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// As the module's manifest says.
    pub name: String,
    /// Of its file.
    pub digest: Digest,
}

/// An object of the bucket, whatever it is to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) sha256: Digest,
    pub(crate) bytes: u64,
    pub(crate) media_type: &'static str,
}

impl Manifest {
    /// Where it lies, below the root of its site.
    #[must_use]
    pub fn path(batch: Id) -> String {
        format!("batches/{batch}.dsse.json")
    }

    /// Each object once, in the order of digests.
    pub(crate) fn contents(&self) -> Vec<Content> {
        let objects = self.studies.iter().flat_map(|study| &study.objects);
        let each: BTreeMap<_, _> = objects.map(|o| (o.sha256, (o.bytes, o.format))).collect();
        let content =
            |(sha256, (bytes, format)): (_, (_, Format))| Content { sha256, bytes, media_type: format.media_type() };
        each.into_iter().map(content).collect()
    }

    /// The files of the catalogue with their keys, which are below the prefix and beside the sites: engines read all sites at once.
    pub(crate) fn catalog_files(&self) -> Vec<(String, Content)> {
        let file = |part: &Part| {
            let content =
                Content { sha256: part.sha256, bytes: part.bytes, media_type: "application/vnd.apache.parquet" };
            (self.catalog_path(part.table), content)
        };
        self.catalog.iter().map(file).collect()
    }

    /// Where the rows of a table lie, below the prefix.
    #[must_use]
    pub fn catalog_path(&self, table: Table) -> String {
        let (site, day, batch) = (&self.site, self.day(), self.batch);
        format!("catalog/{}/site={site}/date={day}/{batch}.parquet", table.name())
    }

    /// The day of sealing in UTC, `YYYY-MM-DD`.
    #[must_use]
    pub fn day(&self) -> String {
        let sealed = chrono::DateTime::parse_from_rfc3339(&self.sealed).unwrap_or_default();
        sealed.to_utc().format("%Y-%m-%d").to_string()
    }

    /// What an envelope says, for who only looks: its signatures are not checked, so nobody answers for it.
    pub(crate) fn peek(name: &str, envelope: &[u8]) -> Result<Self, Failure> {
        #[derive(Deserialize)]
        struct Envelope {
            payload: String,
        }
        let parsed = serde_json::from_slice::<Envelope>(envelope).ok();
        let payload = parsed.and_then(|envelope| base64::decode(envelope.payload).ok());
        let manifest: Option<Self> = payload.and_then(|payload| serde_json::from_slice(&payload).ok());
        let manifest = manifest.ok_or_else(|| Failure::manifest(name, "cannot be read: it was cut or changed"))?;
        manifest.check().map_err(|why| Failure::manifest(name, why))?;
        Ok(manifest)
    }

    /// Says what is wrong where it contradicts itself or is of another version.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.version != MANIFEST_VERSION {
            return Err(format!(
                "is of version {}, and this program reads {MANIFEST_VERSION}: update it",
                self.version
            ));
        }
        chrono::DateTime::parse_from_rfc3339(&self.sealed)
            .map_err(|_| "does not say in RFC 3339 when it was sealed")?;
        if self.catalog.windows(2).any(|pair| pair[0].table >= pair[1].table) {
            return Err("names the tables of its catalogue out of order, or one twice".to_owned());
        }
        let mut sizes = BTreeMap::new();
        for object in self.studies.iter().flat_map(|study| &study.objects) {
            if *sizes.entry(object.sha256).or_insert(object.bytes) != object.bytes {
                return Err(format!("gives object {} two sizes", object.sha256));
            }
            let known = |module: Digest| self.modules.iter().any(|known| known.digest == module);
            if let Some(module) = object.module.filter(|module| !known(*module)) {
                return Err(format!("names a module {module} that it does not describe"));
            }
        }
        Ok(())
    }
}
