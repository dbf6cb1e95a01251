//! Durations, sizes and rates as people write them, in the configuration and in the API alike.

use std::time::Duration;

use crate::domain::limits::Rate;

/// Why a text is not a quantity. It says what is expected, not what was given: the caller knows that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// Not a duration.
    #[error("a duration such as \"90s\", \"1h30m\" or \"7d\" (units ms, s, m, h, d)")]
    Duration,
    /// A number without a unit, where a duration is wanted.
    #[error("a duration with its unit, such as \"90s\" (units ms, s, m, h, d)")]
    DurationWithoutUnit,
    /// Not a size.
    #[error("a size such as \"8MiB\", \"200MB\" or a number of bytes")]
    Size,
    /// Not a rate.
    #[error("a rate such as \"500/min\", \"10/s\", \"10000/day\" or \"600/90s\"")]
    Rate,
    /// A rate of nothing.
    #[error("a rate of at least 1 per period")]
    RateOfNothing,
    /// A period below the arithmetic's resolution.
    #[error("a rate whose period is at least 1ms")]
    Period,
    /// More than can be counted.
    #[error("a smaller number")]
    TooLarge,
}

/// Milliseconds of each unit, the longest first.
const DURATION_UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Words for a rate's period beside a duration, in milliseconds.
const PERIODS: [(&str, u64); 12] = [
    ("s", 1_000),
    ("sec", 1_000),
    ("second", 1_000),
    ("m", 60_000),
    ("min", 60_000),
    ("minute", 60_000),
    ("h", 3_600_000),
    ("hr", 3_600_000),
    ("hour", 3_600_000),
    ("d", 86_400_000),
    ("day", 86_400_000),
    ("week", 604_800_000),
];

const SIZE_UNITS: [(&str, u64); 9] = [
    ("B", 1),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// Bytes of a duration's text: all units with seven digits each are shorter. Texts are kept as they are written.
const LONGEST_DURATION: usize = 64;

/// A duration such as `90s`, `1h30m` or `7d`: whole numbers with units, each unit at most once and the
/// longest first.
///
/// # Errors
/// Anything else, a bare number included.
pub fn parse_duration(text: &str) -> Result<Duration, QuantityError> {
    let mut rest = text.trim();
    if !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(QuantityError::DurationWithoutUnit);
    }
    if rest.len() > LONGEST_DURATION {
        return Err(QuantityError::Duration);
    }
    let mut total: u64 = 0;
    let mut shorter_than = u64::MAX;
    while !rest.is_empty() {
        let (number, after) = split_number(rest).ok_or(QuantityError::Duration)?;
        let unit_end = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let unit = lookup(&DURATION_UNITS, unit).ok_or(QuantityError::Duration)?;
        if unit >= shorter_than {
            return Err(QuantityError::Duration);
        }
        let milliseconds = number?.checked_mul(unit).and_then(|added| total.checked_add(added));
        total = milliseconds.ok_or(QuantityError::TooLarge)?;
        shorter_than = unit;
        rest = after;
    }
    // Timestamps are signed microseconds: what does not fit there is refused here.
    if shorter_than == u64::MAX {
        Err(QuantityError::Duration)
    } else if total > i64::MAX.unsigned_abs() / 1_000 {
        Err(QuantityError::TooLarge)
    } else {
        Ok(Duration::from_millis(total))
    }
}

/// A size in bytes such as `8MiB`, `200MB` or `1048576`.
///
/// # Errors
/// Anything else.
pub fn parse_size(text: &str) -> Result<u64, QuantityError> {
    let (number, unit) = split_number(text.trim()).ok_or(QuantityError::Size)?;
    let unit = unit.trim_start();
    let factor = if unit.is_empty() { 1 } else { lookup_size(unit).ok_or(QuantityError::Size)? };
    number?.checked_mul(factor).ok_or(QuantityError::TooLarge)
}

/// A rate such as `500/min` or `600/90s`; a bare number is per `period`.
///
/// # Errors
/// Anything else, an amount of 0, and a period below 1 ms.
pub fn parse_rate(text: &str, period: Duration) -> Result<Rate, QuantityError> {
    let (amount, unit) = split_number(text.trim()).ok_or(QuantityError::Rate)?;
    let amount = amount?;
    let unit = unit.trim_start();
    let period = match unit.strip_prefix('/').map(str::trim) {
        None if unit.is_empty() => period,
        None => return Err(QuantityError::Rate),
        Some(word) => match lookup(&PERIODS, word) {
            Some(milliseconds) => Duration::from_millis(milliseconds),
            None => parse_duration(word).map_err(|_| QuantityError::Rate)?,
        },
    };
    rate(amount, period)
}

/// So many per period.
///
/// # Errors
/// An amount of 0, and a period below 1 ms.
pub fn rate(amount: u64, period: Duration) -> Result<Rate, QuantityError> {
    if amount == 0 {
        Err(QuantityError::RateOfNothing)
    } else if period < Duration::from_millis(1) {
        Err(QuantityError::Period)
    } else {
        Ok(Rate { amount, period })
    }
}

/// The number at the start of a text, and what follows; `None` if there is none.
fn split_number(text: &str) -> Option<(Result<u64, QuantityError>, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    if digits.is_empty() { None } else { Some((digits.parse().map_err(|_| QuantityError::TooLarge), rest)) }
}

fn lookup(units: &[(&str, u64)], name: &str) -> Option<u64> {
    units.iter().find(|(unit, _)| *unit == name).map(|(_, factor)| *factor)
}

/// Sizes are told apart by the `i`, never by case: `mb` means megabytes.
fn lookup_size(name: &str) -> Option<u64> {
    SIZE_UNITS.iter().find(|(unit, _)| unit.eq_ignore_ascii_case(name)).map(|(_, factor)| *factor)
}

/// A duration as [`parse_duration`] reads it; what is below a millisecond is left out.
pub fn display_duration(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (unit, milliseconds) in DURATION_UNITS {
        if rest >= milliseconds {
            text.push_str(&format!("{}{unit}", rest / milliseconds));
            rest %= milliseconds;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// A size as [`parse_size`] reads it, in the largest unit that leaves no fraction.
pub fn display_size(bytes: u64) -> String {
    let exact = SIZE_UNITS.iter().filter(|(_, factor)| bytes > 0 && bytes.is_multiple_of(*factor));
    let (unit, factor) = exact.max_by_key(|(_, factor)| *factor).copied().unwrap_or(("B", 1));
    format!("{}{unit}", bytes / factor)
}

/// A rate as [`parse_rate`] reads it.
pub fn display_rate(rate: Rate) -> String {
    let Rate { amount, period } = rate;
    let short = [("s", 1_u128), ("min", 60), ("h", 3_600), ("day", 86_400)];
    match short.iter().find(|(_, seconds)| period.as_millis() == seconds * 1_000) {
        Some((word, _)) => format!("{amount}/{word}"),
        None => format!("{amount}/{}", display_duration(period)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("90s", 90_000)]
    #[case("1h30m", 5_400_000)]
    #[case("7d", 604_800_000)]
    #[case("250ms", 250)]
    #[case("0s", 0)]
    #[case(" 1m1ms ", 60_001)]
    fn durations(#[case] text: &str, #[case] milliseconds: u64) {
        assert_eq!(parse_duration(text), Ok(Duration::from_millis(milliseconds)));
    }

    #[rstest]
    #[case("", QuantityError::Duration)]
    #[case("90", QuantityError::DurationWithoutUnit)]
    #[case("s", QuantityError::Duration)]
    #[case("1.5h", QuantityError::Duration)]
    #[case("-1s", QuantityError::Duration)]
    #[case("30m1h", QuantityError::Duration)]
    #[case("1s1s", QuantityError::Duration)]
    #[case("1 s", QuantityError::Duration)]
    #[case("1H", QuantityError::Duration)]
    #[case("1min", QuantityError::Duration)]
    #[case("99999999999999999999s", QuantityError::TooLarge)]
    #[case("9999999999999d", QuantityError::TooLarge)]
    fn not_durations(#[case] text: &str, #[case] error: QuantityError) {
        assert_eq!(parse_duration(text), Err(error));
    }

    #[rstest]
    #[case("8MiB", 8 << 20)]
    #[case("200MB", 200_000_000)]
    #[case("1 gib", 1 << 30)]
    #[case("12", 12)]
    #[case("0B", 0)]
    fn sizes(#[case] text: &str, #[case] bytes: u64) {
        assert_eq!(parse_size(text), Ok(bytes));
    }

    #[rstest]
    #[case("", QuantityError::Size)]
    #[case("MB", QuantityError::Size)]
    #[case("8Mb it", QuantityError::Size)]
    #[case("8M", QuantityError::Size)]
    #[case("1.5GB", QuantityError::Size)]
    #[case("99999999TiB", QuantityError::TooLarge)]
    fn not_sizes(#[case] text: &str, #[case] error: QuantityError) {
        assert_eq!(parse_size(text), Err(error));
    }

    #[rstest]
    #[case("500/min", 500, 60_000)]
    #[case("10/s", 10, 1_000)]
    #[case("10000/day", 10_000, 86_400_000)]
    #[case("600/90s", 600, 90_000)]
    #[case("5 / 1h30m", 5, 5_400_000)]
    #[case("7", 7, 60_000)]
    fn rates(#[case] text: &str, #[case] amount: u64, #[case] milliseconds: u64) {
        let expected = Rate { amount, period: Duration::from_millis(milliseconds) };
        assert_eq!(parse_rate(text, Duration::from_mins(1)), Ok(expected));
    }

    #[rstest]
    #[case("", QuantityError::Rate)]
    #[case("500/", QuantityError::Rate)]
    #[case("500/fortnight", QuantityError::Rate)]
    #[case("500 per min", QuantityError::Rate)]
    #[case("500/60", QuantityError::Rate)]
    #[case("0/s", QuantityError::RateOfNothing)]
    #[case("5/0s", QuantityError::Period)]
    #[case("99999999999999999999/s", QuantityError::TooLarge)]
    fn not_rates(#[case] text: &str, #[case] error: QuantityError) {
        assert_eq!(parse_rate(text, Duration::from_mins(1)), Err(error));
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_back(milliseconds in 0..u64::MAX >> 20, amount in 1..u64::MAX) {
            let duration = Duration::from_millis(milliseconds);
            prop_assert_eq!(parse_duration(&display_duration(duration)), Ok(duration));
            prop_assert_eq!(parse_size(&display_size(amount)), Ok(amount));
            let rate = Rate { amount, period: duration + Duration::from_millis(1) };
            prop_assert_eq!(parse_rate(&display_rate(rate), duration), Ok(rate));
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,20}") {
            let _ = parse_duration(&text);
            let _ = parse_size(&text);
            let _ = parse_rate(&text, Duration::from_secs(1));
        }
    }
}
