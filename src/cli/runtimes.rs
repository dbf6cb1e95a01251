//! The threads that a process works on.

use std::future::Future;

use tokio::runtime::{Builder, Handle, Runtime};

use super::error::CliError;
use super::open_files;

/// One thread for what has to be quick, and all others for the calls of batches.
///
/// The API, the dispatcher and clients' own calls hand each other one thing at a time: within a thread that costs
/// next to nothing, while a runtime of several threads wakes a second one at every hand-over and then has both of
/// them look for work. On two cores that made half of what a live call costs here, and while batches keep the cores
/// busy, a request for a batch's state no longer queues behind their calls.
#[derive(Debug)]
pub(super) struct Runtimes {
    front: Runtime,
    attempts: Runtime,
}

impl Runtimes {
    /// Starts the threads.
    ///
    /// # Errors
    /// If the system refuses them.
    pub(super) fn start() -> Result<Self, CliError> {
        open_files::raise();
        let front = Builder::new_current_thread().enable_all().build().map_err(CliError::Signals)?;
        let attempts = Builder::new_multi_thread().thread_name("attempts").enable_all().build();
        Ok(Self { front, attempts: attempts.map_err(CliError::Signals)? })
    }

    /// Where the calls of batches run.
    pub(super) fn attempts(&self) -> Handle {
        self.attempts.handle().clone()
    }

    /// Runs something on this thread to its end.
    pub(super) fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.front.block_on(future)
    }
}
