//! What was charged in the last window: exact enough to be a hard limit, small enough to keep per level.

use std::collections::VecDeque;

use super::micros::scaled_up;
use crate::domain::time::Timestamp;

/// Amounts of a sliding window in buckets of time.
///
/// An amount counts from its charge until a whole span after its bucket's end, so the sum is never
/// below the true one. Buckets are kept as a queue of those in use: a slow level has few, and a pause
/// costs no sweep as a ring would.
#[derive(Debug, Default)]
pub(super) struct WindowSum {
    width: i64,
    span: i64,
    buckets: VecDeque<(i64, u64)>,
    sum: u64,
    unknown: Option<Unknown>,
}

/// A window whose history is not known: taken as evenly full, so it empties evenly.
#[derive(Clone, Copy, Debug)]
struct Unknown {
    at: i64,
    amount: u64,
}

impl WindowSum {
    /// An empty window of `span` microseconds, in buckets of `width`.
    pub(super) fn new(span: i64, width: i64) -> Self {
        Self { width: width.max(1), span: span.max(1), ..Self::default() }
    }

    /// Takes the window that ends at `at` as full with `amount`.
    pub(super) fn assume(&mut self, at: Timestamp, amount: u64) {
        self.unknown = Some(Unknown { at: at.micros(), amount });
    }

    /// Charges an amount now.
    pub(super) fn add(&mut self, now: Timestamp, amount: u64) {
        self.sum = self.sum.saturating_add(amount);
        let end = self.bucket_end(now);
        match self.buckets.back_mut() {
            // A clock never goes back here; if it did, the later bucket is the safe one.
            Some((last, held)) if *last >= end => *held = held.saturating_add(amount),
            _ => self.buckets.push_back((end, amount)),
        }
    }

    /// Takes back what was charged at `at`, as far as it still counts.
    pub(super) fn take_back(&mut self, at: Timestamp, amount: u64) {
        let end = self.bucket_end(at);
        if let Ok(found) = self.buckets.binary_search_by_key(&end, |(bucket, _)| *bucket) {
            let taken = amount.min(self.buckets[found].1);
            self.buckets[found].1 -= taken;
            self.sum -= taken;
        }
    }

    /// Counts what was charged at `at` from a later moment on, as far as it still counts there.
    pub(super) fn postpone(&mut self, at: Timestamp, until: Timestamp, amount: u64) {
        let (from, to) = (self.bucket_end(at), self.bucket_end(until));
        let Ok(found) = self.buckets.binary_search_by_key(&from, |(bucket, _)| *bucket) else { return };
        let moved = amount.min(self.buckets[found].1);
        self.buckets[found].1 -= moved;
        match self.buckets.binary_search_by_key(&to, |(bucket, _)| *bucket) {
            Ok(place) => self.buckets[place].1 = self.buckets[place].1.saturating_add(moved),
            Err(place) => self.buckets.insert(place, (to, moved)),
        }
    }

    /// What counts now.
    pub(super) fn sum(&mut self, now: Timestamp) -> u64 {
        self.forget(now.micros());
        self.sum.saturating_add(self.unknown_at(now.micros()))
    }

    /// The earliest moment from `now` on at which no more than `target` counts, if nothing is added.
    pub(super) fn when_at_most(&mut self, target: u64, now: Timestamp) -> Timestamp {
        self.forget(now.micros());
        let mut moment = now.micros();
        let mut left = self.sum;
        let mut buckets = self.buckets.iter();
        loop {
            let next = buckets.next();
            let expiry = next.map_or(i64::MAX, |(end, _)| end.saturating_add(self.span));
            if left <= target {
                let fits = moment.max(self.unknown_below(target - left));
                if fits < expiry {
                    return Timestamp::from_micros(fits);
                }
            }
            let Some((_, amount)) = next else { return Timestamp::from_micros(moment) };
            left = left.saturating_sub(*amount);
            moment = moment.max(expiry);
        }
    }

    /// What was charged after one moment and up to another, to within a bucket.
    pub(super) fn sum_between(&self, after: Timestamp, until: Timestamp) -> u64 {
        let counts = |end: i64| end > after.micros() && end - self.width < until.micros();
        let buckets = self.buckets.iter().rev().take_while(|(end, _)| *end > after.micros());
        buckets.filter(|(end, _)| counts(*end)).map(|(_, amount)| amount).sum()
    }

    /// How long a bucket is, in microseconds; each ends at a multiple of it.
    pub(super) fn width(&self) -> i64 {
        self.width
    }

    /// What was charged in buckets that ended after one moment and up to another: of spans that follow each other,
    /// each charge is in exactly one.
    pub(super) fn sum_ended_between(&self, after: Timestamp, until: Timestamp) -> u64 {
        let buckets = self.buckets.iter().rev().take_while(|(end, _)| *end > after.micros());
        buckets.filter(|(end, _)| *end <= until.micros()).map(|(_, amount)| amount).sum()
    }

    /// Forgets what was charged up to a moment, and takes the window that ended then as evenly full with `amount`.
    pub(super) fn replace_until(&mut self, at: Timestamp, amount: u64) {
        while let Some((_, charged)) = self.buckets.pop_front_if(|(end, _)| *end <= at.micros()) {
            self.sum -= charged;
        }
        self.assume(at, amount);
    }

    /// The buckets in use: the end of each in microseconds since the epoch, and its amount.
    pub(super) fn buckets(&self) -> impl Iterator<Item = (i64, u64)> + '_ {
        self.buckets.iter().copied()
    }

    fn bucket_end(&self, at: Timestamp) -> i64 {
        let start = at.micros().div_euclid(self.width) * self.width;
        if start == at.micros() { start } else { start.saturating_add(self.width) }
    }

    fn forget(&mut self, now: i64) {
        while let Some((end, amount)) = self.buckets.front().copied() {
            if end.saturating_add(self.span) > now {
                break;
            }
            self.sum -= amount;
            self.buckets.pop_front();
        }
        if self.unknown.is_some_and(|unknown| now.saturating_sub(unknown.at) >= self.span) {
            self.unknown = None;
        }
    }

    fn unknown_at(&self, now: i64) -> u64 {
        self.unknown.map_or(0, |unknown| {
            let left = (self.span - now.saturating_sub(unknown.at)).clamp(0, self.span);
            scaled_up(unknown.amount, left.unsigned_abs(), self.span.unsigned_abs())
        })
    }

    /// When the unknown part is down to `amount`.
    fn unknown_below(&self, amount: u64) -> i64 {
        let Some(unknown) = self.unknown else { return i64::MIN };
        let gone = unknown.amount.saturating_sub(amount);
        let wait = scaled_up(gone, self.span.unsigned_abs(), unknown.amount);
        unknown.at.saturating_add(i64::try_from(wait).unwrap_or(i64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SPAN: i64 = 1_000_000;

    proptest! {
        /// Never below the true sum of the last span, and above it only by what ended within one bucket before.
        #[test]
        fn bounds_the_true_sum(
            width in prop_oneof![Just(1_000_i64), Just(15_625), Just(7)],
            charges in proptest::collection::vec((0_i64..80_000, 0_u64..9), 1..200),
        ) {
            let mut window = WindowSum::new(SPAN, width);
            let mut all: Vec<(i64, u64)> = Vec::new();
            let mut now = 5_000_000;
            for (pause, amount) in charges {
                now += pause;
                window.add(Timestamp::from_micros(now), amount);
                all.push((now, amount));
                let since = |span: i64| {
                    all.iter().filter(|(at, _)| *at > now - span).map(|(_, amount)| amount).sum::<u64>()
                };
                let sum = window.sum(Timestamp::from_micros(now));
                prop_assert!(sum >= since(SPAN));
                prop_assert!(sum <= since(SPAN + width));
            }
        }

        /// The moment it names is the first at which the sum is low enough.
        #[test]
        fn names_the_first_moment(
            unknown in 0_u64..30,
            charges in proptest::collection::vec((0_i64..50_000, 1_u64..9), 1..40),
            target in 0_u64..40,
        ) {
            let mut window = WindowSum::new(SPAN, 1_000);
            window.assume(Timestamp::from_micros(5_000_000), unknown);
            let mut now = 5_000_000;
            for (pause, amount) in charges {
                now += pause;
                window.add(Timestamp::from_micros(now), amount);
            }
            let now = Timestamp::from_micros(now);
            let moment = window.when_at_most(target, now);
            if moment > now {
                let before = Timestamp::from_micros(moment.micros() - 1);
                prop_assert!(window.sum(before) > target, "already at {before:?}");
            }
            prop_assert!(window.sum(moment) <= target);
        }
    }

    #[test]
    fn what_was_not_used_is_taken_back_once() {
        let mut window = WindowSum::new(SPAN, 1_000);
        let at = Timestamp::from_micros(10_500);
        window.add(at, 3);
        window.take_back(at, 2);
        assert_eq!(window.sum(at), 1);
        window.take_back(at, 2);
        assert_eq!(window.sum(at), 0);
    }

    #[test]
    fn what_is_postponed_counts_later() {
        let mut window = WindowSum::new(SPAN, 1_000);
        let [first, second, late] = [10_500, 12_500, 15_500].map(Timestamp::from_micros);
        window.add(first, 3);
        window.add(late, 1);
        window.postpone(first, second, 5);
        assert_eq!(window.buckets().collect::<Vec<_>>(), [(11_000, 0), (13_000, 3), (16_000, 1)]);
        assert_eq!(window.sum(Timestamp::from_micros(SPAN + 12_999)), 4);
        assert_eq!(window.sum(Timestamp::from_micros(SPAN + 13_000)), 1);
        window.postpone(second, late, 3);
        assert_eq!(window.sum(Timestamp::from_micros(SPAN + 13_000)), 1, "what is gone does not come back");
    }

    #[test]
    fn what_is_known_better_replaces_what_was_charged() {
        let mut window = WindowSum::new(SPAN, 1_000);
        window.add(Timestamp::from_micros(10_500), 30);
        window.add(Timestamp::from_micros(12_500), 4);
        window.replace_until(Timestamp::from_micros(11_500), 10);
        assert_eq!(window.sum(Timestamp::from_micros(12_600)), 14);
        assert_eq!(window.sum(Timestamp::from_micros(11_500 + SPAN / 2)), 9, "it lapses evenly");
        assert_eq!(window.sum_ended_between(Timestamp::ZERO, Timestamp::from_micros(12_999)), 0);
        assert_eq!(window.sum_ended_between(Timestamp::ZERO, Timestamp::from_micros(13_000)), 4);
    }
}
