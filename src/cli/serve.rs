//! `serve`: the service.

use super::error::CliError;
use super::exit::Exit;
use crate::config::Config;
use crate::logs;

/// Runs the service until it is told to end.
pub(super) fn serve(config: Config) -> Result<Exit, CliError> {
    config.require_provider()?;
    logs::start(&config.log)?;
    for notice in &config.notices {
        tracing::warn!("{notice}");
    }
    Err(CliError::NotBuilt("serve"))
}
