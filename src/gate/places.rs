//! Calls that may be in flight here, of a level whose calls several workers start.

use std::time::Duration;

use crate::domain::time::Timestamp;

/// Heads that wait for a place want so many more at first; then twice as many each time.
const FIRST: u32 = 16;
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
    /// The most calls in flight since the last exchange.
    peak: u32,
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

    /// Whether nothing was granted yet.
    pub(super) fn are_none(&self) -> bool {
        self.granted == 0
    }

    /// A call leaves as one of so many.
    pub(super) fn took(&mut self, in_flight: u32) {
        self.peak = self.peak.max(in_flight);
    }

    /// What to tell: calls in flight at most until the answer, and calls wanted. `most` as in [`Self::refuse`];
    /// `kept`: to have in hand beyond those in use.
    pub(super) fn ask(&mut self, in_flight: u32, most: u32, kept: u32) -> (u32, u32) {
        let peak = self.peak.max(in_flight);
        let busy = self.dry || self.peak > 0;
        let used = if busy { in_flight.max(self.limit().min(peak + peak / 4 + 1)) } else { in_flight };
        let want = if self.dry {
            self.wanted.saturating_mul(2).max(in_flight.saturating_add(FIRST))
        } else {
            peak + peak / 4
        };
        let want = want.saturating_add(kept).min(most).max(used);
        self.wanted = want;
        self.pledged = Some(used);
        self.peak = 0;
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
        if self.granted > (peak + peak / 4).saturating_add(kept) {
            return Some((self.answered_at + CONTESTED, false));
        }
        (self.granted > 0).then(|| (self.answered_at + HELD, false))
    }
}
