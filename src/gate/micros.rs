//! Spans as whole microseconds, the unit of the gate's arithmetic.

use std::time::Duration;

/// Microseconds of a span, rounded up, so that a limit's period never comes out shorter.
pub(super) fn micros_of(span: Duration) -> i64 {
    i64::try_from(span.as_nanos().div_ceil(1_000)).unwrap_or(i64::MAX)
}

/// `amount × numerator ÷ denominator`, rounded up; saturates.
pub(super) fn scaled_up(amount: u64, numerator: u64, denominator: u64) -> u64 {
    let denominator = denominator.max(1);
    if let Some(product) = amount.checked_mul(numerator) {
        return product.div_ceil(denominator);
    }
    let product = u128::from(amount) * u128::from(numerator);
    u64::try_from(product.div_ceil(u128::from(denominator))).unwrap_or(u64::MAX)
}
