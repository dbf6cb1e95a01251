//! `serve`: the service.

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};

use super::arguments::Global;
use super::error::CliError;
use super::exit::Exit;
use super::runtimes::Runtimes;
use super::{configuration_files, load_for_service};
use crate::app::{self, App, ConfigSource};
use crate::config::{Config, Environment, Override};
use crate::logs;
use crate::traces;

/// Runs the service until it is told to end.
pub(super) fn serve(global: &Global, flags: &[Override], environment: Environment) -> Result<Exit, CliError> {
    let files = configuration_files(global, environment.clone());
    // Before it is read: what changes in between is taken over.
    let texts = app::texts(&files);
    let (global, flags) = (global.clone(), flags.to_vec());
    let read = move || load_for_service(&global, &flags, environment.clone());
    let config = read()?;
    let log_level = logs::start(&config.log)?;
    let source = ConfigSource { read: Arc::new(read), files, texts, log_level };
    for notice in &config.notices {
        tracing::warn!("{notice}");
    }
    let runtimes = Runtimes::start()?;
    let ended = runtimes.block_on(run(config, source, runtimes.attempts()));
    traces::end();
    ended
}

async fn run(config: Config, source: ConfigSource, attempts: Handle) -> Result<Exit, CliError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(CliError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(CliError::Signals)?;
    let mut hang_up = signal(SignalKind::hangup()).map_err(CliError::Signals)?;
    let app = App::start(config, Some(source), attempts).await?;
    if let Some(address) = app.admin_address {
        tracing::info!(%address, "listening for operators");
    }
    tracing::info!(address = %app.address, version = env!("CARGO_PKG_VERSION"), "listening");
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hang_up.recv() => app.reload(),
        }
    }
    let stopped = app.stop();
    tokio::pin!(stopped);
    tokio::select! {
        () = &mut stopped => {
            tracing::info!("ended");
            Ok(Exit::Success)
        }
        _ = terminate.recv() => Ok(cut_short()),
        _ = interrupt.recv() => Ok(cut_short()),
    }
}

/// A second signal: what is in flight is given up and will be sent again by the next start.
fn cut_short() -> Exit {
    tracing::warn!("told to end a second time: ending at once; what is in flight will be sent again");
    Exit::SomeFailed
}
