//! Packing answers for clients that ask for it.

use http::header::ETAG;
use http::{Extensions, HeaderMap, StatusCode, Version};
use tower_http::CompressionLevel;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{NotForContentType, Predicate, SizeAbove};

/// Answers shorter than this gain nothing.
const LEAST_BYTES: u64 = 1 << 10;

/// What packs by gzip, on routes that only read: a call that changes something is short, and a live call's answer is
/// passed on as it came.
///
/// Event streams stay as they are, since proxies and browsers take them apart; so does what has a tag, which names
/// bytes. What comes while it is made, such as results that are followed, is flushed with every wait.
pub(crate) fn pack() -> CompressionLayer<impl Predicate> {
    let untagged =
        |_: StatusCode, _: Version, headers: &HeaderMap, _: &Extensions| !headers.contains_key(ETAG);
    let packed = SizeAbove::new(LEAST_BYTES).and(NotForContentType::SSE).and(untagged);
    CompressionLayer::new().quality(CompressionLevel::Fastest).compress_when(packed)
}
