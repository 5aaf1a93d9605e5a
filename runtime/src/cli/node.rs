//! `gantry config`, `gantry doctor` and `gantry audit`: a node is looked at from outside.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use gantry::audit;
use gantry::config::Config;
use gantry::doctor::{self, Check, State};
use gantry::store::{AuditRow, Store};

use crate::print;

type Done = Result<(), (u8, anyhow::Error)>;

const EXAMPLE: &str = include_str!("../../../examples/gantry.toml");

#[derive(Subcommand)]
pub(crate) enum ConfigCommand {
    /// Check a configuration: keys and ranges, and that what it names is there and can be used.
    #[command(after_help = "Example:\n  gantry config check /etc/gantry/gantry.toml\n")]
    Check {
        /// The configuration.
        file: PathBuf,
        /// For scripts.
        #[arg(long)]
        json: bool,
    },
    /// Print what holds: the configuration with every default.
    #[command(after_help = "Example:\n  gantry config print /etc/gantry/gantry.toml\n")]
    Print {
        /// The configuration; the defaults without it.
        file: Option<PathBuf>,
        /// As JSON instead of TOML.
        #[arg(long)]
        json: bool,
    },
    /// Print every key with its default and what it means.
    #[command(after_help = "Example:\n  gantry config example > gantry.toml\n")]
    Example,
}

#[derive(Subcommand)]
pub(crate) enum AuditCommand {
    /// Walk the whole log and name the first row that is not what was written.
    #[command(after_help = "Example:\n  gantry audit verify --config /etc/gantry/gantry.toml\n")]
    Verify {
        /// The node's configuration.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// For scripts.
        #[arg(long)]
        json: bool,
    },
    /// Print the latest rows, oldest first.
    #[command(after_help = "Example:\n  gantry audit show --config gantry.toml --study 1.2.3 --json\n")]
    Show {
        /// The node's configuration.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Of one study only: its Study Instance UID.
        #[arg(long, value_name = "UID")]
        study: Option<String>,
        /// So many at most.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
        limit: u32,
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
}

pub(crate) fn config(command: ConfigCommand) -> Done {
    match command {
        ConfigCommand::Check { file, json } => {
            let checked = Config::read(&file).map(|config| doctor::check_configuration(&config));
            match checked {
                Ok(checks) => report(&checks, json, 2),
                Err(e) if json => {
                    let said = serde_json::json!({ "state": "fail", "error": e.to_string() });
                    print(format!("{said:#}\n").as_bytes())?;
                    Err((2, e.into()))
                }
                Err(e) => Err((2, e.into())),
            }
        }
        ConfigCommand::Print { file, json } => {
            let config = crate::cli::config(file.as_deref())?;
            let text = match json {
                true => serde_json::to_string_pretty(&config).map_err(|e| (1, e.into()))? + "\n",
                false => toml::to_string(&config).map_err(|e| (1, e.into()))?,
            };
            print(text.as_bytes())
        }
        ConfigCommand::Example => print(EXAMPLE.as_bytes()),
    }
}

pub(crate) fn doctor(config: &Path, json: bool) -> Done {
    let config = Config::read(config).map_err(|e| (2, e.into()))?;
    report(&doctor::check_all(&config), json, 1)
}

/// All checks, and an error with this exit code when one failed.
fn report(checks: &[Check], json: bool, code: u8) -> Done {
    let failed = checks.iter().filter(|check| check.state == State::Fail).count();
    let text = match json {
        true => {
            let said = serde_json::json!({ "state": if failed > 0 { "fail" } else { "ok" }, "checks": checks });
            format!("{said:#}\n")
        }
        false => checks.iter().map(|check| format!("{check}\n")).collect(),
    };
    print(text.as_bytes())?;
    match failed {
        0 => Ok(()),
        n => Err((code, anyhow::anyhow!("{n} of {} checks failed", checks.len()))),
    }
}

pub(crate) fn audit(command: AuditCommand) -> Done {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| (2, e.into()))?;
    runtime.block_on(async {
        match command {
            AuditCommand::Verify { config, json } => {
                let (store, data) = journal(&config).await?;
                match audit::verify(&store, &data).await {
                    Ok(whole) => {
                        let (rows, sha256) = (whole.head.id, gantry::hex(&whole.head.sha256));
                        let said = serde_json::json!({
                            "state": "whole", "rows": rows, "sha256": sha256, "anchored": whole.anchored,
                        });
                        print(
                            match json {
                                true => format!("{said:#}\n"),
                                false => format!("{rows} rows, whole; the last has sha256:{sha256}\n"),
                            }
                            .as_bytes(),
                        )
                    }
                    Err(e) => {
                        if json {
                            let said = serde_json::json!({ "state": "broken", "error": e.to_string() });
                            print(format!("{said:#}\n").as_bytes())?;
                        }
                        Err((1, e.into()))
                    }
                }
            }
            AuditCommand::Show { config, study, limit, json } => {
                let (store, _) = journal(&config).await?;
                let rows = store.audit_latest(study.as_deref(), limit).await.map_err(|e| (1, e.into()))?;
                if rows.is_empty() && !json {
                    eprintln!(
                        "{}",
                        match study {
                            Some(_) => "there is no row about this study; without --study, the latest about any",
                            None => "the log is empty: no node ran here yet",
                        }
                    );
                }
                print(rows.iter().map(|row| line(row, json)).collect::<String>().as_bytes())
            }
        }
    })
}

/// To read; a node may be running on it.
async fn journal(config: &Path) -> Result<(Store, PathBuf), (u8, anyhow::Error)> {
    let data = crate::cli::journal_folder(config, &Config::read(config).map_err(|e| (2, e.into()))?)?;
    let store = Store::open_to_read(&data).await.map_err(|e| (2, e.into()))?;
    Ok((store, data))
}

fn line(row: &AuditRow, json: bool) -> String {
    let at = chrono::DateTime::from_timestamp_millis(row.at_ms).unwrap_or_default();
    let at = at.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string();
    let AuditRow { id, who, action, study_instance_uid: study, object, digests, detail, correlation, .. } = row;
    match json {
        true => {
            let row = serde_json::json!({
                "row": id, "at": at, "who": who, "action": action, "study_instance_uid": study, "object": object,
                "digests": digests, "detail": detail, "correlation": correlation, "sha256": gantry::hex(&row.sha256),
            });
            format!("{row}\n")
        }
        false => {
            let mut line = gantry::printable(&format!("{id} {at} {who} {action}"));
            for (name, value) in
                [("study", study), ("object", object), ("", digests), ("", detail), ("correlation", correlation)]
            {
                if !value.is_empty() {
                    line += &gantry::printable(&format!(" {name}{}{value}", if name.is_empty() { "" } else { "=" }));
                }
            }
            line + "\n"
        }
    }
}
