//! Keeping other sites' pages out.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{HOST, ORIGIN};
use http::{HeaderMap, HeaderName};

use super::super::error::{ApiError, Refusal};
use super::super::keyring::Keyring;
use super::super::state::ApiSettings;

/// What tells our own page's calls from others'.
#[derive(Clone, Debug)]
pub(crate) struct Visitors {
    pub(crate) settings: Arc<ApiSettings>,
    pub(crate) keyring: Keyring,
}

/// Refuses calls that a browser sends for a page of an origin that is not known here.
///
/// Only browsers send `Origin`. Comparing it with `Host` alone would let a site in whose own name
/// resolves to this machine (DNS rebinding), so a name must be known or mean this machine itself; unless a
/// key is asked for, which such a site does not have.
pub(crate) async fn refuse_foreign_pages(
    State(Visitors { settings, keyring }): State<Visitors>,
    request: Request,
    next: Next,
) -> Response {
    let host = text(request.headers(), HOST);
    match text(request.headers(), ORIGIN) {
        Some(origin) if !is_known(&settings, origin, host, keyring.demands_keys()) => {
            let why = "This origin may not call this service. Add it to server.cors_origins to let it.";
            ApiError::new(Refusal::OriginRefused, why).into_response()
        }
        _ => next.run(request).await,
    }
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

fn is_known(settings: &ApiSettings, origin: &str, host: Option<&str>, keys_demanded: bool) -> bool {
    if settings.cors_origins.iter().any(|known| known == "*" || known.trim_end_matches('/') == origin) {
        return true;
    }
    let ours = settings.public_url.as_deref().and_then(origin_of);
    if ours == Some(origin) {
        return true;
    }
    let authority = origin.split_once("://").map(|(_, authority)| authority);
    authority
        .is_some_and(|authority| host == Some(authority) && (keys_demanded || is_this_machine(authority)))
}

/// Scheme and authority of a URL.
fn origin_of(url: &str) -> Option<&str> {
    let authority = url.find("://")? + "://".len();
    let end = url[authority..].find('/').map_or(url.len(), |path| authority + path);
    Some(&url[..end])
}

fn is_this_machine(authority: &str) -> bool {
    let name = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    name == "localhost" || name.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("http://localhost:8080", "localhost:8080", true)]
    #[case("http://127.0.0.1:8080", "127.0.0.1:8080", true)]
    #[case("http://[::1]:8080", "[::1]:8080", true)]
    #[case("http://localhost:3000", "localhost:8080", false)]
    #[case("http://evil.example:8080", "evil.example:8080", false)]
    #[case("https://gate.example", "10.0.0.1:8080", true)]
    #[case("https://app.example", "10.0.0.1:8080", true)]
    #[case("null", "localhost:8080", false)]
    #[case("http://10.0.0.1:8080", "10.0.0.1:8080", false)]
    fn origins(#[case] origin: &str, #[case] host: &str, #[case] known: bool) {
        let settings = ApiSettings {
            public_url: Some("https://gate.example/llm".to_owned()),
            cors_origins: vec!["https://app.example".to_owned()],
            ..ApiSettings::default()
        };
        assert_eq!(is_known(&settings, origin, Some(host), false), known);
        let is_ours = origin.split_once("://").is_some_and(|(_, authority)| authority == host);
        assert_eq!(is_known(&settings, origin, Some(host), true), known || is_ours);
    }
}
