//! What apps took of levels, over all workers.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::domain::exchange::{ShareHeard, ShareTold, TURN};

/// How long after it was told last a level counts as contended, in microseconds: workers with one app there tell what
/// it takes as long.
const CONTENDED: i64 = 10_000_000;
/// That is written down anew no more often, in microseconds, unless something else is.
const RENEWED: i64 = 1_000_000;

/// One counter.
#[derive(Clone, Copy, Debug)]
struct Share {
    served: u64,
    /// Of a level's own time: until when the level is contended.
    contended_until: i64,
}

/// Every level's counters.
#[derive(Clone, Debug, Default)]
pub(super) struct SharedShares(BTreeMap<(Arc<str>, Arc<str>), Share>);

impl SharedShares {
    /// Takes what a worker tells, and answers for the levels it asks about.
    pub(super) fn exchange(
        &mut self,
        told: &[ShareTold],
        asked: &[Arc<str>],
        now_us: i64,
    ) -> Vec<ShareHeard> {
        for ShareTold { level, app, base, taken } in told {
            let contended_until = if **app == *TURN { now_us + CONTENDED } else { 0 };
            if **app == *TURN && *taken > 0 {
                self.join(level, *base, now_us);
                continue;
            }
            let key = (Arc::clone(level), Arc::clone(app));
            let row = self.0.entry(key).or_insert(Share { served: 0, contended_until });
            if *taken > 0 || row.served < *base || row.contended_until < contended_until - RENEWED {
                *row = Share { served: row.served.max(*base).saturating_add(*taken), contended_until };
            }
        }
        let contended = |level: &Arc<str>| {
            let time = self.0.get(&(Arc::clone(level), TURN.into()));
            asked.contains(level) && time.is_some_and(|time| time.contended_until > now_us)
        };
        let of_asked = self.0.iter().filter(|((level, _), _)| contended(level));
        let heard = of_asked.map(|((level, app), share)| ShareHeard {
            level: Arc::clone(level),
            app: Arc::clone(app),
            served: share.served,
        });
        heard.collect()
    }

    /// A worker joins those that tell; the first one's time is the common one.
    fn join(&mut self, level: &Arc<str>, time: u64, now_us: i64) {
        let key = (Arc::clone(level), TURN.into());
        let contended_until = now_us + CONTENDED;
        match self.0.get_mut(&key).filter(|row| row.contended_until > now_us) {
            Some(row) => row.contended_until = contended_until,
            None => {
                self.0.retain(|(of, _), _| of != level);
                self.0.insert(key, Share { served: time, contended_until });
            }
        }
    }
}
