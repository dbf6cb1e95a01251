//! How much of a limit somebody else uses, from what the provider says is left.
//!
//! Providers count in two ways. A bucket refills evenly, and its reset is the time until it is full; a
//! window's reset is its end. Which one it is shows in the readings themselves: a bucket's reset and what
//! is left add up to the whole. Only what neither our calls nor the refill explains is taken for another's.

use super::budget::{Budget, Meter};
use super::learning::Reading;
use super::pacing::Speed;
use crate::domain::time::Timestamp;

/// Readings of one kind before that kind is believed.
const SURE: i8 = 5;
/// Differences below this part of the limit are calls under way, not somebody else.
const SLACK_PART: u64 = 100;

/// What would be left if nobody else used the key.
#[derive(Debug, Default)]
pub(super) struct Shadow {
    /// Positive: a bucket; negative: a window.
    kind: i8,
    /// What the bucket would hold, in units, and as of when.
    bucket: Option<(u64, Timestamp)>,
    /// The end of the present window, and what of it was charged as another's use.
    window: Option<(Timestamp, u64)>,
}

impl Shadow {
    /// Units that somebody else used since the last reading.
    pub(super) fn foreign_use(&mut self, reading: &Reading, budget: &mut Budget) -> u64 {
        let (_, rate) = budget.rate();
        let (Some(remaining), Some(reset)) = (reading.remaining, reading.reset) else { return 0 };
        // What is left of another limit than ours says nothing.
        if reading.limit.unwrap_or(rate.amount) != rate.amount {
            *self = Self::default();
            return 0;
        }
        let Meter::Paced(paced) = &budget.meter else { return 0 };
        let slack = (rate.amount / SLACK_PART).max(3);
        let missing = rate.amount.saturating_sub(remaining);
        let refill = rate.period.mul_f64(missing as f64 / rate.amount as f64);
        let is_bucket = refill.abs_diff(reset) <= rate.period / 20;
        self.kind = (self.kind + if is_bucket { 1 } else { -1 }).clamp(-2 * SURE, 2 * SURE);

        let last = self.bucket.filter(|(_, at)| *at <= reading.sent_at);
        let Some((held, at)) = last else {
            self.bucket = Some((remaining, reading.sent_at));
            return 0;
        };
        let gone = reading.sent_at.since(at).as_secs_f64() / rate.period.as_secs_f64();
        let refilled = held.saturating_add((rate.amount as f64 * gone) as u64).min(rate.amount);
        let expected = refilled.saturating_sub(paced.sum_between(at, reading.sent_at));
        let deficit = expected.saturating_sub(remaining);
        if deficit <= slack || self.kind < 0 {
            self.bucket = Some((expected.max(remaining), reading.sent_at));
        } else {
            self.bucket = Some((remaining, reading.sent_at));
        }
        if self.kind >= SURE {
            return if deficit > slack { deficit } else { 0 };
        }
        if self.kind > -SURE {
            return 0;
        }
        let end = reading.sent_at + reset;
        let start =
            Timestamp::from_micros(end.micros().saturating_sub_unsigned(rate.period.as_micros() as u64));
        let ours = paced.sum_between(start, reading.sent_at);
        let foreign = rate.amount.saturating_sub(ours).saturating_sub(remaining);
        let counted = match self.window {
            Some((held, counted)) if held.since(end).max(end.since(held)) < rate.period / 4 => counted,
            _ => 0,
        };
        let more = foreign.saturating_sub(counted);
        let more = if more > slack { more } else { 0 };
        self.window = Some((end, counted + more));
        more
    }
}

impl Budget {
    /// Somebody else used a part of the limit: the pace makes up for it.
    pub(super) fn charge_foreign(&mut self, amount: u64, speed: Speed, now: Timestamp) {
        self.charge_debt(amount.min(self.rate.amount), speed, now);
    }
}
