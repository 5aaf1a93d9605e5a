//! The commands of `gantry`: arguments in, text or JSON out.

pub(crate) mod catalog;
pub(crate) mod deid;
pub(crate) mod escrow;
pub(crate) mod inspect;
pub(crate) mod job;
pub(crate) mod node;
pub(crate) mod opt_out;
pub(crate) mod outbox;
pub(crate) mod package;
pub(crate) mod quarantine;
pub(crate) mod review;
pub(crate) mod stream;
pub(crate) mod summary;
pub(crate) mod sync;
pub(crate) mod token;
pub(crate) mod vendor;
pub(crate) mod worker;
pub(crate) mod worklist;

use std::path::{Path, PathBuf};

use gantry::config::Config;
use gantry::store::Store;

/// The configuration in the file that a command names, or else the defaults: no file is looked for.
pub(crate) fn config(file: Option<&Path>) -> Result<Config, (u8, anyhow::Error)> {
    file.map_or(Ok(Config::default()), Config::read).map_err(|e| (2, e.into()))
}

/// Where a node keeps what a command looks at; `file` is its configuration.
pub(crate) fn data_folder(file: &Path, config: &Config) -> Result<PathBuf, (u8, anyhow::Error)> {
    config.node.data_folder.clone().ok_or_else(|| {
        let file = file.display();
        (
            2,
            anyhow::anyhow!(
                "node.data_folder is not set in {file}: set it, or name the node's own configuration by --config"
            ),
        )
    })
}

/// The same, where a node keeps a journal there. None is made: there is nothing to look at in it.
pub(crate) fn journal_folder(file: &Path, config: &Config) -> Result<PathBuf, (u8, anyhow::Error)> {
    let data = data_folder(file, config)?;
    match Store::is_in(&data) {
        true => Ok(data),
        false => {
            let folder = data.display();
            Err((
                2,
                anyhow::anyhow!(
                    "{folder} holds no journal: `gantry serve` makes it, and only the node's user can read it"
                ),
            ))
        }
    }
}
