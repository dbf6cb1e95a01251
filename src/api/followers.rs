//! Those who wait for a batch to move.
//!
//! However many follow one batch, one task asks the store, at most every 250 ms, and only after
//! the store said that something was recorded.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::domain::batch::BatchRecord;
use crate::domain::ids::{AppKey, BatchId, BatchKey};
use crate::shutdown::Shutdown;
use crate::store::Store;
use crate::wakeup::Listener;

/// Least time between two questions about one batch.
const PACE: Duration = Duration::from_millis(250);
/// Asked without a wakeup after this long, in case one was missed.
const FALLBACK: Duration = Duration::from_secs(5);
/// The same while other processes' wakeups don't arrive.
const UNHEARD: Duration = Duration::from_secs(1);

/// How long a batch is watched that nobody follows: those who wait for results ask again after every page.
const LINGER: Duration = Duration::from_secs(1);

/// A batch's latest row; closed when the batch is gone or the process ends.
pub(crate) type Latest = watch::Receiver<Arc<BatchRecord>>;
type Watched = HashMap<BatchKey, Watch>;

/// A batch that is watched.
#[derive(Debug)]
struct Watch {
    latest: watch::Sender<Arc<BatchRecord>>,
    /// When somebody wanted its row last.
    wanted_at: Instant,
    /// Whether the row could be read when that was tried last.
    is_fresh: bool,
}

/// Hands out the batches' latest rows.
#[derive(Clone, Debug)]
pub(crate) struct Followers {
    store: Store,
    shutdown: Shutdown,
    watched: Arc<Mutex<Watched>>,
}

impl Followers {
    pub(crate) fn new(store: Store, shutdown: Shutdown) -> Self {
        Self { store, shutdown, watched: Arc::default() }
    }

    /// Follows a batch from the row that the caller has just read.
    pub(crate) fn follow(&self, batch: BatchRecord) -> Latest {
        // Heard from before the lock on: what is recorded from here on is asked for.
        let bell = self.store.progress_wakeup().listen();
        let mut watched = self.lock();
        if let Some(Watch { latest, wanted_at, .. }) = watched.get_mut(&batch.key) {
            *wanted_at = Instant::now();
            let follower = latest.subscribe();
            // The watcher may be in its pause: a newcomer must not see less than it has read itself.
            latest.send_if_modified(|row| {
                let newer = is_newer(&batch, row);
                if newer {
                    *row = Arc::new(batch);
                }
                newer
            });
            return follower;
        }
        let key = batch.key;
        let is_terminal = batch.status.is_terminal();
        let (latest, follower) = watch::channel(Arc::new(batch));
        if !is_terminal {
            watched.insert(key, Watch { latest: latest.clone(), wanted_at: Instant::now(), is_fresh: true });
            let this = self.clone();
            self.shutdown.spawn(async move { this.watch(key, latest, bell).await });
        }
        follower
    }

    /// The row of an app's batch that somebody follows already, as it was at most [`PACE`] and a round trip ago; `None`
    /// while the store is away, too. Those who wait for results come back for every page: each time anew the row would be
    /// read for each of them.
    pub(crate) fn known(&self, app: AppKey, id: &BatchId) -> Option<BatchRecord> {
        let mut watched = self.lock();
        watched.values_mut().find_map(|watch| {
            let row = watch.latest.borrow();
            let is_it = watch.is_fresh && row.id == *id && row.app == app;
            let found = is_it.then(|| BatchRecord::clone(&row))?;
            watch.wanted_at = Instant::now();
            Some(found)
        })
    }

    async fn watch(self, key: BatchKey, latest: watch::Sender<Arc<BatchRecord>>, mut bell: Listener) {
        // Asked once without a wakeup: the row that was handed in may be older than the bell.
        let mut moving = self.ask(key, &latest).await;
        // Since when nobody follows, as far as was seen.
        let mut left = None;
        while moving {
            let fallback = if self.store.hears_others() { FALLBACK } else { UNHEARD };
            tokio::select! {
                () = latest.closed(), if left.is_none() => left = Some(Instant::now()),
                () = sleep_until(left.map_or_else(Instant::now, |left| left + LINGER)), if left.is_some() => {
                    if self.forget_unless_followed(key, &latest) {
                        return;
                    }
                    left = None;
                }
                () = self.shutdown.begun() => break,
                () = bell.heard() => moving = self.ask(key, &latest).await,
                () = tokio::time::sleep(fallback) => moving = self.ask(key, &latest).await,
            }
        }
        // With the last sender gone its followers hear that nothing more comes.
        self.lock().remove(&key);
    }

    /// Publishes the row as it is; `false` once nothing more will happen to it.
    async fn ask(&self, key: BatchKey, latest: &watch::Sender<Arc<BatchRecord>>) -> bool {
        let read = self.store.batch_by_key(key).await;
        if let Some(watch) = self.lock().get_mut(&key) {
            watch.is_fresh = read.is_ok();
        }
        let moving = match read {
            Ok(Some(batch)) => {
                let moving = !batch.status.is_terminal();
                latest.send_replace(Arc::new(batch));
                moving
            }
            Ok(None) => false,
            // The store is away for a moment, or for good, which ends the process.
            Err(_) => true,
        };
        if moving {
            tokio::select! {
                () = tokio::time::sleep(PACE) => {}
                () = self.shutdown.begun() => {}
            }
        }
        moving
    }

    /// Somebody may have subscribed since the last one left, or looked: only the lock can tell.
    fn forget_unless_followed(&self, key: BatchKey, latest: &watch::Sender<Arc<BatchRecord>>) -> bool {
        let mut watched = self.lock();
        let wanted = watched.get(&key).is_some_and(|watch| watch.wanted_at.elapsed() < LINGER);
        let unfollowed = latest.receiver_count() == 0 && !wanted;
        if unfollowed {
            watched.remove(&key);
        }
        unfollowed
    }

    fn lock(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether `read` was read after `row`: results only grow, and an ended batch stays as it is.
fn is_newer(read: &BatchRecord, row: &BatchRecord) -> bool {
    let grown = read.counts.recorded() > row.counts.recorded();
    grown || (read.status.is_terminal() && !row.status.is_terminal())
}
