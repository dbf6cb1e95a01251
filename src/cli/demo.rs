//! `demo`: the service at work on this machine.

use super::arguments::{Demo, Global};
use super::error::CliError;
use super::exit::Exit;

/// Shows the service at work with a scripted provider.
pub(super) fn demo(_: &Demo, _: &Global) -> Result<Exit, CliError> {
    Err(CliError::NotBuilt("demo"))
}
