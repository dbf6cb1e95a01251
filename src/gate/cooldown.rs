//! A lane closed until a time because it was refused, and how it comes back.

use std::time::Duration;

use super::window_sum::WindowSum;
use crate::domain::time::Timestamp;

/// Two refusals this close are a run.
const RUN_WITHIN: Duration = Duration::from_secs(10);
/// Refusals and calls are compared over this time; also how long without one ends a streak.
const MINUTE: Duration = Duration::from_secs(60);
/// Earlier refusals above one in this many calls make the next a run.
const CALLS_PER_REFUSAL: u64 = 1_000;
/// The first closure when the provider names no time; doubles with each one within a minute.
const FIRST_CLOSURE: Duration = Duration::from_secs(1);
const LONGEST_GUESS: Duration = Duration::from_secs(60);
/// A provider that names a longer time is not believed.
const LONGEST_CLOSURE: Duration = Duration::from_secs(3_600);
const RAMP: Duration = Duration::from_secs(5);
const RAMP_START: u8 = 10;
/// What a refusal costs the rate factor, in ten-thousandths.
const LONE_LOSS: u16 = 5;
const RUN_LOSS: u16 = 50;

/// A rate-429 as the upstream gave it.
#[derive(Clone, Copy, Debug)]
pub struct Refusal {
    /// When the refused call was admitted: one sent before the present closure belongs to it.
    pub sent_at: Timestamp,
    /// The time that the provider asked for, if it did.
    pub retry_after: Option<Duration>,
}

/// A lane's closures by refusals.
#[derive(Debug)]
pub(super) struct Cooldown {
    since: Option<Timestamp>,
    until: Timestamp,
    /// Whether the present closure has already cost what a run costs.
    run: bool,
    ramp_from: Option<Timestamp>,
    streak: u32,
    last_refusal: Option<Timestamp>,
    refusals: WindowSum,
    calls: WindowSum,
}

impl Default for Cooldown {
    fn default() -> Self {
        let window = || WindowSum::new(60_000_000, 1_000_000);
        Self {
            since: None,
            until: Timestamp::ZERO,
            run: false,
            ramp_from: None,
            streak: 0,
            last_refusal: None,
            refusals: window(),
            calls: window(),
        }
    }
}

impl Cooldown {
    /// Counts a call that left.
    pub(super) fn sent(&mut self, now: Timestamp) {
        self.calls.add(now, 1);
    }

    /// The calls that left in the last minute.
    pub(super) fn calls(&self) -> &WindowSum {
        &self.calls
    }

    /// Until when the lane is closed, if it is.
    pub(super) fn closed(&self, now: Timestamp) -> Option<Timestamp> {
        (now < self.until).then_some(self.until)
    }

    /// When the present or the last closure began.
    pub(super) fn since(&self) -> Option<Timestamp> {
        self.since
    }

    /// Closes until a moment, without blame.
    pub(super) fn close_until(&mut self, until: Timestamp, now: Timestamp) {
        let until = until.min(now + LONGEST_CLOSURE);
        if until > self.until {
            if self.closed(now).is_none() {
                self.since = Some(now);
            }
            self.until = until;
        }
    }

    /// Takes a refusal; tells what it costs the rate factor.
    pub(super) fn refused(&mut self, refusal: Refusal, now: Timestamp) -> u16 {
        let earlier = self.refusals.sum(now);
        let recent = self.last_refusal.is_some_and(|last| now.since(last) < RUN_WITHIN);
        let lone = !recent && (earlier == 0 || earlier * CALLS_PER_REFUSAL < self.calls.sum(now));
        self.refusals.add(now, 1);
        self.last_refusal = Some(now);

        let known = self.since.is_some_and(|since| refusal.sent_at <= since);
        let same = known || self.closed(now).is_some();
        let charged = if same { self.blame(lone) } else { self.open_closure(lone, now) };
        let guess = if same { Duration::ZERO } else { self.guess() };
        let wait = refusal.retry_after.unwrap_or(guess);
        if !wait.is_zero() {
            self.close_until(now + wait, now);
        }
        if self.run && self.closed(now).is_some() {
            self.ramp_from = Some(self.until);
        }
        charged
    }

    /// The share of the pace that is allowed now, in percent.
    pub(super) fn ramp(&mut self, now: Timestamp) -> u8 {
        let Some(from) = self.ramp_from else { return 100 };
        let gone = now.since(from);
        if gone >= RAMP {
            self.ramp_from = None;
            return 100;
        }
        let climbed = u128::from(100 - RAMP_START) * gone.as_micros() / RAMP.as_micros();
        RAMP_START + u8::try_from(climbed).unwrap_or(0)
    }

    fn open_closure(&mut self, lone: bool, now: Timestamp) -> u16 {
        let calm = self.since.is_none() || now.since(self.until) >= MINUTE;
        self.streak = if calm { 0 } else { self.streak + 1 };
        self.since = Some(now);
        self.run = !lone;
        if lone { LONE_LOSS } else { RUN_LOSS }
    }

    /// A further refusal of the same closure: the second makes it a run, the rest cost nothing.
    fn blame(&mut self, lone: bool) -> u16 {
        if lone || self.run {
            return 0;
        }
        self.run = true;
        RUN_LOSS - LONE_LOSS
    }

    fn guess(&self) -> Duration {
        (FIRST_CLOSURE * (1 << self.streak.min(6))).min(LONGEST_GUESS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_seconds(100_000);

    fn at(millis: u64) -> Timestamp {
        START + Duration::from_millis(millis)
    }

    fn refusal(sent: u64, seconds: Option<u64>) -> Refusal {
        Refusal { sent_at: at(sent), retry_after: seconds.map(Duration::from_secs) }
    }

    #[test]
    fn a_lone_refusal_costs_little_and_no_ramp() {
        let mut cooldown = Cooldown::default();
        assert_eq!(cooldown.refused(refusal(0, Some(7)), at(100)), LONE_LOSS);
        assert_eq!(cooldown.closed(at(100)), Some(at(7_100)));
        assert_eq!(cooldown.closed(at(7_100)), None);
        assert_eq!(cooldown.ramp(at(7_100)), 100);
    }

    #[test]
    fn a_run_is_charged_once_per_closure_and_ramps() {
        let mut cooldown = Cooldown::default();
        let charged: u16 = (0..20).map(|call| cooldown.refused(refusal(call, Some(5)), at(100 + call))).sum();
        assert_eq!(charged, RUN_LOSS);
        assert_eq!(cooldown.closed(at(200)), Some(at(5_119)));
        // Those of the same closure that come back after it cost nothing either.
        assert_eq!(cooldown.refused(refusal(50, None), at(5_200)), 0);
        assert_eq!(cooldown.closed(at(5_200)), None);
        assert_eq!(cooldown.ramp(at(5_119)), 10);
        assert_eq!(cooldown.ramp(at(7_619)), 55);
        assert_eq!(cooldown.ramp(at(10_119)), 100);
        // The next closure is another one, and within 10 s a run at once.
        assert_eq!(cooldown.refused(refusal(6_000, Some(5)), at(11_000)), RUN_LOSS);
    }

    #[test]
    fn many_calls_make_rare_refusals_lone() {
        let mut cooldown = Cooldown::default();
        for call in 0..5_000 {
            cooldown.sent(at(call * 10));
        }
        assert_eq!(cooldown.refused(refusal(20_000, Some(1)), at(20_001)), LONE_LOSS);
        assert_eq!(cooldown.refused(refusal(40_000, Some(1)), at(40_001)), LONE_LOSS);
    }

    #[test]
    fn guesses_double_within_a_minute() {
        let mut cooldown = Cooldown::default();
        let mut now = 0;
        let mut closures = Vec::new();
        for _ in 0..8 {
            cooldown.refused(refusal(now, None), at(now + 1));
            let until = cooldown.closed(at(now + 1)).unwrap();
            closures.push(until.since(at(now + 1)).as_secs());
            now = u64::try_from(until.since(START).as_millis()).unwrap() + 1;
        }
        assert_eq!(closures, [1, 2, 4, 8, 16, 32, 60, 60]);
        cooldown.refused(refusal(now + 61_000, None), at(now + 61_001));
        assert_eq!(cooldown.closed(at(now + 61_001)), Some(at(now + 62_001)));
    }

    #[test]
    fn an_absurd_time_is_not_believed() {
        let mut cooldown = Cooldown::default();
        cooldown.refused(refusal(0, Some(1_000_000)), at(0));
        assert_eq!(cooldown.closed(at(0)), Some(at(3_600_000)));
    }
}
