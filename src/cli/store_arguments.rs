//! The arguments of what looks after a store: backups, checks, retention.

use std::path::PathBuf;

use clap::Args;

use super::error::CliError;
use crate::config::Override;

/// Which store is meant.
#[derive(Clone, Debug, Default, Args)]
pub struct StorePlace {
    /// The store, as in `store.url`, instead of the one that the configuration names
    #[arg(long, value_name = "sqlite:PATH|postgres://…")]
    pub store: Option<String>,
    /// A file that holds the URL, instead of `--store`: for one with a password
    #[arg(long, value_name = "FILE", conflicts_with = "store")]
    pub store_file: Option<PathBuf>,
}

/// Takes a backup of the store into a file.
#[derive(Clone, Debug, Args)]
pub struct Backup {
    /// The file that becomes the backup; must not exist yet. Written beside and renamed when complete
    #[arg(long, value_name = "FILE")]
    pub to: PathBuf,
    /// Which store.
    #[command(flatten)]
    pub place: StorePlace,
}

/// Checks that a store is whole.
#[derive(Clone, Debug, Args)]
pub struct StoreCheck {
    /// Which store.
    #[command(flatten)]
    pub place: StorePlace,
}

/// Erases what retention no longer keeps.
#[derive(Clone, Debug, Args)]
pub struct StorePrune {
    /// Only tells what would be erased, by app; may be asked while a service runs
    #[arg(long)]
    pub dry_run: bool,
    /// Which store.
    #[command(flatten)]
    pub place: StorePlace,
}

impl StorePlace {
    /// What its flags set; what such a command logs is told by the command itself.
    ///
    /// # Errors
    /// If the file that holds the URL can't be read.
    pub(super) fn overrides(&self) -> Result<Vec<Override>, CliError> {
        let set = |flag: &str, key: &str, value: &str| Override {
            flag: flag.to_owned(),
            key: key.to_owned(),
            value: value.to_owned(),
        };
        let mut overrides = vec![set("this command", "log.level", "warn")];
        if let Some(url) = &self.store {
            overrides.push(set("--store", "store.url", url));
        }
        if let Some(path) = &self.store_file {
            let url = std::fs::read_to_string(path)
                .map_err(|error| CliError::Local { path: path.clone(), error })?;
            overrides.push(set("--store-file", "store.url", url.trim()));
        }
        Ok(overrides)
    }
}
