//! How many calls an upstream really bears, found by what it refuses for being overloaded.
//!
//! Additive increase, multiplicative decrease, for refusals above the base rate: those that come whatever the load cut
//! nothing. A fall is an experiment. It stops at half until enough was refused there to compare: if no smaller share, it
//! was in vain and taken back at once. A loss where the last one was is no news: it costs one, and the next attempt to go
//! beyond waits ever longer, so that a fixed number of slots is found and kept.

use super::base_rate::{BaseRate, LOAD, Tally, Verdict};
use crate::domain::time::Timestamp;

/// Windows of successes before going beyond where the last loss was, at first and at most.
const FIRST_HOLD: u32 = 8;
const LONGEST_HOLD: u32 = 64;
/// Successes in a row after which a fall has helped for good, where that is neither too few windows nor too many.
const CLEAN: u32 = 128;
/// The share of a round that keeps a fall going while there is no telling what it is good for.
const MANY: f64 = 0.2;
/// Calls are judged together over this many at least, and over four windows.
const LEAST_ROUND: u32 = 256;

/// When a call was sent, and as one of how many in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// When it was admitted.
    pub at: Timestamp,
    /// Calls in flight on its lane, with itself.
    pub among: u32,
}

/// The concurrency that an upstream bears, once it refused any.
#[derive(Debug, Default)]
pub(super) struct Overload {
    limit: Option<u32>,
    base: BaseRate,
    /// Calls sent before belong to a loss that was counted.
    cut_at: Timestamp,
    last_loss: Option<u32>,
    /// Where it was before it fell, until it is known whether that helped.
    fell_from: Option<u32>,
    /// Full windows of successes that the next step takes.
    hold: u32,
    successes: u32,
    /// Calls of this round that were answered, and refused.
    answered: u32,
    refused: u32,
}

impl Overload {
    /// Goes on with what was found before a restart.
    pub(super) fn resumed(limit: Option<u32>) -> Self {
        Self { limit, last_loss: limit.map(|limit| limit + 1), hold: FIRST_HOLD, ..Self::default() }
    }

    /// The most calls in flight.
    pub(super) fn limit(&self) -> Option<u32> {
        self.limit
    }

    /// A call was refused because the upstream is overloaded, while so many others are in flight; `most`:
    /// the configured limit.
    pub(super) fn refused(&mut self, sent: Sent, in_flight: u32, most: Option<u32>, now: Timestamp) {
        self.base.note(sent.among, true);
        if sent.at <= self.cut_at {
            return;
        }
        self.refused += 1;
        let limit = self.limit.unwrap_or_else(|| sent.among.max(in_flight + 1));
        if self.finds_out(limit) {
            self.successes = 0;
        }
        // Those in flight count as if they went well: refusals come back sooner than answers.
        let round = Tally::new(self.refused, self.answered + self.refused + in_flight);
        if self.falls_on(limit, round, most) && round.exceeds(self.base.expected(limit), LOAD) {
            self.cut(limit, now);
        }
        self.end_round();
    }

    /// Whether a fall goes on, if there is one: it stops at half until it is known what it is good for.
    fn falls_on(&mut self, limit: u32, round: Tally, most: Option<u32>) -> bool {
        let Some(from) = self.fell_from else { return true };
        let verdict = self.base.judge(from);
        match verdict {
            Verdict::Open => return limit > from / 2,
            Verdict::Failing => return round.exceeds(MANY, 0.0),
            Verdict::Helped(_) => self.last_loss = Some(from),
            Verdict::InVain(_) => {
                self.last_loss = None;
                self.set_limit(from, most);
            }
        }
        self.base.learn(verdict);
        self.fell_from = None;
        self.hold = 1;
        self.start_round();
        false
    }

    fn cut(&mut self, limit: u32, now: Timestamp) {
        if self.last_loss.is_some_and(|last| limit == last || limit == last + 1) {
            self.hold = (self.hold * 2).clamp(FIRST_HOLD, LONGEST_HOLD);
            self.limit = Some((limit - 1).max(1));
        } else {
            if self.fell_from.is_none() {
                self.fell_from = Some(limit);
                self.base.falls(limit);
            }
            self.hold = 1;
            self.limit = Some((limit * 85 / 100).max(1));
        }
        self.last_loss = Some(limit);
        self.cut_at = now;
        self.start_round();
        self.successes = 0;
    }

    /// A call was answered; `most`: the configured limit.
    pub(super) fn answered(&mut self, sent: Sent, most: Option<u32>) {
        self.base.note(sent.among, false);
        if sent.at <= self.cut_at {
            return;
        }
        self.answered += 1;
        self.end_round();
        let Some(limit) = self.limit else { return };
        // Calls that did not fill the window show nothing.
        if sent.among < limit {
            return;
        }
        self.successes += 1;
        if self.successes < self.step_after(limit) {
            return;
        }
        self.successes = 0;
        if self.last_loss.is_some_and(|last| limit >= last) {
            self.hold = 1;
            self.last_loss = None;
        }
        self.set_limit(limit + 1, most);
        if self.last_loss.is_some_and(|last| limit < last && limit + 1 >= last) {
            // What went well below would hide for a while that nothing goes well from here on.
            self.start_round();
        }
    }

    /// Whether a fall has come so far that its worth shows.
    fn finds_out(&self, limit: u32) -> bool {
        self.fell_from.is_some_and(|from| limit <= from / 2 && self.base.judge(from) == Verdict::Open)
    }

    /// Successes in full windows that the next step takes.
    fn step_after(&self, limit: u32) -> u32 {
        if self.finds_out(limit) {
            return CLEAN.clamp(limit.saturating_mul(FIRST_HOLD), limit.saturating_mul(FIRST_HOLD * 4));
        }
        // Where the last loss was, a few windows show that there is more room now.
        let most = if self.last_loss.is_some_and(|last| limit >= last) { FIRST_HOLD } else { LONGEST_HOLD };
        limit.saturating_mul(self.hold.clamp(1, most))
    }

    fn set_limit(&mut self, limit: u32, most: Option<u32>) {
        self.limit = most.is_none_or(|most| limit < most).then_some(limit);
        if self.limit.is_none() {
            self.last_loss = None;
        }
        if self.limit.is_none_or(|limit| self.fell_from.is_some_and(|from| limit >= from)) {
            self.fell_from = None;
        }
    }

    fn start_round(&mut self) {
        (self.answered, self.refused) = (0, 0);
    }

    fn end_round(&mut self) {
        let long = self.limit.unwrap_or(0).saturating_mul(4).max(LEAST_ROUND);
        if self.answered + self.refused >= long {
            self.start_round();
        }
    }
}

#[cfg(test)]
mod tests;
