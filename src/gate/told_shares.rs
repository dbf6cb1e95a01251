//! What workers on one store tell each other of what apps took, so that an app's share is one over all of them.
//!
//! Each adds to a common counter what its own calls took, in the exchange that it sends anyway. Where only one app
//! competes, nobody has to know: a single team's service tells nothing.

use std::sync::Arc;
use std::time::Duration;

use super::Gate;
use super::lease::name_of;
use super::level::LevelKind;
use crate::domain::exchange::{NO_APP, ShareHeard, ShareTold, TURN};
use crate::domain::time::Timestamp;

/// Told no more often.
const PACE: Duration = Duration::from_millis(240);

/// Who said nothing for so long may have missed that the common counters started anew.
const LAPSED: Duration = Duration::from_secs(5);

/// What an exchange says of shares.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// Levels that are asked about.
    pub(super) contended: Vec<Arc<str>>,
    pub(super) told: Vec<ShareTold>,
}

impl Gate {
    /// What the next exchange says of shares; nothing if that was said a moment ago.
    pub(super) fn tell_shares(&mut self, now: Timestamp) -> Shared {
        let mut shared = Shared::default();
        let Some(exchanges) = &mut self.exchanges else { return shared };
        if exchanges.shares_told_at.is_some_and(|told| now < told + PACE) {
            return shared;
        }
        let away = exchanges.shares_told_at.replace(now).is_none_or(|told| now > told + LAPSED);
        let apps = self.apps_by_ordinal();
        for index in self.levels.indices().collect::<Vec<u32>>() {
            let level = &mut self.levels[index];
            let Some(lease) = level.lease.as_ref().filter(|_| level.kind != LevelKind::App) else { continue };
            let active = level.shares.active();
            if active == 0 || shared.contended.contains(&lease.name) {
                continue;
            }
            shared.contended.push(Arc::clone(&lease.name));
            if away {
                level.shares.leave();
            }
            let told =
                |app: Arc<str>, base, taken| ShareTold { level: Arc::clone(&lease.name), app, base, taken };
            if active > 1 {
                // Only those where several compete say that they do, or it would never end.
                shared.told.push(told(
                    TURN.into(),
                    level.shares.time(),
                    u64::from(!level.shares.has_joined()),
                ));
            }
            if level.shares.has_joined() {
                level.shares.tell(|app, base, taken| {
                    if let Some(Some(app)) = apps.get(app as usize) {
                        shared.told.push(told(Arc::clone(app), base, taken));
                    }
                });
            } else {
                level.shares.forget_taken();
            }
        }
        // One order for all workers, or two of them could wait for each other's rows.
        shared.told.sort_by(|one, other| (&one.level, &one.app).cmp(&(&other.level, &other.app)));
        shared
    }

    /// What the answer says of shares.
    pub(super) fn hear_shares(&mut self, asked: &[Arc<str>], heard: &[ShareHeard]) {
        if asked.is_empty() {
            return;
        }
        let apps = self.apps_by_ordinal();
        for index in self.levels.indices().collect::<Vec<u32>>() {
            let level = &mut self.levels[index];
            let Some(lease) = level.lease.as_ref().filter(|lease| asked.contains(&lease.name)) else {
                continue;
            };
            level.shares.told();
            let of_level = || heard.iter().filter(|share| share.level == lease.name);
            // The time first: it says whether this worker's counters are the common ones.
            match of_level().find(|share| &*share.app == TURN) {
                Some(time) => level.shares.hear_time(time.served),
                None => level.shares.leave(),
            }
            for share in of_level() {
                // One that is being removed and the one that takes its place have one name.
                for (ordinal, app) in (0..).zip(&apps) {
                    if app.as_ref() == Some(&share.app) {
                        level.shares.hear(ordinal, share.served);
                    }
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
            if level.kind == LevelKind::App && level.ordinal > 0 {
                let place = level.ordinal as usize;
                if place >= apps.len() {
                    apps.resize(place + 1, None);
                }
                apps[place] = Some(name_of(level.kind, &level.name));
            }
        }
        apps
    }
}
