//! How busy the slots are, weighted by time.

/// Calls in flight, and the time they have spent there.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Occupancy {
    in_flight: u32,
    most: u32,
    busy: u128,
    at: u64,
}

impl Occupancy {
    /// Takes a slot at `now`, in µs.
    pub(super) fn enter(&mut self, now: u64) {
        self.advance(now);
        self.in_flight += 1;
        self.most = self.most.max(self.in_flight);
    }

    /// Gives one back.
    pub(super) fn leave(&mut self, now: u64) {
        self.advance(now);
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    /// Slots taken now.
    pub(super) fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// The most that were ever taken at once.
    pub(super) fn most(&self) -> u32 {
        self.most
    }

    /// Slots × seconds up to `now`.
    pub(super) fn busy_seconds(&mut self, now: u64) -> f64 {
        self.advance(now);
        self.busy as f64 / 1e6
    }

    /// Forgets the past; what is in flight stays.
    pub(super) fn reset(&mut self, now: u64) {
        *self = Self { in_flight: self.in_flight, most: self.in_flight, busy: 0, at: now };
    }

    fn advance(&mut self, now: u64) {
        self.busy += u128::from(now.saturating_sub(self.at)) * u128::from(self.in_flight);
        self.at = self.at.max(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_weighted_by_what_is_in_flight() {
        let mut slots = Occupancy::default();
        slots.enter(1_000_000);
        slots.enter(2_000_000);
        slots.leave(4_000_000);
        assert!((slots.busy_seconds(5_000_000) - 6.0).abs() < 1e-9);
        assert_eq!((slots.in_flight(), slots.most()), (1, 2));
        slots.reset(5_000_000);
        assert!((slots.busy_seconds(6_000_000) - 1.0).abs() < 1e-9);
        assert_eq!(slots.most(), 1);
    }
}
