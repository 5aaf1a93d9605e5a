//! A compiler for guests: the installed target, else Debian's, unpacked into a cache.
//!
//! Nothing is installed, and rustup is never made to download: what is missing is said.

use std::env::consts::ARCH;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{BuildError, file, run};

const TARGET: &str = "wasm32-unknown-unknown";

/// Compiles crates for `wasm32-unknown-unknown`.
#[derive(Debug)]
pub(super) struct GuestToolchain {
    /// Debian's compiler, unpacked; the installed one when `None`.
    unpacked: Option<PathBuf>,
    sysroot: PathBuf,
    cache: PathBuf,
    /// The repository of Gantry, when the guest lies in it.
    repository: Option<PathBuf>,
}

impl GuestToolchain {
    /// Finds one. The cache is `$GANTRY_CACHE`, or `.cache` of the repository of Gantry when the guest lies in it, or
    /// `$HOME/.cache/gantry`.
    pub(super) fn find(source: &Path, progress: &mut dyn FnMut(&str)) -> Result<Self, BuildError> {
        let source = source.canonicalize().map_err(|reason| file(source, reason))?;
        let is_repository =
            |folder: &&Path| folder.join("wit/imaging.wit").exists() && folder.join("guest-sdk").exists();
        let repository = source.ancestors().find(is_repository).map(Path::to_path_buf);
        let cache = cache_folder(repository.as_deref())
            .ok_or_else(|| BuildError::NoToolchain("neither GANTRY_CACHE nor HOME is set".into()))?;
        let sysroot = run(command("rustc").args(["--print", "sysroot"]).current_dir(&source))?;
        let sysroot = PathBuf::from(String::from_utf8_lossy(&sysroot).trim());
        let mut found = Self { unpacked: None, sysroot, cache, repository };
        if !found.sysroot.join("lib/rustlib").join(TARGET).join("lib").is_dir() {
            found.unpacked = Some(unpack_debian(&found.cache, progress)?);
        }
        Ok(found)
    }

    /// Where it puts what it builds: one folder for all guests, so that the standard library is built once.
    pub(super) fn target_folder(&self) -> PathBuf {
        self.cache.join("guest-target")
    }

    /// A `cargo` that compiles for guests.
    pub(super) fn cargo(&self) -> Command {
        let mut cargo = command("cargo");
        // No path of this machine in a component: they are the same wherever they are built.
        let mut flags = vec!["-Ctarget-feature=+simd128".to_owned()];
        let mut remap = |from: &Path, to: &str| flags.push(format!("--remap-path-prefix={}={to}", from.display()));
        // Cargo names files below the crate's own folder relatively; those of the SDK in the repository it does not.
        if let Some(repository) = &self.repository {
            remap(repository, "/src");
        }
        remap(&cargo_home(), "/cargo");
        remap(&self.sysroot, "/rust");
        if let Some(unpacked) = &self.unpacked {
            remap(unpacked, "/rust");
            cargo.env("RUSTC", unpacked.join("usr/bin/rustc"));
            cargo.env("LD_LIBRARY_PATH", unpacked.join(format!("usr/lib/{ARCH}-linux-gnu")));
            cargo.env("RUSTC_BOOTSTRAP", "1");
            cargo.env(
                "CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER",
                self.sysroot.join(format!("lib/rustlib/{ARCH}-unknown-linux-gnu/bin/rust-lld")),
            );
            cargo.arg("-Zbuild-std=std,panic_abort");
        }
        cargo.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
        cargo.env("CARGO_TARGET_DIR", self.target_folder());
        cargo
    }
}

/// A tool of the Rust toolchain, free of what an outer `cargo` set for itself.
fn command(tool: &str) -> Command {
    let mut command = Command::new(tool);
    command.env("RUSTUP_AUTO_INSTALL", "0").env_remove("RUSTC_WRAPPER").env_remove("RUSTFLAGS");
    command.env_remove("CARGO_BUILD_TARGET").env_remove("CARGO_TARGET_DIR").env_remove("CARGO_INCREMENTAL");
    command
}

fn cache_folder(repository: Option<&Path>) -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    set("GANTRY_CACHE")
        .or_else(|| Some(repository?.join(".cache")))
        .or_else(|| Some(set("HOME")?.join(".cache/gantry")))
}

fn cargo_home() -> PathBuf {
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cargo");
    std::env::var_os("CARGO_HOME").map_or_else(home, PathBuf::from)
}

/// Debian's `rustc-web` and what it needs, unpacked once into the cache.
fn unpack_debian(cache: &Path, progress: &mut dyn FnMut(&str)) -> Result<PathBuf, BuildError> {
    std::fs::create_dir_all(cache).map_err(|reason| file(cache, reason))?;
    // Two builds at once: the second waits for what the first unpacks.
    let lock = cache.join("guest-toolchain.lock");
    let held = std::fs::File::create(&lock).map_err(|reason| file(&lock, reason))?;
    held.lock().map_err(|reason| file(&lock, reason))?;
    let folder = cache.join("guest-toolchain");
    if folder.join(".complete").exists() {
        return Ok(folder);
    }
    let missing = |why: &str| BuildError::NoToolchain(format!("the target {TARGET} is not installed, and {why}"));
    if command("apt-get").arg("--version").output().is_err() {
        return Err(missing("this is no Debian to take the package rustc-web from"));
    }
    let packages = debian_packages().or_else(|_| {
        progress("updating the package lists");
        run(command("apt-get").args(["update", "-qq"])).ok();
        debian_packages()
    });
    let packages =
        packages.map_err(|_| missing("the Debian package rustc-web cannot be found (run `apt-get update`)"))?;
    let fresh = tempfile::Builder::new().prefix(".guest-toolchain-").tempdir_in(cache).map_err(|e| file(cache, e))?;
    progress(&format!("fetching a compiler for guests: {} (no installation, once)", packages.join(" ")));
    run(command("apt-get").args(["download", "-qq"]).args(&packages).current_dir(fresh.path()))?;
    for entry in std::fs::read_dir(fresh.path()).map_err(|e| file(fresh.path(), e))? {
        let path = entry.map_err(|e| file(fresh.path(), e))?.path();
        if path.extension().is_some_and(|e| e == "deb") {
            run(command("dpkg-deb").arg("-x").arg(&path).arg(fresh.path()))?;
            std::fs::remove_file(&path).map_err(|e| file(&path, e))?;
        }
    }
    std::fs::write(fresh.path().join(".complete"), packages.join("\n")).map_err(|e| file(fresh.path(), e))?;
    if folder.exists() {
        std::fs::remove_dir_all(&folder).map_err(|e| file(&folder, e))?;
    }
    std::fs::rename(fresh.keep(), &folder).map_err(|e| file(&folder, e))?;
    Ok(folder)
}

/// `rustc-web`, the standard library's parts, and the LLVM that it was linked with, whatever their versions are.
fn debian_packages() -> Result<Vec<String>, BuildError> {
    let mut packages = vec!["rustc-web".to_owned(), "libstd-rust-web-dev".into(), "rust-web-src".into()];
    let mut next = 0;
    while let Some(package) = packages.get(next).cloned() {
        next += 1;
        let listed = run(command("apt-cache").args(["depends", "--no-recommends", "--no-suggests", &package]))?;
        for line in String::from_utf8_lossy(&listed).lines() {
            let Some(name) = line.trim().strip_prefix("Depends: ") else { continue };
            let part = name.starts_with("libllvm") || name.starts_with("libstd-rust-web");
            if part && !packages.iter().any(|p| p == name) {
                packages.push(name.to_owned());
            }
        }
    }
    let found = packages.iter().any(|p| p.starts_with("libllvm"));
    if found { Ok(packages) } else { Err(BuildError::NoToolchain("rustc-web needs no libllvm".into())) }
}
