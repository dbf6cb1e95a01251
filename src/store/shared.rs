//! What a store's writer and its handle share: bells, gauges, and usage that waits for a commit.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::StoreHealth;
use super::bells::{Bells, Outgoing};
use super::told::Told;
use super::usage_sums::UsageSums;
use crate::domain::day::{Day, DayUsage};
use crate::domain::ids::AppKey;
use crate::metrics::StoreMetrics;
use crate::wakeup::Wakeup;

/// What a commit is to tell.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Effects {
    /// There is something else to run, or to stop.
    pub(super) work: bool,
    /// Results were recorded or a status changed.
    pub(super) progress: bool,
    /// An app was made or changed.
    pub(super) apps: bool,
    /// Levels of the gate were saved.
    pub(super) levels: bool,
    /// Rows written.
    pub(super) rows: u64,
}

/// Bells and gauges of one store.
pub(super) struct Shared {
    pub(super) work: Wakeup,
    pub(super) progress: Wakeup,
    pub(super) disk: Wakeup,
    pub(super) apps: Wakeup,
    /// Rung by other workers only: who saves a level knows it.
    pub(super) levels: Wakeup,
    pub(super) ownership: Wakeup,
    /// What other workers are to be told; nobody asks where there are none.
    pub(super) outgoing: Outgoing,
    pub(super) told: Told,
    pub(super) metrics: StoreMetrics,
    gauges: Gauges,
    /// What interactive calls used since the last commit: a commit for each would cost a sync.
    usage: Mutex<UsageSums>,
}

#[derive(Default)]
struct Gauges {
    refusing: AtomicBool,
    away: AtomicBool,
    unheard: AtomicBool,
    deaf: AtomicBool,
    free_bytes: AtomicU64,
    wal_bytes: AtomicU64,
    size_bytes: AtomicU64,
}

impl Shared {
    pub(super) fn new(metrics: StoreMetrics) -> Self {
        Self {
            work: Wakeup::default(),
            progress: Wakeup::default(),
            disk: Wakeup::default(),
            apps: Wakeup::default(),
            levels: Wakeup::default(),
            ownership: Wakeup::default(),
            outgoing: Outgoing::default(),
            told: Told::default(),
            metrics,
            gauges: Gauges::default(),
            usage: Mutex::default(),
        }
    }

    /// A commit is durable: rings for what it changed.
    pub(super) fn ring(&self, effects: Effects) {
        let Effects { work, progress, apps, levels, rows: _ } = effects;
        self.ring_here(Bells { work, progress, apps, levels: false });
        self.outgoing.add(Bells { work, progress, apps, levels });
    }

    /// Rings the bells of this process.
    pub(super) fn ring_here(&self, bells: Bells) {
        let Bells { work, progress, apps, levels } = bells;
        let bells =
            [(work, &self.work), (progress, &self.progress), (apps, &self.apps), (levels, &self.levels)];
        for (_, bell) in bells.into_iter().filter(|(rings, _)| *rings) {
            bell.ring();
        }
    }

    /// Whether other workers are heard as soon as they ring.
    pub(super) fn hears_others(&self) -> bool {
        !self.gauges.deaf.load(Ordering::Relaxed)
    }

    /// Tells whether other workers are heard.
    pub(super) fn tell_hears_others(&self, hears: bool) {
        self.gauges.deaf.store(!hears, Ordering::Relaxed);
    }

    /// How the store is, with so many commands in its queue.
    pub(super) fn health(&self, writer_queue: u64) -> StoreHealth {
        StoreHealth {
            disk_full: self.is_refusing(),
            is_away: self.is_away(),
            is_unheard: false,
            free_bytes: self.gauges.free_bytes.load(Ordering::Relaxed),
            wal_bytes: self.gauges.wal_bytes.load(Ordering::Relaxed),
            size_bytes: self.gauges.size_bytes.load(Ordering::Relaxed),
            writer_queue,
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

    /// Tells what the disk is like; rings if that changes what is taken. `free`: how many bytes are free, where that can be
    /// asked for; a server's disk can't.
    pub(super) fn tell_disk(&self, refusing: bool, free: Option<u64>) {
        let free_bytes = free.unwrap_or(if refusing { 0 } else { u64::MAX });
        self.gauges.free_bytes.store(free_bytes, Ordering::Relaxed);
        self.metrics.set_disk_free_bytes(free_bytes);
        if self.gauges.refusing.swap(refusing, Ordering::Relaxed) != refusing {
            self.show_takes_work();
            log_disk(refusing, free);
            self.disk.ring();
        }
    }

    /// Whether the database's server was not reached lately.
    pub(super) fn is_away(&self) -> bool {
        self.gauges.away.load(Ordering::Relaxed)
    }

    /// Tells whether the database's server is away; rings if that changes.
    pub(super) fn tell_away(&self, away: bool) {
        if self.gauges.away.swap(away, Ordering::Relaxed) != away {
            self.show_takes_work();
            if away {
                tracing::warn!(
                    "the database is away: look at its server and the way there. Clients get 503, nothing new is sent, \
                     results are kept until it is back"
                );
            } else {
                tracing::info!("the database is back");
            }
            self.disk.ring();
        }
    }

    /// Tells whether this worker may start nothing because the database was not reached for too long. Without work
    /// nothing else finds out that it is away.
    pub(super) fn tell_unheard(&self, unheard: bool) {
        self.gauges.unheard.store(unheard, Ordering::Relaxed);
        self.show_takes_work();
    }

    fn show_takes_work(&self) {
        let is_unheard = self.gauges.unheard.load(Ordering::Relaxed);
        self.metrics.set_takes_work(!self.is_refusing() && !self.is_away() && !is_unheard);
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

/// Says that the disk ran full, or has room again.
fn log_disk(refusing: bool, free: Option<u64>) {
    match (refusing, free) {
        (true, Some(free_bytes)) => tracing::warn!(
            free_bytes,
            "the disk is full or below store.min_free: make room. Uploads are refused, nothing new is sent, what is in \
             flight is recorded; it goes on by itself"
        ),
        (true, None) => tracing::warn!(
            "the database server's disk is full: make room there. Uploads are refused, nothing new is sent, results are \
             kept until they are recorded; it goes on by itself"
        ),
        (false, Some(free_bytes)) => tracing::info!(free_bytes, "the disk has room again"),
        (false, None) => tracing::info!("the database server's disk has room again"),
    }
}
