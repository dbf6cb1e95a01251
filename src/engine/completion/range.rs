//! From what is left of a batch to when it ends: pure.

use std::time::Duration;

use crate::domain::progress::Completion;
use crate::domain::time::Timestamp;

use super::flow::Speed;
use super::times::ItemTimes;

/// How many standard deviations above the middle 90 of 100 outcomes lie.
const P90: f64 = 1.2816;
/// How far it is off with others on the same lanes: they may end, or more may come.
const SHARED_SPREAD: f64 = 0.1;
/// Estimates further away than this are not worth a number.
const FURTHEST: Duration = Duration::from_secs(3_650 * 86_400);

/// A limit over a period too long to pace: nothing binds until it is used up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowance {
    /// Calls that it still lets pass.
    pub(super) left: f64,
    /// Calls per second that it lets pass in the long run.
    pub(super) per_second: f64,
}

/// What is left of one batch on one route.
#[derive(Clone, Copy, Debug)]
pub(super) struct Course<'a> {
    /// Items until its last one starts: its own, and those of others that go before it.
    pub(super) items: f64,
    /// What brings these.
    pub(super) speed: Speed,
    /// Whether others have items on the same lanes.
    pub(super) shared: bool,
    /// Its own calls in flight at most, if that is limited.
    pub(super) slots: Option<f64>,
    /// Of these, the batch's own items; running ones not counted.
    pub(super) own: f64,
    /// Its items in flight.
    pub(super) running: f64,
    /// How long items take.
    pub(super) times: ItemTimes,
    /// What its lanes have left of long periods.
    pub(super) allowances: &'a [Allowance],
    /// When its lanes take calls again; not before now.
    pub(super) opens: Timestamp,
}

impl Course<'_> {
    /// With a limit on its app's calls per second, of which so many items take their part up to its last.
    pub(super) fn within_app(self, items: f64, pace: Option<f64>) -> Self {
        match pace.map(Speed::paced) {
            Some(speed) if items / speed.per_second > self.items / self.speed.per_second => {
                Self { items, speed, ..self }
            }
            _ => self,
        }
    }

    /// When it ends; `None` if that is too far away to be worth a number.
    ///
    /// The last item starts when all before it have, and the longest of those then under way ends it. What was
    /// seen of the speed is off by chance, and so is what is to come: the range adds both up.
    pub(super) fn completion(&self) -> Option<Completion> {
        let (seconds, spread) = self.last_start();
        let mean = self.times.mean().unwrap_or(0.0);
        let under_way = self.slots.unwrap_or(f64::MAX).min(self.speed.per_second * mean).max(1.0);
        let at_the_end = under_way.min(self.own + self.running);
        let last = self.times.longest_of(at_the_end, 0.5);
        let late = self.times.longest_of(at_the_end, 0.9) - last;
        let margin = (P90 * spread * seconds).hypot(late);
        let p50 = Duration::try_from_secs_f64(seconds + last).ok().filter(|time| *time < FURTHEST)?;
        let p90 = Duration::try_from_secs_f64(seconds + last + margin).ok()?;
        Some(Completion { p50: self.opens + p50, p90: self.opens + p90 })
    }

    /// Seconds until the last item starts, and how far that is off as a part of it.
    fn last_start(&self) -> (f64, f64) {
        let Speed { per_second, spread, variation } = self.speed;
        let chance = variation / self.items.max(1.0).sqrt();
        let spread = spread.hypot(chance).max(if self.shared { SHARED_SPREAD } else { 0.0 });
        let lanes = (self.items / per_second, spread);
        let own = self.slots.zip(self.times.mean()).map(|(slots, mean)| self.own * mean / slots);
        let allowed = self.allowances.iter().map(|it| (self.items - it.left) / it.per_second);
        let allowed = allowed.fold(0.0, f64::max);
        if allowed > lanes.0.max(own.unwrap_or(0.0)) {
            return (allowed, spread.max(SHARED_SPREAD));
        }
        match own {
            Some(own) if own > lanes.0 => {
                let seen = self.times.variation().max(0.3);
                (own, (seen / self.times.known().sqrt()).hypot(seen / self.own.max(1.0).sqrt()))
            }
            _ => lanes,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_000_000);

    fn course(items: f64, per_second: f64, spread: f64) -> Course<'static> {
        Course {
            items,
            own: items,
            speed: Speed { per_second, spread, variation: 0.0 },
            shared: false,
            slots: None,
            running: 0.0,
            times: ItemTimes::default(),
            allowances: &[],
            opens: NOW,
        }
    }

    #[test]
    fn a_used_up_day_takes_its_time() {
        let allowances = [Allowance { left: 100.0, per_second: 1.0 }];
        let course = Course { allowances: &allowances, ..course(600.0, 10.0, 0.0) };
        assert_eq!(course.completion().unwrap().p50, NOW + Duration::from_secs(500));
        let fits = Course { items: 90.0, ..course };
        assert_eq!(fits.completion().unwrap().p50, NOW + Duration::from_secs(9));
    }

    #[test]
    fn an_apps_own_limit_binds_where_it_is_the_lower_one() {
        let course = course(600.0, 10.0, 0.0);
        let end = |limit| course.within_app(300.0, limit).completion().unwrap().p50;
        assert_eq!(end(None), end(Some(6.0)));
        assert!(end(Some(2.0)) > NOW + Duration::from_secs(149));
    }

    #[test]
    fn a_pace_known_exactly_gives_the_rest_over_the_pace() {
        let completion = course(600.0, 10.0, 0.0).completion().unwrap();
        assert_eq!(
            completion,
            Completion { p50: NOW + Duration::from_secs(60), p90: NOW + Duration::from_secs(60) }
        );
    }

    #[test]
    fn too_far_away_is_not_said() {
        assert_eq!(course(1e12, 1e-3, 0.1).completion(), None);
        assert_eq!(course(10.0, 0.0, 0.1).completion(), None);
    }

    proptest! {
        #[test]
        fn the_range_is_ordered_and_moves_with_what_it_is_made_of(
            items in 1.0..1e6_f64, speed in 0.1..1e4_f64, spread in 0.0..0.5_f64, slots in 1.0..64.0_f64,
            millis in prop::collection::vec(1..10_000_u64, 3..50),
        ) {
            let mut times = ItemTimes::default();
            millis.iter().for_each(|millis| times.count(Duration::from_millis(*millis)));
            let usual = Course { times, ..course(items, speed, spread) };
            let completion = usual.completion().unwrap();
            prop_assert!(NOW <= completion.p50 && completion.p50 <= completion.p90);
            for slower in [
                Course { items: items * 2.0, own: items * 2.0, ..usual },
                Course { opens: NOW + Duration::from_secs(5), ..usual },
                Course { speed: Speed { spread: spread * 2.0, ..usual.speed }, ..usual },
            ] {
                let later = slower.completion().unwrap();
                prop_assert!(later.p50 >= completion.p50 && later.p90 >= completion.p90);
            }
            // With fewer slots fewer are under way at the end, so its longest one may be shorter.
            let narrow = Course { slots: Some(slots), ..usual }.completion().unwrap();
            prop_assert!(narrow.p50 + Duration::from_secs_f64(times.longest_of(1e9, 0.9)) >= completion.p50);
            let shared = Course { shared: true, ..usual }.completion().unwrap();
            prop_assert!(shared.p50 == completion.p50 && shared.p90 >= completion.p90);
        }
    }
}
