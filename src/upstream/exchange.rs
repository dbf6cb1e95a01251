//! A provider's client and its one operation: a request out, a reply in.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use http::{HeaderName, HeaderValue, Method, header};
use reqwest::{Body, Request, Url};
use tokio::time::{Instant, timeout_at};

use super::call::{Call, CallError, Phase, Reply};
use super::collect::{Collector, ReplyMemory, head_limit};
use super::credential::Credential;
use super::quota_headers;
use super::reply_head;
use super::settings::{UpstreamError, UpstreamSettings};
use super::shards::Shards;
use crate::domain::endpoint::Endpoint;

/// One provider's client. Calls share it by reference.
pub struct Upstream {
    /// A request without its body for each endpoint, in the order of their indexes: its URL and
    /// headers are made once instead of for every call.
    templates: [Request; Endpoint::ALL.len()],
    shards: Shards,
    credential: Arc<Credential>,
    settings: UpstreamSettings,
}

impl fmt::Debug for Upstream {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Upstream")
            .field("settings", &self.settings)
            .field("in_flight", &self.in_flight())
            .finish_non_exhaustive()
    }
}

impl Upstream {
    /// A client by these settings. It connects to nothing yet.
    ///
    /// # Errors
    /// The setting that it can't be built from.
    pub fn new(settings: &UpstreamSettings, credential: Arc<Credential>) -> Result<Self, UpstreamError> {
        let base = base_url(settings)?;
        let mut template = Request::new(Method::POST, base.clone());
        let headers = template.headers_mut();
        let agent = concat!("sluicegate/", env!("CARGO_PKG_VERSION"));
        headers.insert(header::USER_AGENT, HeaderValue::from_static(agent));
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        for (name, value) in &settings.headers {
            let unusable = || UpstreamError::Header(name.clone());
            let mut value = HeaderValue::from_str(value).map_err(|_| unusable())?;
            // Keys for proxies and gateways are given here too.
            value.set_sensitive(true);
            headers.insert(HeaderName::from_bytes(name.as_bytes()).map_err(|_| unusable())?, value);
        }
        let templates = Endpoint::ALL.map(|endpoint| {
            let mut request = Request::new(Method::POST, endpoint_url(&base, endpoint));
            *request.headers_mut() = template.headers().clone();
            request
        });
        Ok(Self { templates, shards: Shards::new(settings, &base)?, credential, settings: settings.clone() })
    }

    /// The provider's key.
    pub const fn credential(&self) -> &Arc<Credential> {
        &self.credential
    }

    /// Calls under way.
    pub fn in_flight(&self) -> usize {
        self.shards.in_flight()
    }

    /// Makes one request and reads its reply to the end. Dropping the future ends the call.
    ///
    /// # Errors
    /// Why there is no whole reply. Any status is a reply.
    pub async fn call<M: ReplyMemory>(&self, call: Call<'_>, memory: &M) -> Result<Reply, CallError> {
        let started = Instant::now();
        let Call { timeouts, max_reply, .. } = call;
        let request = self.request(call)?;
        let place = self.shards.take();
        let (limit, phase) = head_limit(&timeouts);
        let response = match timeout_at(started + limit, place.client().execute(request)).await {
            Ok(response) => response.map_err(|error| self.no_response(&error))?,
            Err(_) => return Err(CallError::Timeout { phase, after: limit }),
        };
        let first_byte = started.elapsed();
        let status = response.status().as_u16();
        let headers = response.headers();
        let request_id = reply_head::request_id(headers);
        let retry_after = reply_head::retry_after(headers, SystemTime::now);
        let should_retry = reply_head::should_retry(headers);
        let quota = quota_headers::readings(headers, SystemTime::now);
        let collector = Collector { memory, timeouts, ends_at: started + timeouts.total, max_reply };
        let mut body = collector.collect(response).await?;
        if status >= 400 {
            body = self.credential.blank_out(body);
        }
        let total = started.elapsed();
        Ok(Reply { status, request_id, retry_after, should_retry, quota, body, first_byte, total })
    }

    fn request(&self, call: Call<'_>) -> Result<Request, CallError> {
        let key = self.credential.current().map_err(|error| CallError::Credential { detail: error.0 })?;
        let template = &self.templates[usize::from(call.endpoint.index())];
        let mut request = Request::new(Method::POST, template.url().clone());
        *request.headers_mut() = template.headers().clone();
        if let Some((name, value)) = key {
            request.headers_mut().insert(name, value);
        }
        for (name, value) in call.headers {
            request.headers_mut().insert(name.clone(), value.clone());
        }
        *request.body_mut() = Some(Body::from(call.body));
        Ok(request)
    }

    fn no_response(&self, error: &reqwest::Error) -> CallError {
        if !error.is_connect() {
            return broken_off(error);
        }
        if error.is_timeout() {
            return CallError::Timeout { phase: Phase::Connect, after: self.settings.connect_timeout };
        }
        CallError::Connect { detail: innermost(error) }
    }
}

/// The error of a connection that was there.
pub(super) fn broken_off(error: &reqwest::Error) -> CallError {
    CallError::BrokenOff { detail: innermost(error) }
}

/// What an error is in the end about. The outer ones repeat the URL, which may hold secrets.
pub(super) fn innermost(error: &reqwest::Error) -> String {
    let mut inner: Option<&dyn Error> = error.source();
    while let Some(source) = inner.and_then(Error::source) {
        inner = Some(source);
    }
    inner.map_or_else(|| "for no stated reason".to_owned(), ToString::to_string)
}

fn base_url(settings: &UpstreamSettings) -> Result<Url, UpstreamError> {
    let refused = |reason: &str| UpstreamError::BaseUrl(reason.to_owned());
    let mut base =
        Url::parse(&settings.base_url).map_err(|error| UpstreamError::BaseUrl(error.to_string()))?;
    if !matches!(base.scheme(), "http" | "https") {
        return Err(refused("it has to start with http:// or https://"));
    }
    if !base.username().is_empty() || base.password().is_some() {
        return Err(refused("a name and password have no place in it; use headers"));
    }
    base.set_fragment(None);
    if !settings.query.is_empty() {
        base.query_pairs_mut().extend_pairs(&settings.query);
    }
    Ok(base)
}

/// The base's path, one slash, the endpoint's path; the base's query stays.
fn endpoint_url(base: &Url, endpoint: Endpoint) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}{}", base.path().trim_end_matches('/'), endpoint.upstream_path()));
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url_of(base: &str, query: &[(&str, &str)]) -> Result<String, UpstreamError> {
        let mut settings = UpstreamSettings::new(base);
        settings.query = query.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        Ok(endpoint_url(&base_url(&settings)?, Endpoint::ChatCompletions).to_string())
    }

    #[test]
    fn base_and_endpoint_are_joined_by_one_slash() {
        for (base, query, url) in [
            ("https://a.example/v1", &[][..], "https://a.example/v1/chat/completions"),
            ("https://a.example/v1/", &[], "https://a.example/v1/chat/completions"),
            ("http://a.example:8000", &[], "http://a.example:8000/chat/completions"),
            ("https://a.example/v1?k=1", &[("v", "a b")], "https://a.example/v1/chat/completions?k=1&v=a+b"),
            ("https://a.example/a%20b/v1#x", &[], "https://a.example/a%20b/v1/chat/completions"),
        ] {
            assert_eq!(url_of(base, query).expect("a URL"), url);
        }
        for base in ["a.example/v1", "ftp://a.example", "https://name:s3cret@a.example/v1", ""] {
            let text = url_of(base, &[]).expect_err("refused").to_string();
            assert!(text.starts_with("base_url: ") && !text.contains("s3cret"), "{text}");
        }
    }
}
