//! The service's API as the command line uses it: plain HTTP, as any client would.

mod results;
mod trouble;
mod wire;

use std::time::Duration;

use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::Value;

pub(super) use self::results::ResultLines;
pub use self::trouble::Trouble;
pub(super) use self::wire::{Batch, has_ended};

use super::error::CliError;

/// One server.
#[derive(Clone, Debug)]
pub(super) struct Client {
    http: reqwest::Client,
    base: String,
    key: Option<String>,
    /// The variable that puts a proxy between, if one does.
    proxy: Option<String>,
}

impl Client {
    /// Of the server at `base`, such as `http://127.0.0.1:8080`, with or without `/v1`.
    pub(super) fn new(base: &str, key: Option<String>) -> Result<Self, CliError> {
        let base = base.trim_end_matches('/').trim_end_matches("/v1").to_owned();
        let builder = reqwest::Client::builder().connect_timeout(Duration::from_secs(10));
        let builder = if is_loopback(&base) { builder.no_proxy() } else { builder };
        let http =
            builder.build().map_err(|error| CliError::Unreachable(Trouble::of(&error, &base, None)))?;
        Ok(Self { http, base, key, proxy: None })
    }

    /// The same, which knows of a proxy that is in the way.
    pub(super) fn behind(mut self, proxy: Option<String>) -> Self {
        self.proxy = proxy.filter(|_| !is_loopback(&self.base));
        self
    }

    /// Where the server is.
    pub(super) fn base(&self) -> &str {
        &self.base
    }

    /// A request with the key.
    pub(super) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        match &self.key {
            Some(key) => request.bearer_auth(key),
            None => request,
        }
    }

    /// The answer to a request, if it is a good one.
    pub(super) async fn send(&self, request: RequestBuilder) -> Result<Response, CliError> {
        let reply = request.send().await.map_err(|error| self.trouble(&error))?;
        let status = reply.status();
        if status.is_success() {
            return Ok(reply);
        }
        let body: Value = reply.json().await.unwrap_or_default();
        let message = match body["error"]["message"].as_str() {
            Some(message) => message.to_owned(),
            None if status == StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
                "the proxy asks for a name and a password; HTTP_PROXY or HTTPS_PROXY may hold them".to_owned()
            }
            None => format!("{} gave no reason that Sluicegate would give: is the URL right?", self.base),
        };
        Err(CliError::Refused { status: status.as_u16(), message })
    }

    /// What to say of a call without an answer.
    pub(super) fn trouble(&self, error: &reqwest::Error) -> CliError {
        CliError::Unreachable(Trouble::of(error, &self.base, self.proxy.as_deref()))
    }

    /// The JSON of a good answer.
    pub(super) async fn json<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, CliError> {
        let text = self.send(request).await?.text().await.map_err(|error| self.trouble(&error))?;
        serde_json::from_str(&text).map_err(|error| self.unreadable(&error))
    }

    /// What to say of an answer that is none.
    pub(super) fn unreadable(&self, error: &serde_json::Error) -> CliError {
        let reason = format!("its answer is not Sluicegate's ({error}); is the URL right?");
        CliError::Unreachable(Trouble::other(&self.base, reason))
    }

    /// The JSON at a path.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, CliError> {
        self.json(self.request(Method::GET, path)).await
    }

    /// Uploads a JSONL file; its id.
    pub(super) async fn upload(&self, name: &str, body: reqwest::Body) -> Result<String, CliError> {
        let part = reqwest::multipart::Part::stream(body).file_name(name.to_owned());
        let form = reqwest::multipart::Form::new().text("purpose", "batch").part("file", part);
        let file: Value = self.json(self.request(Method::POST, "/v1/files").multipart(form)).await?;
        Ok(file["id"].as_str().unwrap_or_default().to_owned())
    }

    /// Creates a batch; with a key, the same one again.
    pub(super) async fn create(
        &self,
        body: &Value,
        idempotency_key: Option<&str>,
    ) -> Result<Batch, CliError> {
        let mut request = self.request(Method::POST, "/v1/batches").json(body);
        if let Some(key) = idempotency_key {
            request = request.header("idempotency-key", key);
        }
        self.json(request).await
    }

    /// The newest batch with these labels, whose values need no escaping, and then those that tried again what did not
    /// succeed in it or in each other, the oldest first: a retry has its batch's labels. Nothing if it was refused.
    pub(super) async fn find(&self, labels: &[(&str, &str)]) -> Result<Vec<Batch>, CliError> {
        #[derive(serde::Deserialize)]
        struct Page {
            data: Vec<Batch>,
            has_more: bool,
        }
        let labels: String =
            labels.iter().map(|(name, value)| format!("&metadata%5B{name}%5D={value}")).collect();
        let (mut newer, mut after) = (Vec::new(), String::new());
        loop {
            let page: Page = self.get(&format!("/v1/batches?limit=100{labels}{after}")).await?;
            for batch in page.data {
                if batch.sluicegate.retry_of.is_none() {
                    let was_refused = batch.status == "failed";
                    return Ok(if was_refused { Vec::new() } else { with_retries(batch, newer) });
                }
                newer.push(batch);
            }
            match newer.last() {
                Some(last) if page.has_more => after = format!("&after={}", last.id),
                _ => return Ok(Vec::new()),
            }
        }
    }

    /// A batch.
    pub(super) async fn batch(&self, id: &str) -> Result<Batch, CliError> {
        self.get(&format!("/v1/batches/{}", escaped(id))).await
    }

    /// Does something with a batch, such as `cancel` or `retry`; the batch that this gives.
    pub(super) async fn act<T: DeserializeOwned>(&self, id: &str, action: &str) -> Result<T, CliError> {
        self.json(self.request(Method::POST, &format!("/v1/batches/{}/{action}", escaped(id)))).await
    }

    /// The results of a batch in the order of its input, line by line, however many they are.
    pub(super) fn results(&self, id: &str) -> ResultLines {
        ResultLines::new(self.clone(), id)
    }

    /// Text of any path, such as the first results.
    pub(super) async fn text(&self, path: &str) -> Result<String, CliError> {
        let reply = self.send(self.request(Method::GET, path)).await?;
        reply.text().await.map_err(|error| self.trouble(&error))
    }
}

/// A batch and those of the others that are retries of it, of these or of their retries; the others the newest first.
fn with_retries(batch: Batch, others: Vec<Batch>) -> Vec<Batch> {
    let mut tried = vec![batch];
    for other in others.into_iter().rev() {
        let retry_of = other.sluicegate.retry_of.as_deref();
        let is_of_these = tried.iter().any(|before| retry_of == Some(before.id.as_str()));
        if is_of_these && other.status != "failed" {
            tried.push(other);
        }
    }
    tried
}

/// Whether a URL is of this machine, where no proxy ever stands between.
fn is_loopback(url: &str) -> bool {
    url.contains("//127.") || url.contains("//localhost") || url.contains("//[::1]")
}

/// A part of a path as a user typed it.
pub(super) fn escaped(part: &str) -> String {
    percent_encoding::utf8_percent_encode(part, percent_encoding::NON_ALPHANUMERIC).to_string()
}
