//! What a reply's headers say of the provider's limits, in both families of names.
//!
//! A value that can't be read is left out: a malformed header changes nothing.

use std::time::{Duration, SystemTime};

use http::HeaderMap;
use http::header::DATE;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::domain::limits::Dimension;
use crate::domain::quota::QuotaReading;

const MINUTE: Duration = Duration::from_secs(60);
/// Periods that providers have limits for. What is told apart here is mostly requests per day, which look
/// like requests per minute but for their reset.
const PERIODS: [Duration; 3] = [MINUTE, Duration::from_secs(3_600), Duration::from_secs(86_400)];
/// A reset further away than this is no reset of a limit of at most a day.
const LONGEST_RESET: Duration = Duration::from_secs(2 * 86_400);

/// A family of header names: how they begin, and what stands for each dimension.
struct Family {
    /// What comes before `limit`, `remaining` and `reset`, or before the dimension.
    prefix: &'static str,
    /// Whether the dimension comes before the word, as Anthropic has it, or after it, as `OpenAI` has it.
    dimension_first: bool,
    /// Whether the reset is a moment, not a duration.
    moments: bool,
}

/// `OpenAI`, Azure, Groq, vLLM's and `LiteLLM`'s proxies, and Anthropic.
const FAMILIES: [Family; 2] = [
    Family { prefix: "x-ratelimit-", dimension_first: false, moments: false },
    Family { prefix: "anthropic-ratelimit-", dimension_first: true, moments: true },
];

/// Everything that the headers say of limits. `wall` is what moments are counted from when the reply doesn't
/// carry its own date.
pub(super) fn readings(headers: &HeaderMap, wall: impl Fn() -> SystemTime) -> Vec<QuotaReading> {
    // Most upstreams of one's own say nothing: nothing is allocated for them.
    let mut readings = Vec::new();
    for family in &FAMILIES {
        if !headers.keys().any(|name| name.as_str().starts_with(family.prefix)) {
            continue;
        }
        readings.extend(
            Dimension::ALL.into_iter().filter_map(|dimension| family.read(headers, dimension, &wall)),
        );
    }
    readings
}

impl Family {
    fn read(
        &self,
        headers: &HeaderMap,
        dimension: Dimension,
        wall: impl Fn() -> SystemTime,
    ) -> Option<QuotaReading> {
        let limit = self.text(headers, "limit", dimension).and_then(count);
        let remaining = self.text(headers, "remaining", dimension).and_then(count);
        if limit.is_none() && remaining.is_none() {
            return None;
        }
        let reset = self
            .text(headers, "reset", dimension)
            .and_then(|text| if self.moments { until(text, headers, wall) } else { duration(text) });
        let reset = reset.filter(|reset| *reset <= LONGEST_RESET);
        let period = if self.moments { Some(MINUTE) } else { period(limit, remaining, reset) };
        Some(QuotaReading { dimension, limit, remaining, reset, period })
    }

    fn text<'h>(&self, headers: &'h HeaderMap, word: &str, dimension: Dimension) -> Option<&'h str> {
        let unit = match dimension {
            Dimension::Requests => "requests",
            Dimension::Tokens => "tokens",
            Dimension::InputTokens => "input-tokens",
            Dimension::OutputTokens => "output-tokens",
        };
        let name = if self.dimension_first {
            format!("{}{unit}-{word}", self.prefix)
        } else {
            format!("{}{word}-{unit}", self.prefix)
        };
        headers.get(name)?.to_str().ok().map(str::trim)
    }
}

/// A whole number of units. Some write it with a fraction of zeros.
fn count(text: &str) -> Option<u64> {
    text.strip_suffix(".0").unwrap_or(text).parse().ok()
}

/// A duration as Go prints it, such as `6m0s`, `8.64s` or `1d2h`; a bare number is in seconds.
fn duration(text: &str) -> Option<Duration> {
    let mut seconds = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let scale = match &rest[..letters] {
            "d" => 86_400.0,
            "h" => 3_600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "\u{b5}s" => 1e-6,
            "ns" => 1e-9,
            "" if digits == text.len() => 1.0,
            _ => return None,
        };
        rest = &rest[letters..];
        seconds += number * scale;
    }
    if text.is_empty() { None } else { Duration::try_from_secs_f64(seconds).ok() }
}

/// The time until a moment of RFC 3339, by the provider's own clock where the reply has it.
fn until(text: &str, headers: &HeaderMap, wall: impl Fn() -> SystemTime) -> Option<Duration> {
    let moment: SystemTime = OffsetDateTime::parse(text, &Rfc3339).ok()?.into();
    let date = headers.get(DATE).and_then(|date| httpdate::parse_http_date(date.to_str().ok()?).ok());
    Some(moment.duration_since(date.unwrap_or_else(wall)).unwrap_or_default())
}

/// The period of a limit that is refilled evenly: what was used comes back in its share of the period. `None` if
/// that gives no period that anybody has limits for, as where everything comes back at once.
///
/// A limit per minute is whole again within a minute, however it is counted. So what would be a longer period by its
/// share, and still is whole within a minute, is a window of a minute seen at a certain moment.
fn period(limit: Option<u64>, remaining: Option<u64>, reset: Option<Duration>) -> Option<Duration> {
    let (limit, reset) = (limit?, reset?);
    let used = limit.checked_sub(remaining?).filter(|used| *used > 0)?;
    let told = reset.as_secs_f64() * limit as f64 / used as f64;
    let found = PERIODS.into_iter().find(|period| (told / period.as_secs_f64() - 1.0).abs() < 0.2)?;
    (found == MINUTE || reset > MINUTE + Duration::from_secs(1)).then_some(found)
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&str, &str)| {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("a name");
            (name, HeaderValue::from_str(value).expect("a value"))
        };
        pairs.iter().map(pair).collect()
    }

    fn wall() -> SystemTime {
        httpdate::parse_http_date("Sat, 21 Nov 2026 10:00:00 GMT").expect("a date")
    }

    fn seconds(text: &str) -> Option<f64> {
        duration(text).map(|duration| duration.as_secs_f64())
    }

    #[test]
    fn durations_are_read_as_they_are_written() {
        for (text, expected) in [
            ("1s", Some(1.0)),
            ("6m0s", Some(360.0)),
            ("20ms", Some(0.02)),
            ("8.64s", Some(8.64)),
            ("1h2m3.5s", Some(3_723.5)),
            ("1d2h", Some(93_600.0)),
            ("2m59.56s", Some(179.56)),
            ("12", Some(12.0)),
            ("0s", Some(0.0)),
            ("", None),
            ("s", None),
            ("-1s", None),
            ("1x", None),
            ("1s2", None),
            ("1.2.3s", None),
            ("soon", None),
        ] {
            assert_eq!(seconds(text), expected, "{text}");
        }
    }

    #[test]
    fn openai_s_family_is_read() {
        let read = readings(
            &headers(&[
                ("x-ratelimit-limit-requests", "60"),
                ("x-ratelimit-limit-tokens", "150000"),
                ("x-ratelimit-remaining-requests", "59"),
                ("x-ratelimit-remaining-tokens", "149984"),
                ("x-ratelimit-reset-requests", "1s"),
                ("x-ratelimit-reset-tokens", "6ms"),
            ]),
            wall,
        );
        let requests = QuotaReading {
            dimension: Dimension::Requests,
            limit: Some(60),
            remaining: Some(59),
            reset: Some(Duration::from_secs(1)),
            period: Some(MINUTE),
        };
        let tokens = QuotaReading {
            dimension: Dimension::Tokens,
            limit: Some(150_000),
            remaining: Some(149_984),
            reset: Some(Duration::from_millis(6)),
            period: Some(MINUTE),
        };
        assert_eq!(read, [requests, tokens]);
    }

    #[test]
    fn requests_per_day_are_told_from_their_reset() {
        let read = readings(
            &headers(&[
                ("x-ratelimit-limit-requests", "14400"),
                ("x-ratelimit-remaining-requests", "14370"),
                ("x-ratelimit-reset-requests", "2m59.56s"),
            ]),
            wall,
        );
        assert_eq!(read[0].period, Some(Duration::from_secs(86_400)));
    }

    #[test]
    fn a_window_of_a_minute_is_never_taken_for_one_of_an_hour_or_a_day() {
        for used in 1..3_000_u64 {
            for reset in 1..=60 {
                let told = period(Some(3_000), Some(3_000 - used), Some(Duration::from_secs(reset)));
                assert!(told.is_none_or(|told| told == MINUTE), "{used} used, {reset} s: {told:?}");
            }
        }
    }

    #[test]
    fn anthropic_s_family_is_read() {
        let pairs = [
            ("anthropic-ratelimit-requests-limit", "50"),
            ("anthropic-ratelimit-requests-remaining", "49"),
            ("anthropic-ratelimit-requests-reset", "2026-11-21T10:00:01.5Z"),
            ("anthropic-ratelimit-input-tokens-limit", "30000"),
            ("anthropic-ratelimit-input-tokens-remaining", "29000"),
            ("anthropic-ratelimit-input-tokens-reset", "2026-11-21T12:00:02+02:00"),
            ("anthropic-ratelimit-output-tokens-remaining", "7000"),
        ];
        let read = readings(&headers(&pairs), wall);
        let told: Vec<_> = read
            .iter()
            .map(|read| {
                (read.dimension, read.limit, read.remaining, read.reset.map(|reset| reset.as_millis()))
            })
            .collect();
        assert_eq!(
            told,
            [
                (Dimension::Requests, Some(50), Some(49), Some(1_500)),
                (Dimension::InputTokens, Some(30_000), Some(29_000), Some(2_000)),
                (Dimension::OutputTokens, None, Some(7_000), None),
            ]
        );
        assert!(read.iter().all(|read| read.period == Some(MINUTE)));
        // By the provider's own clock, an hour off ours.
        let mut pairs = pairs.to_vec();
        pairs.push(("date", "Sat, 21 Nov 2026 09:59:59 GMT"));
        assert_eq!(readings(&headers(&pairs), wall)[0].reset, Some(Duration::from_millis(2_500)));
    }

    #[test]
    fn what_is_malformed_says_nothing() {
        for pairs in [
            &[("x-ratelimit-limit-requests", "many")][..],
            &[("x-ratelimit-limit-requests", "-1"), ("x-ratelimit-remaining-requests", "1e3")],
            &[("x-ratelimit-reset-requests", "1s")],
            &[("anthropic-ratelimit-requests-reset", "2026-11-21T10:00:01Z")],
            &[("retry-after", "1")],
        ] {
            assert_eq!(readings(&headers(pairs), wall), [], "{pairs:?}");
        }
        let read = readings(
            &headers(&[("x-ratelimit-limit-requests", "60"), ("x-ratelimit-reset-requests", "400d")]),
            wall,
        );
        assert_eq!((read[0].reset, read[0].period), (None, None));
    }

    proptest! {
        #[test]
        fn nothing_that_headers_say_breaks_the_reader(limit in "[ -~]{0,24}", remaining in "[ -~]{0,24}", reset in "[ -~]{0,24}") {
            for first in ["x-ratelimit-limit-requests", "anthropic-ratelimit-tokens-limit"] {
                let pairs = [
                    (first, limit.as_str()),
                    ("x-ratelimit-remaining-requests", remaining.as_str()),
                    ("x-ratelimit-reset-requests", reset.as_str()),
                    ("anthropic-ratelimit-tokens-reset", reset.as_str()),
                ];
                let read = readings(&headers(&pairs), wall);
                prop_assert!(read.iter().all(|read| read.reset.is_none_or(|reset| reset <= LONGEST_RESET)));
            }
        }

        #[test]
        fn durations_come_back(millis in 0_u64..200_000_000) {
            let (s, ms) = (millis / 1_000, millis % 1_000);
            let text = format!("{}h{}m{}.{ms:03}s", s / 3_600, s / 60 % 60, s % 60);
            let read = duration(&text).expect("a duration");
            prop_assert!(read.abs_diff(Duration::from_millis(millis)) < Duration::from_micros(1));
        }
    }
}
