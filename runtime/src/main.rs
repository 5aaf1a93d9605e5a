//! The `gantry` command: arguments, one call, an exit code.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use gantry::app::App;
use gantry::config::Config;
use gantry::inference::EnginePreference;
use gantry::module::build::{self, BuildError};
use gantry::module::new::{self, NewError};
use gantry::module::{inspect, package::Package};
use gantry::outputs::Stamp;
use gantry::outputs::result::JobResult;
use gantry::pipeline::{self, Request, RunError};
use gantry::sandbox::grants::Policy;
use gantry::sandbox::{CancelToken, JobError, PrepareError};

const EXIT_CODES: &str = "\
Exit codes:
  0    done
  1    the result could not be written
  2    usage, configuration or start-up
  3    the input cannot be read, or the module accepts none of it
  4    the module failed, or its package or findings were refused
  5    a limit was hit
  130  interrupted";

/// Runs vendors' imaging models as sandboxed WebAssembly components.
#[derive(Parser)]
#[command(version, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run one module on one study and write what it found as DICOM SEG, DICOM SR and result.json.
    #[command(after_help = concat!(
        "Examples:\n",
        "  gantry run --module modules/ct-organs/package study/ --out results/\n",
        "  gantry run --module PACKAGE --grant attribute:PatientSex study/ --out results/ --json\n"
    ))]
    Run(RunArgs),
    /// Make and look at modules.
    #[command(subcommand, after_help = concat!(
        "Examples:\n",
        "  gantry module new liver\n",
        "  gantry module build liver\n",
        "  gantry module inspect liver/package\n"
    ))]
    Module(ModuleCommand),
}

#[derive(clap::Args)]
struct RunArgs {
    /// The module's package: a folder that `gantry module build` made.
    #[arg(long)]
    module: PathBuf,
    /// Files and folders of one study.
    #[arg(required = true)]
    study: Vec<PathBuf>,
    /// Folder for the results; made when missing.
    #[arg(long)]
    out: PathBuf,
    /// Allow an interface, or `attribute:KEYWORD`, if the module asks for it. Repeatable.
    #[arg(long)]
    grant: Vec<String>,
    /// gantry.toml.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Which inference engine.
    #[arg(long)]
    engine: Option<EnginePreference>,
    /// Refuse input that would otherwise be repaired with a warning.
    #[arg(long)]
    strict: bool,
    /// Draw the segments over key slices into overlay.png.
    #[arg(long)]
    overlay: bool,
    /// Print result.json instead of a summary.
    #[arg(long)]
    json: bool,
}

#[derive(Subcommand)]
enum ModuleCommand {
    /// Write the source of a new module, which builds and passes its tests at once.
    #[command(after_help = "Example:\n  gantry module new liver && cd liver && cargo test && gantry module build .\n")]
    New {
        /// Its name, and that of its folder.
        name: String,
        /// The folder to put it in.
        #[arg(long, value_name = "DIR", default_value = ".")]
        dir: PathBuf,
        /// Depend on the SDK there instead of on a copy of it: guest-sdk of a checkout.
        #[arg(long, value_name = "DIR")]
        sdk: Option<PathBuf>,
    },
    /// Compile a module's source into a package.
    #[command(after_help = "Example:\n  gantry module build modules/ct-organs\n")]
    Build {
        /// The folder with module.toml and Cargo.toml.
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
    /// Compile every example of a crate into a component: many small guests from one crate.
    #[command(
        hide = true,
        after_help = "Example:\n  gantry module build-examples tests/guests/rogue --out target/guests/rogue\n"
    )]
    BuildExamples {
        /// The folder with Cargo.toml.
        #[arg(value_name = "DIR")]
        folder: PathBuf,
        /// Where the components go.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
    /// Show what a package is, asks for and imports.
    #[command(after_help = "Example:\n  gantry module inspect modules/ct-organs/package --json\n")]
    Inspect {
        /// A package folder.
        #[arg(value_name = "DIR")]
        folder: PathBuf,
        /// For scripts.
        #[arg(long)]
        json: bool,
    },
}

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let done = match Cli::parse().command {
        Command::Run(args) => run(&args),
        Command::Module(command) => module(command),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, error)) => {
            eprintln!("error: {error}");
            ExitCode::from(code)
        }
    }
}

fn run(args: &RunArgs) -> Result<(), (u8, anyhow::Error)> {
    let usage = |e: anyhow::Error| (2, e);
    let mut config = match &args.config {
        Some(path) => Config::read(path).map_err(|e| usage(e.into()))?,
        None => Config::default(),
    };
    if let Some(engine) = args.engine {
        config.engines.engine = engine;
    }
    let policy = Policy::new(&config.grants, &args.grant).map_err(|e| usage(e.into()))?;
    let app = App::start(config).map_err(|e| usage(e.into()))?;
    let cancel = CancelToken::default();
    let on_signal = cancel.clone();
    ctrlc::set_handler(move || on_signal.cancel()).map_err(|e| usage(e.into()))?;
    let request = Request {
        module: &args.module,
        study: &args.study,
        out: &args.out,
        policy: &policy,
        strict: args.strict,
        overlay: args.overlay,
        stamp: now(),
    };
    let bar = indicatif::ProgressBar::new_spinner();
    bar.enable_steady_tick(std::time::Duration::from_millis(100));
    let result = pipeline::run(&app, &request, &cancel, &|step| {
        tracing::info!("{step}");
        bar.set_message(step.to_owned());
    });
    bar.finish_and_clear();
    let result = result.map_err(|e| (exit_code(&e), e.into()))?;
    if args.json {
        print!("{}", String::from_utf8_lossy(&result.to_bytes()));
    } else {
        summarize(&result, args);
    }
    Ok(())
}

fn exit_code(error: &RunError) -> u8 {
    match error {
        RunError::Read(e) | RunError::Job(JobError::Read(e)) => {
            if e.is_limit() {
                5
            } else {
                3
            }
        }
        RunError::NothingAccepted { .. } => 3,
        RunError::Job(JobError::Limit(_)) | RunError::Prepare(PrepareError::TooLarge { .. }) => 5,
        RunError::Job(JobError::Cancelled) => 130,
        RunError::Package(_) | RunError::Prepare(_) | RunError::Job(_) | RunError::Refused(_) => 4,
        RunError::Write(_) => 1,
    }
}

fn summarize(result: &JobResult, args: &RunArgs) {
    println!("{} {} by {}", result.module.name, result.module.version, result.module.vendor);
    if result.module.demonstration {
        println!("  a demonstration, not for clinical use");
    }
    for warning in &result.warnings {
        println!("  warning: {warning}");
    }
    for model in &result.models {
        println!("  model {} ran on {} ({})", model.name, model.device, model.engine);
    }
    for segment in &result.findings.segments {
        println!("  {:<24} {:>10.1} mL", segment.name, segment.millilitres);
    }
    for output in &result.outputs {
        println!("  wrote {}", args.out.join(&output.file).display());
    }
    println!("  wrote {}", args.out.join("result.json").display());
    let total: f64 = result.phases.iter().map(|p| p.milliseconds).sum();
    println!("  {total:.0} ms");
}

/// The time now, UTC.
fn now() -> Stamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs();
    let (days, second) = (since / 86_400, since % 86_400);
    // Civil date from days since 1970-01-01 (proleptic Gregorian calendar, years from March).
    let z = days + 719_468;
    let (era, day_of_era) = (z / 146_097, z % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    Stamp {
        date: format!("{year:04}{month:02}{day:02}"),
        time: format!("{:02}{:02}{:02}", second / 3600, second / 60 % 60, second % 60),
    }
}

fn module(command: ModuleCommand) -> Result<(), (u8, anyhow::Error)> {
    let limits = gantry::config::Limits::default();
    let mut progress = |step: &str| eprintln!("{step}");
    let not_made = |e: NewError| (if e.is_usage() { 2 } else { 1 }, e.into());
    let not_built = |e: BuildError| (if e.is_usage() { 2 } else { 4 }, e.into());
    match command {
        ModuleCommand::New { name, dir, sdk } => {
            let folder = new::new(&name, &dir, sdk.as_deref()).map_err(not_made)?;
            println!("{0}: next, `cargo test` there, then `gantry module build {0}`", folder.display());
        }
        ModuleCommand::Build { folder } => {
            let built = build::build(&folder, &mut progress).map_err(not_built)?;
            println!("{} sha256:{}", built.package.display(), gantry::hex(&built.identity));
        }
        ModuleCommand::BuildExamples { folder, out } => {
            for component in build::build_examples(&folder, &out, &mut progress).map_err(not_built)? {
                println!("{}", component.display());
            }
        }
        ModuleCommand::Inspect { folder, json } => {
            let package = Package::open(&folder).map_err(|e| (if e.is_usage() { 2 } else { 4 }, e.into()))?;
            let inspection = inspect::inspect(&package, limits.component_max_mib, limits.model_max_mib)
                .map_err(|e| (4, e.into()))?;
            match json {
                true => println!("{}", serde_json::to_string_pretty(&inspection).map_err(|e| (1, e.into()))?),
                false => print!("{inspection}"),
            }
        }
    }
    Ok(())
}
