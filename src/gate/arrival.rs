//! The arithmetic of pacing: governor's GCRA over a state of our own.
//!
//! governor decides and moves the theoretical arrival time by one cell of 1 µs; what it lacks is
//! here: looking without taking (all levels are probed before any is charged), weights above the
//! tolerance (they pass as debt), refund, and restore after a restart. Its `until_*` waiters are not
//! used: they know no order and run on a timer of their own.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{NotKeyed, StateStore};
use governor::{Quota, RateLimiter};

use crate::domain::time::Timestamp;

const CELL: Duration = Duration::from_micros(1);
const CELL_NANOS: u64 = 1_000;
/// Far beyond any clock, and far enough from the end of `u64` that governor's sums can't overflow.
const LATEST: u64 = u64::MAX / 4;

/// The theoretical arrival time, in nanoseconds since the epoch, and what the last probe would make of it.
///
/// Atomics only to be `Sync`: one task owns the gate, and relaxed loads and stores cost what plain ones do.
#[derive(Debug, Default)]
struct ArrivalTime {
    taken: AtomicU64,
    probed: AtomicU64,
}

/// A handle to an arrival time that governor's limiter and we both hold; a new limiter can take it over.
#[derive(Clone, Debug, Default)]
struct SharedArrival(Arc<ArrivalTime>);

impl StateStore for SharedArrival {
    type Key = NotKeyed;

    fn measure_and_replace<T, F, E>(&self, _: &Self::Key, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let taken = Nanos::new(self.0.taken.load(Ordering::Relaxed));
        let (outcome, next) = decide(Some(taken))?;
        self.0.probed.store(next.as_u64(), Ordering::Relaxed);
        Ok(outcome)
    }
}

/// A clock that shows what it was set to.
#[derive(Debug, Default)]
struct SetClock(AtomicU64);

impl Clock for SetClock {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::new(self.0.load(Ordering::Relaxed))
    }
}

type Limiter = RateLimiter<NotKeyed, SharedArrival, SetClock, NoOpMiddleware<Nanos>>;

/// When the next cell is due, and how much earlier than that it may come.
#[derive(Debug)]
pub(super) struct Arrival {
    limiter: Limiter,
    time: SharedArrival,
}

impl Arrival {
    /// Idle since ever, with a tolerance in microseconds.
    pub(super) fn new(tolerance: u64) -> Self {
        let time = SharedArrival::default();
        Self { limiter: limiter(tolerance, time.clone()), time }
    }

    /// Another tolerance, the same arrival time.
    pub(super) fn set_tolerance(&mut self, tolerance: u64) {
        self.limiter = limiter(tolerance, self.time.clone());
    }

    /// Whether a call may leave now; else the earliest moment at which it may.
    pub(super) fn probe(&self, now: Timestamp) -> Result<(), Timestamp> {
        self.limiter.clock().0.store(nanos(now), Ordering::Relaxed);
        self.limiter.check().map_err(|refusal| timestamp(refusal.earliest_possible().as_u64()))
    }

    /// Takes `cost` microseconds for the call that was just probed; beyond the tolerance it is a debt.
    pub(super) fn take(&self, cost: u64) {
        let probed = self.time.0.probed.load(Ordering::Relaxed);
        self.set(probed.saturating_sub(CELL_NANOS).saturating_add(cost.saturating_mul(CELL_NANOS)));
    }

    /// Gives back what a call took and did not use.
    pub(super) fn refund(&self, cost: u64) {
        let taken = self.time.0.taken.load(Ordering::Relaxed);
        self.set(taken.saturating_sub(cost.saturating_mul(CELL_NANOS)));
    }

    /// Takes `cost` microseconds without asking: a debt of what was used at `now` already.
    pub(super) fn charge(&self, cost: u64, now: Timestamp) {
        let taken = self.time.0.taken.load(Ordering::Relaxed);
        self.set(taken.max(nanos(now)).saturating_add(cost.saturating_mul(CELL_NANOS)));
    }

    /// The theoretical arrival time.
    pub(super) fn time(&self) -> Timestamp {
        timestamp(self.time.0.taken.load(Ordering::Relaxed))
    }

    /// Resumes at a time, as after a restart.
    pub(super) fn restore(&self, time: Timestamp) {
        self.set(nanos(time));
    }

    fn set(&self, time: u64) {
        self.time.0.taken.store(time.min(LATEST), Ordering::Relaxed);
    }
}

fn limiter(tolerance: u64, time: SharedArrival) -> Limiter {
    let cells = u32::try_from(tolerance.saturating_add(1)).unwrap_or(u32::MAX);
    let quota = Quota::with_period(CELL)
        .unwrap_or_else(|| Quota::per_second(NonZeroU32::MAX))
        .allow_burst(NonZeroU32::new(cells).unwrap_or(NonZeroU32::MIN));
    RateLimiter::new(quota, time, SetClock::default())
}

fn nanos(moment: Timestamp) -> u64 {
    u64::try_from(moment.micros()).unwrap_or(0).saturating_mul(CELL_NANOS).min(LATEST)
}

fn timestamp(nanos: u64) -> Timestamp {
    Timestamp::from_micros(i64::try_from(nanos.div_ceil(CELL_NANOS)).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The same GCRA by hand: what the adapter must agree with.
    struct Reference {
        arrival: i64,
        tolerance: i64,
    }

    impl Reference {
        fn probe(&self, now: i64) -> Result<(), i64> {
            let earliest = self.arrival - self.tolerance;
            if now < earliest { Err(earliest) } else { Ok(()) }
        }

        fn take(&mut self, now: i64, cost: i64) {
            self.arrival = self.arrival.max(now) + cost;
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_reference(
            tolerance in 0_u64..200_000,
            steps in proptest::collection::vec((0_i64..60_000, 0_u8..10, 1_u64..500_000), 1..200),
        ) {
            let mut arrival = Arrival::new(tolerance);
            let mut reference = Reference { arrival: 0, tolerance: tolerance as i64 };
            let mut now = 1_700_000_000_000_000;
            for (pause, step, cost) in steps {
                now += pause;
                match step {
                    0 => {
                        arrival.refund(cost);
                        reference.arrival = (reference.arrival - cost as i64).max(0);
                    }
                    1 => {
                        arrival.set_tolerance(cost);
                        reference.tolerance = cost as i64;
                    }
                    2 => {
                        arrival.restore(Timestamp::from_micros(now + cost as i64));
                        reference.arrival = now + cost as i64;
                    }
                    _ => {
                        let answer = arrival.probe(Timestamp::from_micros(now));
                        prop_assert_eq!(answer.map_err(Timestamp::micros), reference.probe(now));
                        if answer.is_ok() {
                            arrival.take(cost);
                            reference.take(now, cost as i64);
                        }
                    }
                }
                prop_assert_eq!(arrival.time().micros(), reference.arrival);
            }
        }
    }

    #[test]
    fn a_probe_takes_nothing() {
        let arrival = Arrival::new(0);
        let now = Timestamp::from_seconds(1_000);
        assert_eq!(arrival.probe(now), Ok(()));
        assert_eq!(arrival.probe(now), Ok(()));
        assert_eq!(arrival.time(), Timestamp::ZERO);
    }
}
