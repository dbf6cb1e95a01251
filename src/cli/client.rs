//! The service's API as the command line uses it: plain HTTP, as any client would.

use std::path::Path;
use std::time::Duration;

use futures_util::StreamExt as _;
use serde::Deserialize;
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;

use super::error::CliError;

/// A batch as far as the command line shows it.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Batch {
    pub(super) id: String,
    pub(super) status: String,
    pub(super) errors: Option<Errors>,
    pub(super) request_counts: Counts,
    pub(super) sluicegate: Details,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Errors {
    pub(super) data: Vec<Problem>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Problem {
    pub(super) line: Option<u64>,
    pub(super) code: Option<String>,
    pub(super) message: String,
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct Counts {
    pub(super) total: u64,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Details {
    pub(super) counts: StateCounts,
    pub(super) items_per_second: Option<f64>,
    pub(super) success_rate: Option<f64>,
    pub(super) item_seconds: ItemSeconds,
    pub(super) estimated_completion_at: Option<f64>,
    #[serde(default)]
    pub(super) waiting: Vec<Waiting>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct StateCounts {
    pub(super) succeeded: u64,
    pub(super) failed: u64,
    pub(super) expired: u64,
    pub(super) cancelled: u64,
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct ItemSeconds {
    pub(super) mean: Option<f64>,
    pub(super) min: Option<f64>,
    pub(super) max: Option<f64>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Waiting {
    pub(super) reason: String,
}

impl Batch {
    pub(super) fn done(&self) -> u64 {
        let counts = &self.sluicegate.counts;
        counts.succeeded + counts.failed + counts.expired + counts.cancelled
    }

    pub(super) fn has_ended(&self) -> bool {
        matches!(self.status.as_str(), "completed" | "failed" | "expired" | "cancelled")
    }
}

/// One server.
#[derive(Clone, Debug)]
pub(super) struct Client {
    http: reqwest::Client,
    base: String,
    key: Option<String>,
}

impl Client {
    /// Of the server at `base`, such as `http://127.0.0.1:8080`, with or without `/v1`.
    pub(super) fn new(base: &str, key: Option<String>) -> Result<Self, CliError> {
        let base = base.trim_end_matches('/').trim_end_matches("/v1").to_owned();
        let loopback = base.contains("//127.") || base.contains("//localhost") || base.contains("//[::1]");
        let builder = reqwest::Client::builder().connect_timeout(Duration::from_secs(10));
        let builder = if loopback { builder.no_proxy() } else { builder };
        Ok(Self { http: builder.build().map_err(CliError::Unreachable)?, base, key })
    }

    fn request(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        match &self.key {
            Some(key) => request.bearer_auth(key),
            None => request,
        }
    }

    async fn json<T: serde::de::DeserializeOwned>(request: reqwest::RequestBuilder) -> Result<T, CliError> {
        let reply = checked(request.send().await.map_err(CliError::Unreachable)?).await?;
        reply.json().await.map_err(CliError::Unreachable)
    }

    /// Uploads a JSONL file; its id.
    pub(super) async fn upload(&self, name: &str, body: reqwest::Body) -> Result<String, CliError> {
        let part = reqwest::multipart::Part::stream(body).file_name(name.to_owned());
        let form = reqwest::multipart::Form::new().text("purpose", "batch").part("file", part);
        let file: Value =
            Self::json(self.request(reqwest::Method::POST, "/v1/files").multipart(form)).await?;
        Ok(file["id"].as_str().unwrap_or_default().to_owned())
    }

    /// Creates a batch; with a key, the same one again.
    pub(super) async fn create(
        &self,
        body: &Value,
        idempotency_key: Option<&str>,
    ) -> Result<Batch, CliError> {
        let mut request = self.request(reqwest::Method::POST, "/v1/batches").json(body);
        if let Some(key) = idempotency_key {
            request = request.header("idempotency-key", key);
        }
        Self::json(request).await
    }

    /// The batch that an earlier `run` of the same input made.
    pub(super) async fn find(&self, run: &str) -> Result<Option<Batch>, CliError> {
        #[derive(Deserialize)]
        struct Page {
            data: Vec<Batch>,
        }
        let path = format!("/v1/batches?limit=1&metadata%5B{}%5D={run}", super::run::RUN);
        let page: Page = Self::json(self.request(reqwest::Method::GET, &path)).await?;
        Ok(page.data.into_iter().next())
    }

    pub(super) async fn batch(&self, id: &str) -> Result<Batch, CliError> {
        Self::json(self.request(reqwest::Method::GET, &format!("/v1/batches/{id}"))).await
    }

    /// Text of any path, such as the first results.
    pub(super) async fn text(&self, path: &str) -> Result<String, CliError> {
        let reply = self.request(reqwest::Method::GET, path).send().await.map_err(CliError::Unreachable)?;
        checked(reply).await?.text().await.map_err(CliError::Unreachable)
    }

    /// Writes every result in input order to `path`: beside it first, then renamed, so that it is never half.
    pub(super) async fn download(&self, batch: &str, path: &Path) -> Result<u64, CliError> {
        let local = |error| CliError::Local { path: path.to_owned(), error };
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".part");
        let beside = path.with_file_name(name);
        let mut file = tokio::fs::File::create(&beside).await.map_err(local)?;
        let (mut after, mut lines) = (0_u64, 0_u64);
        loop {
            let query = format!("/v1/batches/{batch}/results?order=input&limit=10000&after={after}");
            let request = self.request(reqwest::Method::GET, &query);
            let reply = checked(request.send().await.map_err(CliError::Unreachable)?).await?;
            let next = reply.headers().get("sluicegate-next-after").and_then(|next| next.to_str().ok());
            let next = next.and_then(|next| next.parse().ok()).unwrap_or(after);
            let mut body = reply.bytes_stream();
            while let Some(chunk) = body.next().await {
                let chunk = chunk.map_err(CliError::Unreachable)?;
                lines += chunk.iter().filter(|byte| **byte == b'\n').count() as u64;
                file.write_all(&chunk).await.map_err(local)?;
            }
            if next == after {
                break;
            }
            after = next;
        }
        file.sync_all().await.map_err(local)?;
        tokio::fs::rename(&beside, path).await.map_err(local)?;
        Ok(lines)
    }
}

/// The reply, or the error that the server explains.
async fn checked(reply: reqwest::Response) -> Result<reqwest::Response, CliError> {
    let status = reply.status();
    if status.is_success() {
        return Ok(reply);
    }
    let body: Value = reply.json().await.unwrap_or_default();
    let message = body["error"]["message"].as_str().unwrap_or("no reason given").to_owned();
    Err(CliError::Refused { status: status.as_u16(), message })
}
