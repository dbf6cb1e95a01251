//! Telling waiters that something changed, without saying what: they look for themselves.

use tokio::sync::watch;

/// A bell that any number of waiters can hear. Rings that come while a waiter works are folded into one.
#[derive(Clone, Debug)]
pub struct Wakeup {
    bell: watch::Sender<u64>,
}

impl Default for Wakeup {
    fn default() -> Self {
        Self { bell: watch::Sender::new(0) }
    }
}

impl Wakeup {
    /// Wakes every waiter, and the next wait of those who work at the moment.
    pub fn ring(&self) {
        self.bell.send_modify(|rings| *rings = rings.wrapping_add(1));
    }

    /// A waiter that hears every ring from now on.
    pub fn listen(&self) -> Listener {
        Listener { bell: self.bell.subscribe() }
    }
}

/// One waiter at a [`Wakeup`].
#[derive(Clone, Debug)]
pub struct Listener {
    bell: watch::Receiver<u64>,
}

impl Listener {
    /// Returns at the next ring, at once if one came since the last return; never if the bell is gone.
    pub async fn heard(&mut self) {
        if self.bell.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
