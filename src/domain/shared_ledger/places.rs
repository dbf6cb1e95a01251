//! Calls in flight, shared out among workers.

use std::collections::BTreeMap;

use crate::domain::exchange::PlacesAsk;
use crate::domain::worker::WorkerKey;

/// What one worker has of a level's places.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Share {
    held: i64,
    want: i64,
    used: i64,
}

/// The places of one level.
#[derive(Clone, Debug, Default)]
pub(super) struct SharedPlaces {
    shares: BTreeMap<WorkerKey, Share>,
}

impl SharedPlaces {
    /// Notes what a worker uses and wants; tells what it may hold.
    pub(super) fn exchange(&mut self, worker: WorkerKey, ask: &PlacesAsk) -> u32 {
        let (used, want) = (i64::from(ask.used), i64::from(ask.want.max(ask.used)));
        self.shares.remove(&worker);
        if want == 0 {
            return 0;
        }
        let limit = i64::from(ask.limit);
        let others: i64 = self.shares.values().map(|share| share.held).sum();
        let fair = self.fair(worker, want, limit);
        let granted = want.min(fair).min(limit - others).max(0);
        // What is in flight already can't be taken back, but whoever has more than its share starts nothing until it has
        // not.
        self.shares.insert(worker, Share { held: granted.max(used), want, used });
        u32::try_from(granted).unwrap_or(0)
    }

    /// Forgets a worker.
    pub(super) fn forget(&mut self, worker: WorkerKey) {
        self.shares.remove(&worker);
    }

    /// A worker's share of the limit if all was shared out anew: who wants little gets that, the others get the same.
    fn fair(&self, worker: WorkerKey, want: i64, limit: i64) -> i64 {
        let mut wants: Vec<_> = self.shares.iter().map(|(key, share)| (share.want, *key)).collect();
        wants.push((want, worker));
        wants.sort_unstable();
        let mut left = limit;
        for (sharers, (wanted, key)) in (1..=wants.len()).rev().zip(wants) {
            let share = wanted.min(left / i64::try_from(sharers).unwrap_or(1));
            if key == worker {
                return share;
            }
            left -= share;
        }
        0
    }
}
