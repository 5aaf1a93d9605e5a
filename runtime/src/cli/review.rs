//! `gantry review`: what becomes of results, and what people say of them.

use std::fmt::Write;

use anyhow::{anyhow, bail};
use gantry::audit::OPERATOR;
use gantry::config::Config;
use gantry::review::{self, Correction, Saying, Shown, Verdict};
use gantry::store::{Deliverable, Given, ReleaseRow, Released, Reviewed, Store, Which};

use super::job::{NodeArgs, pretty, with_journal};

pub(crate) const EXAMPLES: &str = "\
Examples:
  gantry review list --held --config /etc/gantry/gantry.toml
  gantry review reject 17 triage/0 --comment 'calcification' --by 'Dr. A. Example' --config /etc/gantry/gantry.toml
  gantry review release 17 --config /etc/gantry/gantry.toml
";

type Failure = (u8, anyhow::Error);

#[derive(clap::Subcommand)]
pub(crate) enum ReviewCommand {
    /// List results, the latest first.
    #[command(after_help = "Example:\n  gantry review list --held --config /etc/gantry/gantry.toml\n")]
    List {
        #[command(flatten)]
        node: NodeArgs,
        /// Of this study only.
        #[arg(long, value_name = "UID")]
        study: Option<String>,
        /// Only those that wait for a release.
        #[arg(long)]
        held: bool,
        /// Results at most.
        #[arg(long, value_name = "NUMBER", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        limit: u32,
        /// Without the first so many.
        #[arg(long, value_name = "NUMBER", default_value_t = 0)]
        offset: u32,
    },
    /// Show the findings of a result by name, and what was said of them.
    #[command(after_help = "Example:\n  gantry review show 17 --config /etc/gantry/gantry.toml\n")]
    Show {
        /// Number of the job.
        job: i64,
        #[command(flatten)]
        node: NodeArgs,
    },
    /// Say that a finding is right.
    #[command(after_help = "Example:\n  gantry review accept 17 segments/0 --config /etc/gantry/gantry.toml\n")]
    Accept {
        #[command(flatten)]
        said: Said,
    },
    /// Say that a finding is wrong.
    #[command(after_help = "Example:\n  gantry review reject 17 triage/0 --config /etc/gantry/gantry.toml\n")]
    Reject {
        #[command(flatten)]
        said: Said,
    },
    /// Say how a finding is otherwise.
    #[command(after_help = concat!(
        "Examples:\n",
        "  gantry review correct 17 measurements/2 '{\"value\": 12.5}' --config /etc/gantry/gantry.toml\n",
        "  gantry review correct 17 result '{\"text\": \"a second lesion\"}' --config /etc/gantry/gantry.toml\n"
    ))]
    Correct {
        /// Number of the job.
        job: i64,
        /// As `gantry review show` names it.
        finding: String,
        /// JSON with at least one of value, unit, code, level, present and text.
        correction: String,
        #[command(flatten)]
        words: Words,
    },
    /// Let a result leave that was held.
    #[command(after_help = "Example:\n  gantry review release 17 --config /etc/gantry/gantry.toml\n")]
    Release {
        /// Number of the job.
        job: i64,
        /// Also when findings were rejected or corrected: it leaves as the module stated them.
        #[arg(long)]
        despite_verdicts: bool,
        /// Who releases it.
        #[arg(long, value_name = "NAME")]
        by: Option<String>,
        #[command(flatten)]
        node: NodeArgs,
    },
}

#[derive(clap::Args)]
pub(crate) struct Said {
    /// Number of the job.
    job: i64,
    /// As `gantry review show` names it; the whole result when not given.
    #[arg(default_value = review::WHOLE)]
    finding: String,
    #[command(flatten)]
    words: Words,
}

#[derive(clap::Args)]
pub(crate) struct Words {
    /// For later.
    #[arg(long, value_name = "TEXT", default_value = "")]
    comment: String,
    /// Who says it.
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
    #[command(flatten)]
    node: NodeArgs,
}

pub(crate) fn run(command: ReviewCommand) -> Result<(), Failure> {
    let text = match command {
        ReviewCommand::List { node, study, held, limit, offset } => with_journal(&node, |_, store| {
            let json = node.json;
            async move {
                let which = if held { Which::Held } else { Which::All };
                let results = store.results(study.as_deref(), which, limit, offset).await?;
                if json { pretty(&results) } else { Ok(results.iter().map(line).collect()) }
            }
        }),
        ReviewCommand::Show { job, node } => with_journal(&node, |config, store| {
            let json = node.json;
            async move { show(&config, &store, job, json).await }
        }),
        ReviewCommand::Accept { said } => say(said.job, said.finding, Verdict::Accepted, None, said.words),
        ReviewCommand::Reject { said } => say(said.job, said.finding, Verdict::Rejected, None, said.words),
        ReviewCommand::Correct { job, finding, correction, words } => {
            let correction: Correction = serde_json::from_str(&correction).map_err(|e| {
                (2, anyhow!("the correction is no JSON of value, unit, code, level, present and text: {e}"))
            })?;
            say(job, finding, Verdict::Corrected, Some(correction), words)
        }
        ReviewCommand::Release { job, despite_verdicts, by, node } => with_journal(&node, |_, store| {
            let json = node.json;
            async move { release(&store, job, despite_verdicts, by.as_deref(), json).await }
        }),
    };
    crate::print(text?.as_bytes())
}

fn say(
    job: i64,
    finding: String,
    verdict: Verdict,
    correction: Option<Correction>,
    words: Words,
) -> Result<String, Failure> {
    let Words { comment, by, node } = words;
    let saying = Saying { finding, verdict, correction, comment, by };
    with_journal(&node, |config, store| {
        let json = node.json;
        async move {
            let data = config.node.data_folder.unwrap_or_default();
            let row = match review::say(&store, &data, job, &saying, OPERATOR).await? {
                Given::New(row) | Given::Same(row) => row,
                Given::Conflict(row) => bail!(review::conflict(&row)),
                Given::NoResult => bail!("there is no such job, or it has no result"),
            };
            match json {
                true => pretty(&row),
                false => Ok(format!("{} of job {job} is {} by {}\n", row.finding, row.verdict.name(), row.given_by)),
            }
        }
    })
}

async fn release(store: &Store, job: i64, despite: bool, by: Option<&str>, json: bool) -> anyhow::Result<String> {
    let who = review::who(OPERATOR, by)?;
    match store.release_result(job, &who, despite).await? {
        Released::Yes | Released::Already => {}
        Released::Disputed(findings) => bail!(
            "{findings} findings of job {job} were rejected or corrected, and it would leave as the module stated them; \
             --despite-verdicts releases it all the same"
        ),
        other => bail!("job {job}: {}", review::not_released(&other)),
    }
    match store.reviewed(job).await? {
        Some(reviewed) if json => pretty(&reviewed.release),
        _ => Ok(format!("the result of job {job} may leave\n")),
    }
}

fn line(reviewed: &Reviewed) -> String {
    let Reviewed { job, release, verdicts } = reviewed;
    let verdicts = match verdicts.len() {
        0 => String::new(),
        verdicts => format!("  {verdicts} verdicts"),
    };
    let state = release_name(release);
    format!(
        "{:>6}  {state:<9}  {}  v{} of {}{verdicts}\n",
        job.id, job.module, job.study_version, job.study_instance_uid
    )
}

fn release_name(release: &ReleaseRow) -> &'static str {
    match release.deliverable() {
        Deliverable::Held => "held",
        Deliverable::Never => "shadow",
        Deliverable::Now if release.released_ms.is_some() => "released",
        Deliverable::Now => "at-once",
    }
}

async fn show(config: &Config, store: &Store, job: i64, json: bool) -> anyhow::Result<String> {
    let data = config.node.data_folder.clone().unwrap_or_default();
    let shown = review::show(store, &data, job).await?;
    if json {
        return pretty(&shown);
    }
    let Shown { reviewed, findings } = &shown;
    let Reviewed { job, release, verdicts } = reviewed;
    let mut text = String::new();
    writeln!(text, "job {}: {} on {}, {}", job.id, job.module, job.study_instance_uid, release_name(release))?;
    if let Some(by) = &release.released_by {
        writeln!(text, "  released by {}", gantry::printable(by))?;
    }
    if findings.is_empty() {
        writeln!(text, "  its files are deleted")?;
    }
    for finding in findings.iter().filter(|finding| finding.finding != review::WHOLE) {
        writeln!(text, "  {}: {}", finding.finding, gantry::printable(&finding.stated.to_string()))?;
    }
    for verdict in verdicts {
        let comment = gantry::printable(&verdict.comment);
        let correction = verdict.correction.as_ref().map(serde_json::to_string).transpose()?.unwrap_or_default();
        let said = [correction.as_str(), comment.as_str()].into_iter().filter(|s| !s.is_empty()).collect::<Vec<_>>();
        let said = if said.is_empty() { String::new() } else { format!(": {}", said.join(", ")) };
        let by = gantry::printable(&verdict.given_by);
        writeln!(text, "  {} was {} by {by}{said}", verdict.finding, verdict.verdict.name())?;
    }
    Ok(text)
}
