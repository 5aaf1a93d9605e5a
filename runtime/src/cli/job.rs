//! `gantry job` and `gantry route`: they read and write the journal of a node, which may run meanwhile.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use gantry::config::Config;
use gantry::routing::{Circumstances, ModuleExplanation, Plan, PriorsWait, explain, explain_unread};
use gantry::store::{Changed, Job, JobState, Store, VersionRow, now_ms};
use gantry::study::{self, ReadOptions};

pub(crate) const JOB_EXAMPLES: &str = "\
Examples:
  gantry job list --config /etc/gantry/gantry.toml --state failed
  gantry job retry 17 --config /etc/gantry/gantry.toml
";

pub(crate) const ROUTE_EXAMPLES: &str = "\
Example:
  gantry route explain 1.2.840.99.1 --config /etc/gantry/gantry.toml
";

#[derive(clap::Subcommand)]
pub(crate) enum JobCommand {
    /// List jobs, the latest first, studies on which nothing runs, and open ones: they have jobs once they close.
    #[command(after_help = concat!(
        "Examples:\n",
        "  gantry job list --config /etc/gantry/gantry.toml\n",
        "  gantry job list --state failed --json --config gantry.toml\n"
    ))]
    List {
        #[command(flatten)]
        node: NodeArgs,
        /// Of this study only.
        #[arg(long, value_name = "UID")]
        study: Option<String>,
        /// In this state only: queued, gated, running, done, failed, dead, cancelled or skipped.
        #[arg(long)]
        state: Option<JobState>,
    },
    /// Show all that is known of a job, and where its results lie.
    #[command(after_help = "Example:\n  gantry job show 17 --config /etc/gantry/gantry.toml\n")]
    Show {
        /// Its number, as `gantry job list` shows it.
        #[arg(value_parser = number)]
        id: i64,
        #[command(flatten)]
        node: NodeArgs,
    },
    /// Run a job again that ended without a result. With --json, prints it as `gantry job show` does.
    #[command(after_help = "Example:\n  gantry job retry 17 --config /etc/gantry/gantry.toml\n")]
    Retry {
        /// Its number, as `gantry job list` shows it.
        #[arg(value_parser = number)]
        id: i64,
        #[command(flatten)]
        node: NodeArgs,
    },
    /// Cancel a job; one that runs is stopped. With --json, prints it as `gantry job show` does.
    #[command(after_help = "Example:\n  gantry job cancel 17 --config /etc/gantry/gantry.toml\n")]
    Cancel {
        /// Its number, as `gantry job list` shows it.
        #[arg(value_parser = number)]
        id: i64,
        #[command(flatten)]
        node: NodeArgs,
    },
}

#[derive(clap::Subcommand)]
pub(crate) enum RouteCommand {
    /// Say rule by rule why each module would or would not run on a study that is here.
    Explain {
        /// Study Instance UID.
        #[arg(value_name = "STUDY_UID")]
        study: String,
        #[command(flatten)]
        node: NodeArgs,
    },
}

#[derive(clap::Args)]
pub(crate) struct NodeArgs {
    /// The node's configuration.
    #[arg(long, value_name = "FILE")]
    pub(super) config: PathBuf,
    /// For scripts.
    #[arg(long)]
    pub(super) json: bool,
}

type Failure = (u8, anyhow::Error);

fn number(text: &str) -> Result<i64, String> {
    text.parse().map_err(|_| "a job has a number; `gantry job list` shows them".to_owned())
}

pub(crate) fn job(command: JobCommand) -> Result<(), Failure> {
    let text = match command {
        JobCommand::List { node, study, state } => with_journal(&node, |config, store| {
            let json = node.json;
            async move { list(&config, &store, study.as_deref(), state, json).await }
        }),
        JobCommand::Show { id, node } => with_journal(&node, |_, store| {
            let json = node.json;
            async move { show(&store, id, json).await }
        }),
        JobCommand::Retry { id, node } => with_journal(&node, |_, store| {
            let json = node.json;
            async move {
                let can = "can be tried again unless a later version of the study came";
                let text = changed(id, store.retry_job(id).await?, "waits for its turn", can)?;
                if json { show(&store, id, json).await } else { Ok(text) }
            }
        }),
        JobCommand::Cancel { id, node } => with_journal(&node, |_, store| {
            let json = node.json;
            async move {
                let text = changed(id, store.cancel_job(id).await?, "is cancelled", "can be cancelled")?;
                if json { show(&store, id, json).await } else { Ok(text) }
            }
        }),
    };
    crate::print(text?.as_bytes())
}

pub(crate) fn route(command: RouteCommand) -> Result<(), Failure> {
    let RouteCommand::Explain { study, node } = command;
    let json = node.json;
    let text = with_journal(&node, |config, store| async move { explained(&config, &store, &study, json).await });
    crate::print(text?.as_bytes())
}

/// Opens the journal that the configuration names.
pub(super) fn with_journal<F>(node: &NodeArgs, work: impl FnOnce(Config, Store) -> F) -> Result<String, Failure>
where
    F: Future<Output = anyhow::Result<String>>,
{
    let config = Config::read(&node.config).map_err(|e| (2, e.into()))?;
    let data = crate::cli::journal_folder(&node.config, &config)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| (2, e.into()))?;
    runtime.block_on(async {
        let store = Store::open(&data).await.map_err(|e| (2, e.into()))?;
        let text = work(config, store.clone()).await.map_err(|e| (3, e));
        store.close().await;
        text
    })
}

async fn list(
    config: &Config,
    store: &Store,
    study: Option<&str>,
    state: Option<JobState>,
    json: bool,
) -> anyhow::Result<String> {
    let jobs = store.jobs(study, state).await?;
    let mut without = store.routed(study).await?;
    without.retain(|routed| routed.outcome != "jobs" && state.is_none());
    let open = if state.is_none() { open(config, store, study).await? } else { Vec::new() };
    if json {
        return pretty(&serde_json::json!({ "jobs": jobs, "without_jobs": without, "open_studies": open }));
    }
    let mut text = String::new();
    for job in &jobs {
        let error = job.error.as_deref().map(gantry::printable).unwrap_or_default();
        let priority = job.priority.name();
        writeln!(
            text,
            "{:>6}  {:<9}  {:<8}  {}  v{} of {}  {error}",
            job.id, job.state, priority, job.module, job.study_version, job.study_instance_uid
        )?;
    }
    for routed in without {
        let (version, uid) = (routed.study_version, &routed.study_instance_uid);
        writeln!(text, "     -  {}  v{version} of {uid}  {}", routed.outcome, routed.detail)?;
    }
    for study in open {
        let Open { study_instance_uid: uid, instances, .. } = &study;
        let time = |ms| chrono_text(ms).unwrap_or_default();
        let (last, timer_ms) = (time(study.last_received_ms), config.studies.close_timer_ms);
        let closes = match study.closes_by_ms > now_ms() {
            true => format!("closes by {}", time(study.closes_by_ms)),
            // The node counts from its start.
            false => "closes once the node has run that long".into(),
        };
        writeln!(
            text,
            "     -  open  {uid}  {instances} instances, the last at {last}; {closes} (studies.close_timer_ms = {timer_ms})"
        )?;
    }
    if text.is_empty() {
        text.push_str(match (study, state) {
            (None, None) => "no jobs, and no study is open\n",
            (Some(_), None) => "nothing of this study is here; without --study, all that there is\n",
            (_, Some(_)) => "no job in this state; without --state, all that there are\n",
        });
    }
    Ok(text)
}

/// A study that is not closed: until it is, no module is put on it.
#[derive(serde::Serialize)]
struct Open {
    study_instance_uid: String,
    instances: u64,
    last_received_ms: i64,
    /// When the timer closes it, if no evidence does before and the node runs all the while.
    closes_by_ms: i64,
}

async fn open(config: &Config, store: &Store, study: Option<&str>) -> anyhow::Result<Vec<Open>> {
    let timer_ms = i64::try_from(config.studies.close_timer_ms).unwrap_or(i64::MAX);
    let mut open = Vec::new();
    for uid in store.open_studies(config.studies.open_max).await? {
        if study.is_some_and(|only| only != uid) {
            continue;
        }
        // One without facts went in the meantime.
        if let Some(facts) = store.study_facts(&uid).await? {
            open.push(Open {
                study_instance_uid: uid,
                instances: facts.instances,
                last_received_ms: facts.last_received_ms,
                closes_by_ms: facts.last_received_ms.saturating_add(timer_ms),
            });
        }
    }
    Ok(open)
}

/// A job, and how its version of the study closed; nothing of that once retention deleted the study.
#[derive(serde::Serialize)]
struct Shown {
    #[serde(flatten)]
    job: Job,
    closed: Option<ClosedBy>,
}

#[derive(serde::Serialize)]
struct ClosedBy {
    /// What showed it to be whole.
    by: String,
    instances: u64,
    /// How much earlier than `studies.close_timer_ms` would have.
    saved_ms: u64,
}

async fn show(store: &Store, id: i64, json: bool) -> anyhow::Result<String> {
    let job = store.job(id).await?.with_context(|| no_such(id))?;
    let versions = store.versions_of_study(&job.study_instance_uid).await?;
    let closed = versions.into_iter().find(|version| version.version == job.study_version);
    let closed = closed.map(|VersionRow { by, instances, saved_ms, .. }| ClosedBy { by, instances, saved_ms });
    if json {
        return pretty(&Shown { job, closed });
    }
    let mut text = String::new();
    let time = |ms: Option<i64>| {
        let time = ms.and_then(chrono_text);
        time.unwrap_or_else(|| "-".into())
    };
    let Job { state, module, study_instance_uid, study_version, attempts, correlation, .. } = &job;
    writeln!(text, "job {id}: {state}")?;
    writeln!(text, "  module {module} (identity {})", job.module_identity)?;
    writeln!(text, "  study {study_instance_uid}, version {study_version}")?;
    if let Some(ClosedBy { by, instances, saved_ms }) = &closed {
        let saved = *saved_ms as f64 / 1000.0;
        writeln!(text, "  closed by {by}: {instances} instances, {saved:.1} s before the timer")?;
    }
    writeln!(text, "  attempts {attempts}, priority {}, correlation {correlation}", job.priority.name())?;
    writeln!(text, "  created {}", time(Some(job.created_ms)))?;
    writeln!(text, "  first guest instruction {}", time(job.started_ms))?;
    writeln!(text, "  ended {}", time(job.ended_ms))?;
    if let Some(class) = &job.error_class {
        writeln!(text, "  {class}: {}", gantry::printable(job.error.as_deref().unwrap_or_default()))?;
    }
    if let Some(path) = &job.result_path {
        writeln!(text, "  results in {path}, below node.data_folder")?;
    }
    if let Some(version) = job.superseded_by {
        writeln!(text, "  superseded by version {version} of the study")?;
    }
    Ok(text)
}

pub(super) fn chrono_text(ms: i64) -> Option<String> {
    Some(chrono::DateTime::from_timestamp_millis(ms)?.format("%Y-%m-%d %H:%M:%S%.3f UTC").to_string())
}

fn changed(id: i64, changed: Changed, done: &str, can: &str) -> anyhow::Result<String> {
    match changed {
        Changed::Yes => Ok(format!("job {id} {done}\n")),
        Changed::NoSuchJob => bail!(no_such(id)),
        Changed::Not(state) => bail!("job {id} is {state}, and no job in this state {can}"),
    }
}

fn no_such(id: i64) -> String {
    format!("there is no job {id}; `gantry job list` shows those that there are")
}

async fn explained(config: &Config, store: &Store, uid: &str, json: bool) -> anyhow::Result<String> {
    let plan = Plan::load(config)?;
    let arrivals = store
        .arrivals(uid)
        .await?
        .context("nothing of a study with this UID is here; `gantry job list` shows studies that are")?;
    let data = config.node.data_folder.as_deref().unwrap_or(Path::new("."));
    let paths: Vec<PathBuf> = store.instances_of_study(uid).await?.iter().map(|i| data.join(&i.path)).collect();
    let ordered = store.order_of_study(uid).await?.map(|order| order.priority);
    let modules = match study::read(&paths, &ReadOptions::new(&config.limits, false)) {
        Ok(study) => explain(&study, &plan, &Circumstances::now(arrivals.sources, ordered)),
        // As the node records it: without paths, which are its own.
        Err(e) => explain_unread(&e.for_record(&|_| "an instance".into()).to_string(), &plan),
    };
    let mut explained = Vec::new();
    for module in modules {
        let waits_for_priors = waits_for_priors(store, uid, &module).await?;
        explained.push(Explained { module, waits_for_priors });
    }
    match json {
        true => pretty(&explained),
        false => Ok(for_people(&explained)?),
    }
}

/// Why a module would run, and what its job on the study does now.
#[derive(serde::Serialize)]
struct Explained {
    #[serde(flatten)]
    module: ModuleExplanation,
    /// Earlier studies are being looked for, and its job waits for that.
    waits_for_priors: bool,
}

async fn waits_for_priors(store: &Store, uid: &str, module: &ModuleExplanation) -> anyhow::Result<bool> {
    let gated = store.jobs(Some(uid), Some(JobState::Gated)).await?;
    let Some(job) = gated.iter().find(|job| module.priors.is_some() && job.module == module.module) else {
        return Ok(false);
    };
    let others = store.jobs_of_version(uid, job.study_version).await?;
    let first = others.iter().any(|other| module.waits_for.contains(&other.module) && !other.state.is_over());
    Ok(!first && store.gathered(uid, job.study_version).await?.is_none())
}

fn for_people(explained: &[Explained]) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    for Explained { module, waits_for_priors } in explained {
        let would = if module.would_run { "would run" } else { "would not run" };
        write!(text, "{} {would}", module.module)?;
        if module.would_run && !module.waits_for.is_empty() {
            write!(text, " after {}", module.waits_for.join(", "))?;
        }
        writeln!(text)?;
        if let Some(priors) = module.priors.as_ref().filter(|_| module.would_run) {
            writeln!(text, "  {}", wait(priors, *waits_for_priors))?;
        }
        for rule in &module.rules {
            let series = rule.series.as_ref().map(|uid| format!(" (series {uid})")).unwrap_or_default();
            let sign = if rule.passes { '+' } else { '-' };
            writeln!(text, "  {sign} {}: {}{series}", rule.rule, gantry::printable(&rule.reason))?;
        }
    }
    if !explained.iter().any(|explained| explained.module.would_run) {
        writeln!(text, "nothing to run")?;
    }
    Ok(text)
}

fn wait(priors: &PriorsWait, now: bool) -> String {
    let waits = if now { "waits now" } else { "would wait" };
    match priors.archives.as_slice() {
        [] => "sees earlier studies that are here; no archive is asked for others (pacs.priors)".into(),
        archives => format!(
            "{waits} for earlier studies from {}, at most {} ms (schedule.priors_wait_ms)",
            archives.join(", "),
            priors.wait_max_ms
        ),
    }
}

pub(super) fn pretty(value: &impl serde::Serialize) -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(value)? + "\n")
}
