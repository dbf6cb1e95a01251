//! The program as a command that ends by itself.

use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;

use super::Settings;

/// What a command came to.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) output: String,
    pub(crate) said: String,
}

impl Ended {
    /// What it put out, of one that must have done what was asked.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{}{}", self.output, self.said);
        self.output
    }
}

/// Runs it with these settings and waits for its end.
pub(crate) async fn command(settings: &Settings, arguments: &[&str]) -> Ended {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluicegate"));
    command.args(arguments).arg("--config").arg(settings.clone().named("command.toml").write().unwrap());
    command.env_clear().current_dir(settings.file(".")).stdin(Stdio::null()).kill_on_drop(true);
    let ended = command.output().await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ended { code: ended.status.code(), output: text(ended.stdout), said: text(ended.stderr) }
}

/// Nothing is wrong with the database at that path, by `store check`.
pub(crate) async fn check_store(settings: &Settings, database: &Path) {
    let store = format!("sqlite:{}", database.display());
    command(settings, &["store", "check", "--quiet", "--store", &store]).await.ok();
}
