//! A lane whose calls fail is parked: probes find out when it is back, instead of attempts.

use std::time::Duration;

use super::window_sum::WindowSum;
use crate::domain::time::Timestamp;

/// Calls are judged over this time, and not before there are so many.
const WINDOW: i64 = 30_000_000;
const SAMPLES: u64 = 20;
/// Connections that fail in a row need no share.
const UNREACHABLE: u32 = 10;
/// Probes wait for a part of the time that the lane has been parked, within bounds: one that was away for
/// a minute is back within ten seconds, one that is gone for good costs few attempts.
const PROBE_PART: u32 = 8;
const FIRST_PROBE: Duration = Duration::from_secs(1);
const SLOWEST_PROBE: Duration = Duration::from_secs(600);
/// Successful probes let twice as many go, up to this many; then the lane is open.
const MOST_PROBES: u32 = 4;

#[derive(Clone, Copy, Debug)]
struct Parked {
    since: Timestamp,
    next_probe: Timestamp,
    /// Probes that may be in flight together, and how many are.
    allowed: u32,
    probing: u32,
    succeeded: u32,
}

/// The breaker of one lane.
#[derive(Debug)]
pub(super) struct Breaker {
    parked: Option<Parked>,
    /// Calls sent before it last closed say nothing about the present.
    closed_at: Timestamp,
    answers: WindowSum,
    failures: WindowSum,
    unreachable: u32,
}

impl Default for Breaker {
    fn default() -> Self {
        let window = || WindowSum::new(WINDOW, WINDOW / 30);
        Self {
            parked: None,
            closed_at: Timestamp::ZERO,
            answers: window(),
            failures: window(),
            unreachable: 0,
        }
    }
}

impl Breaker {
    /// Whether a call may pass; else when a probe may, where time alone decides.
    pub(super) fn probe(&self, now: Timestamp) -> Result<(), Option<Timestamp>> {
        let Some(parked) = &self.parked else { return Ok(()) };
        if now < parked.next_probe {
            return Err(Some(parked.next_probe));
        }
        if parked.probing >= parked.allowed { Err(None) } else { Ok(()) }
    }

    /// Since when it is parked.
    pub(super) fn since(&self) -> Option<Timestamp> {
        self.parked.map(|parked| parked.since)
    }

    /// A call leaves; tells whether it is a probe.
    pub(super) fn sent(&mut self) -> bool {
        self.parked.as_mut().is_some_and(|parked| {
            parked.probing += 1;
            true
        })
    }

    /// A probe is over, whatever it brought.
    pub(super) fn probe_ended(&mut self) {
        if let Some(parked) = &mut self.parked {
            parked.probing = parked.probing.saturating_sub(1);
        }
    }

    /// What it saw so far says nothing about what is to come, unless it is parked.
    pub(super) fn start_over(&mut self) {
        if self.parked.is_none() {
            *self = Self { closed_at: self.closed_at, ..Self::default() };
        }
    }

    /// A call was answered.
    pub(super) fn answered(&mut self, sent_at: Timestamp, now: Timestamp) {
        self.unreachable = 0;
        let Some(parked) = &mut self.parked else {
            self.answers.add(now, 1);
            return;
        };
        if sent_at < parked.next_probe {
            return;
        }
        parked.succeeded += 1;
        if parked.succeeded < parked.allowed {
            return;
        }
        parked.succeeded = 0;
        parked.allowed *= 2;
        if parked.allowed > MOST_PROBES {
            *self = Self { closed_at: now, ..Self::default() };
        }
    }

    /// A call failed; `unreachable`: without having reached the upstream.
    pub(super) fn failed(&mut self, sent_at: Timestamp, unreachable: bool, now: Timestamp) {
        if let Some(parked) = &mut self.parked {
            if sent_at >= parked.next_probe {
                let wait = (now.since(parked.since) / PROBE_PART).clamp(FIRST_PROBE, SLOWEST_PROBE);
                *parked = Parked { next_probe: now + wait, allowed: 1, succeeded: 0, ..*parked };
            }
            return;
        }
        if sent_at < self.closed_at {
            return;
        }
        self.failures.add(now, 1);
        self.unreachable = if unreachable { self.unreachable + 1 } else { 0 };
        let (answers, failures) = (self.answers.sum(now), self.failures.sum(now));
        let failing = answers + failures >= SAMPLES && answers < failures;
        if failing || self.unreachable >= UNREACHABLE {
            let next_probe = now + FIRST_PROBE;
            self.parked = Some(Parked { since: now, next_probe, allowed: 1, probing: 0, succeeded: 0 });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_seconds(1_000);

    fn at(millis: u64) -> Timestamp {
        START + Duration::from_millis(millis)
    }

    #[test]
    fn it_parks_at_half_of_twenty_and_not_before() {
        let mut breaker = Breaker::default();
        for call in 0..9 {
            breaker.answered(at(call), at(call));
        }
        for call in 0..10 {
            breaker.failed(at(call), false, at(10 + call));
        }
        assert_eq!(breaker.probe(at(20)), Ok(()));
        breaker.failed(at(20), false, at(21));
        assert_eq!(breaker.probe(at(21)), Err(Some(at(1_021))));
    }

    #[test]
    fn ten_connections_in_a_row_park_it() {
        let mut breaker = Breaker::default();
        for call in 0..9 {
            breaker.failed(at(call), true, at(call));
        }
        breaker.answered(at(9), at(9));
        for call in 10..19 {
            breaker.failed(at(call), true, at(call));
        }
        assert_eq!(breaker.probe(at(19)), Ok(()));
        breaker.failed(at(19), true, at(19));
        assert!(breaker.probe(at(20)).is_err());
    }

    #[test]
    fn probes_double_until_it_is_open() {
        let mut breaker = Breaker::default();
        for call in 0..10 {
            breaker.failed(at(call), true, at(call));
        }
        let mut now = 1_009;
        assert_eq!(breaker.probe(at(now)), Ok(()));
        assert!(breaker.sent());
        assert_eq!(breaker.probe(at(now)), Err(None));
        breaker.failed(at(now), true, at(now + 1));
        breaker.probe_ended();
        assert_eq!(breaker.probe(at(now + 1)), Err(Some(at(now + 1_001))));
        now += 1_001;
        for allowed in [1, 2, 4] {
            for _ in 0..allowed {
                assert_eq!(breaker.probe(at(now)), Ok(()));
                assert!(breaker.sent());
            }
            assert_eq!(breaker.probe(at(now)), Err(None));
            for _ in 0..allowed {
                breaker.answered(at(now), at(now + 1));
                breaker.probe_ended();
            }
        }
        assert_eq!(breaker.since(), None);
        // Those that were under way before it opened park it no more.
        for call in 0..30 {
            breaker.failed(at(call), true, at(now + 2));
        }
        assert_eq!(breaker.since(), None);
    }
}
