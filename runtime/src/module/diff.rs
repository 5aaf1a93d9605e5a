//! `gantry module diff OLD NEW`: what another version of a module asks for and is, what it asks for first.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;
use serde_json::Value;

use super::inspect::{self, InspectError, Inspection};
use super::package::Package;
use super::sbom::{self, SBOM_FILE, SBOM_MAX_KIB};
use crate::config::Limits;

/// What differs.
#[derive(Debug, Serialize)]
pub struct Diff {
    /// The one that is there.
    pub old: Which,
    /// The one that may take its place.
    pub new: Which,
    /// What it asks for that the old one did not: interfaces, and `attribute:KEYWORD`.
    pub asks_for_more: Vec<String>,
    /// What it no longer asks for.
    pub asks_for_less: Vec<String>,
    /// Other keys of the manifest, `limits` before others.
    pub manifest: Vec<Change>,
    /// Interfaces that the component imports, with versions.
    pub imports: Vec<Change>,
    /// Files, by digest.
    pub files: Vec<Change>,
    /// Libraries that the component is made of, by the SBOMs.
    pub libraries: Vec<Change>,
}

/// A package.
#[derive(Debug, Serialize)]
pub struct Which {
    /// Of its manifest.
    pub name: String,
    /// Of its manifest.
    pub version: String,
    /// SHA-256 over its manifest.
    pub identity_sha256: String,
}

/// Something that is there in one or in both, and not the same.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// What.
    pub what: String,
    /// In the old one; none where it is not there.
    pub old: Option<String>,
    /// In the new one.
    pub new: Option<String>,
}

/// One side.
struct Side {
    inspection: Inspection,
    keys: BTreeMap<String, String>,
    files: BTreeMap<String, String>,
    libraries: BTreeMap<String, String>,
}

/// Compares two packages. Every byte of both is read.
///
/// # Errors
/// One of them is not whole.
pub fn diff(old: &Package, new: &Package, limits: &Limits) -> Result<Diff, InspectError> {
    let (old, new) = (side(old, limits)?, side(new, limits)?);
    let asks = |side: &Side| {
        let needs = &side.inspection.manifest.needs;
        let interfaces = needs.interfaces.iter().map(|interface| interface.name().to_owned());
        interfaces.chain(needs.attributes.iter().map(|a| format!("attribute:{a}"))).collect::<BTreeSet<_>>()
    };
    let (before, after) = (asks(&old), asks(&new));
    let mut manifest = changes(&old.keys, &new.keys);
    manifest.sort_by_key(|change| !(change.what.starts_with("limits.") || change.what.starts_with("needs.")));
    let imports = |side: &Side| -> BTreeMap<String, String> {
        side.inspection.imports.iter().map(|import| (import.clone(), "imported".to_owned())).collect()
    };
    Ok(Diff {
        asks_for_more: after.difference(&before).cloned().collect(),
        asks_for_less: before.difference(&after).cloned().collect(),
        manifest,
        imports: changes(&imports(&old), &imports(&new)),
        files: changes(&old.files, &new.files),
        libraries: changes(&old.libraries, &new.libraries),
        old: which(&old.inspection),
        new: which(&new.inspection),
    })
}

fn which(inspection: &Inspection) -> Which {
    let (manifest, identity_sha256) = (&inspection.manifest, inspection.identity_sha256.clone());
    Which { name: manifest.name.clone(), version: manifest.version.to_string(), identity_sha256 }
}

fn side(package: &Package, limits: &Limits) -> Result<Side, InspectError> {
    let inspection = inspect::inspect(package, limits.component_max_mib, limits.model_max_mib)?;
    let mut keys = BTreeMap::new();
    let mut manifest = serde_json::to_value(package.manifest()).unwrap_or_default();
    // What is asked for is compared as a set, and models by name.
    for (table, key) in [("needs", "interfaces"), ("needs", "attributes")] {
        manifest.get_mut(table).and_then(Value::as_object_mut).map(|table| table.remove(key));
    }
    let models = manifest.as_object_mut().and_then(|manifest| manifest.remove("models"));
    for model in models.as_ref().and_then(Value::as_array).into_iter().flatten() {
        let name = model.get("name").and_then(Value::as_str).unwrap_or_default();
        flatten(model, &format!("models.{name}"), &mut keys);
    }
    flatten(&manifest, "", &mut keys);
    // Files tell of these, and the version stands above all.
    keys.retain(|key, _| !key.ends_with(".sha256") && key != "version" && key != "schema");
    let files = package.files();
    let mut digests = BTreeMap::new();
    for file in files.list()? {
        digests.insert(file.clone(), String::from(files.digest(&file)?.0));
    }
    digests.remove(super::package::MANIFEST_FILE);
    let listed = match files.holds(SBOM_FILE) {
        true => sbom::listed(&files.read(SBOM_FILE, SBOM_MAX_KIB << 10, "the 16 MiB of an SBOM", 0)?),
        false => None,
    };
    Ok(Side { inspection, keys, files: digests, libraries: listed.unwrap_or_default() })
}

/// Every value by its path: `accepts.slices_min`.
fn flatten(value: &Value, path: &str, keys: &mut BTreeMap<String, String>) {
    let text = |value: &Value| crate::printable(&value.as_str().map_or_else(|| value.to_string(), str::to_owned));
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                flatten(value, &if path.is_empty() { key.clone() } else { format!("{path}.{key}") }, keys);
            }
        }
        Value::Array(items) => {
            keys.insert(path.to_owned(), items.iter().map(text).collect::<Vec<_>>().join(", "));
        }
        value => drop(keys.insert(path.to_owned(), text(value))),
    }
}

fn changes(old: &BTreeMap<String, String>, new: &BTreeMap<String, String>) -> Vec<Change> {
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let change =
        |what: &String| Change { what: what.clone(), old: old.get(what).cloned(), new: new.get(what).cloned() };
    names.into_iter().map(change).filter(|change| change.old != change.new).collect()
}

impl Diff {
    /// Whether both are one package.
    #[must_use]
    pub fn is_same(&self) -> bool {
        self.old.identity_sha256 == self.new.identity_sha256 && self.files.is_empty()
    }
}

impl fmt::Display for Diff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { old, new, .. } = self;
        let digest = |which: &Which| which.identity_sha256.chars().take(12).collect::<String>();
        writeln!(f, "{} {} sha256:{}…", old.name, old.version, digest(old))?;
        writeln!(f, "{} {} sha256:{}…", new.name, new.version, digest(new))?;
        if self.is_same() {
            return writeln!(f, "  the same");
        }
        self.asks_for_more.iter().try_for_each(|ask| writeln!(f, "  asks for {ask}, which the old one does not"))?;
        self.asks_for_less.iter().try_for_each(|ask| writeln!(f, "  no longer asks for {ask}"))?;
        if self.asks_for_more.is_empty() {
            writeln!(f, "  asks for nothing that the old one does not")?;
        }
        let mut section = |name: &str, changes: &[Change], short: bool| -> fmt::Result {
            let shown = |value: &Option<String>| match value {
                None => "none".to_owned(),
                Some(value) if short => value.chars().take(12).collect(),
                Some(value) => value.clone(),
            };
            if !changes.is_empty() {
                writeln!(f, "{name}")?;
            }
            changes
                .iter()
                .try_for_each(|c| writeln!(f, "  {}: {} → {}", crate::printable(&c.what), shown(&c.old), shown(&c.new)))
        };
        section("manifest", &self.manifest, false)?;
        section("imports", &self.imports, false)?;
        section("files", &self.files, true)?;
        section("libraries", &self.libraries, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_told_by_their_path() {
        let mut keys = BTreeMap::new();
        flatten(&serde_json::json!({"a": {"b": 1, "c": ["x", "y"]}, "d": "e\u{1b}"}), "", &mut keys);
        assert_eq!(keys["a.b"], "1");
        assert_eq!(keys["a.c"], "x, y");
        assert_eq!(keys["d"], "e\u{fffd}");
    }

    #[test]
    fn what_came_went_and_became_another_is_a_change() {
        let map = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let changes = changes(&map(&[("a", "1"), ("b", "2"), ("c", "3")]), &map(&[("a", "1"), ("b", "4"), ("d", "5")]));
        let told: Vec<_> = changes.iter().map(|c| (c.what.as_str(), c.old.as_deref(), c.new.as_deref())).collect();
        assert_eq!(told, [("b", Some("2"), Some("4")), ("c", Some("3"), None), ("d", None, Some("5"))]);
    }
}
