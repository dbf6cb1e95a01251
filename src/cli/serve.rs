//! `serve`: the service.

use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};

use super::error::CliError;
use super::exit::Exit;
use super::runtimes::Runtimes;
use crate::app::App;
use crate::config::Config;
use crate::logs;
use crate::traces;

/// Runs the service until it is told to end.
pub(super) fn serve(config: Config) -> Result<Exit, CliError> {
    config.require_provider()?;
    logs::start(&config.log)?;
    for notice in &config.notices {
        tracing::warn!("{notice}");
    }
    let runtimes = Runtimes::start()?;
    let ended = runtimes.block_on(run(config, runtimes.attempts()));
    traces::end();
    ended
}

async fn run(config: Config, attempts: Handle) -> Result<Exit, CliError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(CliError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(CliError::Signals)?;
    let app = App::start(config, attempts).await?;
    if let Some(address) = app.admin_address {
        tracing::info!(%address, "listening for operators");
    }
    tracing::info!(address = %app.address, version = env!("CARGO_PKG_VERSION"), "listening");
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
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
