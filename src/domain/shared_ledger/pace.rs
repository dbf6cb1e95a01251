//! How units become time at a budget's pace.

/// Further away than any moment that matters, and far enough from the end of `i64` that sums can't overflow.
const FAR: i64 = 4_000_000_000_000_000_000;

/// So many units over so many microseconds, one after the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// Units.
    pub(super) limit: i64,
    /// Microseconds.
    pub(super) stretched: i64,
}

impl Pace {
    /// What units take, rounded up: the unit after them is due so much later than the first.
    pub(super) fn span_of(self, units: i64) -> i64 {
        scaled_up(units, self.stretched, self.limit)
    }

    /// What is given back for units, rounded down.
    pub(super) fn refund_of(self, units: i64) -> i64 {
        scaled_down(units, self.stretched, self.limit)
    }

    /// How many units of a run are due less than so many microseconds after its first.
    pub(super) fn due_before(self, microseconds: i64) -> i64 {
        if microseconds <= 0 { 0 } else { scaled_down(microseconds - 1, self.limit, self.stretched) + 1 }
    }
}

fn scaled_up(amount: i64, numerator: i64, denominator: i64) -> i64 {
    let product = i128::from(amount) * i128::from(numerator) + i128::from(denominator) - 1;
    near(product / i128::from(denominator))
}

fn scaled_down(amount: i64, numerator: i64, denominator: i64) -> i64 {
    near(i128::from(amount) * i128::from(numerator) / i128::from(denominator))
}

fn near(value: i128) -> i64 {
    i64::try_from(value).map_or(FAR, |value| value.min(FAR))
}
