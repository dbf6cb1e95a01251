//! The rate of an upstream that refuses calls without saying how many it takes, or when to come back.
//!
//! On a run of refusals the lane goes on at nine tenths of what was answered lately, then ever so slightly
//! faster. A refusal where the last one was costs little, and the next step beyond waits ever longer.

use std::time::Duration;

use super::window_sum::WindowSum;
use crate::domain::limits::Rate;
use crate::domain::time::Timestamp;

/// What was answered in this time tells the rate.
const MEASURED: Duration = Duration::from_secs(3);
const LEAST_SEEN: Duration = Duration::from_millis(500);
/// Two refusals this close are a run.
const RUN_WITHIN: Duration = Duration::from_secs(10);
const FIRST_HOLD: u32 = 8;
const LONGEST_HOLD: u32 = 64;
const MINUTE: Duration = Duration::from_secs(60);
/// Faster rates are counted over less, so that a change of the rate shows at once.
const SHORT: Duration = Duration::from_secs(10);
const SLOW: f64 = 2.0;

/// What is known of a silent upstream's rate.
#[derive(Debug)]
pub(super) struct Silent {
    answers: WindowSum,
    first_answer: Option<Timestamp>,
    last_refusal: Option<Timestamp>,
    cut_at: Timestamp,
    /// Calls per second, once there was a run.
    rate: Option<f64>,
    last_loss: Option<f64>,
    /// Seconds between steps.
    hold: u32,
    next_step: Timestamp,
}

impl Default for Silent {
    fn default() -> Self {
        let span = 3_000_000;
        Self {
            answers: WindowSum::new(span, span / 30),
            first_answer: None,
            last_refusal: None,
            cut_at: Timestamp::ZERO,
            rate: None,
            last_loss: None,
            hold: 1,
            next_step: Timestamp::ZERO,
        }
    }
}

impl Silent {
    /// Goes on from a rate found before a restart, and looks for a faster one from there.
    pub(super) fn resumed(rate: Rate) -> Self {
        let rate = rate.amount as f64 / rate.period.as_secs_f64();
        Self { rate: Some(rate), last_loss: Some(rate), hold: FIRST_HOLD, ..Self::default() }
    }

    /// Whether the rate was found.
    pub(super) fn is_found(&self) -> bool {
        self.rate.is_some()
    }

    /// Takes a refusal; the new rate, if it changes.
    pub(super) fn refused(&mut self, sent_at: Timestamp, now: Timestamp) -> Option<Rate> {
        let run = self.last_refusal.replace(now).is_some_and(|last| now.since(last) < RUN_WITHIN);
        if sent_at <= self.cut_at || (self.rate.is_none() && !run) {
            return None;
        }
        let seen = self.first_answer.map_or(Duration::ZERO, |first| now.since(first));
        if seen < LEAST_SEEN {
            // Nothing to go by yet: the lane closes as for any refusal.
            return None;
        }
        let answered = self.answers.sum(now) as f64 / seen.min(MEASURED).as_secs_f64();
        let known =
            self.rate.zip(self.last_loss).is_some_and(|(rate, last)| (rate - last).abs() <= last * 0.05);
        let rate = match self.rate {
            Some(rate) if known => {
                self.hold = (self.hold * 2).clamp(FIRST_HOLD, LONGEST_HOLD);
                rate * 0.98
            }
            Some(rate) => {
                self.hold = 1;
                // While the lane waited nothing was answered: that says little.
                (answered * 0.9).clamp(rate * 0.7, rate * 0.95)
            }
            None => answered * 0.9,
        };
        self.last_loss = self.rate;
        self.cut_at = now;
        self.step_to(rate, now)
    }

    /// Takes an answer; the new rate, if it is time to go faster.
    pub(super) fn answered(&mut self, now: Timestamp) -> Option<Rate> {
        self.answers.add(now, 1);
        self.first_answer.get_or_insert(now);
        let rate = self.rate?;
        let wanted = (rate * MEASURED.as_secs_f64() * 0.7).floor();
        // A lane that is not asked for what it gives shows nothing.
        if now < self.next_step || (self.answers.sum(now) as f64) < wanted {
            return None;
        }
        let near = self.last_loss.is_some_and(|last| rate * 1.05 >= last * 0.97);
        self.step_to(rate * if near { 1.01 } else { 1.05 }, now)
    }

    fn step_to(&mut self, rate: f64, now: Timestamp) -> Option<Rate> {
        let rate = rate.max(1.0 / MINUTE.as_secs_f64());
        self.rate = Some(rate);
        self.next_step = now + Duration::from_secs(self.hold.into());
        let period = if rate < SLOW { MINUTE } else { SHORT };
        Some(Rate { amount: (rate * period.as_secs_f64()).ceil() as u64, period })
    }
}
