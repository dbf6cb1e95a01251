//! Ctrl-C and the signal that ends processes, one after the other.

use std::io::{IsTerminal as _, Write as _};

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::error::CliError;
use super::say;

/// The wish to end, which may be repeated.
#[derive(Debug)]
pub(super) struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
}

impl Interrupts {
    /// From now on the signals don't end the process by themselves.
    pub(super) fn listen() -> Result<Self, CliError> {
        let interrupt = signal(SignalKind::interrupt()).map_err(CliError::Signals)?;
        let terminate = signal(SignalKind::terminate()).map_err(CliError::Signals)?;
        Ok(Self { interrupt, terminate })
    }

    /// Waits for the next one.
    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Says what becomes of what was interrupted, in place of the `^C` that a terminal shows.
pub(super) fn tell_of_interrupt(text: &str) {
    if std::io::stderr().is_terminal() {
        // A closed one is no error.
        let _ = std::io::stderr().write_all(b"\r\x1b[K");
    }
    say(text);
}
