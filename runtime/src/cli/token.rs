//! `gantry token`: who may use DICOMweb.

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use clap::Subcommand;
use gantry::config::{Config, Scope};
use gantry::store::{Store, TokenRow, now_ms};
use gantry::web::{TokenError, new_token};

const DAY_MS: i64 = 24 * 3_600_000;

/// What the first token changes for everybody else.
const CLOSED: &str = "this is the node's first token: from now on every request to DICOMweb and /metrics needs one or a client \
                      certificate, on loopback too, also when all tokens are revoked";

#[derive(Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token and print it, once: it is kept nowhere.
    #[command(after_help = concat!(
        "A node without any token is open on loopback. The first one closes it: from then on every request to DICOMweb and\n",
        "/metrics needs a token or a client certificate, on loopback too, also when all tokens are revoked. /healthz and /readyz\n",
        "need none.\n\n",
        "Example:\n",
        "  gantry token new viewer --scope read --config /etc/gantry/gantry.toml\n"
    ))]
    New {
        /// What it is called in lists and logs: letters, digits, `-`, `_` and `.`.
        name: String,
        /// What it opens: `send` STOW-RS; `read` QIDO-RS, WADO-RS, the worklist, results, workitems and subscriptions; `review`
        /// verdicts and releases; `operate` /metrics; `administer` the end of jobs by UPS-RS. None includes another. Repeatable.
        #[arg(long, required = true, value_name = "SCOPE")]
        scope: Vec<Scope>,
        /// Days until it ends; never without it.
        #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=36_500))]
        expires_days: Option<u32>,
        /// The node's configuration.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Show every token's name, scopes and state.
    #[command(after_help = "Example:\n  gantry token list --config /etc/gantry/gantry.toml\n")]
    List {
        /// The node's configuration.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// For scripts.
        #[arg(long)]
        json: bool,
    },
    /// End a token at once, also for a node that runs.
    #[command(after_help = "Example:\n  gantry token revoke viewer --config /etc/gantry/gantry.toml\n")]
    Revoke {
        /// Its name.
        name: String,
        /// The node's configuration.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
}

/// Runs the command; exit code and error otherwise.
pub(crate) fn run(command: &TokenCommand) -> Result<(), (u8, anyhow::Error)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| (2, e.into()))?;
    let text = runtime.block_on(done(command))?;
    crate::print(text.as_bytes())
}

async fn done(command: &TokenCommand) -> Result<String, (u8, anyhow::Error)> {
    let (TokenCommand::New { config, .. } | TokenCommand::List { config, .. } | TokenCommand::Revoke { config, .. }) =
        command;
    let store = open(config).await?;
    let failed = |e: gantry::store::StoreError| (1, e.into());
    let text = match command {
        TokenCommand::New { name, scope, expires_days, .. } => {
            let expires_ms = expires_days.map(|days| now_ms() + i64::from(days) * DAY_MS);
            let code = |e: &TokenError| if matches!(e, TokenError::Taken | TokenError::Name) { 2 } else { 1 };
            let first = !store.has_tokens().await.map_err(failed)?;
            let token = new_token(&store, name, scope, expires_ms).await.map_err(|e| (code(&e), e.into()))?;
            // Beside the token, which a script reads from standard output.
            if first {
                eprintln!("{CLOSED}");
            }
            token + "\n"
        }
        TokenCommand::List { json, .. } => {
            let tokens = store.tokens().await.map_err(failed)?;
            match json {
                true => {
                    let tokens: Vec<_> = tokens.iter().map(for_scripts).collect();
                    serde_json::to_string_pretty(&tokens).map_err(|e| (1, e.into()))? + "\n"
                }
                false if tokens.is_empty() => "no token was ever made; `gantry token new` makes one\n".into(),
                false => tokens.iter().map(line).collect(),
            }
        }
        TokenCommand::Revoke { name, .. } => match store.revoke_token(name).await.map_err(failed)? {
            true => format!("{name} is revoked\n"),
            false => return Err((2, anyhow!("no token of this name is in force; see `gantry token list`"))),
        },
    };
    store.close().await;
    Ok(text)
}

async fn open(config: &Path) -> Result<Store, (u8, anyhow::Error)> {
    let folder = crate::cli::data_folder(config, &Config::read(config).map_err(|e| (2, e.into()))?)?;
    let made = gantry::make_private_folder(&folder);
    made.with_context(|| format!("node.data_folder {}", folder.display())).map_err(|e| (2, e))?;
    Store::open(&folder).await.map_err(|e| (2, e.into()))
}

fn line(token: &TokenRow) -> String {
    let day = |ms: i64| chrono::DateTime::from_timestamp_millis(ms).map(|t| t.format("%Y-%m-%d").to_string());
    let state = match (state(token), token.expires_ms) {
        ("valid", Some(end)) => format!("until {}", day(end).unwrap_or_default()),
        ("valid", None) => "no end".to_owned(),
        (ended, _) => ended.to_owned(),
    };
    format!("{}\t{}\t{state}\n", token.name, token.scopes)
}

fn for_scripts(token: &TokenRow) -> serde_json::Value {
    let scopes: Vec<&str> = token.scopes.split(' ').collect();
    serde_json::json!({
        "name": token.name, "scopes": scopes, "state": state(token), "created_ms": token.created_ms,
        "expires_ms": token.expires_ms, "revoked_ms": token.revoked_ms,
    })
}

fn state(token: &TokenRow) -> &'static str {
    match (token.revoked_ms, token.expires_ms) {
        (Some(_), _) => "revoked",
        (None, Some(end)) if end <= now_ms() => "expired",
        (None, _) => "valid",
    }
}
