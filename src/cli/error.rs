//! Why a command could not do what was asked.

use std::io;

use super::exit::Exit;
use crate::config::ConfigError;
use crate::logs::LogError;

/// Why a command could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The configuration can't be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Logging can't be set up.
    #[error(transparent)]
    Logs(#[from] LogError),
    /// Standard output can't be written to.
    #[error("standard output: {0}")]
    Output(io::Error),
    /// The command is not part of this build.
    #[error("`{0}` is not built yet")]
    NotBuilt(&'static str),
}

impl CliError {
    /// The exit code that it ends with.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Config(_) | Self::NotBuilt(_) => Exit::Usage,
            Self::Output(_) => Exit::Local,
            Self::Logs(_) => Exit::SomeFailed,
        }
    }
}
