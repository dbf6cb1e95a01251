//! What the store's threads and its handle share.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::queue::Queue;
use super::usage::UsageSums;
use crate::domain::day::{Day, DayUsage};
use crate::domain::ids::AppKey;
use crate::metrics::StoreMetrics;
use crate::store::StoreHealth;
use crate::wakeup::Wakeup;

/// Queue, bells and gauges of one store.
pub(super) struct Shared {
    pub(super) queue: Queue,
    pub(super) work: Wakeup,
    pub(super) progress: Wakeup,
    pub(super) disk: Wakeup,
    pub(super) apps: Wakeup,
    pub(super) metrics: StoreMetrics,
    gauges: Gauges,
    /// What interactive calls used since the last commit: a commit for each would cost a sync.
    usage: Mutex<UsageSums>,
}

#[derive(Default)]
struct Gauges {
    refusing: AtomicBool,
    free_bytes: AtomicU64,
    wal_bytes: AtomicU64,
    size_bytes: AtomicU64,
}

impl Shared {
    pub(super) fn new(metrics: StoreMetrics) -> Self {
        Self {
            queue: Queue::new(metrics.writer_queue().clone()),
            work: Wakeup::default(),
            progress: Wakeup::default(),
            disk: Wakeup::default(),
            apps: Wakeup::default(),
            metrics,
            gauges: Gauges::default(),
            usage: Mutex::default(),
        }
    }

    /// How the store is.
    pub(super) fn health(&self) -> StoreHealth {
        StoreHealth {
            disk_full: self.is_refusing(),
            free_bytes: self.gauges.free_bytes.load(Ordering::Relaxed),
            wal_bytes: self.gauges.wal_bytes.load(Ordering::Relaxed),
            size_bytes: self.gauges.size_bytes.load(Ordering::Relaxed),
            writer_queue: self.queue.len() as u64,
        }
    }

    /// Counts what an app used.
    pub(super) fn count_usage(&self, app: AppKey, day: Day, used: &DayUsage) {
        self.usage().add(app, day, used);
    }

    /// Takes what was counted, for a commit.
    pub(super) fn take_usage(&self) -> UsageSums {
        std::mem::take(&mut *self.usage())
    }

    /// Puts back what a commit could not write.
    pub(super) fn put_usage_back(&self, usage: UsageSums) {
        self.usage().merge(usage);
    }

    /// Whether something was counted that is in no commit yet.
    pub(super) fn has_usage(&self) -> bool {
        !self.usage().is_empty()
    }

    fn usage(&self) -> MutexGuard<'_, UsageSums> {
        self.usage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nothing new is taken.
    pub(super) fn is_refusing(&self) -> bool {
        self.gauges.refusing.load(Ordering::Relaxed)
    }

    /// Tells what the disk is like; rings if that changes what is taken.
    pub(super) fn tell_disk(&self, refusing: bool, free_bytes: u64) {
        self.gauges.free_bytes.store(free_bytes, Ordering::Relaxed);
        self.metrics.set_disk_free_bytes(free_bytes);
        if self.gauges.refusing.swap(refusing, Ordering::Relaxed) != refusing {
            tracing::warn!(
                free_bytes,
                "{}",
                if refusing { "the disk takes nothing new" } else { "the disk takes new work again" }
            );
            self.disk.ring();
        }
    }

    /// Tells how large the log is.
    pub(super) fn tell_log(&self, bytes: u64) {
        self.gauges.wal_bytes.store(bytes, Ordering::Relaxed);
        self.metrics.set_wal_bytes(bytes);
    }

    /// Tells how large the database is.
    pub(super) fn tell_size(&self, bytes: u64) {
        self.gauges.size_bytes.store(bytes, Ordering::Relaxed);
        self.metrics.set_size_bytes(bytes);
    }
}
