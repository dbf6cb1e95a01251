//! `run`: one batch without a service.

use super::arguments::{Global, Run};
use super::error::CliError;
use super::exit::Exit;
use super::load;
use crate::config::Environment;

/// Runs one batch.
pub(super) fn run(_: &Run, global: &Global, environment: Environment) -> Result<Exit, CliError> {
    load(global, &[], environment)?.require_provider()?;
    Err(CliError::NotBuilt("run"))
}
