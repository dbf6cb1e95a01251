//! What a worker's beats tell of it, and what they bring back of the others.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use crate::domain::ids::BatchKey;
use crate::wakeup::Wakeup;

/// The limits that another worker is configured with, as it tells them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitsTold {
    /// The worker's name.
    pub worker: String,
    /// Its limits, in the words of whoever noted them there.
    pub limits: String,
}

/// Both sides of the beats.
#[derive(Debug)]
pub(super) struct Told {
    running: AtomicU32,
    leases: AtomicU32,
    limits: Mutex<Arc<str>>,
    by_batch: Mutex<Arc<[(BatchKey, u32)]>>,
    elsewhere: Mutex<HashMap<BatchKey, u64>>,
    others: Mutex<Arc<[LimitsTold]>>,
    is_first: AtomicBool,
    news: Notify,
    heard: Wakeup,
}

impl Default for Told {
    fn default() -> Self {
        Self {
            running: AtomicU32::new(0),
            leases: AtomicU32::new(0),
            limits: Mutex::new(Arc::from("[]")),
            by_batch: Mutex::new(Arc::from([])),
            elsewhere: Mutex::default(),
            others: Mutex::new(Arc::from([])),
            // Whoever works alone is.
            is_first: AtomicBool::new(true),
            news: Notify::new(),
            heard: Wakeup::default(),
        }
    }
}

impl Told {
    /// Takes the present numbers: calls in flight, and segments. One may be a moment older than the other.
    pub(super) fn note_load(&self, running: u32, leases: u32) {
        self.running.store(running, Ordering::Relaxed);
        self.leases.store(leases, Ordering::Relaxed);
    }

    /// The numbers noted last.
    pub(super) fn load(&self) -> (u32, u32) {
        (self.running.load(Ordering::Relaxed), self.leases.load(Ordering::Relaxed))
    }

    /// Takes the calls in flight by batch.
    pub(super) fn note_running(&self, by_batch: Vec<(BatchKey, u32)>) {
        *self.by_batch.lock().unwrap_or_else(PoisonError::into_inner) = by_batch.into();
    }

    /// The calls noted last.
    pub(super) fn by_batch(&self) -> Arc<[(BatchKey, u32)]> {
        Arc::clone(&self.by_batch.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A beat came back with the calls that other living workers have in flight.
    pub(super) fn hear_running(&self, elsewhere: HashMap<BatchKey, u64>) {
        *self.elsewhere.lock().unwrap_or_else(PoisonError::into_inner) = elsewhere;
    }

    /// The calls of a batch that other living workers have in flight.
    pub(super) fn running_elsewhere(&self, batch: BatchKey) -> u64 {
        self.elsewhere.lock().unwrap_or_else(PoisonError::into_inner).get(&batch).copied().unwrap_or(0)
    }

    /// Takes the limits that this worker is configured with.
    pub(super) fn note_limits(&self, limits: &str) {
        *self.limits.lock().unwrap_or_else(PoisonError::into_inner) = Arc::from(limits);
        self.news.notify_one();
    }

    /// There is something that others should not wait for until the next beat.
    pub(super) async fn news(&self) {
        self.news.notified().await;
    }

    /// The limits noted last.
    pub(super) fn limits(&self) -> Arc<str> {
        Arc::clone(&self.limits.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A beat came back, or the worker's boot looked. `others`: those whose limits differ; `is_first`: no living worker is older.
    pub(super) fn hear(&self, others: Vec<LimitsTold>, is_first: bool) {
        let is_news = {
            let mut known = self.others.lock().unwrap_or_else(PoisonError::into_inner);
            let is_news = **known != *others;
            *known = others.into();
            is_news
        };
        if self.is_first.swap(is_first, Ordering::Relaxed) != is_first || is_news {
            self.heard.ring();
        }
    }

    /// Rung when a beat brought back something else than the one before.
    pub(super) fn heard(&self) -> &Wakeup {
        &self.heard
    }

    /// The living workers whose limits are not this one's.
    pub(super) fn others(&self) -> Arc<[LimitsTold]> {
        Arc::clone(&self.others.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether no living worker is older.
    pub(super) fn is_first(&self) -> bool {
        self.is_first.load(Ordering::Relaxed)
    }
}
