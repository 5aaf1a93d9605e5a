//! What a package is made of, as CycloneDX 1.6: its component, its models, and the crates that the component was compiled of. Where no lock
//! file tells those, as in other languages than Rust, it says that they are unknown, and not that there are none.
//!
//! `gantry module build` makes it, where the source is: it has no time and no machine in it, so the same source is the same file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::manifest::{Manifest, Sha256Hex};

/// Its name in a package.
pub const SBOM_FILE: &str = "sbom.cdx.json";
/// The most that is read of one.
pub const SBOM_MAX_KIB: u64 = 16 << 10;
const LOCK_MAX_BYTES: u64 = 16 << 20;

/// The crates of a guest.
#[derive(Debug, Default)]
pub struct Crates {
    /// Whether a lock file tells them: else nobody knows what the component is made of.
    known: bool,
    all: Vec<Crate>,
    /// What the module's own crate uses.
    of_module: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
struct Crate {
    name: String,
    version: String,
    source: Option<String>,
    checksum: Option<String>,
    #[serde(default)]
    dependencies: Vec<String>,
    #[serde(skip)]
    license: Option<String>,
}

#[derive(Deserialize)]
struct Lock {
    #[serde(default)]
    package: Vec<Crate>,
}

impl Crate {
    /// A package URL (purl), which also refers to it.
    fn reference(&self) -> String {
        let version = self.version.replace('+', "%2B");
        match self.source.as_deref() {
            Some(source) if source.contains("crates.io") => format!("pkg:cargo/{}@{version}", self.name),
            _ => format!("crate:{}@{version}", self.name),
        }
    }

    fn component(&self) -> Value {
        let mut component = json!({
            "type": "library", "bom-ref": self.reference(), "name": self.name, "version": self.version,
        });
        if let Some(checksum) = &self.checksum {
            component["hashes"] = sha256(checksum);
        }
        if let Some(license) = &self.license {
            component["licenses"] = licensed(license);
        }
        if self.reference().starts_with("pkg:") {
            component["purl"] = self.reference().into();
        }
        component
    }
}

impl Crates {
    /// Those of a source folder: `Cargo.lock` names them, and Cargo tells their licences.
    ///
    /// # Errors
    /// `Cargo.lock` or `Cargo.toml` are there and cannot be read, or Cargo cannot have all of these crates.
    pub fn of_source(source: &Path) -> Result<Self, String> {
        let text = |name: &str| -> Result<Option<String>, String> {
            let path = source.join(name);
            match std::fs::metadata(&path) {
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
                Ok(found) if found.len() > LOCK_MAX_BYTES => return Err(format!("{} is too large", path.display())),
                _ => {}
            }
            std::fs::read_to_string(&path).map(Some).map_err(|e| format!("{}: {e}", path.display()))
        };
        let (Some(lock), Some(manifest)) = (text("Cargo.lock")?, text("Cargo.toml")?) else {
            return Ok(Self::default());
        };
        let crates = licenses(source).and_then(|licenses| Self::of(&lock, &manifest, &licenses));
        crates.map_err(|e| format!("{}: {e}", source.join("Cargo.lock").display()))
    }

    fn of(lock: &str, manifest: &str, licenses: &BTreeMap<(String, String), String>) -> Result<Self, String> {
        let lock: Lock = toml::from_str(lock).map_err(|e| e.message().to_owned())?;
        let manifest: toml::Table = toml::from_str(manifest).map_err(|e| e.message().to_owned())?;
        let own = manifest.get("package").and_then(|package| package.get("name")).and_then(toml::Value::as_str);
        let (own, mut all): (Vec<_>, Vec<_>) =
            lock.package.into_iter().partition(|c| c.source.is_none() && Some(c.name.as_str()) == own);
        for of in &mut all {
            of.license = licenses.get(&(of.name.clone(), of.version.clone())).cloned();
        }
        all.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
        let mut crates = Self { known: true, all, of_module: Vec::new() };
        crates.of_module = own.first().map(|own| crates.references(&own.dependencies)).unwrap_or_default();
        Ok(crates)
    }

    /// What `name`, `name version` and `name version (source)` of a lock file refer to.
    fn references(&self, dependencies: &[String]) -> Vec<String> {
        let one = |dependency: &String| {
            let mut words = dependency.split(' ');
            let (name, version) = (words.next()?, words.next());
            let is = |c: &&Crate| c.name == name && version.is_none_or(|version| c.version == version);
            self.all.iter().find(is).map(Crate::reference)
        };
        let unique: BTreeSet<String> = dependencies.iter().filter_map(one).collect();
        unique.into_iter().collect()
    }
}

/// Licences by name and version. Cargo fetches crates that are not there, also those that only another target needs: which ones are
/// there is otherwise on each machine.
fn licenses(source: &Path) -> Result<BTreeMap<(String, String), String>, String> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["metadata", "--format-version", "1", "--locked", "--manifest-path"]).arg(source.join("Cargo.toml"));
    // No toolchain, though.
    cargo.env("RUSTUP_AUTO_INSTALL", "0");
    let failed = |why: &str| {
        format!(
            "`cargo metadata` tells no licences, which an SBOM has on every machine; run `cargo fetch` first: {why}"
        )
    };
    let told = cargo.output().map_err(|e| failed(&e.to_string()))?;
    if !told.status.success() {
        return Err(failed(String::from_utf8_lossy(&told.stderr).trim()));
    }
    let told: Value = serde_json::from_slice(&told.stdout).map_err(|e| failed(&e.to_string()))?;
    let packages = told["packages"].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().map(str::to_owned);
    // An old way to write `OR`.
    let one = |p: &Value| Some(((text(&p["name"])?, text(&p["version"])?), text(&p["license"])?.replace('/', " OR ")));
    Ok(packages.iter().filter_map(one).collect())
}

/// The document: what the manifest says, the digest of the model card, and crates.
#[must_use]
pub fn document(manifest: &Manifest, identity: &[u8; 32], card: Option<Sha256Hex>, crates: &Crates) -> Vec<u8> {
    let component = &manifest.component;
    let mut code = json!({
        "type": "file", "bom-ref": component.file, "name": component.file, "mime-type": "application/wasm",
    });
    code["hashes"] = component.sha256.map(|digest| sha256(&String::from(digest))).unwrap_or_else(|| json!([]));
    let models = manifest.models.iter().map(|model| {
        let mut one = json!({
            "type": "machine-learning-model", "bom-ref": format!("model:{}", model.name), "name": model.name,
            "mime-type": "application/octet-stream",
        });
        one["hashes"] = model.sha256.map(|digest| sha256(&String::from(digest))).unwrap_or_else(|| json!([]));
        if let Some(license) = &model.license {
            one["licenses"] = licensed(license);
        }
        one["properties"] = json!([
            {"name": "gantry:file", "value": model.file}, {"name": "gantry:target", "value": model.target.to_string()},
        ]);
        one
    });
    let models: Vec<Value> = models.collect();
    let refers = |component: &Value| component["bom-ref"].clone();
    let mut module = json!({
        "type": "application", "bom-ref": "module", "manufacturer": {"name": manifest.vendor}, "name": manifest.name,
        "version": manifest.version.to_string(), "description": manifest.label.intended_use,
    });
    if let Some(license) = &manifest.license {
        module["licenses"] = licensed(license);
    }
    if let Some(card) = card {
        module["externalReferences"] =
            json!([{"url": "MODEL_CARD.md", "type": "model-card", "hashes": sha256(&String::from(card))}]);
    }
    module["properties"] = json!([{"name": "gantry:identity", "value": format!("sha256:{}", crate::hex(identity))}]);
    let parts: Vec<Value> = std::iter::once(refers(&code)).chain(models.iter().map(refers)).collect();
    let mut dependencies = vec![json!({"ref": "module", "dependsOn": parts})];
    // What is in the graph with no dependency has none; what is not in it may have some.
    if crates.known {
        dependencies.push(json!({"ref": component.file, "dependsOn": crates.of_module}));
    }
    dependencies.extend(
        crates.all.iter().map(|of| json!({"ref": of.reference(), "dependsOn": crates.references(&of.dependencies)})),
    );
    let components: Vec<Value> =
        std::iter::once(code).chain(models).chain(crates.all.iter().map(Crate::component)).collect();
    let mut document = json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json", "bomFormat": "CycloneDX", "specVersion": "1.6",
        "serialNumber": "", "version": 1,
        "metadata": {
            "tools": {"components": [{"type": "application", "name": "gantry", "version": env!("CARGO_PKG_VERSION")}]},
            "component": module,
        },
        "components": components, "dependencies": dependencies,
    });
    if !crates.known {
        document["compositions"] = json!([{"aggregate": "unknown", "dependencies": [component.file]}]);
    }
    let digest = Sha256::digest(document.to_string());
    document["serialNumber"] = urn(digest.as_slice()).into();
    let mut bytes = serde_json::to_vec_pretty(&document).expect("strings, numbers and lists");
    bytes.push(b'\n');
    bytes
}

fn sha256(digest: &str) -> Value {
    json!([{"alg": "SHA-256", "content": digest.to_ascii_lowercase()}])
}

fn licensed(expression: &str) -> Value {
    json!([{"expression": expression}])
}

/// A UUID of a digest (RFC 9562, version 8).
fn urn(digest: &[u8]) -> String {
    let mut bytes: [u8; 16] = std::array::from_fn(|i| digest.get(i).copied().unwrap_or_default());
    bytes[6] = (bytes[6] & 0x0f) | 0x80;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let hex = crate::hex(&bytes);
    format!("urn:uuid:{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// Names and versions of what an SBOM lists, for people; it came from somebody else. None where it is none, or says that nobody knows.
#[must_use]
pub fn listed(document: &[u8]) -> Option<BTreeMap<String, String>> {
    let document: Value = serde_json::from_slice(document).ok()?;
    if document["compositions"].as_array().is_some_and(|all| all.iter().any(|one| one["aggregate"] == "unknown")) {
        return None;
    }
    let text = |value: &Value| crate::printable(value.as_str().unwrap_or_default());
    let one = |component: &Value| {
        let license = &component["licenses"][0]["expression"];
        let version = [text(&component["version"]), text(license)].join(" ");
        (text(&component["name"]), version.trim().to_owned())
    };
    let mut listed = BTreeMap::new();
    for (name, version) in document["components"].as_array()?.iter().filter(|c| c["type"] == "library").map(one) {
        let versions: &mut String = listed.entry(name).or_default();
        if !versions.is_empty() {
            versions.push_str(", ");
        }
        versions.push_str(&version);
    }
    Some(listed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCK: &str = r#"
        version = 4
        [[package]]
        name = "anyhow"
        version = "1.0.0+x"
        source = "registry+https://github.com/rust-lang/crates.io-index"
        checksum = "AA00000000000000000000000000000000000000000000000000000000000000"
        [[package]]
        name = "gantry-guest"
        version = "0.1.0"
        dependencies = ["anyhow 1.0.0+x", "nowhere"]
        [[package]]
        name = "lungs"
        version = "0.1.0"
        dependencies = ["gantry-guest"]
    "#;

    fn manifest() -> Manifest {
        let text = r#"
            schema = 1
            name = "lungs"
            version = "0.1.0"
            vendor = "Example"
            license = "LicenseRef-Commercial"
            label = { title = "Lungs", intended_use = "None.", demonstration = true }
            accepts = { modality = ["CT"] }
            models = [{ name = "net", file = "models/net.onnx", license = "MIT" }]
        "#;
        let mut manifest = Manifest::parse(text).expect("fits");
        manifest.component.sha256 = Some(Sha256Hex([1; 32]));
        manifest.models[0].sha256 = Some(Sha256Hex([2; 32]));
        manifest
    }

    #[test]
    fn crates_are_those_of_the_lock_file_without_the_module_itself() {
        let licenses = BTreeMap::from([(("anyhow".into(), "1.0.0+x".into()), "MIT OR Apache-2.0".into())]);
        let crates = Crates::of(LOCK, "[package]\nname = \"lungs\"", &licenses).expect("read");
        let document = document(&manifest(), &[3; 32], Some(Sha256Hex([4; 32])), &crates);
        let told: Value = serde_json::from_slice(&document).expect("JSON");
        let refs: Vec<_> =
            told["components"].as_array().expect("a list").iter().map(|c| c["bom-ref"].clone()).collect();
        assert_eq!(refs, ["component.wasm", "model:net", "pkg:cargo/anyhow@1.0.0%2Bx", "crate:gantry-guest@0.1.0"]);
        assert_eq!(told["dependencies"][1]["dependsOn"], json!(["crate:gantry-guest@0.1.0"]));
        assert_eq!(
            told["dependencies"][3]["dependsOn"],
            json!(["pkg:cargo/anyhow@1.0.0%2Bx"]),
            "what is not there is left out"
        );
        assert_eq!(told["components"][2]["licenses"][0]["expression"], "MIT OR Apache-2.0");
        assert_eq!(told["components"][1]["hashes"][0]["content"], "02".repeat(32));
        let listed = listed(&document).expect("an SBOM");
        assert_eq!(listed["anyhow"], "1.0.0+x MIT OR Apache-2.0");
        assert_eq!(listed.len(), 2);
    }

    #[test]
    fn what_no_lock_file_tells_is_unknown_and_not_nothing() {
        let document = document(&manifest(), &[3; 32], None, &Crates::default());
        let told: Value = serde_json::from_slice(&document).expect("JSON");
        assert_eq!(told["compositions"], json!([{"aggregate": "unknown", "dependencies": ["component.wasm"]}]));
        let graph = told["dependencies"].as_array().expect("a list");
        assert!(graph.iter().all(|of| of["ref"] != "component.wasm"), "{told}");
        assert_eq!(listed(&document), None);
        let none = Crates::of("", "[package]\nname = \"lungs\"", &BTreeMap::new()).expect("read");
        let document = super::document(&manifest(), &[3; 32], None, &none);
        assert_eq!(listed(&document), Some(BTreeMap::new()), "a lock file that lists none");
    }

    #[test]
    fn the_same_is_the_same_and_anything_else_has_another_number() {
        let of = |identity| document(&manifest(), &[identity; 32], None, &Crates::default());
        assert_eq!(of(3), of(3));
        let number = |document: &[u8]| serde_json::from_slice::<Value>(document).expect("JSON")["serialNumber"].clone();
        assert_ne!(number(&of(3)), number(&of(4)));
        assert_eq!(urn(&[0xff; 32]), "urn:uuid:ffffffff-ffff-8fff-bfff-ffffffffffff");
    }

    #[test]
    fn licences_are_those_of_all_crates_or_there_is_no_sbom() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            std::fs::write(path, text).expect("written");
        };
        let package = |name: &str| format!("[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n");
        let needs = "[dependencies]\nbeside = { path = \"../beside\" }\n[workspace]\n";
        write("lungs/Cargo.toml", &(package("lungs") + needs));
        write("lungs/src/lib.rs", "");
        let locked = |name: &str| format!("[[package]]\nname = \"{name}\"\nversion = \"0.1.0\"\n");
        let lock = format!("version = 4\n{}{}dependencies = [\"beside\"]\n", locked("beside"), locked("lungs"));
        write("lungs/Cargo.lock", &lock);
        let source = folder.path().join("lungs");
        let error = Crates::of_source(&source).expect_err("a crate is not there");
        assert!(
            error.contains("Cargo.lock: `cargo metadata` tells no licences") && error.contains("beside"),
            "{error}"
        );
        write("beside/Cargo.toml", &(package("beside") + "license = \"MIT/Apache-2.0\"\n"));
        write("beside/src/lib.rs", "");
        let crates = Crates::of_source(&source).expect("all are there");
        let licenses: Vec<_> = crates.all.iter().map(|of| (of.name.as_str(), of.license.as_deref())).collect();
        assert_eq!(licenses, [("beside", Some("MIT OR Apache-2.0"))]);
    }

    #[test]
    fn what_is_no_lock_file_is_said() {
        assert!(Crates::of("package = 1", "", &BTreeMap::new()).is_err());
        let folder = tempfile::tempdir().expect("a folder");
        assert!(Crates::of_source(folder.path()).expect("another language").all.is_empty());
    }
}
