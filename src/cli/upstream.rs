//! `upstream`: the scripted provider by itself.

use super::arguments::Upstream;
use super::error::CliError;
use super::exit::Exit;

/// Runs the scripted provider until it is interrupted.
pub(super) fn upstream(_: &Upstream) -> Result<Exit, CliError> {
    Err(CliError::NotBuilt("upstream"))
}
