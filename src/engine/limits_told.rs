//! What workers tell each other of themselves: their load, and the limits that they are configured with. Where those
//! differ the lower one holds for all, until they agree.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::domain::limits::Dimension;
use crate::domain::time::Timestamp;
use crate::gate::{LevelKind, SharedLimit};
use crate::store::LimitsTold;

use super::dispatcher::Dispatcher;

/// Batches of which a beat tells the calls in flight: more would make it long, and a worker's calls are mostly of few.
const MOST_BATCHES: usize = 1_000;

/// What was told and heard last.
#[derive(Debug, Default)]
pub(super) struct LimitsHeard {
    told: Vec<SharedLimit>,
    others: Option<Arc<[LimitsTold]>>,
}

impl Dispatcher {
    /// Tells the others what this worker does and is configured with, and follows what they told.
    pub(super) fn tell_others(&mut self, now: Timestamp) {
        if !self.sharing.is_on {
            return;
        }
        let leases = u32::try_from(self.batches.leases.len()).unwrap_or(u32::MAX);
        self.store.note_load(self.in_flight + self.interactive.in_flight(), leases);
        let running = self.batches.batches.iter().filter(|(_, batch)| batch.in_flight > 0);
        let running = running.map(|(key, batch)| (*key, batch.in_flight)).take(MOST_BATCHES);
        self.store.note_running(running.collect());
        // Of a lane that was taken away nothing is told: others that still have it would be held by its old limits. Nor of
        // apps: their limits are in the database, and whoever reads them a moment later is configured no differently.
        let limits = self.gate.shared_limits(|level, kind| match kind {
            LevelKind::Provider | LevelKind::Lane => self.lanes.is_in_force(level),
            LevelKind::App => false,
            LevelKind::Service | LevelKind::Batch | LevelKind::Memory => true,
        });
        if limits != self.sharing.limits.told
            && let Ok(told) = serde_json::to_string(&limits)
        {
            self.store.note_limits(&told);
            self.sharing.limits.told = limits;
            self.sharing.limits.others = None;
        }
        let others = self.store.limits_of_others();
        if self.sharing.limits.others.as_ref() != Some(&others) {
            let lower = lower_ones(&self.sharing.limits.told, &others);
            self.gate.set_shared_limits(&lower, now);
            self.sharing.limits.others = Some(others);
        }
    }
}

/// The limits of others that are below this worker's, the lowest of each. Says of every difference who has it.
fn lower_ones(own: &[SharedLimit], others: &[LimitsTold]) -> Vec<SharedLimit> {
    let mut lowest: BTreeMap<(&str, Dimension, i64), u64> = BTreeMap::new();
    for LimitsTold { worker, limits } in others {
        // A worker of another version may say more than is known here.
        let theirs: Vec<SharedLimit> = serde_json::from_str(limits).unwrap_or_default();
        for (level, dimension, period, amount) in own {
            let same = |it: &&SharedLimit| it.0 == *level && it.1 == *dimension && it.2 == *period;
            let Some((_, _, _, other)) = theirs.iter().find(same).filter(|it| it.3 != *amount) else {
                continue;
            };
            tracing::warn!(
                worker,
                level = &**level,
                dimension = dimension.as_str(),
                period_seconds = *period / 1_000_000,
                theirs = other,
                ours = amount,
                "workers are configured with different limits; the lower one holds until they agree"
            );
            if other < amount {
                let held = lowest.entry((level, *dimension, *period)).or_insert(*other);
                *held = (*held).min(*other);
            }
        }
    }
    let lowest = lowest.into_iter();
    lowest.map(|((level, dimension, period), amount)| (Arc::from(level), dimension, period, amount)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000_000;

    fn limit(level: &str, amount: u64) -> SharedLimit {
        (Arc::from(level), Dimension::Requests, MINUTE, amount)
    }

    fn told(worker: &str, limits: &[SharedLimit]) -> LimitsTold {
        LimitsTold { worker: worker.to_owned(), limits: serde_json::to_string(limits).unwrap() }
    }

    #[test]
    fn the_lowest_of_all_holds() {
        let own = [limit("lane/a", 100), limit("lane/b", 100), limit("lane/c", 100)];
        let others = [
            told("one", &[limit("lane/a", 60), limit("lane/b", 200), limit("lane/d", 1)]),
            told("two", &[limit("lane/a", 50), limit("lane/c", 100)]),
            LimitsTold { worker: "three".to_owned(), limits: "what".to_owned() },
        ];
        assert_eq!(lower_ones(&own, &others), [limit("lane/a", 50)]);
        assert!(lower_ones(&own, &[]).is_empty());
    }
}
