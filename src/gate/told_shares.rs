//! What workers on one store tell each other of what apps took, so that an app's share is one over all of them.
//!
//! Each adds to a common counter what its own calls took, in the exchange that it sends anyway. Where only one app
//! competes, nobody has to know: a single team's service tells nothing.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::Gate;
use super::level::LevelKind;
use crate::domain::exchange::{NO_APP, ShareHeard, ShareTold, TURN};
use crate::domain::time::Timestamp;

/// Told no more often.
const PACE: Duration = Duration::from_millis(240);

/// Who heard nothing for so long may have missed that the common counters started anew.
const LAPSED: Duration = Duration::from_secs(5);

/// What an exchange says of shares.
#[derive(Debug, Default)]
pub(super) struct OfShares {
    /// Levels that are asked about.
    pub(super) contended: Vec<Arc<str>>,
    pub(super) told: Vec<ShareTold>,
}

impl Gate {
    /// What the next exchange says of shares; nothing if that was said a moment ago.
    pub(super) fn tell_shares(&mut self, now: Timestamp) -> OfShares {
        let mut of_shares = OfShares::default();
        let Some(exchanges) = &mut self.exchanges else { return of_shares };
        if exchanges.shares_told_at.is_some_and(|told| now < told + PACE) {
            return of_shares;
        }
        exchanges.shares_told_at = Some(now);
        let away = exchanges.shares_heard_at.is_none_or(|heard| now > heard + LAPSED);
        let apps = self.apps_by_ordinal();
        for index in self.levels.indices().collect::<Vec<u32>>() {
            let level = &mut self.levels[index];
            let Some(lease) = level.lease.as_ref().filter(|_| level.kind != LevelKind::App) else { continue };
            let active = level.shares.active();
            if active == 0 || of_shares.contended.contains(&lease.name) {
                continue;
            }
            of_shares.contended.push(Arc::clone(&lease.name));
            if away {
                level.shares.leave();
            }
            let told =
                |app: Arc<str>, base, taken| ShareTold { level: Arc::clone(&lease.name), app, base, taken };
            if active > 1 {
                // Only those where several compete say that they do, or it would never end.
                of_shares.told.push(told(
                    TURN.into(),
                    level.shares.time(),
                    u64::from(!level.shares.has_joined()),
                ));
            }
            if level.shares.has_joined() {
                level.shares.tell(|app, base, taken| {
                    if let Some(Some(app)) = apps.get(app as usize) {
                        of_shares.told.push(told(Arc::clone(app), base, taken));
                    }
                });
            } else {
                level.shares.forget_taken();
            }
        }
        // One order for all workers, or two of them could wait for each other's rows.
        of_shares.told.sort_by(|one, other| (&one.level, &one.app).cmp(&(&other.level, &other.app)));
        of_shares
    }

    /// What the answer says of shares.
    pub(super) fn hear_shares(&mut self, asked: &[Arc<str>], heard: &[ShareHeard], now: Timestamp) {
        let Some(exchanges) = self.exchanges.as_mut().filter(|_| !asked.is_empty()) else { return };
        exchanges.shares_heard_at = Some(now);
        let apps = self.apps_by_ordinal();
        let heard: HashMap<(&str, &str), u64> =
            heard.iter().map(|share| ((&*share.level, &*share.app), share.served)).collect();
        for index in self.levels.indices().collect::<Vec<u32>>() {
            let level = &mut self.levels[index];
            let Some(lease) = level.lease.as_ref().filter(|lease| asked.contains(&lease.name)) else {
                continue;
            };
            level.shares.told();
            // The time first: it says whether this worker's counters are the common ones.
            match heard.get(&(&*lease.name, TURN)) {
                Some(time) => level.shares.hear_time(*time),
                None => level.shares.leave(),
            }
            for (ordinal, app) in (0..).zip(&apps) {
                let served = app.as_ref().and_then(|app| heard.get(&(&*lease.name, &**app)));
                if let Some(served) = served {
                    level.shares.hear(ordinal, *served);
                }
            }
        }
    }

    /// Nobody heard what was told.
    pub(super) fn shares_untold(&mut self) {
        for index in self.levels.indices().collect::<Vec<u32>>() {
            self.levels[index].shares.untold();
        }
    }

    /// How the apps are named, in the places of their ordinals.
    fn apps_by_ordinal(&self) -> Vec<Option<Arc<str>>> {
        let mut apps = vec![Some(Arc::from(NO_APP))];
        for index in self.levels.indices() {
            let level = &self.levels[index];
            if let Some(lease) = level.lease.as_ref().filter(|_| level.ordinal > 0) {
                let place = level.ordinal as usize;
                if place >= apps.len() {
                    apps.resize(place + 1, None);
                }
                apps[place] = Some(Arc::clone(&lease.name));
            }
        }
        apps
    }
}
