//! `gantry module inspect`: what a hospital wants to know before it grants anything.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;
use wit_component::DecodedWasm;
use wit_parser::{IndexMap, WorldItem, WorldKey};

use super::cases::{CASE_FILE, CASES_FOLDER};
use super::manifest::{Interface, Manifest, Sha256Hex};
use super::package::{Package, PackageError};
use super::sbom::{self, SBOM_FILE, SBOM_MAX_KIB};
use super::statement::ENVELOPE_FILE;
use super::world::World;

/// What a package says, and what its component really imports.
#[derive(Debug, Serialize)]
pub struct Inspection {
    /// SHA-256 over the manifest: the module's identity.
    pub identity_sha256: String,
    /// As written.
    pub manifest: Manifest,
    /// Interfaces that the component imports, with versions.
    pub imports: Vec<String>,
    /// What it exports.
    pub exports: Vec<String>,
    /// Bytes of the component.
    pub component_bytes: usize,
    /// Bytes of each model.
    pub models: Vec<(String, usize)>,
    /// Every file of the package, by path.
    pub files: Vec<String>,
    /// Libraries that the component is made of, by name, with versions and licences: what the package's SBOM says; none where none does.
    pub libraries: Option<BTreeMap<String, String>>,
    /// Names of its cases, for `gantry module test`.
    pub cases: Vec<String>,
    /// Whether an envelope lies beside it; whether it is a trusted one, `gantry module push` and `pull` tell.
    pub has_envelope: bool,
    /// What somebody should look at.
    pub warnings: Vec<String>,
}

/// Why a package could not be inspected. The vendor's to mend.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// The package does not hold what its manifest says.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// The file is no component.
    #[error("{path} is not a WebAssembly component: {reason}", path = path.display())]
    NotAComponent {
        /// Which file.
        path: std::path::PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// Reads all of a package; every digest is checked on the way.
pub fn inspect(package: &Package, component_max_mib: u64, model_max_mib: u64) -> Result<Inspection, InspectError> {
    let component = package.component(component_max_mib)?;
    let (imports, exports) =
        world(&component).map_err(|reason| InspectError::NotAComponent { path: package.component_path(), reason })?;
    let manifest = package.manifest().clone();
    let mut models = Vec::new();
    for model in &manifest.models {
        models.push((model.name.clone(), package.model(&model.name, model_max_mib)?.len()));
    }
    let warnings = warnings(&manifest, &imports);
    let files = package.files().list()?;
    let libraries = match files.iter().any(|file| file == SBOM_FILE) {
        true => sbom::listed(&package.files().read(SBOM_FILE, SBOM_MAX_KIB << 10, "the 16 MiB of an SBOM", 0)?),
        false => None,
    };
    let case = |file: &String| {
        let name = file.strip_prefix(CASES_FOLDER)?.strip_prefix('/')?.strip_suffix(CASE_FILE)?.strip_suffix('/')?;
        Some(name.to_owned())
    };
    Ok(Inspection {
        cases: files.iter().filter_map(case).collect(),
        has_envelope: files.iter().any(|file| file == ENVELOPE_FILE),
        files,
        libraries,
        identity_sha256: Sha256Hex(package.identity()).into(),
        manifest,
        imports,
        exports,
        component_bytes: component.len(),
        models,
        warnings,
    })
}

/// Names of what a component imports and exports.
pub(super) fn world(component: &[u8]) -> Result<(Vec<String>, Vec<String>), String> {
    // The decoder takes a core module for a component of an empty world.
    if component.starts_with(b"\0asm\x01\0\0\0") {
        return Err("it is a core module; `gantry module build` makes components".into());
    }
    let decoded = wit_component::decode(component).map_err(|e| format!("{e:#}"))?;
    let DecodedWasm::Component(resolve, world) = decoded else {
        return Err("it is a WIT package without code".into());
    };
    let world = &resolve.worlds[world];
    // A type that a world names is no code to be had from anybody; what it is comes from an interface that is listed too.
    let names = |items: &IndexMap<WorldKey, WorldItem>| {
        let code = items.iter().filter(|(_, item)| !matches!(item, WorldItem::Type { .. }));
        code.map(|(key, _)| resolve.name_world_key(key)).collect()
    };
    Ok((names(&world.imports), names(&world.exports)))
}

fn warnings(manifest: &Manifest, imports: &[String]) -> Vec<String> {
    let mut warnings = Vec::new();
    if manifest.label.demonstration {
        warnings.push("a demonstration, not for clinical use".to_owned());
    }
    warnings.extend(beyond_the_manifest(manifest, imports));
    warnings.extend(asked_in_vain(manifest, imports));
    warnings
}

/// What a component imports although its manifest does not ask for it, or no module can have it.
pub(super) fn beyond_the_manifest(manifest: &Manifest, imports: &[String]) -> Vec<String> {
    let asks_for = |interface| manifest.needs.interfaces.contains(&interface);
    // One that the manifest has to list is named once, though the component may import many parts of it.
    let mut named = BTreeSet::new();
    let beyond = imports.iter().filter_map(|import| match covered_by(import) {
        // `volumes` speaks of tensors, so it brings their interface along.
        Some(Interface::Nn) if path_of(import) == "wasi:nn/tensor" && asks_for(Interface::Volumes) => None,
        Some(interface) if asks_for(interface) || !named.insert(interface) => None,
        Some(interface) if interface.is_wasi() && asks_for(Interface::Empty) => None,
        Some(Interface::Empty) => Some(format!("imports {import}, but needs.interfaces does not list wasi:empty")),
        Some(interface) if interface.is_wasi() => Some(format!(
            "imports {import}, but needs.interfaces lists neither {} nor wasi:empty, which has nothing in it",
            interface.name()
        )),
        Some(interface) => Some(format!("imports {import}, but needs.interfaces does not list {}", interface.name())),
        None if path_of(import) == "gantry:imaging/types" => None,
        None => Some(format!("imports {import}, which this runtime offers to no module")),
    });
    beyond.collect()
}

/// An import that no module of this world can have, whoever grants it.
pub(super) fn beyond_the_world(world: World, imports: &[String]) -> Option<&str> {
    let beyond = |import: &&String| covered_by(import).is_some_and(|interface| !world.offers(interface));
    imports.iter().find(beyond).map(String::as_str)
}

/// What a manifest asks for although the component does not import it.
pub(super) fn asked_in_vain(manifest: &Manifest, imports: &[String]) -> Vec<String> {
    let mut used: BTreeSet<Interface> = imports.iter().filter_map(|import| covered_by(import)).collect();
    if used.iter().any(|interface| interface.is_wasi()) {
        used.insert(Interface::Empty);
    }
    let unused = manifest.needs.interfaces.iter().filter(|interface| !used.contains(interface));
    unused.map(|interface| format!("asks for {}, but does not import it", interface.name())).collect()
}

fn path_of(import: &str) -> &str {
    import.split('@').next().unwrap_or(import)
}

fn covered_by(import: &str) -> Option<Interface> {
    Interface::of_import(path_of(import))
}

impl fmt::Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let m = &self.manifest;
        writeln!(f, "{} {} by {}", m.name, m.version, m.vendor)?;
        writeln!(f, "  {}", m.label.title)?;
        writeln!(f, "  {}", m.label.intended_use)?;
        writeln!(f, "  identity    sha256:{}", self.identity_sha256)?;
        let least = m.accepts.slices_min;
        let slices = if least == 1 { "slice" } else { "slices" };
        write!(f, "  accepts     {}, at least {least} {slices}", m.accepts.modality.join(", "))?;
        match m.accepts.slices_max {
            Some(max) => writeln!(f, ", at most {max}")?,
            None => writeln!(f)?,
        }
        let asked: Vec<_> = m.needs.interfaces.iter().map(|i| i.name()).collect();
        writeln!(f, "  asks for    {}", asked.join(", "))?;
        if m.needs.interfaces.contains(&Interface::Empty) {
            writeln!(f, "              wasi:empty: no file, network or environment, a clock at 0, nothing random")?;
        }
        if !m.needs.attributes.is_empty() {
            writeln!(f, "  attributes  {}", m.needs.attributes.join(", "))?;
        }
        for (index, import) in self.imports.iter().enumerate() {
            writeln!(f, "  {:<12}{import}", if index == 0 { "imports" } else { "" })?;
        }
        writeln!(f, "  component   {} KiB", self.component_bytes.div_ceil(1024))?;
        for (model, (name, bytes)) in m.models.iter().zip(&self.models) {
            write!(f, "  model       {name} on {}, {} KiB", model.target, bytes.div_ceil(1024))?;
            model.license.iter().try_for_each(|license| write!(f, ", {license}"))?;
            writeln!(f)?;
        }
        if let Some(license) = &m.license {
            writeln!(f, "  license     {license}")?;
        }
        match &self.libraries {
            Some(libraries) => writeln!(f, "  libraries   {} in {SBOM_FILE}", libraries.len())?,
            None if self.files.iter().any(|file| file == SBOM_FILE) => {
                writeln!(f, "  libraries   not told: {SBOM_FILE} does not know them")?;
            }
            None => writeln!(f, "  libraries   not told: it has no {SBOM_FILE}")?,
        }
        if !self.cases.is_empty() {
            let cases: Vec<_> = self.cases.iter().map(|case| crate::printable(case)).collect();
            writeln!(f, "  cases       {}", cases.join(", "))?;
        }
        let files: Vec<_> = self.files.iter().map(|file| crate::printable(file)).collect();
        writeln!(f, "  files       {}", files.join(", "))?;
        for warning in &self.warnings {
            writeln!(f, "  warning     {warning}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_imported_is_compared_with_what_is_asked_for() {
        let text = r#"
            schema = 1
            name = "lungs"
            version = "0.1.0"
            vendor = "Example"
            label = { title = "Lungs", intended_use = "None.", demonstration = true }
            accepts = { modality = ["CT"] }
            needs = { interfaces = ["gantry:imaging/volumes", "wasi:nn", "wasi:random"] }
        "#;
        let manifest = Manifest::parse(text).expect("fits");
        let imports = [
            "gantry:imaging/types@0.1.0",
            "gantry:imaging/volumes@0.1.0",
            "gantry:imaging/log@0.1.0",
            "wasi:nn/graph@0.2.0-rc-2024-10-28",
            "wasi:io/poll@0.2.0",
            "wasi:io/streams@0.2.0",
            "wasi:sockets/tcp@0.2.0",
            "wasi:http/types@0.2.0",
        ]
        .map(str::to_owned);
        assert_eq!(
            beyond_the_manifest(&manifest, &imports),
            [
                "imports gantry:imaging/log@0.1.0, but needs.interfaces does not list gantry:imaging/log",
                "imports wasi:io/poll@0.2.0, but needs.interfaces lists neither wasi:io nor wasi:empty, which has nothing in it",
                "imports wasi:sockets/tcp@0.2.0, but needs.interfaces does not list wasi:empty",
                "imports wasi:http/types@0.2.0, which this runtime offers to no module"
            ]
        );
        assert_eq!(asked_in_vain(&manifest, &imports), ["asks for wasi:random, but does not import it"]);
        let mut empty = manifest.clone();
        empty.needs.interfaces = vec![Interface::Volumes, Interface::Log, Interface::Nn, Interface::Empty];
        assert_eq!(
            beyond_the_manifest(&empty, &imports),
            ["imports wasi:http/types@0.2.0, which this runtime offers to no module"]
        );
        assert_eq!(asked_in_vain(&empty, &imports), [""; 0]);
        let mut fewer = manifest;
        fewer.needs.interfaces = vec![Interface::Volumes];
        let tensors = ["wasi:nn/tensor@0.2.0-rc-2024-10-28".to_owned()];
        assert_eq!(beyond_the_manifest(&fewer, &tensors), [""; 0], "volumes bring tensors along");
    }

    #[test]
    fn what_a_world_does_not_have_is_named() {
        let imports = ["gantry:imaging/types@0.1.0", "gantry:imaging/log@0.1.0", "gantry:imaging/frames@0.1.0"];
        let imports = imports.map(str::to_owned);
        assert_eq!(beyond_the_world(World::Analyzer, &imports), Some("gantry:imaging/frames@0.1.0"));
        assert_eq!(beyond_the_world(World::FrameAnalyzer, &imports), None);
    }

    #[test]
    fn what_is_no_component_has_no_world() {
        assert!(world(b"not wasm at all").is_err());
        assert!(world(b"\0asm\x01\0\0\0").is_err(), "a core module");
    }
}
