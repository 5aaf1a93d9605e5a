//! `gantry module check`, `test`, `bench`, `pack`, `unpack`, `inspect`, `diff` and `explain`: what a vendor does with a package
//! before anybody has it.

use std::path::{Path, PathBuf};

use anyhow::anyhow;
use gantry::app::App;
use gantry::config::{Config, Limits};
use gantry::inference::{EnginePreference, Turn};
use gantry::module::bench::{self, BenchError};
use gantry::module::cases::{self, CaseError, TestError};
use gantry::module::check::CheckError;
use gantry::module::examine::{self, CARD_FILE, ExamineError};
use gantry::module::files::Files;
use gantry::module::inspect::{self, InspectError};
use gantry::module::pack::{self, Pack};
use gantry::module::package::{Package, PackageError};
use gantry::module::sbom::{SBOM_FILE, SBOM_MAX_KIB};
use gantry::module::statement::ENVELOPE_FILE;
use gantry::module::target::Target;
use gantry::module::{accompany, diff, foreign};
use gantry::sandbox::grants::Policy;
use indicatif::ProgressBar;
use serde::Serialize;

use crate::{cli, print};

type Done<T = ()> = Result<T, (u8, anyhow::Error)>;

pub(crate) const CHECK_EXAMPLES: &str = "\
It is run on the studies of --study, or else on those of its cases, or else on a phantom that it accepts; each twice. What a hospital would
question is a warning and no error: it ends with 4 where a model or the component is refused, or a run fails.

Examples:
  gantry module check liver
  gantry module check liver/package --study study/ --json
  gantry module check PACKAGE --config /etc/gantry/gantry.toml
";

pub(crate) const TEST_EXAMPLES: &str = "\
A case is a folder cases/NAME/ with expect.toml, which says what the module must find in which study: a phantom that it describes, the
folder `study` beside it, or an asset. docs/vendor.md has every key. It ends with 0 where all passed, and 4 where one failed.

Examples:
  gantry module test liver
  gantry module test liver --case bone --json
  gantry module test liver/package --assets /data/studies
  gantry module test liver-0.1.0.gantry --skip-missing
";

pub(crate) const BENCH_EXAMPLES: &str = "\
The cold run is the first of a process that finds no compiled code; the warm ones are as a node has them. `load` is of models, `operations`
are those on volumes, `module` is the guest's own code, `outputs` are findings checked, DICOM written, synced and read again.

Examples:
  gantry module bench liver study/
  gantry module bench liver/package study/ --runs 100 --at-once 4 --json
";

pub(crate) const PACK_EXAMPLES: &str = "\
The same files are the same pack, to the byte, on every machine. It is a tar file, whose first file, SHA256SUMS, has the digests of the
others. `gantry run --module`, `[[modules]]`, `sign`, `push`, `install`, `inspect`, `test` and `diff` take it like a folder.

Examples:
  gantry module pack liver
  gantry module pack liver/package --out liver.gantry
  tar xf liver-0.1.0.gantry && sha256sum -c SHA256SUMS
";

#[derive(clap::Args)]
pub(crate) struct CheckArgs {
    /// A source that was built, a package folder, or a file of `gantry module pack`.
    #[arg(value_name = "DIR")]
    module: PathBuf,
    /// A study, as files or a folder, to run it on. Repeatable: each is run by itself.
    #[arg(long = "study", value_name = "PATH")]
    studies: Vec<PathBuf>,
    /// As `gantry run`.
    #[arg(long, value_name = "WHAT")]
    grant: Vec<String>,
    #[command(flatten)]
    with: With,
}

#[derive(clap::Args)]
pub(crate) struct TestArgs {
    /// A source that was built, a package folder, or a file of `gantry module pack`.
    #[arg(value_name = "DIR")]
    module: PathBuf,
    /// Run only the case of this name. Repeatable.
    #[arg(long = "case", value_name = "NAME")]
    only: Vec<String>,
    /// Skip cases whose studies are not there.
    #[arg(long)]
    skip_missing: bool,
    /// As `gantry run`, for all cases: what their files say grants nothing.
    #[arg(long, value_name = "WHAT")]
    grant: Vec<String>,
    #[command(flatten)]
    with: With,
}

#[derive(clap::Args)]
pub(crate) struct BenchArgs {
    /// A source that was built, a package folder, or a file of `gantry module pack`.
    #[arg(value_name = "DIR")]
    module: PathBuf,
    /// Files and folders of one study.
    #[arg(required = true, value_name = "STUDY")]
    study: Vec<PathBuf>,
    /// Warm runs.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    runs: u32,
    /// Runs at once for the throughput; as many as processors when not set, within limits.jobs_max.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=64))]
    at_once: Option<u32>,
    /// As `gantry run`.
    #[arg(long, value_name = "WHAT")]
    grant: Vec<String>,
    #[command(flatten)]
    with: With,
}

#[derive(clap::Args)]
pub(crate) struct PackArgs {
    /// A source that was built, or a package folder.
    #[arg(value_name = "DIR")]
    module: PathBuf,
    /// The file to write; NAME-VERSION.gantry here when not set. One that is there is replaced.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Limits; without it, the defaults.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// For scripts.
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
pub(crate) struct UnpackArgs {
    /// A file of `gantry module pack`.
    #[arg(value_name = "FILE")]
    pack: PathBuf,
    /// The folder to make of it, which must not be there.
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// Limits; without it, the defaults.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(clap::Args)]
pub(crate) struct InspectArgs {
    /// A package folder, or a file of `gantry module pack`.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Print its model card instead.
    #[arg(long, conflicts_with_all = ["json", "sbom"])]
    card: bool,
    /// Print its SBOM instead: CycloneDX 1.6.
    #[arg(long, conflicts_with = "json")]
    sbom: bool,
    /// Limits; without it, the defaults.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// For scripts.
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
pub(crate) struct DiffArgs {
    /// The package that is there: a folder, or a file of `gantry module pack`.
    old: PathBuf,
    /// The package that may take its place.
    new: PathBuf,
    /// Limits; without it, the defaults.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// For scripts.
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
pub(crate) struct ExplainArgs {
    /// A component or a core module.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Limits; without it, the defaults.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// For scripts.
    #[arg(long)]
    json: bool,
}

/// What commands that run a module have in common.
#[derive(clap::Args)]
struct With {
    /// The folder that holds studies which cases call assets; GANTRY_ASSETS when not set.
    #[arg(long, value_name = "DIR")]
    assets: Option<PathBuf>,
    /// Limits, grants and engines; without it, the defaults.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Which inference engine; overrides engines.engine of the configuration.
    #[arg(long)]
    engine: Option<EnginePreference>,
    /// For scripts.
    #[arg(long)]
    json: bool,
}

impl With {
    fn config(&self) -> Done<Config> {
        let mut config = cli::config(self.config.as_deref())?;
        config.engines.engine = self.engine.unwrap_or(config.engines.engine);
        Ok(config)
    }

    fn assets(&self) -> Option<PathBuf> {
        self.assets.clone().or_else(|| std::env::var_os("GANTRY_ASSETS").map(PathBuf::from))
    }

    fn said(&self, what: &(impl Serialize + std::fmt::Display)) -> Done {
        said(what, self.json)
    }
}

fn said(what: &(impl Serialize + std::fmt::Display), json: bool) -> Done {
    let text = match json {
        true => serde_json::to_string_pretty(what).map_err(|e| (1, e.into()))? + "\n",
        false => what.to_string(),
    };
    print(text.as_bytes())
}

/// A signal ends what runs, and the command with it.
fn until_signal() -> Done<Turn> {
    let turn = Turn::default();
    let on_signal = turn.clone();
    ctrlc::set_handler(move || on_signal.cancel()).map_err(|e| (2, e.into()))?;
    Ok(turn)
}

/// What went wrong, unless somebody wanted it so.
fn unless_interrupted(turn: &Turn, error: PackageError) -> (u8, anyhow::Error) {
    match turn.is_cancelled() {
        true => (130, anyhow!("interrupted: nothing was written")),
        false => (crate::unusable(&error), error.into()),
    }
}

fn spinner() -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    bar.enable_steady_tick(std::time::Duration::from_millis(100));
    bar
}

fn target(place: &Path, limits: &Limits) -> Done<Target> {
    Target::of(place, limits).map_err(|e| (crate::unusable(&e), e.into()))
}

pub(crate) fn check(args: &CheckArgs) -> Done {
    let config = args.with.config()?;
    let target = target(&args.module, &config.limits)?;
    let app = App::start(config).map_err(|e| (2, e.into()))?;
    let (turn, bar) = (until_signal()?, spinner());
    let assets = args.with.assets();
    let options = examine::Options {
        module: &target.package,
        cases: &target.cases,
        studies: &args.studies,
        assets: assets.as_deref(),
        grant: &args.grant,
    };
    let examined = examine::examine(&app, &options, &turn, &mut |step| bar.set_message(step.to_owned()));
    bar.finish_and_clear();
    let examined = examined.map_err(|e| (refused_to_check(&e), e.into()))?;
    args.with.said(&examined)?;
    match examined.ran() {
        true => Ok(()),
        false => Err((4, anyhow!("a run failed"))),
    }
}

fn refused_to_check(error: &ExamineError) -> u8 {
    match error {
        ExamineError::Package(e) | ExamineError::Check(CheckError::Package(e)) => crate::unusable(e),
        ExamineError::Inspect(InspectError::Package(e)) => crate::unusable(e),
        ExamineError::Check(e) if e.is_of_host() => 2,
        ExamineError::Check(_) | ExamineError::Inspect(_) => 4,
        ExamineError::Case(e) => no_case(e),
        ExamineError::Grant(_) => 2,
        ExamineError::Interrupted => 130,
        ExamineError::Temporary(_) => 1,
    }
}

fn no_case(error: &CaseError) -> u8 {
    match error {
        CaseError::Package(e) => crate::unusable(e),
        CaseError::None { .. } | CaseError::NoSuch { .. } | CaseError::File { .. } => 2,
        CaseError::NoStudy { .. } | CaseError::Digest { .. } => 3,
        CaseError::Phantom { .. } => 1,
    }
}

pub(crate) fn test(args: &TestArgs) -> Done {
    let config = args.with.config()?;
    // A slip in `--grant` is no case that fails.
    Policy::new(&config.grants, &args.grant).map_err(|e| (2, e.into()))?;
    let target = target(&args.module, &config.limits)?;
    let app = App::start(config).map_err(|e| (2, e.into()))?;
    let (turn, bar) = (until_signal()?, spinner());
    let assets = args.with.assets();
    let options = cases::Options {
        only: &args.only,
        assets: assets.as_deref(),
        skip_missing: args.skip_missing,
        grant: &args.grant,
    };
    let report = cases::test(&app, &target.package, &target.cases, &options, &turn, &mut |case| {
        bar.set_message(format!("case {case}"));
    });
    bar.finish_and_clear();
    let report = report.map_err(|e| {
        let code = match &e {
            TestError::Case(e) => no_case(e),
            TestError::Interrupted => 130,
            TestError::Temporary(_) => 1,
        };
        (code, e.into())
    })?;
    args.with.said(&report)?;
    let failed = report.count(cases::Outcome::Failed);
    match report.is_good() {
        true => Ok(()),
        false if failed == 0 => Err((3, anyhow!("no case ran: the studies of all are missing"))),
        false => Err((4, anyhow!("{failed} of {} cases failed", report.cases.len()))),
    }
}

pub(crate) fn bench(args: &BenchArgs) -> Done {
    let config = args.with.config()?;
    let target = target(&args.module, &config.limits)?;
    let policy = Policy::new(&config.grants, &args.grant).map_err(|e| (2, e.into()))?;
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let jobs = usize::try_from(config.limits.jobs_max).unwrap_or(1);
    let at_once = args.at_once.map_or(processors.min(jobs), |at_once| at_once as usize).max(1);
    if at_once > jobs {
        return Err((2, anyhow!("--at-once {at_once}: limits.jobs_max = {jobs} allows no more; raise it in --config")));
    }
    let (turn, bar) = (until_signal()?, spinner());
    let options = bench::Options {
        module: &target.package,
        study: &args.study,
        policy: &policy,
        runs: args.runs as usize,
        at_once,
    };
    let measured =
        bench::bench(config, &options, &turn, &|what, run| bar.set_message(format!("{what}, run {}", run + 1)));
    bar.finish_and_clear();
    let measured = measured.map_err(|e| {
        let code = match &e {
            BenchError::Package(e) => crate::unusable(e),
            BenchError::Read(e) => crate::unreadable(e),
            BenchError::Start(_) => 2,
            BenchError::Prepare(_) => 4,
            BenchError::Run(e) => crate::exit_code(e),
            BenchError::Temporary(_) => 1,
        };
        (code, e.into())
    })?;
    args.with.said(&measured)
}

pub(crate) fn pack(args: &PackArgs) -> Done {
    let limits = cli::config(args.config.as_deref())?.limits;
    if args.module.is_file() {
        return Err((2, anyhow!("{}: this is a file; give the package folder, or its source", args.module.display())));
    }
    let turn = until_signal()?;
    let refused = |e: PackageError| unless_interrupted(&turn, e);
    let target = target(&args.module, &limits)?;
    let package = Package::open(&target.package).map_err(refused)?;
    // What is packed is whole: every digest is looked at.
    inspect::inspect(&package, limits.component_max_mib, limits.model_max_mib).map_err(not_inspected)?;
    let files = package.files();
    let mut more = std::collections::BTreeMap::new();
    // What was signed stays as it was signed.
    if !files.holds(SBOM_FILE) && !files.holds(ENVELOPE_FILE) {
        let card = files.holds(CARD_FILE).then(|| files.read(CARD_FILE, 1 << 20, "the 1 MiB of a model card", 0));
        let card = card.transpose().map_err(refused)?.unwrap_or_default();
        let sbom = accompany::sbom(&target.package, package.manifest(), &package.identity(), &card);
        more.insert(SBOM_FILE, sbom.map_err(|e| (4, anyhow!(e)))?);
    }
    let (name, version) = (&package.manifest().name, &package.manifest().version);
    let to = args.out.clone().unwrap_or_else(|| PathBuf::from(format!("{name}-{version}.gantry")));
    if to.is_dir() {
        return Err((2, anyhow!("--out {}: this is a folder; name a file", to.display())));
    }
    let beside = to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if let (Ok(beside), Ok(package)) = (beside.canonicalize(), target.package.canonicalize())
        && beside.starts_with(package)
    {
        let to = to.display();
        return Err((2, anyhow!("{to} would lie in the package, and in the next pack of it: name another by --out")));
    }
    let (sha256, bytes) = pack::write(files, &more, &to, &limits, &turn).map_err(refused)?;
    let (sha256, identity) = (String::from(sha256), gantry::hex(&package.identity()));
    let signed = files.holds(ENVELOPE_FILE);
    if args.json {
        let said = serde_json::json!({
            "name": name, "version": version.to_string(), "identity_sha256": identity, "file": to, "sha256": sha256,
            "bytes": bytes, "signed": signed,
        });
        return print(format!("{said:#}\n").as_bytes());
    }
    let kib = bytes.div_ceil(1024);
    print(format!("{} sha256:{sha256}: {name} {version} sha256:{identity}, {kib} KiB\n", to.display()).as_bytes())
}

pub(crate) fn unpack(args: &UnpackArgs) -> Done {
    let config = cli::config(args.config.as_deref())?;
    let turn = until_signal()?;
    let refused = |e: PackageError| unless_interrupted(&turn, e);
    if !args.pack.is_file() {
        return Err((2, anyhow!("{}: there is no such file; give one of `gantry module pack`", args.pack.display())));
    }
    let pack = Pack::open(&args.pack).map_err(refused)?;
    pack.unpack(&args.to, &config.limits, &turn).map_err(refused)?;
    let package = Package::open(&args.to).map_err(refused)?;
    print(format!("{} sha256:{}\n", args.to.display(), gantry::hex(&package.identity())).as_bytes())
}

fn not_inspected(error: InspectError) -> (u8, anyhow::Error) {
    let code = match &error {
        InspectError::Package(e) => crate::unusable(e),
        InspectError::NotAComponent { .. } => 4,
    };
    (code, error.into())
}

/// A text of several lines without what is none.
fn plain(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes).replace("\r\n", "\n");
    let kept = |c: char| if c.is_control() && !matches!(c, '\n' | '\t') { char::REPLACEMENT_CHARACTER } else { c };
    text.chars().map(kept).collect()
}

pub(crate) fn inspect(args: &InspectArgs) -> Done {
    let limits = cli::config(args.config.as_deref())?.limits;
    let refused = |e: PackageError| -> (u8, anyhow::Error) { (crate::unusable(&e), e.into()) };
    if args.card || args.sbom {
        let files = Files::open(&args.folder).map_err(refused)?;
        let (file, limit) = if args.card {
            (CARD_FILE, (1 << 20, "the 1 MiB of a model card"))
        } else {
            (SBOM_FILE, (SBOM_MAX_KIB << 10, "the 16 MiB of an SBOM"))
        };
        let bytes = files.read(file, limit.0, limit.1, 0).map_err(refused)?;
        // Somebody else's text, which a terminal might obey. An SBOM is for programs, byte by byte.
        return if args.card { print(plain(&bytes).as_bytes()) } else { print(&bytes) };
    }
    let package = Package::open(&args.folder).map_err(refused)?;
    let inspection = inspect::inspect(&package, limits.component_max_mib, limits.model_max_mib);
    said(&inspection.map_err(not_inspected)?, args.json)
}

pub(crate) fn diff(args: &DiffArgs) -> Done {
    let open = |path: &Path| -> Done<Package> { Package::open(path).map_err(|e| (crate::unusable(&e), e.into())) };
    let limits = cli::config(args.config.as_deref())?.limits;
    let differ = diff::diff(&open(&args.old)?, &open(&args.new)?, &limits);
    said(&differ.map_err(not_inspected)?, args.json)
}

pub(crate) fn explain(args: &ExplainArgs) -> Done {
    let limits = cli::config(args.config.as_deref())?.limits;
    let explained = foreign::explain_file(&args.file, limits.component_max_mib).map_err(|e| (4, e.into()))?;
    said(&explained, args.json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_stays_text() {
        assert_eq!(plain(b"# Card\r\n\ta\x1b[2Jb\xff\n"), "# Card\n\ta\u{fffd}[2Jb\u{fffd}\n");
    }
}
