//! What a reply's head tells.

use std::time::{Duration, SystemTime};

use http::header::{DATE, RETRY_AFTER};
use http::{HeaderMap, HeaderName};

/// The longest wait that a provider is believed: a longer one is asked about again.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
/// OpenAI's and most others', Anthropic's, Azure's.
const REQUEST_IDS: [HeaderName; 3] = [
    HeaderName::from_static("x-request-id"),
    HeaderName::from_static("request-id"),
    HeaderName::from_static("apim-request-id"),
];

/// The upstream's id of the request; empty if it gave none.
pub(super) fn request_id(headers: &HeaderMap) -> String {
    let id = REQUEST_IDS.iter().find_map(|name| text(headers, name));
    id.unwrap_or_default().to_owned()
}

/// What `x-should-retry` says.
pub(super) fn should_retry(headers: &HeaderMap) -> Option<bool> {
    match text(headers, &SHOULD_RETRY)? {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

/// How long to wait before another call: the finest of the forms given, at most an hour. `wall` is
/// what a date is counted from when the reply doesn't carry its own.
pub(super) fn retry_after(headers: &HeaderMap, wall: impl FnOnce() -> SystemTime) -> Option<Duration> {
    let number = |name| text(headers, name)?.trim().parse::<f64>().ok().filter(|number| !number.is_nan());
    let seconds = number(&RETRY_AFTER_MS).map(|millis| millis / 1e3).or_else(|| number(&RETRY_AFTER));
    if let Some(seconds) = seconds {
        // The minimum first: a Duration can't hold every number.
        let seconds = seconds.min(LONGEST_WAIT.as_secs_f64());
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let date = |name| httpdate::parse_http_date(text(headers, name)?).ok();
    let until = date(&RETRY_AFTER)?;
    // Counted by the provider's clock, so that a difference to ours moves nothing.
    let from = date(&DATE).unwrap_or_else(wall);
    Some(until.duration_since(from).unwrap_or_default().min(LONGEST_WAIT))
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).expect("a header value"))
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn every_form_of_a_wait_is_read() {
        let wall = || httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:00 GMT").expect("a date");
        for (pairs, millis) in [
            (&[("retry-after", "2")][..], Some(2_000)),
            (&[("retry-after", "0.25")], Some(250)),
            (&[("retry-after", "0")], Some(0)),
            (&[("retry-after-ms", "1500"), ("retry-after", "2")], Some(1_500)),
            (&[("retry-after-ms", "soon"), ("retry-after", "2")], Some(2_000)),
            (&[("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT")], Some(37_000)),
            (
                &[
                    ("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT"),
                    ("date", "Sun, 06 Nov 1994 08:49:30 GMT"),
                ],
                Some(7_000),
            ),
            (&[("retry-after", "Sun, 06 Nov 1994 08:00:00 GMT")], Some(0)),
            (&[("retry-after", "Mon, 06 Nov 2034 08:00:00 GMT")], Some(3_600_000)),
            (&[("retry-after", "1e300")], Some(3_600_000)),
            (&[("retry-after", "inf")], Some(3_600_000)),
            (&[("retry-after", "-1")], None),
            (&[("retry-after", "NaN")], None),
            (&[("retry-after", "later")], None),
            (&[], None),
        ] {
            let read = retry_after(&headers(pairs), wall);
            assert_eq!(read, millis.map(Duration::from_millis), "{pairs:?}");
        }
    }

    #[test]
    fn ids_and_advice_are_read() {
        assert_eq!(request_id(&headers(&[("request-id", "b"), ("x-request-id", "a")])), "a");
        assert_eq!(request_id(&headers(&[("apim-request-id", "c")])), "c");
        assert_eq!(request_id(&headers(&[])), "");
        assert_eq!(should_retry(&headers(&[("x-should-retry", "false")])), Some(false));
        assert_eq!(should_retry(&headers(&[("x-should-retry", "perhaps")])), None);
    }

    proptest! {
        #[test]
        fn no_wait_is_above_an_hour(value in "[ -~]{0,40}") {
            let read = retry_after(&headers(&[("retry-after", &value)]), SystemTime::now);
            prop_assert!(read.is_none_or(|wait| wait <= LONGEST_WAIT));
        }
    }
}
