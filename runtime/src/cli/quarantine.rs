//! `gantry quarantine`: what sync holds until a person decides.

use std::fmt::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use gantry::audit::OPERATOR;
use gantry::config::Config;
use gantry::outputs::RESULT_FILE;
use gantry::review;
use gantry::store::{HeldKind, HeldRow, HeldSearch, HeldState, Store};
use gantry_cloud_sync::held::ReasonKind;
use sha2::{Digest, Sha256};

use super::job::{NodeArgs, pretty, with_journal};

pub(crate) const EXAMPLES: &str = "\
Examples:
  gantry quarantine list --config /etc/gantry/gantry.toml
  gantry quarantine show 17 --png frame.png --config /etc/gantry/gantry.toml
  gantry quarantine release 17 18 --by 'Dr. A. Example' --reason 'no text in any frame' --config /etc/gantry/gantry.toml
  gantry quarantine discard 19 --by 'Dr. A. Example' --reason 'a name is drawn into it' --config /etc/gantry/gantry.toml
";

type Failure = (u8, anyhow::Error);

#[derive(clap::Subcommand)]
pub(crate) enum QuarantineCommand {
    /// List what is held, the latest first.
    #[command(after_help = "Example:\n  gantry quarantine list --reason burned-in --config /etc/gantry/gantry.toml\n")]
    List {
        #[command(flatten)]
        node: NodeArgs,
        /// Of this study only.
        #[arg(long, value_name = "UID")]
        study: Option<String>,
        /// For this reason only.
        #[arg(long, value_name = "REASON", value_parser = reasons())]
        reason: Option<ReasonKind>,
        /// In this state: held, released, discarded, sent or gone; `any` for all.
        #[arg(long, value_name = "STATE", value_parser = states(), default_value = "held", hide_possible_values = true)]
        state: String,
        /// Objects at most.
        #[arg(long, value_name = "NUMBER", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        limit: u32,
        /// Without the first so many.
        #[arg(long, value_name = "NUMBER", default_value_t = 0)]
        offset: u32,
    },
    /// Say why an object is held, what that means, and what can be done about it.
    #[command(after_help = concat!(
        "Examples:\n",
        "  gantry quarantine show 17 --config /etc/gantry/gantry.toml\n",
        "  gantry quarantine show 17 --png frame.png --frame 3 --config /etc/gantry/gantry.toml\n"
    ))]
    Show {
        /// Its number, as `gantry quarantine list` shows it.
        id: i64,
        /// Draw a frame of it into this file, which must not be there yet. It shows what the image shows.
        #[arg(long, value_name = "FILE")]
        png: Option<PathBuf>,
        /// Which frame, from 1.
        #[arg(long, value_name = "NUMBER", default_value_t = 1, requires = "png")]
        frame: u32,
        #[command(flatten)]
        node: NodeArgs,
    },
    /// Take responsibility for what objects are held for: sync looks at them again, and sends what nothing else holds.
    #[command(
        after_help = "Example:\n  gantry quarantine release 17 18 --by 'Dr. A. Example' --reason 'no text in any frame' \
                      --config /etc/gantry/gantry.toml\n"
    )]
    Release {
        #[command(flatten)]
        decision: Decision,
    },
    /// Have objects stay for good.
    #[command(
        after_help = "Example:\n  gantry quarantine discard 19 --by 'Dr. A. Example' --reason 'a name is drawn into it' \
                            --config /etc/gantry/gantry.toml\n"
    )]
    Discard {
        #[command(flatten)]
        decision: Decision,
    },
}

#[derive(clap::Args)]
pub(crate) struct Decision {
    /// Their numbers, as `gantry quarantine list` shows them: all of them, or none when one cannot be.
    #[arg(required = true, value_name = "ID")]
    ids: Vec<i64>,
    /// Who decides.
    #[arg(long, value_name = "NAME")]
    by: String,
    /// Why. It stays in the journal.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    node: NodeArgs,
}

fn reasons() -> impl TypedValueParser<Value = ReasonKind> {
    let names = PossibleValuesParser::new(ReasonKind::ALL.iter().map(|kind| kind.name()));
    names.try_map(|name| ReasonKind::named(&name).ok_or("no such reason"))
}

fn states() -> PossibleValuesParser {
    PossibleValuesParser::new(HeldState::ALL.iter().map(|state| state.name()).chain(["any"]))
}

pub(crate) fn run(command: QuarantineCommand) -> Result<(), Failure> {
    let text = match command {
        QuarantineCommand::List { node, study, reason, state, limit, offset } => with_journal(&node, |_, store| {
            let json = node.json;
            async move {
                let search = HeldSearch { study: study.as_deref(), reason, state: HeldState::named(&state) };
                let rows = store.held(search, limit, offset).await?;
                if json { pretty(&rows) } else { Ok(rows.iter().map(line).collect()) }
            }
        }),
        QuarantineCommand::Show { id, png, frame, node } => {
            with_journal(&node, |config, store| {
                let json = node.json;
                async move {
                    let row = store.held_row(id).await?.ok_or_else(|| {
                    anyhow!("{id}: there is no such object in the quarantine; `gantry quarantine list` has their numbers")
                })?;
                    if let Some(png) = png {
                        draw(&config, &store, &row, frame, &png).await?;
                    }
                    show(&row, json)
                }
            })
        }
        QuarantineCommand::Release { decision } => decide(decision, HeldState::Released),
        QuarantineCommand::Discard { decision } => decide(decision, HeldState::Discarded),
    };
    crate::print(text?.as_bytes())
}

fn decide(decision: Decision, to: HeldState) -> Result<String, Failure> {
    let Decision { ids, by, reason, node } = decision;
    let who = review::who(OPERATOR, Some(&by)).map_err(|e| (2, e.into()))?;
    let said = if reason.trim().is_empty() { Err(anyhow!("--reason says why")) } else { Ok(()) };
    said.and_then(|()| Ok(review::check_text("--reason", &reason)?)).map_err(|e| (2, e))?;
    with_journal(&node, |_, store| {
        let json = node.json;
        async move {
            let decided = match to {
                HeldState::Released => store.release_held(&ids, &who, &reason).await?,
                _ => store.discard_held(&ids, &who, &reason).await?,
            };
            let rows = decided?;
            if json {
                return pretty(&rows);
            }
            let done = match to {
                HeldState::Released => "released: sync looks at it again, and sends it where nothing else holds it",
                _ => "discarded: it stays",
            };
            Ok(rows.iter().map(|row| format!("{} is {done}\n", row.id)).collect())
        }
    })
}

/// What it is, below its study.
fn what(row: &HeldRow) -> String {
    match row.job {
        Some(job) if row.kind != HeldKind::Instance => format!("{} of job {job}", row.kind.name()),
        Some(job) => format!("instance {} of job {job}", row.sop_instance_uid),
        None => format!("instance {}", row.sop_instance_uid),
    }
}

fn line(row: &HeldRow) -> String {
    let (state, reason) = (row.state.name(), row.reason.name());
    format!("{:>6}  {state:<9}  {reason:<15}  {} of {}\n", row.id, what(row), row.study_instance_uid)
}

fn at(ms: i64) -> String {
    chrono::DateTime::from_timestamp_millis(ms).unwrap_or_default().format("%Y-%m-%d %H:%M UTC").to_string()
}

fn show(row: &HeldRow, json: bool) -> anyhow::Result<String> {
    let kind = row.reason;
    if json {
        let mut shown = serde_json::to_value(row)?;
        shown["meaning"] = kind.meaning().into();
        shown["remedy"] = kind.remedy().into();
        return pretty(&shown);
    }
    let mut text = String::new();
    writeln!(text, "{}: {} of study {}", row.id, what(row), row.study_instance_uid)?;
    if !row.series_instance_uid.is_empty() {
        writeln!(text, "  series:  {}", row.series_instance_uid)?;
    }
    writeln!(text, "  state:   {} since {}, held since {}", row.state.name(), at(row.state_ms), at(row.held_ms))?;
    if !row.decided_by.is_empty() {
        let (by, why) = (gantry::printable(&row.decided_by), gantry::printable(&row.decided_why));
        writeln!(text, "  decided: by {by}: {why}")?;
    }
    writeln!(text, "  reason:  {} — {}", kind.name(), gantry::printable(&row.detail))?;
    writeln!(text, "  meaning: {}", kind.meaning())?;
    writeln!(text, "  remedy:  {}", kind.remedy())?;
    match row.excuses.is_empty() {
        true => writeln!(text, "  release: nobody can")?,
        false => {
            let excuses: Vec<String> = row.excuses.iter().map(ToString::to_string).collect();
            writeln!(text, "  release: says {}", excuses.join(", "))?;
        }
    }
    Ok(text)
}

/// Draws a frame of the very bytes that are held.
async fn draw(config: &Config, store: &Store, row: &HeldRow, frame: u32, png: &Path) -> anyhow::Result<()> {
    if row.kind != HeldKind::Instance {
        bail!("{} is no image, but the {}", row.id, what(row));
    }
    let data = config.node.data_folder.clone().unwrap_or_default();
    let candidates = match row.job {
        None => {
            store.instance(&row.sop_instance_uid).await?.map(|instance| data.join(instance.path)).into_iter().collect()
        }
        Some(job) => {
            let folder = store.job(job).await?.and_then(|job| job.result_path).map(|path| data.join(path));
            folder.as_deref().map(made).transpose()?.unwrap_or_default()
        }
    };
    let mut found = None;
    for path in candidates {
        if std::fs::read(&path).is_ok_and(|bytes| Sha256::digest(bytes)[..] == row.sha256) {
            found = Some(path);
        }
    }
    let path = found.with_context(|| format!("the bytes of {} are not here any more", row.id))?;
    let picture = gantry::web::picture(config, &path, frame)?;
    // A patient's image: for who asked, and nobody else on the machine.
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(png);
    let mut file = file.with_context(|| png.display().to_string())?;
    std::io::Write::write_all(&mut file, &picture).with_context(|| png.display().to_string())?;
    Ok(())
}

/// What a job made beside its result.
fn made(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
    Ok(entries.into_iter().map(|entry| entry.path()).filter(|path| !path.ends_with(RESULT_FILE)).collect())
}
