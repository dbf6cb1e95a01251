//! `migrate`: brings the store's database up to date.

use super::arguments::Global;
use super::error::CliError;
use super::exit::Exit;
use super::runtimes::Runtimes;
use super::{load, tell};
use crate::config::Environment;
use crate::logs;
use crate::store;

/// Applies what is missing, once, however many do so at the same time.
pub(super) fn migrate(global: &Global, environment: Environment) -> Result<Exit, CliError> {
    let config = load(global, &[], environment)?;
    logs::start(&config.log)?;
    Runtimes::start()?.block_on(store::migrate(config.store.location)).map_err(CliError::Store)?;
    tell(global, "the database is up to date");
    Ok(Exit::Success)
}
