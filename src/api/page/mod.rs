//! The page that browsers get at `/`: what runs, what it waits for, and what failed.
//!
//! Its files are in the binary as they stand, with no build step. It speaks to the same API as every client, with a
//! key that its user gives, so nothing here needs a key and nothing here knows anything.

use std::fmt::Write;
use std::sync::LazyLock;

use axum::response::{IntoResponse, Response};
use http::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, REFERRER_POLICY, VARY,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use sha2::{Digest, Sha256};

use super::error::{ApiError, Refusal, Result};
use super::path::Path;

const INDEX: &str = include_str!("index.html");

/// A file that the page loads.
struct Asset {
    name: &'static str,
    media: &'static str,
    text: &'static str,
}

const SCRIPT: &str = "text/javascript; charset=utf-8";

const ASSETS: &[Asset] = &[
    Asset { name: "page.css", media: "text/css; charset=utf-8", text: include_str!("page.css") },
    Asset { name: "icon.svg", media: "image/svg+xml", text: include_str!("icon.svg") },
    Asset { name: "main.js", media: SCRIPT, text: include_str!("main.js") },
    Asset { name: "api.js", media: SCRIPT, text: include_str!("api.js") },
    Asset { name: "elements.js", media: SCRIPT, text: include_str!("elements.js") },
    Asset { name: "words.js", media: SCRIPT, text: include_str!("words.js") },
    Asset { name: "overview.js", media: SCRIPT, text: include_str!("overview.js") },
    Asset { name: "budget.js", media: SCRIPT, text: include_str!("budget.js") },
    Asset { name: "errors.js", media: SCRIPT, text: include_str!("errors.js") },
    Asset { name: "batch.js", media: SCRIPT, text: include_str!("batch.js") },
];

/// Nothing but the page's own files, and no text that becomes markup: what clients named is shown, never run.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; \
     frame-ancestors 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
);

const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// Names all files as they are in this binary. It is part of their paths, so that browsers may keep them for ever.
static VERSION: LazyLock<String> = LazyLock::new(|| {
    let mut hash = Sha256::new();
    hash.update(INDEX);
    for asset in ASSETS {
        hash.update(asset.text);
    }
    hash.finalize().iter().take(8).fold(String::new(), |mut text, byte| {
        // Into memory: nothing here can fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
});

/// Whether the caller is a browser that is to show something to its user.
pub(crate) fn is_wanted(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|kind| {
        let name = kind.split(';').next().unwrap_or_default();
        name.trim().eq_ignore_ascii_case("text/html")
    })
}

/// The page itself; `with_metrics`: `/metrics` is at the same address.
pub(crate) fn index(headers: &HeaderMap, with_metrics: bool) -> Response {
    let metrics = if with_metrics { "here" } else { "elsewhere" };
    let html = || INDEX.replace("{version}", &VERSION).replace("{metrics}", metrics);
    let etag = format!("\"{}-{metrics}\"", VERSION.as_str());
    // Asked for each time: it names the versions of all other files.
    let mut response = unless_known(headers, &etag, "no-cache", "text/html; charset=utf-8", html);
    response.headers_mut().insert(VARY, HeaderValue::from_static("accept"));
    response
}

/// `GET /page/{version}/{asset}`: a file that the page loads.
pub(crate) async fn show_page_asset(
    headers: HeaderMap,
    Path((version, name)): Path<(String, String)>,
) -> Result<Response> {
    let Some(asset) = ASSETS.iter().find(|asset| asset.name == name) else {
        let name: String = name.chars().take(100).collect();
        return Err(ApiError::new(Refusal::NotFound, format!("The page has no file '{name}'.")));
    };
    // While replicas of two versions are behind one address, either may be asked for the other's.
    let keep = if version == *VERSION { "public, max-age=31536000, immutable" } else { "no-cache" };
    let etag = format!("\"{}\"", VERSION.as_str());
    Ok(unless_known(&headers, &etag, keep, asset.media, || asset.text.to_owned()))
}

fn unless_known(
    headers: &HeaderMap,
    etag: &str,
    keep: &'static str,
    media: &'static str,
    text: impl FnOnce() -> String,
) -> Response {
    let known = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let is_known = known.flat_map(|value| value.split(',')).any(|tag| {
        let tag = tag.trim();
        tag.strip_prefix("W/").unwrap_or(tag) == etag
    });
    let mut response = if is_known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        ([(CONTENT_TYPE, media)], text()).into_response()
    };
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(keep));
    if let Ok(etag) = HeaderValue::from_str(etag) {
        headers.insert(ETAG, etag);
    }
    headers.insert(CONTENT_SECURITY_POLICY, POLICY);
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(OPENER_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert(RESOURCE_POLICY, HeaderValue::from_static("same-origin"));
    response
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    /// What the page may weigh in all, uncompressed.
    const MOST_BYTES: usize = 60 << 10;

    #[test]
    fn it_is_small() {
        let bytes = INDEX.len() + ASSETS.iter().map(|asset| asset.text.len()).sum::<usize>();
        assert!(bytes <= MOST_BYTES, "{bytes} bytes");
    }

    #[test]
    fn every_file_that_is_named_is_there_and_every_other_is_not_loaded() {
        let texts = ASSETS.iter().map(|asset| asset.text).chain([INDEX]).collect::<String>();
        for asset in ASSETS {
            let name = asset.name;
            let named = [format!("page/{{version}}/{name}\""), format!("from \"./{name}\"")];
            assert!(named.iter().any(|reference| texts.contains(reference)), "{name}");
        }
        for imported in texts.split("from \"./").skip(1).filter_map(|rest| rest.split('"').next()) {
            assert!(ASSETS.iter().any(|asset| asset.name == imported), "{imported}");
        }
        assert!(!texts.contains("innerHTML") && !INDEX.contains(" style=") && !INDEX.contains(" on"));
    }

    #[rstest]
    #[case("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", true)]
    #[case("application/json, Text/HTML ;q=0.5", true)]
    #[case("*/*", false)]
    #[case("text/plain", false)]
    #[case("application/json", false)]
    fn browsers_are_told_by_what_they_accept(#[case] accept: &str, #[case] wanted: bool) {
        let headers = [(ACCEPT, accept.parse().unwrap())].into_iter().collect();
        assert_eq!(is_wanted(&headers), wanted);
    }
}
