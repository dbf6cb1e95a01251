//! How much of a limit somebody else uses, from what the provider says is left.
//!
//! Providers count in two ways. A bucket refills evenly, and its reset is the time until it is full; a
//! window's reset is its end. Which one it is shows in the readings themselves: a bucket's reset and what
//! is left add up to the whole. Only what neither our calls nor the refill explains is taken for another's.

use std::time::Duration;

use super::budget::{Budget, Meter};
use super::pacing::Speed;
use crate::domain::quota::QuotaReading;
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
    window: Option<Window>,
    /// Whether its end moves on before it is reached: then nothing is known of where it starts.
    slides: bool,
}

/// A window as its readings show it.
#[derive(Clone, Copy, Debug)]
struct Window {
    end: Timestamp,
    /// What of it was charged as another's use.
    counted: u64,
    /// Whether it began while it was looked at: of an earlier one, calls of ours may be unknown.
    whole: bool,
}

impl Shadow {
    /// Units that somebody else used since the last reading.
    pub(super) fn foreign_use(
        &mut self,
        reading: &QuotaReading,
        sent_at: Timestamp,
        budget: &mut Budget,
    ) -> u64 {
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

        let last = self.bucket.filter(|(_, at)| *at <= sent_at);
        let Some((held, at)) = last else {
            self.bucket = Some((remaining, sent_at));
            return 0;
        };
        let gone = sent_at.since(at).as_secs_f64() / rate.period.as_secs_f64();
        let refilled = held.saturating_add((rate.amount as f64 * gone) as u64).min(rate.amount);
        let expected = refilled.saturating_sub(paced.sum_between(at, sent_at));
        let deficit = expected.saturating_sub(remaining);
        if deficit <= slack || self.kind < 0 {
            self.bucket = Some((expected.max(remaining), sent_at));
        } else {
            self.bucket = Some((remaining, sent_at));
        }
        if self.kind >= SURE {
            return if deficit > slack { deficit } else { 0 };
        }
        if self.kind > -SURE || self.slides {
            return 0;
        }
        let end = sent_at + reset;
        let Some(window) = self.follow(end, sent_at, rate.period) else { return 0 };
        let start =
            Timestamp::from_micros(end.micros().saturating_sub_unsigned(rate.period.as_micros() as u64));
        let ours = paced.sum_between(start, sent_at);
        let foreign = rate.amount.saturating_sub(ours).saturating_sub(remaining);
        let more = foreign.saturating_sub(window.counted);
        let more = if more > slack { more } else { 0 };
        self.window = Some(Window { counted: window.counted + more, ..window });
        more
    }

    /// The window that a reading is of, if all of it was seen.
    fn follow(&mut self, end: Timestamp, now: Timestamp, period: Duration) -> Option<Window> {
        // Resets are given in whole seconds by some.
        let rounding = period / 30;
        let next = match self.window {
            None => Window { end, counted: 0, whole: false },
            Some(held) if held.end.since(end).max(end.since(held.end)) <= rounding => held,
            Some(held) if now + rounding >= held.end => Window { end, counted: 0, whole: true },
            Some(_) => {
                self.slides = true;
                return None;
            }
        };
        self.window = Some(next);
        next.whole.then_some(next)
    }
}

impl Budget {
    /// Somebody else used a part of the limit: the pace makes up for it.
    pub(super) fn charge_foreign(&mut self, amount: u64, speed: Speed, now: Timestamp) {
        self.charge_debt(amount.min(self.rate.amount), speed, now);
    }
}

#[cfg(test)]
mod tests {
    use super::super::budget::Terms;
    use super::*;
    use crate::domain::limits::{Dimension, Rate};

    const LIMIT: u64 = 3_000;
    const PERIOD: Duration = Duration::from_secs(60);
    const START: Timestamp = Timestamp::from_seconds(100_000);
    const SPEED: Speed = Speed { factor: 9_950, ramp: 100 };

    /// What is taken for another's use over five minutes of our own calls at 2,700 a minute, of which `unseen` left
    /// before the limit was known. `told`: what is left and the reset, by the calls so far and the moment.
    fn charged(unseen: usize, told: impl Fn(&[Timestamp], Timestamp) -> (u64, Duration)) -> u64 {
        let terms = Terms { burst: None, day_starts: None, jitter: 0 };
        let mut budget = Budget::new(Dimension::Requests, Rate { amount: LIMIT, period: PERIOD }, terms);
        let (mut shadow, mut calls, mut charged) = (Shadow::default(), Vec::new(), 0);
        for call in 0..13_500_u32 {
            let now = START + PERIOD * call / 2_700;
            calls.push(now);
            if calls.len() <= unseen {
                continue;
            }
            budget.take(1, SPEED, now);
            let (remaining, reset) = told(&calls, now);
            let reading = QuotaReading {
                dimension: Dimension::Requests,
                limit: Some(LIMIT),
                remaining: Some(remaining),
                reset: Some(reset),
                period: None,
            };
            charged += shadow.foreign_use(&reading, now, &mut budget);
        }
        charged
    }

    fn since(calls: &[Timestamp], start: Timestamp) -> u64 {
        (calls.len() - calls.partition_point(|call| *call < start)) as u64
    }

    /// The end of the fixed window that a moment lies in; they start 20 s before ours do.
    fn window_end(now: Timestamp) -> Timestamp {
        let into = (now.since(START) + Duration::from_secs(20)).as_micros() % PERIOD.as_micros();
        now + PERIOD - Duration::from_micros(u64::try_from(into).unwrap())
    }

    #[test]
    fn our_own_calls_in_a_sliding_window_are_nobody_else_s() {
        for unseen in [0, 66, 1_000] {
            let sliding = |calls: &[Timestamp], now: Timestamp| {
                let start = Timestamp::from_micros(now.micros() - 60_000_000);
                (LIMIT - since(calls, start), PERIOD)
            };
            assert_eq!(charged(unseen, sliding), 0, "{unseen} before the limit was known");
        }
    }

    #[test]
    fn in_a_fixed_window_only_what_others_use_is_theirs() {
        for (unseen, others) in [(0, 0_u32), (66, 0), (1_000, 0), (0, 240), (66, 240)] {
            let fixed = |calls: &[Timestamp], now: Timestamp| {
                let end = window_end(now);
                let start = Timestamp::from_micros(end.micros() - 60_000_000);
                let gone = now.since(start).as_secs_f64() / PERIOD.as_secs_f64();
                let foreign = (f64::from(others) * gone) as u64;
                (LIMIT.saturating_sub(since(calls, start) + foreign), end.since(now))
            };
            let charged = charged(unseen, fixed);
            // Four whole windows of others, of which the last 40 s long, less what is within the slack.
            let theirs = u64::from(others) * 13 / 3;
            let slack = if others == 0 { 0 } else { 5 * LIMIT / SLACK_PART };
            assert!(
                (theirs.saturating_sub(slack + u64::from(others))..=theirs).contains(&charged),
                "{charged} of {theirs}, {unseen} before the limit was known"
            );
        }
    }
}
