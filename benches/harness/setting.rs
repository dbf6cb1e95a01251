//! How a benchmark's process is run: as the upstream or as the measuring one, where its store is, and for how long.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{Args, Parser};
use tempfile::TempDir;

/// Where a benchmark works.
#[derive(Debug, Args)]
pub(crate) struct Setting {
    /// Where the store is made; a temporary folder without it
    #[arg(long)]
    folder: Option<PathBuf>,
    /// What `cargo bench` adds
    #[arg(long, hide = true)]
    bench: bool,
}

impl Setting {
    /// A new folder for a service; it goes with the value.
    pub(crate) fn folder(&self) -> anyhow::Result<TempDir> {
        Ok(match &self.folder {
            Some(folder) => tempfile::tempdir_in(folder)?,
            None => tempfile::tempdir()?,
        })
    }
}

/// For how long use is watched.
#[derive(Debug, Args)]
pub(crate) struct Watch {
    /// How long the whole run takes
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// How much of its start is left out
    #[arg(long, default_value_t = 1.0)]
    skip: f64,
}

impl Watch {
    /// The whole run, and how much of its start is left out.
    pub(crate) fn times(&self) -> anyhow::Result<(Duration, Duration)> {
        let time = Duration::from_secs_f64(self.minutes * 60.0);
        let skip = Duration::from_secs_f64(self.skip * 60.0);
        anyhow::ensure!(skip < time, "nothing is left of {time:?} after {skip:?}");
        Ok((time, skip))
    }
}

/// Measures with the command line's arguments, on one thread; or is the upstream, if this process was started as one.
pub(crate) fn run<Arguments: Parser>(
    measure: impl AsyncFnOnce(&Arguments) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    if super::upstream::serve_if_asked()? {
        return Ok(());
    }
    let arguments = Arguments::parse();
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(measure(&arguments))
}

/// The parts of a benchmark that were asked for: one, or all.
pub(crate) fn chosen<'a>(parts: &'a [&'a str], only: Option<&'a str>) -> impl Iterator<Item = &'a str> {
    parts.iter().copied().filter(move |part| only.is_none_or(|only| only == *part))
}

/// Returns at a moment, or at once if it is past.
pub(crate) async fn sleep_until(moment: Instant) {
    tokio::time::sleep(moment.saturating_duration_since(Instant::now())).await;
}
