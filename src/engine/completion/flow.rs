//! How many items per second a lane brings to an end while it has more than it can take: pure.

use std::time::Duration;

use crate::domain::time::Timestamp;

use super::times::ItemTimes;

/// Items after which older ones count half.
const MEMORY: f64 = 400.0;
/// Items below which what was seen says nothing.
const FEWEST: f64 = 10.0;
/// Items from which on a full lane is known by these alone.
const FRESH: f64 = 50.0;
/// From this part of a paced rate on it is the pace that binds.
const BINDS: f64 = 0.9;
/// What of a pace is used: waking up and ramps take the rest.
const USED: f64 = 0.998;
/// How far a pace that binds is off: it gives way a little to refusals.
const PACE_SPREAD: f64 = 0.005;
/// How far it is off while nothing was seen of it.
const UNSEEN_SPREAD: f64 = 0.1;
/// The least variation assumed of items that a pace does not even out.
const LEAST_VARIATION: f64 = 0.3;

/// Items per second to be expected.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::engine) struct Speed {
    pub(super) per_second: f64,
    /// The standard deviation of that, as a part of it.
    pub(super) spread: f64,
    /// The standard deviation of one item's time, as a part of its mean; 0 where a pace evens them out.
    pub(super) variation: f64,
}

impl Speed {
    /// That of two lanes together.
    pub(super) fn and(self, other: Self) -> Self {
        let per_second = self.per_second + other.per_second;
        let weighted = |one: f64, two: f64| (one * self.per_second + two * other.per_second) / per_second;
        Self {
            per_second,
            spread: weighted(self.spread, other.spread),
            variation: weighted(self.variation, other.variation),
        }
    }

    /// A pace that is known exactly.
    pub(super) fn paced(per_second: f64) -> Self {
        Self { per_second: per_second * USED, spread: PACE_SPREAD, variation: 0.0 }
    }

    /// A part of it.
    pub(super) fn part(self, of: f64) -> Self {
        Self { per_second: self.per_second / of.max(1.0), ..self }
    }
}

/// What limits a lane, as the gate knows it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bounds {
    /// Calls per second that its rates let pass.
    pub(super) pace: Option<f64>,
    /// Calls in flight at most.
    pub(super) slots: Option<u32>,
}

impl Bounds {
    /// Both hold.
    pub(super) fn and(self, other: Self) -> Self {
        let pace = [self.pace, other.pace].into_iter().flatten().reduce(f64::min);
        let slots = [self.slots, other.slots].into_iter().flatten().min();
        Self { pace, slots }
    }
}

/// What a lane has under way at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(in crate::engine) struct UnderWay {
    pub(super) calls: u32,
    /// The sum of the seconds that they have been running.
    pub(super) seconds: f64,
}

/// A lane's items, as they went.
#[derive(Debug, Default)]
pub(in crate::engine) struct Flow {
    pub(super) times: ItemTimes,
    ended: f64,
    repeated: f64,
    spell: Option<Spell>,
    /// Items per second of the spell before.
    before: Option<Seen>,
}

/// A time during which the lane had more than it could take.
#[derive(Clone, Copy, Debug)]
struct Spell {
    last: Timestamp,
    seconds: f64,
    /// Items ended since, and of those under way then, what was done of them already.
    ended: f64,
    done_before: f64,
    done_now: f64,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    per_second: f64,
    items: f64,
}

impl Flow {
    /// An item ended, so long after its first send.
    pub(in crate::engine) fn ended(&mut self, took: Duration) {
        self.times.count(took);
        self.ended += 1.0;
        if let Some(spell) = &mut self.spell {
            spell.ended += 1.0;
        }
        if self.ended > MEMORY {
            self.ended /= 2.0;
            self.repeated /= 2.0;
        }
    }

    /// A call ended without ending its item.
    pub(in crate::engine) fn repeated(&mut self) {
        self.repeated += 1.0;
    }

    /// Looks at the clock. `is_held_back`: items wait for this lane and nothing else.
    pub(super) fn tick(&mut self, is_held_back: bool, under_way: UnderWay, now: Timestamp) {
        let done = self.done(under_way);
        match (&mut self.spell, is_held_back) {
            (Some(spell), true) => {
                spell.seconds += now.since(spell.last).as_secs_f64();
                spell.last = now;
                spell.done_now = done;
                if spell.ended > MEMORY {
                    spell.ended /= 2.0;
                    spell.seconds /= 2.0;
                    // The half of what was done by now was done in the half that is kept.
                    spell.done_before = (spell.done_before + spell.done_now) / 2.0;
                }
            }
            (None, true) => {
                let spell = Spell { last: now, seconds: 0.0, ended: 0.0, done_before: done, done_now: done };
                self.spell = Some(spell);
            }
            (Some(spell), false) => {
                self.before = spell.seen().or(self.before);
                self.spell = None;
            }
            (None, false) => {}
        }
    }

    /// What to expect of the lane; `None` if nothing is known.
    pub(super) fn speed(&self, bounds: Bounds) -> Option<Speed> {
        let pace = bounds.pace.map(|pace| pace * USED / self.calls_per_item());
        let fresh = self.spell.and_then(|spell| spell.seen());
        // What was seen of many tells more than what was seen of few, even if it is older.
        let seen = fresh.filter(|fresh| fresh.items >= FRESH).or(self.before).or(fresh);
        let variation = self.times.variation().max(LEAST_VARIATION);
        match (pace, seen) {
            (Some(pace), Some(seen)) if seen.per_second >= pace * BINDS => {
                // What is repeated takes of the pace, and how much is repeated is chance: geometric, so the
                // variation of an item's calls is the root of the part that fails.
                let variation = (1.0 - 1.0 / self.calls_per_item()).sqrt();
                let spread = PACE_SPREAD.hypot(variation / self.ended.max(1.0).sqrt());
                Some(Speed { per_second: pace, spread, variation })
            }
            (pace, Some(seen)) => Some(Speed {
                per_second: pace.map_or(seen.per_second, |pace| seen.per_second.min(pace)),
                spread: variation / seen.items.sqrt(),
                variation,
            }),
            (pace, None) => {
                let slots = bounds.slots.zip(self.times.mean());
                let served = slots.map(|(slots, mean)| f64::from(slots) / mean);
                let per_second = [pace, served].into_iter().flatten().reduce(f64::min)?;
                Some(Speed { per_second, spread: UNSEEN_SPREAD, variation })
            }
        }
    }

    /// Calls that an item takes in the mean.
    fn calls_per_item(&self) -> f64 {
        if self.ended < FEWEST { 1.0 } else { 1.0 + self.repeated / self.ended }
    }

    /// What is done of the calls under way, in items.
    ///
    /// Right after a start all calls are fresh, later half done in the mean: leaving that out would show a lane of
    /// a thousand slots as slow until it has ended many times as many. By renewal theory the part is (1 − v²)/2 of
    /// the calls, v the variation of their times, once they run as long as calls do that are met at random.
    fn done(&self, under_way: UnderWay) -> f64 {
        let (Some(mean), calls) = (self.times.mean(), f64::from(under_way.calls)) else { return 0.0 };
        if under_way.calls == 0 {
            return 0.0;
        }
        let square = self.times.variation().powi(2).min(1.0);
        let usual = mean * (1.0 + square) / 2.0;
        calls * (1.0 - square) / 2.0 * (under_way.seconds / calls / usual).min(1.0)
    }
}

impl Spell {
    fn seen(&self) -> Option<Seen> {
        let known = self.ended >= FEWEST && self.seconds > 0.0;
        let items = (self.ended + self.done_now - self.done_before).max(1.0);
        known.then(|| Seen { per_second: items / self.seconds, items: self.ended })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: Timestamp = Timestamp::from_seconds(1_000);

    /// A lane that ends an item every so many milliseconds.
    fn steady(every: u64, items: u64) -> Flow {
        let mut flow = Flow::default();
        flow.tick(true, UnderWay::default(), START);
        for item in 1..=items {
            flow.ended(Duration::from_millis(300));
            flow.tick(true, UnderWay::default(), START + Duration::from_millis(every * item));
        }
        flow
    }

    fn per_second(flow: &Flow, pace: Option<f64>) -> Option<f64> {
        flow.speed(Bounds { pace, slots: None }).map(|speed| speed.per_second)
    }

    #[test]
    fn nothing_known_is_nothing_said() {
        assert_eq!(per_second(&Flow::default(), None), None);
        assert_eq!(per_second(&steady(100, 9), None), None);
        assert_eq!(Flow::default().speed(Bounds { pace: None, slots: Some(64) }), None);
    }

    #[test]
    fn slots_bind_where_nothing_was_seen_of_a_full_lane() {
        let mut flow = Flow::default();
        (0..10).for_each(|_| flow.ended(Duration::from_millis(500)));
        let speed = flow.speed(Bounds { pace: Some(100.0), slots: Some(8) }).unwrap();
        assert!((speed.per_second - 16.0).abs() < 1e-9);
    }

    #[test]
    fn a_call_repeated_takes_of_the_pace() {
        let mut flow = Flow::default();
        for _ in 0..100 {
            flow.ended(Duration::from_millis(1));
            flow.repeated();
        }
        assert!((per_second(&flow, Some(10.0)).unwrap() - 5.0 * USED).abs() < 1e-9);
    }

    #[test]
    fn what_a_full_lane_brought_is_remembered_while_it_is_idle() {
        let mut flow = steady(100, 50);
        flow.tick(false, UnderWay::default(), START + Duration::from_secs(6));
        assert!((per_second(&flow, None).unwrap() - 10.0).abs() < 1e-6);
        flow.tick(true, UnderWay::default(), START + Duration::from_secs(600));
        assert!((per_second(&flow, None).unwrap() - 10.0).abs() < 1e-6);
    }

    proptest! {
        #[test]
        fn a_steady_lane_shows_its_rate_and_never_more_than_its_pace(
            every in 1..2_000_u64, items in 10..2_000_u64, pace in 0.1..10_000.0_f64,
        ) {
            let flow = steady(every, items);
            let rate = 1_000.0 / every as f64;
            prop_assert!((per_second(&flow, None).unwrap() / rate - 1.0).abs() < 1e-6);
            let known = per_second(&flow, Some(pace)).unwrap();
            prop_assert!(known <= pace);
            prop_assert!(known <= rate / BINDS);
        }
    }
}
