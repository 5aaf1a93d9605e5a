//! What a catalogue has, batch by batch.

use std::collections::BTreeMap;

use serde::Serialize;

use super::source::{Failure, Said, Source};
use super::tables::Table;
use crate::batch::{Id, PublicKey, Site};

/// A batch in a catalogue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// Whose.
    pub site: Site,
    /// The day of sealing, UTC.
    pub date: String,
    /// Its name.
    pub batch: Id,
    /// Whether somebody answers for it.
    pub signature: Signature,
    /// What is wrong with it; empty where nothing is known to be.
    pub wrong: Vec<String>,
    /// By the names of the tables.
    pub tables: BTreeMap<&'static str, Held>,
}

/// What a batch has in a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Held {
    /// As the manifest says; nothing where there is none.
    pub rows: Option<u64>,
    /// Of the file.
    pub bytes: u64,
}

/// Whether the manifest of a batch is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Signature {
    /// By the key that was given.
    Valid,
    /// No key was given.
    Unchecked,
    /// Not by that key, or there is no manifest.
    None,
}

/// Everything, in the order of sites, days and batches. Digests of files are not looked at: `sync verify` does so, and whoever queries
/// with a key.
///
/// # Errors
/// [`Failure`]
pub async fn list(source: &Source, key: Option<&PublicKey>) -> Result<Vec<Listed>, Failure> {
    let mut batches: BTreeMap<_, BTreeMap<Table, u64>> = BTreeMap::new();
    for (located, bytes) in source.files().await? {
        batches.entry((located.site, located.date, located.batch)).or_default().insert(located.table, bytes);
    }
    let mut all = Vec::new();
    for ((site, date, batch), files) in batches {
        let date = date.to_string();
        let (signature, manifest, mut wrong) = match source.said(&site, batch, key).await? {
            Said::Checked(manifest) => (Signature::Valid, Some(manifest), Vec::new()),
            Said::Unchecked(manifest) => (Signature::Unchecked, Some(manifest), Vec::new()),
            Said::Nothing => (Signature::None, None, vec!["its manifest is not there".to_owned()]),
            Said::Wrong(why) => (Signature::None, None, vec![why]),
        };
        let parts = manifest.iter().flat_map(|manifest| &manifest.catalog);
        let parts: BTreeMap<_, _> = parts.map(|part| (part.table, part)).collect();
        if manifest.as_ref().is_some_and(|manifest| manifest.day() != date) {
            wrong.push("it was sealed on another day".to_owned());
        }
        for (table, part) in &parts {
            match files.get(table) {
                Some(bytes) if *bytes == part.bytes => {}
                Some(bytes) => wrong.push(format!("{} has {bytes} bytes instead of {}", table.name(), part.bytes)),
                None => wrong.push(format!("{} is not there", table.name())),
            }
        }
        let stray = files.keys().filter(|table| manifest.is_some() && !parts.contains_key(table));
        wrong.extend(stray.map(|table| format!("{} is not in its manifest", table.name())));
        let held = |(table, bytes): (Table, u64)| {
            (table.name(), Held { rows: parts.get(&table).map(|part| part.rows), bytes })
        };
        let tables = files.iter().map(|(table, bytes)| held((*table, *bytes))).collect();
        all.push(Listed { site, date, batch, signature, wrong, tables });
    }
    Ok(all)
}
