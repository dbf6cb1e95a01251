//! Calls that may be in flight here, of a level whose calls several workers start.

use std::time::Duration;

use crate::domain::time::Timestamp;

/// Heads that wait for a place want so many more at first; then twice as many each time.
const FIRST: u32 = 16;
/// Places beyond those that slots in hand are known to need.
const SPARE: u32 = 2;
/// How often it is asked again for what others hold, and told what is not needed.
const CONTESTED: Duration = Duration::from_millis(250);
/// How often a worker that holds places looks whether others want them.
const HELD: Duration = Duration::from_secs(1);

/// The places of one level here.
#[derive(Debug, Default)]
pub(super) struct Places {
    granted: u32,
    /// What was wanted in the last exchange.
    wanted: u32,
    /// No more than this may be in flight until the exchange under way is answered: it was told so.
    pledged: Option<u32>,
    /// Calls in flight at the last exchange, the most of them since, and how many left since.
    in_flight: u32,
    peak: u32,
    started: u32,
    /// Whether a head was refused since for want of a place, and whether a client waits for one of them.
    dry: bool,
    urgent: bool,
    answered_at: Timestamp,
}

impl Places {
    /// Calls that may be in flight.
    pub(super) fn limit(&self) -> u32 {
        self.pledged.map_or(self.granted, |pledged| pledged.min(self.granted))
    }

    /// A head was refused; `most`: calls that may be in flight for other reasons.
    pub(super) fn refuse(&mut self, most: u32, urgent: bool) {
        if self.granted < most {
            self.dry = true;
            self.urgent |= urgent;
        }
    }

    /// Whether any were granted, though they may be pledged to others.
    pub(super) fn are_there(&self) -> bool {
        self.granted > 0
    }

    /// A call leaves as one of so many.
    pub(super) fn took(&mut self, in_flight: u32) {
        self.peak = self.peak.max(in_flight);
        self.started = self.started.saturating_add(1);
    }

    /// Calls that places are there for until the next exchange, if as many end as since the last one; `None`: all that
    /// were wanted are there, or none yet.
    pub(super) fn room(&self, in_flight: u32) -> Option<u32> {
        let ended = self.in_flight.saturating_add(self.started).saturating_sub(in_flight);
        let is_short = self.granted > 0 && self.granted < self.wanted;
        is_short.then(|| self.granted.saturating_add(ended).saturating_sub(in_flight))
    }

    /// What to tell: calls in flight at most until the answer, and calls wanted. `most` as in [`Self::refuse`];
    /// `kept`: to have in hand beyond those in use; `slots`: calls that slots of the level in hand let go, if it has
    /// some.
    ///
    /// Who has slots wants the places that those need, and no others: places beyond that would stand idle here, while
    /// another worker has slots and no place for them.
    pub(super) fn ask(&mut self, in_flight: u32, most: u32, kept: u32, slots: Option<u32>) -> (u32, u32) {
        let is_busy = self.dry || self.peak > 0;
        let peak = self.peak.max(in_flight);
        let (used, want) = match slots.filter(|_| is_busy && self.granted > 0 && !self.urgent) {
            Some(slots) => {
                let next = slots.max(self.started).saturating_add(SPARE);
                (in_flight.saturating_add(slots), in_flight.saturating_add(next))
            }
            None if self.dry => {
                (peak + peak / 4 + 1, self.wanted.saturating_mul(2).max(in_flight.saturating_add(FIRST)))
            }
            None => (peak + peak / 4 + 1, peak + peak / 4),
        };
        let used = if is_busy { in_flight.max(self.limit().min(used)) } else { in_flight };
        let want = want.saturating_add(kept).min(most).max(used);
        self.wanted = want;
        self.pledged = Some(used);
        (self.in_flight, self.peak, self.started) = (in_flight, 0, 0);
        (self.dry, self.urgent) = (false, false);
        (used, want)
    }

    /// What the last exchange granted.
    pub(super) fn grant(&mut self, granted: u32, now: Timestamp) {
        self.granted = granted;
        self.pledged = None;
        self.answered_at = now;
    }

    /// Nothing is granted any more.
    pub(super) fn drop_all(&mut self) {
        *self = Self::default();
    }

    /// When an exchange should be sent, and whether for a client that waits.
    pub(super) fn due(&self, in_flight: u32, kept: u32, now: Timestamp) -> Option<(Timestamp, bool)> {
        let contested = self.granted < self.wanted;
        if self.dry {
            let due = if contested { self.answered_at + CONTESTED } else { now };
            return Some((due, self.urgent));
        }
        let peak = self.peak.max(in_flight);
        if self.granted > (peak + peak / 4).saturating_add(SPARE).saturating_add(kept) {
            return Some((self.answered_at + CONTESTED, false));
        }
        (self.granted > 0).then(|| (self.answered_at + HELD, false))
    }
}
