//! What closes a level for reasons other than its limits, and which calls still pass to find out.

use std::time::Duration;

use super::breaker::Breaker;
use super::cooldown::Cooldown;
use super::reason::{Blocked, LaneState, PauseReason, Reason, StopReason};
use crate::domain::time::Timestamp;

const FIRST_PROBE: Duration = Duration::from_secs(60);
const SLOWEST_PROBE: Duration = Duration::from_secs(600);

#[derive(Clone, Copy, Debug)]
struct Stop {
    reason: StopReason,
    since: Timestamp,
    interval: Duration,
    next_probe: Timestamp,
    probing: bool,
}

/// Everything that may close a level.
#[derive(Debug, Default)]
pub(super) struct Closure {
    /// Closed by refusals.
    pub(super) cooldown: Cooldown,
    /// Parked because its calls fail.
    pub(super) breaker: Breaker,
    stop: Option<Stop>,
    pause: Option<(PauseReason, Timestamp)>,
}

impl Closure {
    /// Whether a call may pass as far as this is concerned.
    pub(super) fn probe(&self, now: Timestamp) -> Result<(), Blocked> {
        if let Some((reason, _)) = self.pause {
            return Err(Blocked { until: None, reason: reason.into() });
        }
        if let Some(stop) = &self.stop {
            if stop.probing {
                return Err(Blocked { until: None, reason: stop.reason.into() });
            }
            if now < stop.next_probe {
                return Err(Blocked { until: Some(stop.next_probe), reason: stop.reason.into() });
            }
        }
        if let Err(until) = self.breaker.probe(now) {
            return Err(Blocked { until, reason: Reason::Breaker });
        }
        self.cooldown
            .closed(now)
            .map_or(Ok(()), |until| Err(Blocked { until: Some(until), reason: Reason::Cooldown }))
    }

    /// A call leaves; tells whether it is a probe.
    pub(super) fn sent(&mut self, now: Timestamp) -> bool {
        self.cooldown.sent(now);
        let probes_breaker = self.breaker.sent();
        let probes_stop = self.stop.as_mut().is_some_and(|stop| {
            stop.probing = true;
            true
        });
        probes_breaker || probes_stop
    }

    /// A probe's call is over; unless it brought an answer, the next one waits its time.
    pub(super) fn probe_ended(&mut self, now: Timestamp) {
        self.breaker.probe_ended();
        if let Some(stop) = self.stop.as_mut().filter(|stop| stop.probing) {
            stop.probing = false;
            stop.next_probe = now + stop.interval;
        }
    }

    /// Stops the level. Calls sent before it was stopped change nothing; a failed probe doubles the wait.
    pub(super) fn stop(&mut self, reason: StopReason, sent_at: Timestamp, now: Timestamp) {
        match &mut self.stop {
            Some(stop) if sent_at > stop.since => {
                stop.reason = reason;
                stop.interval = (stop.interval * 2).min(SLOWEST_PROBE);
                stop.next_probe = now + stop.interval;
                stop.probing = false;
            }
            Some(_) => {}
            None => {
                self.stop = Some(Stop {
                    reason,
                    since: now,
                    interval: FIRST_PROBE,
                    next_probe: now + FIRST_PROBE,
                    probing: false,
                });
            }
        }
    }

    /// Lets the next probe go now, as when the key has changed.
    pub(super) fn probe_now(&mut self, now: Timestamp) {
        if let Some(stop) = &mut self.stop {
            stop.next_probe = now;
            stop.interval = FIRST_PROBE;
        }
    }

    /// A probe succeeded.
    pub(super) fn resume(&mut self) {
        self.stop = None;
    }

    /// Pauses until told otherwise.
    pub(super) fn pause(&mut self, reason: PauseReason, now: Timestamp) {
        let since = self.pause.map_or(now, |(_, since)| since);
        self.pause = Some((reason, since));
    }

    /// Whether it is paused until an operator says otherwise; what a full disk pauses goes on by itself.
    pub(super) fn is_paused_by_operator(&self) -> bool {
        self.pause.is_some_and(|(reason, _)| reason == PauseReason::Paused)
    }

    /// Ends a pause.
    pub(super) fn unpause(&mut self) {
        self.pause = None;
    }

    /// Why it is stopped, if it is.
    pub(super) fn stopped(&self) -> Option<StopReason> {
        self.stop.map(|stop| stop.reason)
    }

    /// What others should know of it.
    pub(super) fn told(&self, now: Timestamp) -> (Option<Timestamp>, bool, Option<StopReason>) {
        (self.cooldown.closed(now), self.is_paused_by_operator(), self.stopped())
    }

    /// The state to show.
    pub(super) fn state(&self, now: Timestamp) -> LaneState {
        if self.pause.is_some() {
            LaneState::Paused
        } else if self.stop.is_some() {
            LaneState::Stopped
        } else if self.breaker.since().is_some() {
            LaneState::Breaker
        } else if self.cooldown.closed(now).is_some() {
            LaneState::Cooldown
        } else {
            LaneState::Open
        }
    }

    /// Since when it is closed, if it is.
    pub(super) fn since(&self, now: Timestamp) -> Option<Timestamp> {
        match self.state(now) {
            LaneState::Paused => self.pause.map(|(_, since)| since),
            LaneState::Stopped => self.stop.map(|stop| stop.since),
            LaneState::Cooldown => self.cooldown.since(),
            LaneState::Breaker => self.breaker.since(),
            LaneState::Open => None,
        }
    }

    /// Until when it is closed, where a time is known.
    pub(super) fn until(&self, now: Timestamp) -> Option<Timestamp> {
        self.probe(now).err().and_then(|blocked| blocked.until)
    }
}
