//! Which headers go which way.

use http::HeaderMap;
use http::header::{
    ACCEPT, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue,
    PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, SET_COOKIE, STRICT_TRANSPORT_SECURITY, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};

/// What of a client's call is the provider's business: never its key, cookies, or what is about the hop.
const UPWARDS: [HeaderName; 4] = [
    ACCEPT,
    CONTENT_TYPE,
    HeaderName::from_static("idempotency-key"),
    // OpenAI's: an id of the client's own, for support.
    HeaderName::from_static("x-client-request-id"),
];
/// Families of such headers.
const UPWARDS_PREFIXES: [&str; 2] = ["anthropic-", "openai-"];

/// What ends at this hop (RFC 9110, section 7.6.1), and the length, which the server sets.
const HOP: [HeaderName; 10] = [
    CONNECTION,
    CONTENT_LENGTH,
    HeaderName::from_static("keep-alive"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    HeaderName::from_static("proxy-connection"),
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];
/// What is between the provider's own name and whoever calls it, which is us.
const OF_THE_PROVIDERS_NAME: [HeaderName; 3] =
    [SET_COOKIE, STRICT_TRANSPORT_SECURITY, HeaderName::from_static("alt-svc")];
/// Families of headers that are ours to set: an upstream may be a service like this one.
const OURS: [&str; 2] = ["sluicegate-", "access-control-"];

const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// The client's headers that go upstream.
pub(super) fn for_upstream(headers: &HeaderMap) -> HeaderMap {
    let mut upwards = HeaderMap::new();
    for (name, value) in headers {
        let family = UPWARDS_PREFIXES.iter().any(|prefix| name.as_str().starts_with(prefix));
        if family || UPWARDS.contains(name) {
            upwards.append(name.clone(), value.clone());
        }
    }
    upwards
}

/// The reply's headers that go to the client.
pub(super) fn for_client(mut headers: HeaderMap) -> HeaderMap {
    // A header that `connection` names is of the hop as well.
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in HOP.iter().chain(&OF_THE_PROVIDERS_NAME).chain(&named) {
        headers.remove(name);
    }
    let ours: Vec<HeaderName> = headers
        .keys()
        .filter(|name| OURS.iter().any(|prefix| name.as_str().starts_with(prefix)))
        .cloned()
        .collect();
    for name in ours {
        headers.remove(name);
    }
    if is_stream(&headers) {
        // Proxies on the way would collect the events.
        headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-cache"));
        headers.entry(ACCEL_BUFFERING).or_insert(HeaderValue::from_static("no"));
    }
    headers
}

fn is_stream(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    kind.is_some_and(|kind| kind.starts_with("text/event-stream"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(lines: &[(&str, &str)]) -> HeaderMap {
        let parsed = |(name, value): &(&str, &str)| {
            (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap())
        };
        lines.iter().map(parsed).collect()
    }

    #[test]
    fn the_client_s_key_and_hop_stay_here() {
        let kept = [
            ("accept", "text/event-stream"),
            ("content-type", "application/json; charset=utf-8"),
            ("anthropic-version", "2023-06-01"),
            ("anthropic-beta", "a"),
            ("openai-organization", "org-1"),
            ("openai-beta", "assistants=v2"),
            ("idempotency-key", "k"),
            ("x-client-request-id", "c-1"),
        ];
        let dropped = [
            ("authorization", "Bearer sk-secret"),
            ("x-api-key", "sk-secret"),
            ("api-key", "sk-secret"),
            ("cookie", "a=b"),
            ("host", "gate"),
            ("content-length", "7"),
            ("connection", "keep-alive"),
            ("accept-encoding", "gzip"),
            ("x-stainless-lang", "python"),
            ("x-forwarded-for", "10.0.0.1"),
            ("sluicegate-max-wait", "5s"),
            ("user-agent", "OpenAI/Python"),
        ];
        assert_eq!(for_upstream(&map(&[kept.as_slice(), &dropped].concat())), map(&kept));
    }

    #[test]
    fn the_provider_s_answer_is_passed_without_its_hop() {
        let kept = [
            ("content-type", "application/json"),
            ("x-request-id", "req_1"),
            ("openai-processing-ms", "12"),
            ("retry-after", "3"),
            ("x-should-retry", "false"),
            ("x-ratelimit-remaining-requests", "59"),
            ("anthropic-organization-id", "o"),
            ("date", "Sun, 06 Nov 1994 08:49:37 GMT"),
        ];
        let dropped = [
            ("connection", "close, x-of-the-hop"),
            ("x-of-the-hop", "1"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("content-length", "7"),
            ("set-cookie", "__cf_bm=1"),
            ("strict-transport-security", "max-age=1"),
            ("access-control-allow-origin", "*"),
            ("sluicegate-provider", "theirs"),
        ];
        assert_eq!(for_client(map(&[kept.as_slice(), &dropped].concat())), map(&kept));
    }

    #[test]
    fn streams_ask_not_to_be_collected() {
        let headers = for_client(map(&[("content-type", "text/event-stream; charset=utf-8")]));
        assert_eq!(
            (&headers[CACHE_CONTROL], &headers[ACCEL_BUFFERING]),
            (&"no-cache".parse().unwrap(), &"no".parse().unwrap())
        );
        let headers =
            for_client(map(&[("content-type", "text/event-stream"), ("cache-control", "no-store")]));
        assert_eq!(headers[CACHE_CONTROL], "no-store");
    }
}
