//! Other people's software that judges ours, and what guests in other languages are made with: Python environments and Node.js
//! packages in the cache, and Debian packages on the system.

use crate::assets::{python, remove_folder};
use crate::process::{Step, seconds, timed};
use crate::repository::{Repository, find_program, in_ci};
use anyhow::{Context, Result, bail};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Installs what is missing. Where that is impossible (not root, not Debian), it says what to run; in CI that fails.
pub(crate) fn install(repository: &Repository) -> Result<()> {
    install_python("Python peers", repository, "tests/peers/requirements.txt", &repository.venv())?;
    // npm is one of them.
    install_debian_peers()?;
    install_node("Node.js peers", repository, "tests/peers/npm", &repository.npm())?;
    // Of versions of their own: what makes a guest is no matter of what judges results.
    let tools = repository.toolchains();
    install_python("Python for guests", repository, "tests/toolchains/requirements.txt", &tools.join("venv"))?;
    install_node("Node.js for guests", repository, "tests/toolchains", &tools.join("npm"))
}

/// A Debian package, and a file that shows that it, or the same software from elsewhere, is installed.
struct DebianPeer {
    package: &'static str,
    witness: Witness,
}

enum Witness {
    Program(&'static str),
    File(&'static str),
}

const DEBIAN_PEERS: &[DebianPeer] = &[
    DebianPeer { package: "dcmtk", witness: Witness::Program("storescu") },
    DebianPeer { package: "orthanc", witness: Witness::Program("Orthanc") },
    DebianPeer {
        package: "orthanc-dicomweb",
        witness: Witness::File("/usr/share/orthanc/plugins/libOrthancDicomWeb.so"),
    },
    DebianPeer { package: "libpixelmed-java", witness: Witness::File("/usr/share/java/pixelmed.jar") },
    DebianPeer { package: "default-jre-headless", witness: Witness::Program("java") },
    DebianPeer { package: "nodejs", witness: Witness::Program("node") },
    DebianPeer { package: "npm", witness: Witness::Program("npm") },
    // An S3 server: Ceph's gateway with a monitor and an OSD of its own.
    DebianPeer { package: "radosgw", witness: Witness::Program("radosgw") },
    DebianPeer { package: "ceph-mon", witness: Witness::Program("ceph-mon") },
    DebianPeer { package: "ceph-osd", witness: Witness::Program("ceph-osd") },
    // De-identification by others, and who opens what is encrypted to a hospital's key.
    DebianPeer { package: "libgdcm-tools", witness: Witness::Program("gdcmanon") },
    DebianPeer { package: "age", witness: Witness::Program("age") },
    // What guests in C are made with.
    DebianPeer { package: "clang", witness: Witness::Program("clang") },
    DebianPeer { package: "lld", witness: Witness::Program("wasm-ld") },
    DebianPeer { package: "wasi-libc", witness: Witness::File("/usr/lib/wasm32-wasi/libc.a") },
    DebianPeer {
        package: "libclang-rt-14-dev-wasm32",
        witness: Witness::File("/usr/lib/llvm-14/lib/clang/14.0.6/lib/wasi/libclang_rt.builtins-wasm32.a"),
    },
    DebianPeer { package: "chromium-headless-shell", witness: Witness::Program("chromium-headless-shell") },
];

fn install_python(what: &str, repository: &Repository, list: &str, venv: &Path) -> Result<()> {
    let list = repository.root.join(list);
    let wanted = fs::read_to_string(&list).with_context(|| format!("cannot read {}", list.display()))?;
    let stamp = venv.join(".complete");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        println!("{what}: up to date in {}", repository.short(venv));
        return Ok(());
    }
    println!("{what}: installing into {} ...", repository.short(venv));
    remove_folder(venv)?;
    let (outcome, elapsed) = timed(|| {
        python()
            .args(["-m", "venv"])
            .arg(venv)
            .capture()
            .context("cannot create a Python environment (on Debian: apt-get install python3-venv)")?;
        let pip = || Step::new(venv.join("bin/python")).args(["-m", "pip", "--disable-pip-version-check"]);
        pip()
            .args(["install", "--quiet", "--no-deps", "--only-binary", ":all:", "--requirement"])
            .arg(&list)
            .capture()?;
        pip().arg("check").capture().with_context(|| format!("{} is not closed", list.display()))
    });
    outcome?;
    fs::write(&stamp, &wanted)?;
    let count = wanted.lines().filter(|line| line.contains("==")).count();
    println!("{what}: {count} packages ({})", seconds(elapsed));
    Ok(())
}

/// What the lock file of a folder locks, without running what packages bring to be run.
fn install_node(what: &str, repository: &Repository, from: &str, to: &Path) -> Result<()> {
    const FILES: [&str; 2] = ["package.json", "package-lock.json"];
    let folder = repository.root.join(from);
    let locked =
        fs::read_to_string(folder.join(FILES[1])).with_context(|| format!("cannot read {from}/{}", FILES[1]))?;
    let stamp = to.join(".complete");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == locked) {
        println!("{what}: up to date in {}", repository.short(to));
        return Ok(());
    }
    if find_program("npm").is_none() {
        if in_ci() {
            bail!("npm is missing, and tests in CI need what it installs");
        }
        println!("{what}: npm is missing; tests that need them will be skipped");
        return Ok(());
    }
    println!("{what}: installing into {} ...", repository.short(to));
    remove_folder(to)?;
    fs::create_dir_all(to)?;
    for file in FILES {
        fs::copy(folder.join(file), to.join(file))?;
    }
    let install = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"];
    Step::new("npm").args(install).in_folder(to).capture()?;
    fs::write(&stamp, &locked)?;
    println!("{what}: installed");
    Ok(())
}

fn install_debian_peers() -> Result<()> {
    let missing = missing_packages(DEBIAN_PEERS, |witness| match witness {
        Witness::Program(name) => find_program(name).is_some(),
        Witness::File(path) => Path::new(path).exists(),
    });
    if missing.is_empty() {
        println!("Debian peers: installed");
        return Ok(());
    }
    let by_hand = format!("apt-get install --no-install-recommends {}", missing.join(" "));
    if find_program("apt-get").is_none() || !rustix::process::geteuid().is_root() {
        if in_ci() {
            bail!("peers are missing, and only root can install them: {by_hand}");
        }
        println!("Debian peers: missing; tests that need them will be skipped. To install them, as root:\n  {by_hand}");
        return Ok(());
    }
    println!("Debian peers: installing {} ...", missing.join(" "));
    let (outcome, elapsed) = timed(|| apt_install(&missing));
    outcome.with_context(|| format!("cannot install peers; by hand: {by_hand}"))?;
    println!("Debian peers: {} packages ({})", missing.len(), seconds(elapsed));
    Ok(())
}

fn missing_packages(peers: &[DebianPeer], there: impl Fn(&Witness) -> bool) -> Vec<&'static str> {
    peers.iter().filter(|peer| !there(&peer.witness)).map(|peer| peer.package).collect()
}

fn apt_install(packages: &[&str]) -> Result<()> {
    let _nothing_starts = ServicesHeld::hold()?;
    let apt = || Step::new("apt-get").env("DEBIAN_FRONTEND", "noninteractive");
    apt().args(["update", "-qq"]).capture()?;
    apt().args(["install", "--yes", "-qq", "--no-install-recommends"]).args(packages).capture()?;
    Ok(())
}

/// While this lives, no package that is installed starts its service: tests start an Orthanc of their own, and nobody
/// asked for one that listens all day.
struct ServicesHeld {
    policy: Option<PathBuf>,
}

impl ServicesHeld {
    /// Debian asks this file before it starts a service; 101 means no. One that is there already is left alone.
    fn hold() -> Result<Self> {
        let policy = PathBuf::from("/usr/sbin/policy-rc.d");
        if policy.exists() {
            return Ok(Self { policy: None });
        }
        fs::write(&policy, "#!/bin/sh\nexit 101\n").with_context(|| format!("cannot write {}", policy.display()))?;
        let held = Self { policy: Some(policy.clone()) };
        fs::set_permissions(&policy, fs::Permissions::from_mode(0o755))?;
        Ok(held)
    }
}

impl Drop for ServicesHeld {
    fn drop(&mut self) {
        if let Some(policy) = &self.policy {
            // Nothing better can be done here than to leave the file, and the next service start says why.
            let _ = fs::remove_file(policy);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_missing_is_installed() {
        assert_eq!(missing_packages(DEBIAN_PEERS, |_| true), Vec::<&str>::new());
        let without_java = missing_packages(DEBIAN_PEERS, |witness| !matches!(witness, Witness::Program("java")));
        assert_eq!(without_java, ["default-jre-headless"]);
    }

    #[test]
    fn python_peers_are_pinned_exactly() {
        let peers = include_str!("../../tests/peers/requirements.txt");
        let tools = include_str!("../../tests/toolchains/requirements.txt");
        for line in peers.lines().chain(tools.lines()).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (name, version) = line.split_once("==").expect("name==version");
            assert!(!name.is_empty() && !version.contains(['*', ';', ' ']), "{line}");
        }
    }
}
