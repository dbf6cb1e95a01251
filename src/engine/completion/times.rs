//! How long items take, from their first send to their end: pure.

use std::time::Duration;

/// Items after which older ones count half.
const MEMORY: f64 = 400.0;
/// Items below which nothing is said of how they spread.
const FEWEST: f64 = 3.0;
/// Shortest time told apart, in seconds: a logarithm needs one.
const SHORTEST: f64 = 1e-4;

/// The times of the last few hundred items.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::engine) struct ItemTimes {
    count: f64,
    sum: f64,
    squares: f64,
    logs: f64,
    log_squares: f64,
    longest: f64,
    longest_before: f64,
}

impl ItemTimes {
    /// An item ended.
    pub(in crate::engine) fn count(&mut self, took: Duration) {
        if self.count >= MEMORY {
            for sum in
                [&mut self.count, &mut self.sum, &mut self.squares, &mut self.logs, &mut self.log_squares]
            {
                *sum /= 2.0;
            }
            self.longest_before = std::mem::take(&mut self.longest);
        }
        let seconds = took.as_secs_f64().max(SHORTEST);
        let log = seconds.ln();
        self.count += 1.0;
        self.sum += seconds;
        self.squares += seconds * seconds;
        self.logs += log;
        self.log_squares += log * log;
        self.longest = self.longest.max(seconds);
    }

    /// Seconds of an item in the mean; `None` before the first few.
    pub(super) fn mean(&self) -> Option<f64> {
        (self.count >= FEWEST).then(|| self.sum / self.count)
    }

    /// How many items it is made from.
    pub(super) fn known(&self) -> f64 {
        self.count.max(1.0)
    }

    /// The ones that take longer.
    pub(super) fn longer(self, other: Self) -> Self {
        if other.mean() > self.mean() { other } else { self }
    }

    /// The standard deviation as a part of the mean; that of waiting for a random event while unknown.
    pub(super) fn variation(&self) -> f64 {
        let Some(mean) = self.mean() else { return 1.0 };
        (self.squares / self.count / (mean * mean) - 1.0).max(0.0).sqrt()
    }

    /// Seconds that the longest of so many items stays below with a probability. It takes times as log-normal, as
    /// those of language models nearly are, as far as that was seen.
    pub(super) fn longest_of(&self, items: f64, probability: f64) -> f64 {
        if self.count < FEWEST {
            return 0.0;
        }
        let (mean, seen) = (self.logs / self.count, self.longest.max(self.longest_before));
        let deviation = (self.log_squares / self.count - mean * mean).max(0.0).sqrt();
        let above = -probability.ln() / items.max(1.0);
        // So many as were seen may well have one longer than any of them; a few do not.
        let beyond = 1.0 + (items / self.count).min(1.0) * deviation.min(1.0) * (probability - 0.5).max(0.0);
        (mean + standard_score(above) * deviation).exp().min(seen * beyond)
    }
}

/// How many standard deviations above the mean a part of a normal distribution lies: Abramowitz and Stegun,
/// "Handbook of Mathematical Functions", 26.2.23, exact to 0.00045; 0 from a half on.
fn standard_score(above: f64) -> f64 {
    if above >= 0.5 {
        return 0.0;
    }
    let t = (-2.0 * above.max(1e-12).ln()).sqrt();
    let numerator = 2.515_517 + t * (0.802_853 + t * 0.010_328);
    let denominator = 1.0 + t * (1.432_788 + t * (0.189_269 + t * 0.001_308));
    t - numerator / denominator
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn scores_are_those_of_the_tables() {
        for (above, score) in [(0.5, 0.0), (0.1, 1.2816), (0.025, 1.9600), (0.001, 3.0902)] {
            assert!((standard_score(above) - score).abs() < 5e-4, "{above}");
        }
    }

    proptest! {
        #[test]
        fn the_longest_lies_between_the_mean_of_the_logs_and_little_beyond_what_was_seen(
            millis in prop::collection::vec(1..100_000_u64, 3..300), items in 1.0..2_000.0_f64,
        ) {
            let mut times = ItemTimes::default();
            millis.iter().for_each(|millis| times.count(Duration::from_millis(*millis)));
            let longest = *millis.iter().max().unwrap() as f64 / 1e3;
            let (half, most) = (times.longest_of(items, 0.5), times.longest_of(items, 0.9));
            prop_assert!(half <= most);
            prop_assert!(most <= longest * 1.41);
            prop_assert!(half <= longest * 1.000_001);
            prop_assert!(times.longest_of(items * 2.0, 0.5) >= half * 0.999);
            let mean = times.mean().unwrap();
            prop_assert!(mean <= longest * 1.000_001);
        }
    }
}
