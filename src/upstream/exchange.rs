//! A provider's client and its one operation: a request out, a reply in.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, header};
use reqwest::{Body, Request, Response, Url};
use tokio::time::{Instant, timeout_at};

use super::call::{Call, CallError, Phase, PhaseTimeouts, Reply};
use super::collect::{Collector, ReplyMemory, head_limit};
use super::credential::Credential;
use super::quota_headers;
use super::reply_head;
use super::request_url;
use super::settings::{UpstreamError, UpstreamSettings};
use super::shards::{Place, Shards};
use super::streaming::{self, Opening, Streamed};
use crate::domain::endpoint::Endpoint;

/// One provider's client. Calls share it by reference.
pub struct Upstream {
    /// A request without its body for each endpoint, in the order of their indexes: its URL and
    /// headers are made once instead of for every call.
    templates: [Request; Endpoint::ALL.len()],
    shards: Arc<Shards>,
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
        let base = request_url::base(settings)?;
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
            let mut request = Request::new(Method::POST, request_url::of_endpoint(&base, endpoint));
            *request.headers_mut() = template.headers().clone();
            request
        });
        let shards = Arc::new(Shards::new(settings, &base)?);
        Ok(Self { templates, shards, credential, settings: settings.clone() })
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
        let Call { endpoint, model, body, headers, timeouts, max_reply } = call;
        let mut request = self.request(endpoint, model, body)?;
        for (name, value) in headers {
            request.headers_mut().insert(name.clone(), value.clone());
        }
        let place = self.shards.take();
        let response = self.head(&place, request, started, &timeouts).await?;
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

    /// Makes one request and reads its reply's head; the body is the caller's to read. Dropping the
    /// future or the body ends the call.
    ///
    /// # Errors
    /// Why there is no head. Any status is a reply.
    pub async fn open(&self, opening: Opening<'_>) -> Result<Streamed, CallError> {
        let started = Instant::now();
        let Opening { endpoint, model, body, headers, query, timeouts } = opening;
        let mut request = self.request(endpoint, model, body)?;
        streaming::lay_over(request.headers_mut(), headers);
        // Decompressing would hold events back, and the reply's usage has to be readable.
        request.headers_mut().insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if let Some(query) = query {
            let query = request_url::joined_query(request.url().query(), query);
            request.url_mut().set_query(query.as_deref());
        }
        let place = self.shards.take();
        let response = self.head(&place, request, started, &timeouts).await?;
        Ok(Streamed::new(response, place, timeouts, started))
    }

    /// An error reply without the provider's key, should it quote it: replies are shown to clients.
    pub fn blank_out_key(&self, body: Bytes) -> Bytes {
        self.credential.blank_out(body)
    }

    async fn head(
        &self,
        place: &Place,
        request: Request,
        started: Instant,
        timeouts: &PhaseTimeouts,
    ) -> Result<Response, CallError> {
        let (limit, phase) = head_limit(timeouts);
        match timeout_at(started + limit, place.client().execute(request)).await {
            Ok(response) => response.map_err(|error| self.no_response(&error)),
            Err(_) => Err(CallError::Timeout { phase, after: limit }),
        }
    }

    fn request(&self, endpoint: Endpoint, model: &str, body: Bytes) -> Result<Request, CallError> {
        let key = self.credential.current().map_err(|error| CallError::Credential { detail: error.0 })?;
        let template = &self.templates[usize::from(endpoint.index())];
        let url = if self.settings.deployments {
            request_url::of_deployment(template.url(), endpoint, model)
        } else {
            template.url().clone()
        };
        let mut request = Request::new(Method::POST, url);
        *request.headers_mut() = template.headers().clone();
        if let Some((name, value)) = key {
            request.headers_mut().insert(name, value);
        }
        *request.body_mut() = Some(Body::from(body));
        Ok(request)
    }

    /// Where the provider lists its models.
    pub(super) fn models_url(&self) -> Url {
        let endpoint = Endpoint::ChatCompletions;
        let mut url = self.templates[usize::from(endpoint.index())].url().clone();
        let base = url.path().strip_suffix(endpoint.upstream_path()).unwrap_or_default().to_owned();
        url.set_path(&format!("{base}/models"));
        url
    }

    /// Gives a request the headers that every call has, the key's included.
    pub(super) fn put_headers(&self, request: &mut Request) -> Result<(), CallError> {
        let key = self.credential.current().map_err(|error| CallError::Credential { detail: error.0 })?;
        *request.headers_mut() = self.templates[0].headers().clone();
        if let Some((name, value)) = key {
            request.headers_mut().insert(name, value);
        }
        Ok(())
    }

    /// Sends a request and reads its reply's head.
    pub(super) async fn reach(
        &self,
        request: Request,
        started: Instant,
        timeouts: &PhaseTimeouts,
    ) -> Result<Response, CallError> {
        self.head(&self.shards.take(), request, started, timeouts).await
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
