//! `gantry module inspect`: what a hospital wants to know before it grants anything.

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;
use wit_component::DecodedWasm;

use super::manifest::{Interface, Manifest, Sha256Hex};
use super::package::{Package, PackageError};

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
    let (imports, exports) = world(&component)
        .map_err(|reason| InspectError::NotAComponent { path: package.component_path(), reason })?;
    let manifest = package.manifest().clone();
    let mut models = Vec::new();
    for model in &manifest.models {
        models.push((model.name.clone(), package.model(&model.name, model_max_mib)?.len()));
    }
    let warnings = warnings(&manifest, &imports);
    Ok(Inspection {
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
fn world(component: &[u8]) -> Result<(Vec<String>, Vec<String>), String> {
    let decoded = wit_component::decode(component).map_err(|e| format!("{e:#}"))?;
    let DecodedWasm::Component(resolve, world) = decoded else {
        return Err("it is a WIT package without code".into());
    };
    let world = &resolve.worlds[world];
    let names = |items: Vec<&wit_parser::WorldKey>| items.into_iter().map(|k| resolve.name_world_key(k)).collect();
    Ok((names(world.imports.keys().collect()), names(world.exports.keys().collect())))
}

fn warnings(manifest: &Manifest, imports: &[String]) -> Vec<String> {
    let mut warnings = Vec::new();
    if manifest.label.demonstration {
        warnings.push("a demonstration, not for clinical use".to_owned());
    }
    let asked: BTreeSet<Interface> = manifest.needs.interfaces.iter().copied().collect();
    let mut used = BTreeSet::new();
    for import in imports {
        let path = import.split('@').next().unwrap_or(import);
        match Interface::of_import(path) {
            Some(interface) => {
                used.insert(interface);
                let tensors = path == "wasi:nn/tensor" && asked.contains(&Interface::Volumes);
                if !asked.contains(&interface) && !tensors {
                    warnings.push(format!("imports {import}, but the manifest does not ask for {}", interface.name()));
                }
            }
            None if path == "gantry:imaging/types" => {}
            None => warnings.push(format!("imports {import}, which this runtime offers to no module")),
        }
    }
    for unused in asked.difference(&used) {
        warnings.push(format!("asks for {}, but does not import it", unused.name()));
    }
    warnings
}

impl fmt::Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let m = &self.manifest;
        writeln!(f, "{} {} by {}", m.name, m.version, m.vendor)?;
        writeln!(f, "  {}", m.label.title)?;
        writeln!(f, "  {}", m.label.intended_use)?;
        writeln!(f, "  identity    sha256:{}", self.identity_sha256)?;
        write!(f, "  accepts     {}, {} slices or more", m.accepts.modality.join(", "), m.accepts.slices_min)?;
        match m.accepts.slices_max {
            Some(max) => writeln!(f, ", at most {max}")?,
            None => writeln!(f)?,
        }
        let asked: Vec<_> = m.needs.interfaces.iter().map(|i| i.name()).collect();
        writeln!(f, "  asks for    {}", asked.join(", "))?;
        if !m.needs.attributes.is_empty() {
            writeln!(f, "  attributes  {}", m.needs.attributes.join(", "))?;
        }
        writeln!(f, "  imports     {}", self.imports.join(", "))?;
        writeln!(f, "  component   {} KiB", self.component_bytes.div_ceil(1024))?;
        for (model, (name, bytes)) in m.models.iter().zip(&self.models) {
            writeln!(f, "  model       {name} on {}, {} KiB", model.target, bytes.div_ceil(1024))?;
        }
        for warning in &self.warnings {
            writeln!(f, "  warning     {warning}")?;
        }
        Ok(())
    }
}
