//! The contract as a module needs it: a world that imports what its manifest asks for, and nothing else.
//!
//! Rust has the SDK, whose unused imports the linker drops. Other languages' tools import all that their world has, so the
//! world is made from `needs.interfaces`.

use std::path::{Path, PathBuf};

use super::{BuildError, put};
use crate::module::manifest::{Interface, Manifest};
use crate::module::package::MANIFEST_FILE;

/// Name of the world; tools call what they make by it.
pub(super) const WORLD: &str = "analyzer";
/// What is made on the way to a package, inside the source folder.
pub(super) const BUILD_FOLDER: &str = "build";

/// The contract: below `deps`, so that the world can name any interface of it.
const CONTRACT: [(&str, &str); 2] = [
    ("gantry-imaging/imaging.wit", include_str!("../../../../wit/imaging.wit")),
    ("wasi-nn/nn.wit", include_str!("../../../../wit/deps/wasi-nn/nn.wit")),
];

/// Writes it to `source/build/wit`, where an editor and `source`'s language find it; that folder.
///
/// # Errors
/// It cannot be written, or the manifest asks for frames, which a module in Rust alone can have.
pub(super) fn write(source: &Path, manifest: &Manifest) -> Result<PathBuf, BuildError> {
    if manifest.needs.interfaces.contains(&Interface::Frames) {
        let reason =
            "needs.interfaces lists gantry:imaging/frames, and modules that look at frames are built in Rust alone";
        return Err(BuildError::Manifest { path: source.join(MANIFEST_FILE), reason: reason.into() });
    }
    let folder = source.join(BUILD_FOLDER).join("wit");
    put(&folder, "world.wit", world(manifest).as_bytes())?;
    for (file, text) in CONTRACT {
        put(&folder.join("deps"), file, text.as_bytes())?;
    }
    Ok(folder)
}

fn world(manifest: &Manifest) -> String {
    let mut text = format!(
        "// Written by `gantry module build` from needs.interfaces of module.toml.\npackage vendor:module;\n\nworld {WORLD} {{\n"
    );
    for import in manifest.needs.interfaces.iter().flat_map(|interface| imports(*interface)) {
        text += &format!("    import {import};\n");
    }
    text + "\n    export analyze: func() -> result<_, string>;\n}\n"
}

/// WASI is not among them: what a language needs of it, its tools bring along.
fn imports(interface: Interface) -> Vec<String> {
    let version = interface.offered();
    match interface {
        Interface::Nn => {
            ["tensor", "graph", "inference", "errors"].map(|part| format!("wasi:nn/{part}@{version}")).into()
        }
        wasi if wasi.is_wasi() => Vec::new(),
        own => vec![format!("{}@{version}", own.name())],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_world_has_what_the_manifest_asks_for() {
        let text = r#"
            schema = 1
            name = "lungs"
            version = "0.1.0"
            vendor = "Example"
            label = { title = "Lungs", intended_use = "None.", demonstration = true }
            accepts = { modality = ["CT"] }
        "#;
        for interface in Interface::ALL {
            let mut manifest = Manifest::parse(text).expect("fits");
            manifest.needs.interfaces = vec![interface];
            let source = tempfile::tempdir().expect("a folder");
            if interface == Interface::Frames {
                let refused = write(source.path(), &manifest).expect_err("another world").to_string();
                assert!(refused.contains("in Rust alone"), "{refused}");
                continue;
            }
            let wit = write(source.path(), &manifest).expect("written");
            let mut resolve = wit_parser::Resolve::default();
            let (package, _) = resolve.push_dir(&wit).expect("a world that can be read");
            let world = resolve.select_world(&[package], Some(WORLD)).expect("the world");
            let names = |key: &wit_parser::WorldKey| resolve.name_world_key(key);
            let imports: Vec<_> = resolve.worlds[world].imports.keys().map(names).collect();
            let asked = imports.iter().any(|import| import.starts_with(interface.name()));
            assert_eq!(asked, !interface.is_wasi(), "{}: {imports:?}", interface.name());
        }
    }
}
