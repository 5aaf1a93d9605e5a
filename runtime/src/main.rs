//! The `gantry` command: arguments, one call, an exit code.

mod cli;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use gantry::app::App;
use gantry::config::Config;
use gantry::inference::{EnginePreference, Turn, bring_in, local};
use gantry::module::build::{self, BuildError};
use gantry::module::from_onnx::{self, FromOnnxError};
use gantry::module::language::Language;
use gantry::module::new::{self, NewError};
use gantry::module::package::PackageError;
use gantry::outputs::{RESULT_FILE, Stamp};
use gantry::pipeline::{self, Event, Request, RunError};
use gantry::priors::PriorError;
use gantry::sandbox::grants::Policy;
use gantry::sandbox::{JobError, PrepareError};
use gantry::serve::Node;
use gantry::study::ReadError;
use gantry::telemetry;
use tracing_subscriber::util::SubscriberInitExt;

use crate::cli::summary::Summary;
use crate::cli::{
    catalog, deid, escrow, job, node, outbox, package, quarantine, review, sync, token, vendor, worker, worklist,
};

const EXIT_CODES: &str = "\
Exit codes:
  0    done, or the module called the input unfit (status in result.json)
  1    the result could not be written; `gantry doctor`: a check failed; `gantry sync`: the bucket cannot be had or is not right
  2    usage, configuration, start-up, or no engine to check with; `gantry config check`: a check failed
  3    the input cannot be read, or the module accepts none of it; there is no such job, study, delivery or
       held object, or that cannot be decided; `gantry escrow`: nothing was found; `gantry module push` and `pull`:
       the bucket cannot be reached, or has no such package
  4    the module failed, or its package or findings were refused; `gantry module test`: a case failed;
       `gantry deid`: something was held;
       `gantry catalog`: something is not as its site signed it
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
        "  gantry run --module PACKAGE --grant attribute:PatientSex study/ --out results/ --json\n",
        "  gantry run --module SECOND --grant gantry:imaging/upstream --upstream results/ study/ --out second/\n",
        "  gantry run --module GROWTH --grant gantry:imaging/priors --prior last-year/ study/ --out results/\n"
    ))]
    Run(RunArgs),
    /// Tell which volumes the files of a study become, and why others become none.
    #[command(after_help = cli::inspect::EXAMPLES)]
    Inspect(cli::inspect::InspectArgs),
    /// Play an ultrasound cine to a module that looks at frames one after another, and tell how it kept up.
    #[command(after_help = cli::stream::EXAMPLES)]
    Stream(cli::stream::StreamArgs),
    /// Take studies in from scanners and archives, and run the site's modules on them, until SIGTERM or Ctrl-C.
    #[command(after_help = "Example:\n  gantry serve --config /etc/gantry/gantry.toml\n")]
    Serve {
        /// What the node is: see examples/gantry.toml. `node.data_folder` must be set.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Make, list and revoke the tokens with which programs use DICOMweb.
    #[command(subcommand, after_help = concat!(
        "Examples:\n",
        "  gantry token new viewer --scope read --expires-days 365 --config /etc/gantry/gantry.toml\n",
        "  gantry token list --config /etc/gantry/gantry.toml\n",
        "  gantry token revoke viewer --config /etc/gantry/gantry.toml\n"
    ))]
    Token(token::TokenCommand),
    /// Look at and change what runs on a node, also while it runs.
    #[command(subcommand, after_help = job::JOB_EXAMPLES)]
    Job(job::JobCommand),
    /// Show which studies are open, in which order, and why.
    #[command(after_help = "Example:\n  gantry worklist --config /etc/gantry/gantry.toml\n")]
    Worklist(worklist::WorklistArgs),
    /// Look at results, say whether they are right, and release those that are held.
    #[command(subcommand, after_help = review::EXAMPLES)]
    Review(review::ReviewCommand),
    /// Look at and change what results wait for which destination, also while a node runs.
    #[command(subcommand, after_help = outbox::EXAMPLES)]
    Outbox(outbox::OutboxCommand),
    /// Look at what sync holds, and release or discard it.
    #[command(subcommand, after_help = quarantine::EXAMPLES)]
    Quarantine(quarantine::QuarantineCommand),
    /// Look up who is who among what was released.
    #[command(subcommand, after_help = escrow::EXAMPLES)]
    Escrow(escrow::EscrowCommand),
    /// Tell which modules would run on a study, and why.
    #[command(subcommand, after_help = job::ROUTE_EXAMPLES)]
    Route(job::RouteCommand),
    /// Check, print and explain configurations.
    #[command(subcommand, after_help = concat!(
        "Examples:\n",
        "  gantry config example > gantry.toml\n",
        "  gantry config check gantry.toml\n",
        "  gantry config print gantry.toml --json\n"
    ))]
    Config(node::ConfigCommand),
    /// Look whether this machine and a configuration hold what a node needs. Run it as the node's user.
    #[command(after_help = "Example:\n  gantry doctor --config /etc/gantry/gantry.toml\n")]
    Doctor {
        /// The node's configuration.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// For scripts.
        #[arg(long)]
        json: bool,
    },
    /// Who did what to which study.
    #[command(subcommand, after_help = concat!(
        "Examples:\n",
        "  gantry audit show --study 1.2.3 --config /etc/gantry/gantry.toml\n",
        "  gantry audit verify --config /etc/gantry/gantry.toml\n"
    ))]
    Audit(node::AuditCommand),
    /// Look at the processes in which a node runs models.
    #[command(after_help = "Example:\n  gantry worker list --config /etc/gantry/gantry.toml\n")]
    Worker {
        /// Without one: run models for a host that started this, on the socket that is its standard input.
        #[command(subcommand)]
        command: Option<worker::WorkerCommand>,
    },
    /// Make the list of those who want nothing sent, as a policy names it.
    #[command(after_help = cli::opt_out::EXAMPLES)]
    OptOut(cli::opt_out::OptOutArgs),
    /// Take identities out of instances and results (PS3.15 Annex E).
    #[command(after_help = deid::EXAMPLES)]
    Deid(deid::DeidArgs),
    /// Hand what may leave to the cloud, and look at what was.
    #[command(subcommand, after_help = sync::EXAMPLES)]
    Sync(sync::SyncCommand),
    /// What lies in a bucket, as tables.
    #[command(subcommand, after_help = catalog::EXAMPLES)]
    Catalog(catalog::CatalogCommand),
    /// Make and look at modules.
    #[command(subcommand, after_help = concat!(
        "Examples:\n",
        "  gantry module new liver\n",
        "  gantry module new lungs --language c\n",
        "  gantry module build liver\n",
        "  gantry module test liver\n",
        "  gantry module check liver\n",
        "  gantry module bench liver study/\n",
        "  gantry module pack liver\n",
        "  gantry module inspect liver-0.1.0.gantry\n",
        "  gantry module sign liver-0.1.0.gantry --key vendor.pem\n",
        "  gantry module push liver-0.1.0.gantry s3://vendor-modules/gantry --trust vendor.pub.pem\n",
        "  gantry module pull s3://vendor-modules/gantry/liver/0.2.0 --into /opt/modules --config /etc/gantry/gantry.toml\n"
    ))]
    Module(ModuleCommand),
}

#[derive(clap::Args)]
struct RunArgs {
    /// The module's package: a folder that `gantry module build` made, or a file of `gantry module pack`.
    #[arg(long, value_name = "DIR")]
    module: PathBuf,
    /// Files and folders of one study.
    #[arg(required = true, value_name = "STUDY")]
    study: Vec<PathBuf>,
    /// Folder with the result of another module on this study, for a module that comes after it. Repeatable. The module
    /// must ask for `gantry:imaging/upstream`, and `--grant` must allow it.
    #[arg(long, value_name = "DIR")]
    upstream: Vec<PathBuf>,
    /// Folder, or file, with all of an earlier study of the same patient, for a module that compares with it. Repeatable. The
    /// module must ask for `gantry:imaging/priors`, and `--grant` must allow it.
    #[arg(long, value_name = "PATH")]
    prior: Vec<PathBuf>,
    /// Folder for the results; made when missing. The result of an earlier run in it is replaced.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Allow an interface, such as `wasi:clocks`, or `attribute:KEYWORD`, if the module asks for it. Repeatable. Allowed
    /// without it: the module's own study, volumes, findings, log and models, a WASI with nothing in it, and technical attributes.
    #[arg(long, value_name = "WHAT")]
    grant: Vec<String>,
    /// Limits, grants and engines; see examples/gantry.toml. Defaults hold without it, and no file is looked for.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Which inference engine; overrides engines.engine of the configuration.
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
    /// Write the source of a new module, in Rust, C, Python or JavaScript, which builds and passes its tests at once.
    #[command(after_help = concat!(
        "Examples:\n",
        "  gantry module new liver && cd liver && cargo test && gantry module build .\n",
        "  gantry module new liver --language python\n",
        "  gantry module new liver --from-onnx unet.onnx --modality CT --label Liver --label Spleen\n"
    ))]
    New {
        /// Its name, and that of its folder.
        name: String,
        /// The folder to put it in.
        #[arg(long, value_name = "DIR", default_value = ".")]
        dir: PathBuf,
        /// Depend on the SDK there instead of on a copy of it: guest-sdk of a checkout.
        #[arg(long, value_name = "DIR")]
        sdk: Option<PathBuf>,
        /// What it is written in.
        #[arg(long, value_enum, default_value_t)]
        language: Language,
        /// Write code in Rust around this network: one input of grey values, [n, 1, y, x] or [n, 1, z, y, x], and scores for each voxel or for
        /// the image.
        #[arg(long, value_name = "FILE", conflicts_with = "language")]
        from_onnx: Option<PathBuf>,
        /// The modality that it was trained on.
        #[arg(long, requires = "from_onnx", default_value = "CT")]
        modality: String,
        /// What its channels after background, or its classes, are, in order. Repeatable.
        #[arg(long = "label", requires = "from_onnx", value_name = "NAME")]
        labels: Vec<String>,
    },
    /// Compile a module's source into a package.
    #[command(after_help = "Example:\n  gantry module build modules/ct-organs\n")]
    Build {
        /// The folder with module.toml, and Cargo.toml, module.c, module.py or module.js.
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
    /// Ask of a package what a hospital will: load its models, run it on sample studies, tell what it uses and what somebody would question.
    #[command(after_help = vendor::CHECK_EXAMPLES)]
    Check(vendor::CheckArgs),
    /// Run a package's cases, and tell where findings are not what they should be.
    #[command(after_help = vendor::TEST_EXAMPLES)]
    Test(vendor::TestArgs),
    /// Measure how long a package takes on a study, phase by phase, and in how much memory.
    #[command(after_help = vendor::BENCH_EXAMPLES)]
    Bench(vendor::BenchArgs),
    /// Make one file of a package.
    #[command(after_help = vendor::PACK_EXAMPLES)]
    Pack(vendor::PackArgs),
    /// Make a folder of a packed package, with every digest looked at.
    #[command(after_help = "Example:\n  gantry module unpack liver-0.1.0.gantry --to liver-0.1.0\n")]
    Unpack(vendor::UnpackArgs),
    /// Sign a package: its envelope, module.dsse.json, is put beside its files.
    #[command(after_help = package::SIGN_EXAMPLES)]
    Sign(package::SignArgs),
    /// Publish a signed package in a bucket, whole or not at all, under NAME/VERSION.
    #[command(after_help = package::PUSH_EXAMPLES)]
    Push(package::PushArgs),
    /// Fetch a package from a bucket, look whether it is what its vendor signed, and install it beside those that are there.
    #[command(after_help = package::PULL_EXAMPLES)]
    Pull(package::PullArgs),
    /// Say what any WebAssembly file wants, and what of it a module could be given. Nothing of it is run.
    #[command(after_help = "Example:\n  gantry module explain structured-report-to-text.wasi.wasm\n")]
    Explain(vendor::ExplainArgs),
    /// Install a package out of a file, if a vendor who is trusted signed it, beside those that are there.
    #[command(after_help = package::INSTALL_EXAMPLES)]
    Install(package::InstallArgs),
    /// Show what a package is, asks for and imports.
    #[command(after_help = concat!(
        "Examples:\n",
        "  gantry module inspect modules/ct-organs/package --json\n",
        "  gantry module inspect liver-0.1.0.gantry --card\n",
        "  gantry module inspect liver-0.1.0.gantry --sbom > sbom.cdx.json\n"
    ))]
    Inspect(vendor::InspectArgs),
    /// Show what another version of a package changes, what it asks for first.
    #[command(
        after_help = "Examples:\n  gantry module diff /opt/modules/liver/0.1.0-3f6c0a91b2d4 liver-0.2.0.gantry\n"
    )]
    Diff(vendor::DiffArgs),
}

fn main() -> ExitCode {
    let command = Cli::parse().command;
    // Before anything is opened, and without a log: it has nowhere to write to.
    if matches!(command, Command::Worker { command: None }) {
        let Err(e) = gantry::worker::run(
            |start| bring_in(start.library()),
            |start| local(start.library(), start.device(), start.execution(), start.threads(), start.contexts()),
            gantry::worker::Tools::default(),
        );
        eprintln!("error: {e}");
        return ExitCode::from(2);
    }
    // The log of what runs for long is as its configuration says.
    if !matches!(command, Command::Serve { .. } | Command::Sync(sync::SyncCommand::Run(_))) {
        tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .with_writer(std::io::stderr)
            .init();
    }
    let done = match command {
        Command::Run(args) => run(&args),
        Command::Inspect(args) => cli::inspect::run(&args),
        Command::Stream(args) => cli::stream::run(&args),
        Command::Serve { config } => serve(&config),
        Command::Token(command) => token::run(&command),
        Command::Job(command) => job::job(command),
        Command::Worklist(args) => worklist::run(&args),
        Command::Review(command) => review::run(command),
        Command::Outbox(command) => outbox::run(command),
        Command::Quarantine(command) => quarantine::run(command),
        Command::Escrow(command) => escrow::run(command),
        Command::Route(command) => job::route(command),
        Command::Config(command) => node::config(command),
        Command::Doctor { config, json } => node::doctor(&config, json),
        Command::OptOut(args) => cli::opt_out::run(&args),
        Command::Audit(command) => node::audit(command),
        Command::Deid(args) => deid::run(&args),
        Command::Sync(command) => sync::run(command),
        Command::Catalog(command) => catalog::run(&command),
        Command::Module(command) => module(command),
        Command::Worker { command } => command.map_or(Ok(()), |command| worker::run(&command)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, error)) => {
            // Names of files are in it, which others may have given.
            let lines: Vec<String> = error.to_string().lines().map(gantry::printable).collect();
            eprintln!("error: {}", lines.join("\n"));
            ExitCode::from(code)
        }
    }
}

fn run(args: &RunArgs) -> Result<(), (u8, anyhow::Error)> {
    let usage = |e: anyhow::Error| (2, e);
    let mut config = cli::config(args.config.as_deref())?;
    if let Some(engine) = args.engine {
        config.engines.engine = engine;
    }
    let policy = Policy::new(&config.grants, &args.grant).map_err(|e| usage(e.into()))?;
    let app = App::start(config).map_err(|e| usage(e.into()))?;
    let turn = Turn::default();
    let on_signal = turn.clone();
    ctrlc::set_handler(move || on_signal.cancel()).map_err(|e| usage(e.into()))?;
    let request = Request {
        module: &args.module,
        study: &args.study,
        upstream: &args.upstream,
        priors: &args.prior,
        out: &args.out,
        policy: &policy,
        strict: args.strict,
        overlay: args.overlay,
        stamp: now(),
    };
    let bar = indicatif::ProgressBar::new_spinner();
    bar.enable_steady_tick(std::time::Duration::from_millis(100));
    let result = pipeline::run(&app, &request, &turn, &|event| match event {
        Event::Step(step) => {
            tracing::info!("{step}");
            bar.set_message(step);
        }
        Event::Guest | Event::Ran(_) => {}
        Event::Log(line) => bar.suspend(|| eprintln!("module {}: {}", line.level, line.message)),
    });
    bar.finish_and_clear();
    let result = result.map_err(|e| (exit_code(&e), failure(e, &args.out)))?;
    let text = match args.json {
        true => result.to_bytes(),
        false => Summary { result: &result, out: &args.out }.to_string().into_bytes(),
    };
    print(&text).map_err(|(code, e)| (code, anyhow::anyhow!("{e}; the results are in {}", args.out.display())))
}

/// To standard output. That nobody reads on, as behind `| head`, is no error.
fn print(text: &[u8]) -> Result<(), (u8, anyhow::Error)> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text).and_then(|()| out.flush()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err((1, anyhow::anyhow!("standard output cannot be written to: {e}")))
        }
        _ => Ok(()),
    }
}

/// The error, and what somebody might otherwise take for the result.
fn failure(error: RunError, out: &Path) -> anyhow::Error {
    match out.join(RESULT_FILE).is_file() {
        true => anyhow::anyhow!("{error}\n{} still holds the result of an earlier run", out.display()),
        false => error.into(),
    }
}

fn exit_code(error: &RunError) -> u8 {
    match error {
        RunError::Read(e) => unreadable(e),
        RunError::Job(JobError::Read(e)) => unreadable(e),
        RunError::NothingAccepted { .. } => 3,
        RunError::Prior(PriorError::NotAsked | PriorError::NotGranted | PriorError::Twice(_)) => 2,
        RunError::Prior(PriorError::Read { source, .. }) => unreadable(source),
        RunError::Prior(_) => 3,
        RunError::Job(JobError::Limit(_))
        | RunError::Prepare(PrepareError::TooLarge { .. } | PrepareError::CompileTooLong { .. }) => 5,
        RunError::Package(e) | RunError::Prepare(PrepareError::Package(e)) => unusable(e),
        RunError::Job(JobError::Package(e)) => unusable(e),
        RunError::Job(JobError::Upstream(e)) => match e.is_limit() {
            true => 5,
            false => 3,
        },
        RunError::Job(JobError::Cancelled) => 130,
        RunError::Prepare(PrepareError::OtherWorld { .. }) => 2,
        RunError::Prepare(_) | RunError::Job(_) | RunError::Refused(_) => 4,
        RunError::Nonconforming(_) | RunError::Write(_) => 1,
    }
}

fn unreadable(error: &ReadError) -> u8 {
    if error.is_limit() { 5 } else { 3 }
}

fn unusable(error: &PackageError) -> u8 {
    match error {
        PackageError::TooLarge { .. } | PackageError::TooMany { .. } => 5,
        PackageError::Folder(_) => 1,
        e if e.is_usage() => 2,
        _ => 4,
    }
}

/// The time now, UTC.
fn now() -> Stamp {
    let now = chrono::Utc::now();
    Stamp { date: now.format("%Y%m%d").to_string(), time: now.format("%H%M%S").to_string() }
}

fn serve(file: &Path) -> Result<(), (u8, anyhow::Error)> {
    gantry::memory::share_heaps();
    let config = Config::read(file).map_err(|e| (2, e.into()))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|e| (2, e.into()))?;
    let (subscriber, telemetry) =
        telemetry::subscriber(&config.log, &config.telemetry, runtime.handle(), std::io::stderr)
            .map_err(|e| (2, e.into()))?;
    subscriber.try_init().map_err(|e| (2, e.into()))?;
    let done = runtime.block_on(async {
        let node = Node::start(config, file).await.map_err(|e| (2, e.into()))?;
        print(format!("{}\n", node.ready()).as_bytes())?;
        gantry::serve::until_stopped().await.map_err(|e| (1, e.into()))?;
        node.stop().await;
        Ok(())
    });
    telemetry.stop();
    done
}

fn module(command: ModuleCommand) -> Result<(), (u8, anyhow::Error)> {
    let mut progress = |step: &str| eprintln!("{step}");
    let not_made = |e: NewError| (if e.is_usage() { 2 } else { 1 }, e.into());
    let not_built = |e: BuildError| (if e.is_usage() { 2 } else { 4 }, e.into());
    match command {
        ModuleCommand::New { name, dir, sdk, language, from_onnx, modality, labels } => {
            let not_written = |e: FromOnnxError| (if e.is_usage() { 2 } else { 4 }, e.into());
            // Before anything is made.
            let net =
                from_onnx.map(|file| from_onnx::read(&file, &modality, &labels)).transpose().map_err(not_written)?;
            let folder = new::new(&name, &dir, language, sdk.as_deref()).map_err(not_made)?;
            if let Some(net) = net {
                net.put(&folder, &name).map_err(not_written)?;
                eprintln!("{}; look at the constants of {}", net.what(), folder.join("src/lib.rs").display());
            }
            let first = match language {
                Language::Rust => "`cargo test` there",
                Language::C => "install a compiler as its README.md says",
                Language::Python => "`python3 -m venv .venv && .venv/bin/pip install -r requirements.txt` there",
                Language::JavaScript => "`npm install` there",
            };
            print(
                format!(
                    "{0}: next, {first}, then `gantry module build {0}` and `gantry module test {0}`\n",
                    folder.display()
                )
                .as_bytes(),
            )
        }
        ModuleCommand::Build { folder } => {
            let built = build::build(&folder, &mut progress).map_err(not_built)?;
            print(format!("{} sha256:{}\n", built.package.display(), gantry::hex(&built.identity)).as_bytes())
        }
        ModuleCommand::BuildExamples { folder, out } => {
            let components = build::build_examples(&folder, &out, &mut progress).map_err(not_built)?;
            print(components.iter().map(|c| format!("{}\n", c.display())).collect::<String>().as_bytes())
        }
        ModuleCommand::Check(args) => vendor::check(&args),
        ModuleCommand::Test(args) => vendor::test(&args),
        ModuleCommand::Bench(args) => vendor::bench(&args),
        ModuleCommand::Pack(args) => vendor::pack(&args),
        ModuleCommand::Unpack(args) => vendor::unpack(&args),
        ModuleCommand::Explain(args) => vendor::explain(&args),
        ModuleCommand::Sign(args) => package::sign(&args),
        ModuleCommand::Push(args) => package::push(&args),
        ModuleCommand::Pull(args) => package::pull(&args),
        ModuleCommand::Install(args) => package::install(&args),
        ModuleCommand::Inspect(args) => vendor::inspect(&args),
        ModuleCommand::Diff(args) => vendor::diff(&args),
    }
}
