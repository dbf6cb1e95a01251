//! This process among the workers: who it is, and whether what it claimed is still its own.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::sync::Notify;

use super::fault::Attempt;
use crate::store::shared::Shared;
use crate::store::{StoreError, WorkerSettings, ownership};

/// Who a worker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    /// Its row.
    pub(super) key: i64,
    /// Raised when it takes part anew, and when others take over.
    pub(super) epoch: i64,
    /// Its boot's row.
    pub(super) boot: i64,
}

impl Identity {
    /// Nobody's.
    pub(super) const NOBODY: Self = Self { key: 0, epoch: 0, boot: 0 };
}

/// What this process knows of its own part.
pub(in crate::store) struct Membership {
    pub(super) settings: WorkerSettings,
    shared: Arc<Shared>,
    /// Who it is, or was until it lost its part; none before its boot.
    identity: Mutex<Option<Identity>>,
    lost: AtomicBool,
    /// What its boot before had claimed may still be its own.
    before: AtomicBool,
    /// Until when calls may start, in nanoseconds of [`since_start`].
    fence: AtomicU64,
    /// It takes part anew, or a beat moved the fence.
    moved: Notify,
}

impl Membership {
    pub(super) fn new(settings: WorkerSettings, shared: Arc<Shared>) -> Self {
        let (identity, lost, before) = (Mutex::default(), AtomicBool::new(false), AtomicBool::new(true));
        Self { settings, shared, identity, lost, before, fence: AtomicU64::new(0), moved: Notify::new() }
    }

    /// Who it is.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] before its boot and once its part is lost.
    pub(super) fn identity(&self) -> Attempt<Identity> {
        let known = self.last_known().filter(|_| !self.is_lost());
        Ok(known.ok_or(StoreError::Fenced)?)
    }

    /// Who it is, or was; none before its boot.
    pub(super) fn last_known(&self) -> Option<Identity> {
        *self.identity.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It takes part as this one; its row says that it was heard of after `sent`.
    pub(super) fn join(&self, identity: Identity, sent: Duration) {
        *self.identity.lock().unwrap_or_else(PoisonError::into_inner) = Some(identity);
        self.lost.store(false, Ordering::Relaxed);
        self.move_fence(sent);
        self.shared.ownership.ring();
    }

    /// A beat of this epoch, sent at `sent`, arrived.
    pub(super) fn beat_arrived(&self, epoch: i64, sent: Duration) {
        if self.last_known().is_some_and(|known| known.epoch == epoch) && !self.is_lost() {
            self.move_fence(sent);
        }
    }

    fn move_fence(&self, sent: Duration) {
        let fence = u64::try_from(ownership::fence(sent).as_nanos()).unwrap_or(u64::MAX);
        self.fence.fetch_max(fence, Ordering::Relaxed);
        self.moved.notify_one();
    }

    /// The database says that this epoch is over.
    pub(super) fn lose(&self, epoch: i64) {
        let is_present = self.last_known().is_some_and(|known| known.epoch == epoch);
        if is_present && !self.lost.swap(true, Ordering::Relaxed) {
            self.fence.store(0, Ordering::Relaxed);
            tracing::warn!("this worker was not heard of for too long: others have taken its work over");
            self.shared.ownership.ring();
        }
    }

    /// Its part ends in order.
    pub(super) fn leave(&self) {
        *self.identity.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.fence.store(0, Ordering::Relaxed);
    }

    /// Whether what its boot before had claimed may still be its own.
    pub(super) fn keeps_before(&self) -> bool {
        self.before.load(Ordering::Relaxed)
    }

    /// What its boot before had claimed is anyone's.
    pub(super) fn let_go_of_before(&self) {
        self.before.store(false, Ordering::Relaxed);
    }

    /// Whether its part is lost.
    pub(in crate::store) fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }

    /// Whether calls may be started. A process that was stopped finds out here, before anything else runs.
    pub(in crate::store) fn may_start(&self) -> bool {
        !self.time_left().is_zero()
    }

    /// Whether it is one, and no call may be started because it was not heard of for too long.
    pub(super) fn is_unheard(&self) -> bool {
        self.last_known().is_some() && !self.may_start()
    }

    /// How long calls may still be started.
    fn time_left(&self) -> Duration {
        Duration::from_nanos(self.fence.load(Ordering::Relaxed)).saturating_sub(since_start())
    }

    /// Rings when the fence closes, and when it opens again.
    pub(super) async fn watch_fence(&self) {
        loop {
            let left = self.time_left();
            if !left.is_zero() {
                tokio::time::sleep(left).await;
                continue;
            }
            let is_news = self.last_known().is_some() && !self.is_lost();
            if is_news {
                tracing::warn!("the database was not reached for too long: no call starts until it is");
            }
            self.shared.tell_unheard(self.is_unheard());
            self.shared.ownership.ring();
            while self.time_left().is_zero() {
                self.moved.notified().await;
            }
            if is_news {
                tracing::info!("the database is reached again: calls may start");
            }
            self.shared.tell_unheard(false);
            self.shared.ownership.ring();
        }
    }
}

/// Time since the machine started, that which it was suspended for included.
pub(super) fn since_start() -> Duration {
    // Elsewhere the usual clock is the one that goes on.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let clock = ClockId::Boottime;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let clock = ClockId::Monotonic;
    let now = clock_gettime(clock);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or_default())
}
