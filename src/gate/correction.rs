//! How much of a limit somebody else uses, from what the provider says is left.
//!
//! What is left of a bucket follows from what was left a moment ago, the refill since and our own calls; what is left
//! of a window from our own calls within it. Only what neither explains, in several readings in a row, is taken for
//! another's: calls overtake each other on their way, so that a single reading may be off.

use std::time::Duration;

use super::budget::{Budget, Meter};
use super::counting::Counting;
use super::expected::{Expected, Ours, Unexplained};
use super::micros::micros_of;
use super::pacing::{Paced, Speed};
use super::window_sum::WindowSum;
use crate::domain::limits::Rate;
use crate::domain::quota::QuotaReading;
use crate::domain::time::Timestamp;

/// Differences below this part of the limit are calls under way, not somebody else. The pace leaves as much unused.
const SLACK_PART: u64 = 200;
/// For this part of the period after a limit was learned, calls from before it arrive among those after it.
const SETTLED_PART: u32 = 60;
/// How far apart the ends of one window may be told, in parts of the period: some tell whole seconds.
const ROUNDING_PART: u32 = 30;

/// What would be left if nobody else used the key.
#[derive(Debug, Default)]
pub(super) struct Shadow {
    counting: Counting,
    /// When the present limit began.
    since: Timestamp,
    /// Whether calls from before it count as in a window, until the provider turns out to be a bucket.
    counts_earlier: bool,
    /// From when on all calls of ours are known.
    known_from: Option<Timestamp>,
    bucket: Option<Expected>,
    window: Option<Window>,
    /// Whether the window's end moves on before it is reached: then it is the last period, at any moment.
    slides: bool,
    /// What was charged as another's in the last period: it stands among our own charges.
    charged: Option<WindowSum>,
    unexplained: Unexplained,
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
    /// Another limit holds from now on.
    pub(super) fn restart(&mut self, now: Timestamp) {
        self.since = now;
        self.counts_earlier = !self.counting.is_bucket();
        self.known_from.get_or_insert(now);
        self.bucket = None;
        self.unexplained = Unexplained::default();
    }

    /// The budget has every call of ours so far, and `foreign` units of the last period beyond them.
    pub(super) fn knows_all(&mut self, foreign: u64, period: Duration, now: Timestamp) {
        self.known_from = Some(Timestamp::ZERO);
        self.charged.get_or_insert_with(|| Paced::window(period)).assume(now, foreign);
    }

    /// Whether the provider is a bucket: what is left says all about what may leave.
    pub(super) const fn is_bucket(&self) -> bool {
        self.counting.is_bucket()
    }

    /// Tells once that the provider has turned out to be a bucket after its limit was learned.
    pub(super) fn turns_out_a_bucket(&mut self, sent_at: Timestamp, rate: Rate) -> bool {
        let settled = sent_at.since(self.since) >= rate.period / SETTLED_PART;
        self.counting.is_bucket() && settled && std::mem::take(&mut self.counts_earlier)
    }

    /// Takes what a reading shows of the provider's way of counting, whatever limit holds here.
    pub(super) fn read_counting(&mut self, reading: &QuotaReading, rate: Rate, sent_at: Timestamp) {
        if let (Some(limit), Some(remaining), Some(reset)) = (reading.limit, reading.remaining, reading.reset)
        {
            let missing = 1.0 - remaining as f64 / limit.max(1) as f64;
            self.counting.read(missing, reset, rate.period, sent_at);
        }
    }

    /// Units that somebody else used, by a reading of a call of `sent_at`, and that were not told before. They must be
    /// charged to the budget now.
    pub(super) fn foreign_use(
        &mut self,
        reading: &QuotaReading,
        (sent_at, now): (Timestamp, Timestamp),
        budget: &Budget,
    ) -> u64 {
        let (_, rate) = budget.rate();
        let known_from = *self.known_from.get_or_insert(sent_at);
        let (Some(remaining), Some(reset)) = (reading.remaining, reading.reset) else { return 0 };
        // What is left of another limit than ours says nothing.
        if reading.limit.unwrap_or(rate.amount) != rate.amount {
            self.bucket = None;
            return 0;
        }
        let Meter::Paced(paced) = &budget.meter else { return 0 };
        let sure = if self.counting.is_bucket() {
            self.of_bucket(remaining, (sent_at, now), rate, paced)
        } else if self.counting.is_window() {
            let window = if self.slides { None } else { self.follow(sent_at + reset, sent_at, rate) };
            match window {
                Some(window) => {
                    let start = before(window.end, rate);
                    let foreign = self.foreign_since(start, remaining, (sent_at, now), (rate, paced));
                    let sure = self.unexplained.sure(foreign.saturating_sub(window.counted), slack(rate));
                    self.window = Some(Window { counted: window.counted + sure, ..window });
                    sure
                }
                None if self.slides && before(sent_at, rate) >= known_from => {
                    let start = before(sent_at, rate);
                    let foreign = self.foreign_since(start, remaining, (sent_at, now), (rate, paced));
                    let counted = self.charged.as_mut().map_or(0, |charged| charged.sum(now));
                    self.unexplained.sure(foreign.saturating_sub(counted), slack(rate))
                }
                None => 0,
            }
        } else {
            0
        };
        if sure > 0 {
            let charged = self.charged.get_or_insert_with(|| Paced::window(rate.period));
            charged.add(now, sure);
            // Forgets what has lapsed.
            charged.sum(now);
        }
        sure
    }

    /// What is missing since the start of a window beyond our own calls.
    fn foreign_since(
        &self,
        start: Timestamp,
        remaining: u64,
        (sent_at, now): (Timestamp, Timestamp),
        (rate, paced): (Rate, &Paced),
    ) -> u64 {
        // Of calls that lapsed while the answer was on its way nothing is known any more: all may have been ours.
        let lapsed = before(now, rate).since(start).as_secs_f64() / rate.period.as_secs_f64();
        let ours = self.ours_between(paced, start, sent_at) + (rate.amount as f64 * lapsed).ceil() as u64;
        rate.amount.saturating_sub(ours).saturating_sub(remaining)
    }

    /// Our own calls among what was charged.
    fn ours_between(&self, paced: &Paced, after: Timestamp, until: Timestamp) -> u64 {
        paced.sum_between(after, until).saturating_sub(self.charged_between(after, until))
    }

    fn charged_between(&self, after: Timestamp, until: Timestamp) -> u64 {
        self.charged.as_ref().map_or(0, |charged| charged.sum_between(after, until))
    }

    fn of_bucket(
        &mut self,
        remaining: u64,
        (sent_at, now): (Timestamp, Timestamp),
        rate: Rate,
        paced: &Paced,
    ) -> u64 {
        if sent_at.since(self.since) < rate.period / SETTLED_PART {
            return 0;
        }
        let known = self.bucket.filter(|expected| now.since(expected.at()) < rate.period);
        let Some(mut expected) = known else {
            self.bucket = Some(Expected::new(remaining, sent_at));
            return 0;
        };
        let after = expected.at();
        let ended = self.charged.as_ref().map_or(0, |charged| charged.sum_ended_between(after, sent_at));
        let ours = Ours {
            most: self.ours_between(paced, after, sent_at),
            told_apart: paced.sum_ended_between(after, sent_at).saturating_sub(ended),
        };
        let missing = expected.missing(remaining, ours, sent_at, rate);
        let sure = self.unexplained.sure(missing, slack(rate));
        expected.go_on(sure, self.unexplained.is_open(), sent_at, rate);
        self.bucket = Some(expected);
        sure
    }

    /// The window that a reading is of, if all of it was seen.
    fn follow(&mut self, end: Timestamp, now: Timestamp, rate: Rate) -> Option<Window> {
        let rounding = rate.period / ROUNDING_PART;
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

/// A period before a moment.
fn before(moment: Timestamp, rate: Rate) -> Timestamp {
    Timestamp::from_micros(moment.micros().saturating_sub(micros_of(rate.period)))
}

fn slack(rate: Rate) -> u64 {
    (rate.amount / SLACK_PART).max(3)
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
    use crate::domain::limits::Dimension;

    const LIMIT: u64 = 3_000;
    const PERIOD: Duration = Duration::from_secs(60);
    const START: Timestamp = Timestamp::from_seconds(100_000);
    const SPEED: Speed = Speed { factor: 9_950, ramp: 100 };

    /// What is taken for another's use over five minutes of our own calls at 2,700 a minute, of which `unseen` left
    /// before the limit was known. `told`: what is left and the reset, by the calls so far and the moment.
    fn charged(unseen: usize, told: impl Fn(&[Timestamp], Timestamp) -> (u64, Duration)) -> u64 {
        let terms = Terms { burst: None, day_starts: None, jitter: 0, shared: false, paired: false };
        let mut budget = Budget::new(Dimension::Requests, Rate { amount: LIMIT, period: PERIOD }, terms);
        let (mut shadow, mut calls, mut charged) = (Shadow::default(), Vec::new(), 0);
        for call in 0..13_500_u32 {
            let now = START + PERIOD * call / 2_700;
            calls.push(now);
            if calls.len() <= unseen {
                continue;
            }
            budget.take(1, (SPEED, now), 1);
            let (remaining, reset) = told(&calls, now);
            let reading = QuotaReading {
                dimension: Dimension::Requests,
                limit: Some(LIMIT),
                remaining: Some(remaining),
                reset: Some(reset),
                period: None,
            };
            shadow.read_counting(&reading, budget.rate().1, now);
            let foreign = shadow.foreign_use(&reading, (now, now), &budget);
            budget.charge_foreign(foreign, SPEED, now);
            charged += foreign;
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
