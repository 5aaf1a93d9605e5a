//! `gantry module sign`, `push` and `pull`: packages by way of a bucket.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::anyhow;
use gantry::audit::{Action, Audit, Event, OPERATOR};
use gantry::config::Config;
use gantry::inference::Engines;
use gantry::module::check::{self, Checked};
use gantry::module::inspect;
use gantry::module::install::{self, InstallError};
use gantry::module::location::Location;
use gantry::module::manifest::Sha256Hex;
use gantry::module::package::PackageError;
use gantry::module::pull::{self, PullError, Pulled, Request, Staged, Step};
use gantry::module::sign::{self, SignError};
use gantry::module::statement::{Statement, StatementError};
use gantry::store::Store;
use gantry_cloud_sync::dsse::{PublicKey, SigningKey};
use gantry_cloud_sync::s3::{self, Bucket};
use indicatif::{ProgressBar, ProgressStyle};

use crate::{cli, print};

type Done<T = ()> = Result<T, (u8, anyhow::Error)>;

pub(crate) const SIGN_EXAMPLES: &str = "\
Examples:
  openssl genpkey -algorithm ed25519 -out vendor.pem
  openssl pkey -in vendor.pem -pubout -out vendor.pub.pem
  gantry module sign liver/package --key vendor.pem
";

pub(crate) const PUSH_EXAMPLES: &str = "\
Credentials come from AWS's standard chain: environment, profile files, web identity, container, instance.

Examples:
  gantry module push liver/package s3://vendor-modules/gantry --trust vendor.pub.pem
  gantry module push liver/package s3://modules --trust vendor.pub.pem --endpoint-url https://s3.example --region default
";

pub(crate) const PULL_EXAMPLES: &str = "\
It goes to MODULES/NAME/VERSION-DIGEST, and nothing that is there is changed. A node that runs does not notice: put the lines that
are printed into its configuration, and start it again. A pull that was interrupted goes on where it was when it is called again.
Credentials come from AWS's standard chain: environment, profile files, web identity, container, instance.

Examples:
  gantry module pull s3://vendor-modules/gantry/liver/0.2.0 --into /opt/modules --trust vendor.pub.pem
  gantry module pull s3://vendor-modules/gantry/liver/0.2.0 --into /opt/modules --config /etc/gantry/gantry.toml --json
";

pub(crate) const INSTALL_EXAMPLES: &str = "\
As `gantry module pull`, for a package that came as a file. It goes to MODULES/NAME/VERSION-DIGEST, and nothing that is there is changed.

Examples:
  gantry module install liver-0.2.0.gantry --into /opt/modules --trust vendor.pub.pem
  gantry module install liver-0.2.0.gantry --into /opt/modules --trust vendor.pub.pem --config /etc/gantry/gantry.toml --json
";

#[derive(clap::Args)]
pub(crate) struct InstallArgs {
    /// A file of `gantry module pack`, or a package folder.
    #[arg(value_name = "FILE")]
    from: PathBuf,
    /// A vendor's public key (PEM): one of these must have signed it. Repeatable.
    #[arg(long, value_name = "FILE", required = true)]
    trust: Vec<PathBuf>,
    #[command(flatten)]
    how: How,
    /// Limits and engines; an installation is in the audit log of this node.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// What is installed, where, and what is said.
#[derive(clap::Args)]
struct How {
    /// The folder with all packages; made when missing.
    #[arg(long, value_name = "MODULES")]
    into: PathBuf,
    /// The module's identity, `sha256:` and 64 digits: no other is installed.
    #[arg(long, value_name = "DIGEST", value_parser = digest)]
    digest: Option<Sha256Hex>,
    /// Install a version that is older than the latest that is there.
    #[arg(long)]
    allow_older: bool,
    /// For scripts.
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
pub(crate) struct SignArgs {
    /// A package folder, or a file of `gantry module pack`, which is written anew.
    #[arg(value_name = "PACKAGE")]
    folder: PathBuf,
    /// The vendor's private key: Ed25519, PKCS #8, PEM.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Limits; without it, the defaults.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(clap::Args)]
pub(crate) struct PushArgs {
    /// A package folder, or a file of `gantry module pack`, that was signed.
    #[arg(value_name = "PACKAGE")]
    folder: PathBuf,
    /// s3://BUCKET/PREFIX: it goes to PREFIX/NAME/VERSION.
    #[arg(value_name = "URL")]
    to: Location,
    /// The vendor's public key, with which hospitals will look at it. Repeatable.
    #[arg(long, value_name = "FILE", required = true)]
    trust: Vec<PathBuf>,
    #[command(flatten)]
    reach: Reach,
}

#[derive(clap::Args)]
pub(crate) struct PullArgs {
    /// s3://BUCKET/PREFIX/NAME/VERSION, as `gantry module push` prints it.
    #[arg(value_name = "URL")]
    from: Location,
    /// A vendor's public key (PEM): one of these must have signed it, whatever [[module_sources]] says. Repeatable.
    #[arg(long, value_name = "FILE")]
    trust: Vec<PathBuf>,
    #[command(flatten)]
    how: How,
    #[command(flatten)]
    reach: Reach,
}

/// How the bucket is reached.
#[derive(clap::Args)]
struct Reach {
    /// A server other than AWS; buckets are then named in the path.
    #[arg(long, value_name = "URL")]
    endpoint_url: Option<String>,
    /// The bucket's region, where the chain does not say it.
    #[arg(long)]
    region: Option<String>,
    /// [[module_sources]], limits and engines; a pull is in the audit log of this node.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

fn digest(text: &str) -> Result<Sha256Hex, String> {
    text.strip_prefix("sha256:").unwrap_or(text).to_owned().try_into()
}

fn keys(files: &[PathBuf]) -> Done<Vec<PublicKey>> {
    files.iter().map(|file| PublicKey::load(file).map_err(|e| (2, e.into()))).collect()
}

impl Reach {
    fn s3(&self, config: &Config, location: &Location) -> s3::Config {
        let mut s3 = config.bucket_of(location);
        if let Some(url) = &self.endpoint_url {
            (s3.endpoint_url, s3.path_style) = (Some(url.clone()), true);
        }
        s3.region = self.region.clone().or(s3.region);
        s3
    }
}

/// Tells what is tried again, above a bar.
fn again(bar: &ProgressBar) -> impl Fn(&s3::Event) + Send + Sync + 'static {
    let bar = bar.clone();
    move |event| {
        if let s3::Event::Again { what, why, after, .. } = event {
            let why = gantry::printable(why);
            bar.suspend(|| eprintln!("{what}: {why}; again in {} ms", after.as_millis()));
        }
    }
}

pub(crate) fn sign(args: &SignArgs) -> Done {
    let config = cli::config(args.config.as_deref())?;
    let key = SigningKey::load(&args.key).map_err(|e| (2, e.into()))?;
    let signed = sign::sign(&args.folder, &key, &config.limits, &chrono::Utc::now());
    let signed = signed.map_err(|e| (refused_to_sign(&e), e.into()))?;
    let Statement { name, version, manifest_sha256, files, .. } = &signed.statement;
    let (digest, files, key) = (String::from(*manifest_sha256), files.len(), key.public().id());
    let how = if signed.was_there { "was signed" } else { "signed" };
    print(format!("{name} {version} sha256:{digest}: {files} files, {how} by key {key}\n").as_bytes())
}

pub(crate) fn push(args: &PushArgs) -> Done {
    let config = cli::config(args.reach.config.as_deref())?;
    let keys = keys(&args.trust)?;
    let bar = ProgressBar::new_spinner();
    bar.enable_steady_tick(std::time::Duration::from_millis(100));
    let pushed = runtime()?.block_on(async {
        let bucket = Bucket::connect(args.reach.s3(&config, &args.to), again(&bar)).await.map_err(SignError::from)?;
        sign::push(&args.folder, &keys, &config.limits, &bucket, &args.to, |file| bar.set_message(file.to_owned()))
            .await
    });
    bar.finish_and_clear();
    let sign::Pushed { at, statement, sent } = pushed.map_err(|e| (refused_to_sign(&e), e.into()))?;
    let (digest, there) = (String::from(statement.manifest_sha256), statement.files.len() + 1 - sent);
    print(format!("{at} sha256:{digest}: {sent} files sent, {there} were there\n").as_bytes())
}

pub(crate) fn pull(args: &PullArgs) -> Done {
    let config = cli::config(args.reach.config.as_deref())?;
    let trust = match args.trust.is_empty() {
        true => keys(config.trusted_for(&args.from))?,
        false => keys(&args.trust)?,
    };
    let bar = ProgressBar::no_length();
    bar.set_style(
        ProgressStyle::with_template("{msg} {bar:30} {bytes} of {total_bytes}, {bytes_per_sec}").expect("a template"),
    );
    let last_step = last_step_or_exit(&bar, &args.how.into)?;
    let runtime = runtime()?;
    let node = runtime.block_on(journal(args.reach.config.as_deref(), &config))?;
    let request = Request {
        from: &args.from,
        trust: &trust,
        digest: args.how.digest,
        allow_older: args.how.allow_older,
        limits: &config.limits,
    };
    let on = |step: Step<'_>| match step {
        Step::Waiting => {
            bar.suspend(|| eprintln!("another pull into {} is under way: waiting for it", args.how.into.display()))
        }
        Step::Fetching(all, there) => {
            bar.set_length(all);
            bar.set_position(there);
        }
        Step::File(file) => bar.set_message(file.to_owned()),
        Step::Came(bytes) => bar.inc(bytes),
    };
    let pulled = runtime.block_on(async {
        let bucket = Bucket::connect(args.reach.s3(&config, &args.from), again(&bar)).await?;
        pull::pull(&request, &bucket, &args.how.into, &on).await
    });
    bar.finish_and_clear();
    let pulled = pulled.map_err(|e| (refused_to_pull(&e), e.into()));
    Finish { how: &args.how, from: &args.from.to_string(), config: &config, node: node.as_ref(), runtime: &runtime }
        .finish(pulled, &last_step)
}

pub(crate) fn install(args: &InstallArgs) -> Done {
    let config = cli::config(args.config.as_deref())?;
    let trust = keys(&args.trust)?;
    let bar = ProgressBar::new_spinner();
    let last_step = last_step_or_exit(&bar, &args.how.into)?;
    let runtime = runtime()?;
    let node = runtime.block_on(journal(args.config.as_deref(), &config))?;
    let How { into, digest, allow_older, .. } = &args.how;
    let request = install::Request {
        from: &args.from,
        trust: &trust,
        digest: *digest,
        allow_older: *allow_older,
        limits: &config.limits,
    };
    let waits = || eprintln!("another installation into {} is under way: waiting for it", into.display());
    let staged = install::install(&request, into, waits).map_err(|e| (refused_to_install(&e), e.into()));
    let from = args.from.display().to_string();
    Finish { how: &args.how, from: &from, config: &config, node: node.as_ref(), runtime: &runtime }
        .finish(staged, &last_step)
}

/// What is done with a package that came, whichever way.
struct Finish<'a> {
    how: &'a How,
    from: &'a str,
    config: &'a Config,
    node: Option<&'a Audit>,
    runtime: &'a tokio::runtime::Runtime,
}

impl Finish<'_> {
    fn finish(&self, came: Done<Pulled>, last_step: &AtomicBool) -> Done {
        let staged = match came.map_err(|(code, e)| self.refuse(code, e))? {
            Pulled::There(statement, signer, folder) => {
                return said(self.how, &statement, &signer, &folder, Outcome::There);
            }
            Pulled::Staged(staged) => staged,
        };
        let checked = looked_at(&staged, self.config).map_err(|(code, e)| self.refuse(code, e))?;
        let (statement, signer) = (staged.statement.clone(), staged.signer.clone());
        last_step.store(true, Ordering::SeqCst);
        if let Some(node) = self.node {
            let place = staged.place().map_err(|e| (1, e.into()))?;
            let detail = format!("from {}, signed by key {}, in {}", self.from, signer.id(), place.display());
            let event = Event {
                digests: vec![("module", statement.manifest_sha256.0)],
                detail,
                ..event(Action::ModuleInstalled, &format!("{} {}", statement.name, statement.version))
            };
            // Before the package is seen: what is there is in the log.
            self.runtime
                .block_on(node.record(&event))
                .map_err(|e| (1, anyhow!("nothing was installed: the audit log cannot be written: {e}")))?;
        }
        let folder = staged.install().map_err(|e| (1, e.into()))?;
        said(self.how, &statement, &signer, &folder, Outcome::Installed(checked))
    }

    /// What did not come is no refusal.
    fn refuse(&self, code: u8, error: anyhow::Error) -> (u8, anyhow::Error) {
        if let (4 | 5, Some(node)) = (code, self.node) {
            let event = Event { detail: error.to_string(), ..event(Action::ModuleRefused, self.from) };
            if let Err(e) = self.runtime.block_on(node.record(&event)) {
                eprintln!("the audit log does not have this: {e}");
            }
        }
        (code, error)
    }
}

enum Outcome {
    There,
    /// With what engines said of its models; nothing where this machine has none.
    Installed(Option<Checked>),
}

fn said(args: &How, statement: &Statement, signer: &PublicKey, folder: &Path, outcome: Outcome) -> Done {
    let Statement { name, version, manifest_sha256, .. } = statement;
    let digest = String::from(*manifest_sha256);
    let lines = format!(
        "[[modules]]\npackage = {}\nname = \"{}\"\nrelease = \"shadow\"\n",
        toml::Value::from(folder.to_string_lossy().as_ref()),
        beside(name, version)
    );
    let (installed, checked) = match outcome {
        Outcome::There => (false, None),
        Outcome::Installed(checked) => (true, checked),
    };
    if args.json {
        let said = serde_json::json!({
            "name": name, "version": version.to_string(), "sha256": digest, "folder": folder, "installed": installed,
            "signed_by": signer.id().to_string(), "signed": statement.signed, "models": checked.map(|checked| checked.models),
            "configuration": lines,
        });
        return print(format!("{said:#}\n").as_bytes());
    }
    let how = if installed { "is installed in" } else { "was there, whole, in" };
    print(
        format!(
            "{name} {version} sha256:{digest} {how} {}\nsigned by key {} at {}\n\nTo run it beside others, with results that stay here \
             (docs/review.md), add to the configuration of the node, and start it again:\n\n{lines}",
            folder.display(),
            signer.id(),
            statement.signed
        )
        .as_bytes(),
    )
}

/// A name for a version beside others of its module.
fn beside(name: &str, version: &semver::Version) -> String {
    let version =
        version.to_string().to_ascii_lowercase().replace(|c: char| !c.is_ascii_lowercase() && !c.is_ascii_digit(), "-");
    let kept: String = name.chars().take(63_usize.saturating_sub(version.len())).collect();
    format!("{kept}-{version}").chars().take(64).collect()
}

/// What `gantry module inspect` and `gantry module check` look at, before anybody can run it.
fn looked_at(staged: &Staged, config: &Config) -> Done<Option<Checked>> {
    let limits = &config.limits;
    let inspected = inspect::inspect(&staged.package, limits.component_max_mib, limits.model_max_mib);
    inspected.map_err(|e| (4, e.into()))?;
    let not_loaded = |why: String| {
        eprintln!("its models were not loaded here: {why}");
        Ok(None)
    };
    let engines = match Engines::discover(&config.engines()) {
        Ok(engines) => engines,
        Err(e) => return not_loaded(e.to_string()),
    };
    match check::check(&staged.package, &engines) {
        Ok(checked) => Ok(Some(checked)),
        Err(e) if e.is_of_host() => not_loaded(e.to_string()),
        Err(e) => Err((4, e.into())),
    }
}

/// A signal ends the process, which may end anywhere; but not once the last step has begun.
fn last_step_or_exit(bar: &ProgressBar, into: &Path) -> Done<Arc<AtomicBool>> {
    let last_step = Arc::new(AtomicBool::new(false));
    let (bar, into, begun) = (bar.clone(), into.to_owned(), Arc::clone(&last_step));
    ctrlc::set_handler(move || {
        if !begun.load(Ordering::SeqCst) {
            bar.finish_and_clear();
            eprintln!("interrupted: nothing was installed; the next pull into {} goes on from here", into.display());
            std::process::exit(130);
        }
    })
    .map_err(|e| (2, e.into()))?;
    Ok(last_step)
}

/// The audit log of the node that the configuration names; nothing where it names none, or it never ran.
async fn journal(file: Option<&Path>, config: &Config) -> Done<Option<Audit>> {
    let Some(data) = file.and(config.node.data_folder.as_ref()) else { return Ok(None) };
    if !Store::is_in(data) {
        eprintln!("{} holds no journal yet: this is in no audit log", data.display());
        return Ok(None);
    }
    let store = Store::open(data).await.map_err(|e| (2, e.into()))?;
    Ok(Some(Audit::new(store, data)))
}

fn event(action: Action, object: &str) -> Event {
    Event { object: object.to_owned(), ..Event::new(OPERATOR, action) }
}

fn runtime() -> Done<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|e| (2, e.into()))
}

fn refused_to_sign(error: &SignError) -> u8 {
    match error {
        SignError::Package(e) => package(e),
        SignError::Statement(e) => statement(e),
        SignError::Bucket(e) => bucket(e),
        SignError::NotSigned(_) => 2,
        SignError::Folder(_) => 1,
        SignError::Changed(_) | SignError::Taken(_) => 4,
    }
}

fn refused_to_pull(error: &PullError) -> u8 {
    match error {
        PullError::NoTrust(_) | PullError::Place(_) => 2,
        PullError::Bucket(e) => bucket(e),
        PullError::None(_) => 3,
        PullError::Statement { reason, .. } => statement(reason),
        PullError::Package(e) => package(e),
        PullError::Folder(_) => 1,
        PullError::Missing(_)
        | PullError::Changed { .. }
        | PullError::Other { .. }
        | PullError::Digest { .. }
        | PullError::Older { .. }
        | PullError::Rebuilt { .. }
        | PullError::Damaged { .. } => 4,
    }
}

fn refused_to_install(error: &InstallError) -> u8 {
    match error {
        InstallError::NoTrust => 2,
        InstallError::NotSigned(_) | InstallError::Changed { .. } | InstallError::Digest(_) => 4,
        InstallError::Statement { reason, .. } => statement(reason),
        InstallError::Place(e) => refused_to_pull(e),
        InstallError::Package(e) => package(e),
    }
}

fn package(error: &PackageError) -> u8 {
    crate::unusable(error)
}

fn statement(error: &StatementError) -> u8 {
    if matches!(error, StatementError::Limit { .. }) { 5 } else { 4 }
}

fn bucket(error: &s3::Failure) -> u8 {
    if matches!(error, s3::Failure::Configuration(_)) { 2 } else { 3 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_has_a_name_that_a_configuration_takes() {
        let beside = |name: &str, version: &str| beside(name, &version.parse().expect("a version"));
        assert_eq!(beside("ct-organs", "0.2.0"), "ct-organs-0-2-0");
        assert_eq!(beside("ct-organs", "1.0.0-RC.1+build.7"), "ct-organs-1-0-0-rc-1-build-7");
        let long = beside(&"a".repeat(64), "10.20.30");
        assert_eq!((long.len(), long.ends_with("-10-20-30")), (64, true));
    }
}
