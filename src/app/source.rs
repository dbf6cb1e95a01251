//! Where the configuration comes from, so that it can be read again.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::config::{Config, ConfigError};
use crate::logs::LogLevel;

/// Reads the configuration from all of its sources, and checks it as [`super::load()`] does.
pub type ReadConfig = Arc<dyn Fn() -> Result<Config, ConfigError> + Send + Sync>;

/// Where the configuration comes from. Only the file can change: variables and flags are those of the start, and go on
/// overriding it.
#[derive(Clone)]
pub struct ConfigSource {
    /// Reads it.
    pub read: ReadConfig,
    /// The files of which it reads the first that there is.
    pub files: Vec<PathBuf>,
    /// What they held when it was read the first time.
    pub texts: Texts,
    /// Changes what is logged.
    pub log_level: LogLevel,
}

/// What files hold; `None`: not there, or not to be read.
pub type Texts = Vec<Option<Vec<u8>>>;

impl fmt::Debug for ConfigSource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ConfigSource").field("files", &self.files).finish_non_exhaustive()
    }
}

/// What files hold. Blocks on the disk.
pub fn texts(files: &[PathBuf]) -> Texts {
    files.iter().map(|file| std::fs::read(file).ok()).collect()
}
