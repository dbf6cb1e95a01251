//! `backup`: a copy of the store's database, whether a service runs on it or not.

use std::io::IsTerminal as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use serde_json::json;

use super::error::CliError;
use super::exit::Exit;
use super::runtimes::Runtimes;
use super::store_arguments::Backup;
use super::{Global, load, print, say, tell};
use crate::config::{Config, Environment};
use crate::logs;
use crate::store::backup::{self, BackupProgress, BackupReport};

/// How often a line says how far it is where there is no terminal.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// Takes the backup.
pub(super) fn backup(command: &Backup, global: &Global, environment: Environment) -> Result<Exit, CliError> {
    let config = load(global, &command.place.overrides()?, environment)?;
    logs::start(&config.log)?;
    let Some(BackupReport { path, bytes, took }) = take(command, global, config)? else {
        return Ok(Exit::Interrupted);
    };
    let seconds = took.as_secs_f64();
    if global.json {
        print(&format!("{:#}\n", json!({ "file": path, "bytes": bytes, "seconds": seconds })))?;
    }
    let bytes = HumanBytes(bytes);
    tell(global, &format!("backed up {bytes} in {seconds:.1} s to {}", path.display()));
    Ok(Exit::Success)
}

/// Runs it to its end; `None` if it was interrupted.
fn take(command: &Backup, global: &Global, config: Config) -> Result<Option<BackupReport>, CliError> {
    let shown = Shown::new(global);
    let interrupted = Arc::new(AtomicBool::new(false));
    let (stopped, to) = (Arc::clone(&interrupted), command.to.clone());
    let mut told = Instant::now();
    let mut watch = move |progress: BackupProgress| {
        shown.tell(progress, &mut told);
        !stopped.load(Ordering::Relaxed)
    };
    let made = Runtimes::start()?.block_on(async move {
        let store = config.store;
        let take = move || backup::backup(&store.location, &to, store.min_free.0, &mut watch);
        let mut taken = tokio::task::spawn_blocking(take);
        tokio::select! {
            made = &mut taken => made,
            _ = tokio::signal::ctrl_c() => {
                interrupted.store(true, Ordering::Relaxed);
                taken.await
            }
        }
    });
    match made {
        Ok(Err(backup::BackupError::Interrupted)) => Ok(None),
        Ok(made) => Ok(Some(made?)),
        // It panicked, which was told of.
        Err(_) => Err(CliError::Backup(backup::BackupError::Interrupted)),
    }
}

/// How far it is: a bar on a terminal, else a line once in a while.
struct Shown {
    bar: Option<ProgressBar>,
    lines: bool,
}

impl Shown {
    fn new(global: &Global) -> Self {
        let lines = !global.quiet && !global.json;
        let bar = lines && !global.no_progress && std::io::stderr().is_terminal();
        let style = "{bar:40} {bytes} of {total_bytes}, {eta} left";
        let style = ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar());
        Self { bar: bar.then(|| ProgressBar::new(0).with_style(style)), lines }
    }

    fn tell(&self, progress: BackupProgress, told: &mut Instant) {
        if let Some(bar) = &self.bar {
            bar.set_length(progress.total);
            bar.set_position(progress.copied);
        } else if self.lines && told.elapsed() >= TOLD_EVERY {
            *told = Instant::now();
            say(&format!("copied {} of {}", HumanBytes(progress.copied), HumanBytes(progress.total)));
        }
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
