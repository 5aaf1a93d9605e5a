//! `gantry module explain`: what any WebAssembly file wants, and what of it a module could be given.
//!
//! Others publish WebAssembly too, mostly programs for WASI 0.1: they take arguments, and read and write files.
//! A module is something else. This says what such a file wants and why it is refused, instead of "no component".

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use wasmparser::{Parser, Payload};

use super::files::read_bounded;
use super::inspect;
use super::manifest::Interface;
use super::package::PackageError;
use super::world::World;
use crate::sandbox::grants::DEFAULT_INTERFACES;

/// What core modules call WASI 0.1.
const PREVIEW1: &str = "wasi_snapshot_preview1";

const ARGUMENTS: &str = "arguments";

/// What a file is and wants.
#[derive(Debug, Serialize)]
pub struct Explained {
    /// What it is.
    pub kind: Kind,
    /// What it wants, in order of name, and what becomes of that.
    pub wants: Vec<Want>,
    /// Names of what can be called.
    pub exports: Vec<String>,
    /// Why it is no module as it is; empty where it is one.
    pub refused: Vec<String>,
}

/// What a WebAssembly file can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A component.
    Component,
    /// A core module that takes arguments: a program.
    Program,
    /// Another core module.
    CoreModule,
}

/// Something that a file wants.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Want {
    /// In people's words: `files`, `the clock`, an interface.
    pub what: String,
    /// Its imports.
    pub imports: Vec<String>,
    /// What a module gets of it.
    pub gets: String,
}

/// Why a file cannot be explained. The caller's to mend.
#[derive(Debug, thiserror::Error)]
pub enum ForeignError {
    /// It cannot be read, or is too large.
    #[error(transparent)]
    Read(#[from] PackageError),
    /// It is something else.
    #[error("{path} is no WebAssembly: {reason}", path = path.display())]
    NotWasm {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// Looks at a file of at most `component_max_mib`; nothing of it is run.
///
/// # Errors
/// [`ForeignError`].
pub fn explain_file(path: &Path, component_max_mib: u64) -> Result<Explained, ForeignError> {
    let wasm = read_bounded(path, component_max_mib << 20, "component_max_mib", component_max_mib)?;
    explain(&wasm).map_err(|reason| ForeignError::NotWasm { path: path.to_path_buf(), reason })
}

/// Looks at a file of any kind.
///
/// # Errors
/// It is no WebAssembly; `Err` has the reason.
pub fn explain(wasm: &[u8]) -> Result<Explained, String> {
    if Parser::is_component(wasm) { component(wasm) } else { core(wasm) }
}

fn component(wasm: &[u8]) -> Result<Explained, String> {
    let (imports, exports) = inspect::world(wasm)?;
    let mut wants: BTreeMap<String, (Vec<String>, String)> = BTreeMap::new();
    let mut refused = Vec::new();
    for import in imports {
        let (path, version) = import.split_once('@').unwrap_or((&import, ""));
        let (what, gets) = match Interface::of_import(path) {
            _ if path == "gantry:imaging/types" => continue,
            Some(interface) if interface.offers(version) => (interface.name().to_owned(), gets(interface)),
            Some(interface) => {
                let offered = interface.offered();
                refused.push(format!("it imports {import}, and this runtime offers version {offered}"));
                (interface.name().to_owned(), format!("nothing: version {offered} is offered"))
            }
            None => {
                refused.push(format!("it imports {import}, which this runtime offers to no module"));
                (path.to_owned(), "nothing".to_owned())
            }
        };
        wants.entry(what).or_insert_with(|| (Vec::new(), gets)).0.push(import);
    }
    if !is_module(&exports) {
        refused.push("it exports neither `analyze`, which a job calls, nor `next`, which a stream calls".into());
    }
    Ok(Explained { kind: Kind::Component, wants: listed(wants), exports, refused })
}

fn gets(interface: Interface) -> String {
    match interface {
        wasi if wasi.is_wasi() => {
            let empty = match wasi {
                Interface::Clocks => "with wasi:empty a clock that stands at 0; with wasi:clocks one that goes",
                Interface::Random => {
                    "with wasi:empty bytes that are the same in every job; with wasi:random random ones"
                }
                Interface::Io => "with wasi:empty streams and waiting",
                Interface::Cli => "with wasi:empty no argument, no environment, no input; what it prints is in the log",
                Interface::Filesystem => "with wasi:empty a file system without a single folder",
                _ => "with wasi:empty no socket and no name that is found",
            };
            format!("{empty}, where the manifest asks for it")
        }
        usual if DEFAULT_INTERFACES.contains(&usual) => {
            "all of it, where the manifest asks for it and unless the operator took it away".into()
        }
        other => {
            format!("all of it, where the manifest asks for it and the operator grants it (--grant {})", other.name())
        }
    }
}

fn core(wasm: &[u8]) -> Result<Explained, String> {
    let (mut wants, mut exports) = (BTreeMap::<String, (Vec<String>, String)>::new(), Vec::new());
    let (mut own, mut foreign) = (Vec::new(), Vec::new());
    for payload in Parser::new(0).parse_all(wasm) {
        match payload.map_err(|e| crate::printable(&e.to_string()))? {
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    let import = import.map_err(|e| crate::printable(&e.to_string()))?;
                    let name = crate::printable(&format!("{}.{}", import.module, import.name));
                    let (what, gets) = match import.module {
                        PREVIEW1 => of_preview1(import.name),
                        module if module.contains(':') => {
                            own.push(name.clone());
                            ("interfaces of components", "what its component imports")
                        }
                        _ => {
                            foreign.push(name.clone());
                            ("functions of another host", "nothing")
                        }
                    };
                    wants.entry(what.to_owned()).or_insert_with(|| (Vec::new(), gets.to_owned())).0.push(name);
                }
            }
            Payload::ExportSection(section) => {
                for export in section {
                    let export = export.map_err(|e| crate::printable(&e.to_string()))?;
                    // A name may be empty.
                    exports.push(if export.name.is_empty() { "\"\"".into() } else { crate::printable(export.name) });
                }
            }
            _ => {}
        }
    }
    let is_program = wants.contains_key(ARGUMENTS) || exports.iter().any(|name| name == "_start");
    let kind = if is_program { Kind::Program } else { Kind::CoreModule };
    let mut refused: Vec<String> =
        foreign.iter().map(|name| format!("it imports {name}, which is of another host")).collect();
    match kind {
        Kind::Program => refused.push(
            "it is a program: it works on arguments and files, and ends. A job has neither, and calls `analyze`: what it does is for a \
             module to do, on the volumes and handles that the host has"
                .into(),
        ),
        _ if own.is_empty() || !is_module(&exports) => refused.push(
            "it is a core module without `analyze` of gantry:imaging: `gantry module build` makes components from source".into(),
        ),
        _ => refused.push("it is a core module: `gantry module build` makes a component of it".into()),
    }
    Ok(Explained { kind, wants: listed(wants), exports, refused })
}

/// Whether it has what the host calls.
fn is_module(exports: &[String]) -> bool {
    World::of_exports(exports.iter().map(String::as_str)).is_some()
}

/// Whether a core module asks for WASI 0.1.
pub(super) fn asks_for_preview1(wasm: &[u8]) -> bool {
    let asks = |want: &Want| want.imports.iter().any(|import| import.starts_with(PREVIEW1));
    core(wasm).is_ok_and(|explained| explained.wants.iter().any(asks))
}

/// What a function of WASI 0.1 is for, and what a module made with the adapter gets of it.
fn of_preview1(function: &str) -> (&'static str, &'static str) {
    match function {
        "args_get" | "args_sizes_get" => (ARGUMENTS, "none"),
        "environ_get" | "environ_sizes_get" => ("environment", "none"),
        "clock_time_get" | "clock_res_get" => ("the clock", "one that stands at 0, or with wasi:clocks one that goes"),
        "random_get" => ("randomness", "the same bytes in every job, or with wasi:random random ones"),
        "proc_exit" | "proc_raise" => ("ending itself", "it fails the job"),
        "poll_oneoff" | "sched_yield" => ("waiting", "a wait is over at once, or with wasi:clocks when it is over"),
        name if name.starts_with("sock_") => ("network", "no socket"),
        "fd_write" | "fd_read" | "fd_close" | "fd_seek" | "fd_fdstat_get" | "fd_fdstat_set_flags" => {
            ("standard streams", "no input; what it prints is in the log")
        }
        _ => ("files", "none: there is no folder to begin at"),
    }
}

fn listed(wants: BTreeMap<String, (Vec<String>, String)>) -> Vec<Want> {
    wants.into_iter().map(|(what, (imports, gets))| Want { what, imports, gets }).collect()
}

impl fmt::Display for Explained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{}",
            match self.kind {
                Kind::Component => "a component",
                Kind::Program => "a core module: a program for WASI 0.1",
                Kind::CoreModule => "a core module",
            }
        )?;
        for Want { what, imports, gets } in &self.wants {
            writeln!(f, "  wants       {what}: {}", imports.join(", "))?;
            writeln!(f, "    gets      {gets}")?;
        }
        writeln!(f, "  exports     {}", self.exports.join(", "))?;
        match self.refused.as_slice() {
            [] => writeln!(f, "it can be the component of a module"),
            reasons => reasons.iter().try_for_each(|reason| writeln!(f, "  refused     {reason}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_webassembly_is_said() {
        assert!(explain(b"").is_err());
        assert!(explain(b"\0asm").is_err());
        assert!(explain(b"#!/bin/sh").is_err());
    }

    #[test]
    fn every_function_that_reaches_out_has_a_name_for_it() {
        for (function, what) in [
            ("path_open", "files"),
            ("fd_prestat_get", "files"),
            ("fd_readdir", "files"),
            ("fd_write", "standard streams"),
            ("sock_accept", "network"),
            ("clock_time_get", "the clock"),
            ("random_get", "randomness"),
            ("environ_get", "environment"),
            ("args_get", "arguments"),
        ] {
            assert_eq!(of_preview1(function).0, what, "{function}");
        }
    }
}
