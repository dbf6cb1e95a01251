//! The service's HTTP API, as a client uses it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderMap};
use reqwest::{Client, RequestBuilder};
use serde_json::{Value, json};

/// Statuses from which a batch moves no more.
const TERMINAL: [&str; 4] = ["completed", "failed", "expired", "cancelled"];

/// A client of one service.
#[derive(Clone, Debug)]
pub(crate) struct Api {
    root: String,
    client: Client,
}

impl Api {
    /// A client of the service at an address.
    pub(crate) fn of(address: SocketAddr) -> anyhow::Result<Self> {
        Ok(Self { root: format!("http://{address}"), client: Client::builder().no_proxy().build()? })
    }

    /// The same service, asked with a key.
    pub(crate) fn with_key(&self, key: &str) -> anyhow::Result<Self> {
        let headers = HeaderMap::from_iter([(AUTHORIZATION, format!("Bearer {key}").parse()?)]);
        Ok(Self {
            root: self.root.clone(),
            client: Client::builder().no_proxy().default_headers(headers).build()?,
        })
    }

    /// A client for each of some apps, which get weights; the first keys of a service that has none.
    pub(crate) async fn apps(&self, apps: &[(&str, u32)]) -> anyhow::Result<Vec<Self>> {
        let operator = self.with_key(&self.new_key("default", "admin").await?)?;
        operator.app_keys(apps).await?.iter().map(|key| self.with_key(key)).collect()
    }

    /// A key for each of some apps, asked for as an operator.
    pub(crate) async fn app_keys(&self, apps: &[(&str, u32)]) -> anyhow::Result<Vec<String>> {
        let mut keys = Vec::new();
        for (name, weight) in apps {
            let path = format!("{}/admin/v1/apps/{name}", self.root);
            json_of(self.client.put(path).json(&json!({"weight": weight}))).await?;
            keys.push(self.new_key(name, "app").await?);
        }
        Ok(keys)
    }

    async fn new_key(&self, app: &str, scope: &str) -> anyhow::Result<String> {
        let asked = json!({"app": app, "scope": scope});
        let made = json_of(self.client.post(format!("{}/admin/v1/keys", self.root)).json(&asked)).await?;
        Ok(made["key"].as_str().context("no key in the answer")?.to_owned())
    }

    /// Whether it says that it is ready.
    pub(crate) async fn is_ready(&self) -> bool {
        let asked =
            self.client.get(format!("{}/readyz", self.root)).timeout(Duration::from_secs(2)).send().await;
        asked.is_ok_and(|answer| answer.status().is_success())
    }

    /// Uploads a batch's input; its file's id.
    pub(crate) async fn upload(&self, content: Bytes) -> anyhow::Result<String> {
        const BOUNDARY: &str = "bench-5f1d0c7e";
        let head = format!(
            "--{BOUNDARY}\r\ncontent-disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n--{BOUNDARY}\r\n\
             content-disposition: form-data; name=\"file\"; filename=\"in.jsonl\"\r\n\
             content-type: application/octet-stream\r\n\r\n"
        );
        let tail = format!("\r\n--{BOUNDARY}--\r\n");
        let length = head.len() + content.len() + tail.len();
        let parts = [Bytes::from(head), content, Bytes::from(tail)].map(Ok::<_, std::io::Error>);
        let request = self
            .client
            .post(format!("{}/v1/files", self.root))
            .header("content-type", format!("multipart/form-data; boundary={BOUNDARY}"))
            .header("content-length", length)
            .body(reqwest::Body::wrap_stream(futures_util::stream::iter(parts)));
        id_of(&json_of(request).await?)
    }

    /// Creates a batch of an uploaded file; its id.
    pub(crate) async fn create(&self, file: &str) -> anyhow::Result<String> {
        self.create_for(file, "/v1/chat/completions", "24h").await
    }

    /// The same for an endpoint and with a window of its own.
    pub(crate) async fn create_for(
        &self,
        file: &str,
        endpoint: &str,
        window: &str,
    ) -> anyhow::Result<String> {
        let body = json!({"input_file_id": file, "endpoint": endpoint, "completion_window": window});
        id_of(&json_of(self.client.post(format!("{}/v1/batches", self.root)).json(&body)).await?)
    }

    /// Creates a batch of an uploaded file, once however often it is asked with the same key; its id.
    pub(crate) async fn create_once(&self, file: &str, key: &str) -> anyhow::Result<String> {
        let body =
            json!({"input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h"});
        let request = self.client.post(format!("{}/v1/batches", self.root)).header("idempotency-key", key);
        id_of(&json_of(request.json(&body)).await?)
    }

    /// Makes a live call and reads its answer to the end: its status and its text.
    pub(crate) async fn chat(&self, body: &Value) -> anyhow::Result<(u16, String)> {
        let request = self.client.post(format!("{}/v1/chat/completions", self.root)).json(body);
        let answer = request.send().await?;
        Ok((answer.status().as_u16(), answer.text().await?))
    }

    /// The batch object.
    pub(crate) async fn batch(&self, id: &str) -> anyhow::Result<Value> {
        json_of(self.client.get(format!("{}/v1/batches/{id}", self.root))).await
    }

    /// Uploads an input and creates a batch of it; the batch's id.
    pub(crate) async fn submit(&self, content: Bytes) -> anyhow::Result<String> {
        self.create(&self.upload(content).await?).await
    }

    /// The batch object of one that must still run: without a backlog to the end, use and shares mean nothing.
    pub(crate) async fn unended(&self, id: &str, what: &str) -> anyhow::Result<Value> {
        let batch = self.batch(id).await?;
        anyhow::ensure!(batch["status"] == "in_progress", "{what} ran dry: {batch}");
        Ok(batch)
    }

    /// Waits until so many items of some batches have succeeded, looking every so often.
    pub(crate) async fn until_completed(
        &self,
        ids: &[String],
        enough: f64,
        every: Duration,
    ) -> anyhow::Result<()> {
        loop {
            let mut done = 0.0;
            for id in ids {
                done += self.completed(id).await?;
            }
            if done >= enough {
                return Ok(());
            }
            tokio::time::sleep(every).await;
        }
    }

    /// Items of a batch that have succeeded.
    pub(crate) async fn completed(&self, id: &str) -> anyhow::Result<f64> {
        Ok(self.batch(id).await?["request_counts"]["completed"].as_f64().unwrap_or(0.0))
    }

    /// Every limit and its use.
    pub(crate) async fn budget(&self) -> anyhow::Result<Value> {
        json_of(self.client.get(format!("{}/v1/budget", self.root))).await
    }

    /// Takes a backup of the store; what the service says of it.
    pub(crate) async fn back_up(&self) -> anyhow::Result<Value> {
        json_of(self.client.post(format!("{}/admin/v1/backup", self.root))).await
    }

    /// Cancels a batch.
    pub(crate) async fn cancel(&self, id: &str) -> anyhow::Result<Value> {
        json_of(self.client.post(format!("{}/v1/batches/{id}/cancel", self.root))).await
    }

    /// Waits until a batch has ended, looking every so often.
    pub(crate) async fn ended(&self, id: &str, every: Duration, within: Duration) -> anyhow::Result<Value> {
        let started = Instant::now();
        loop {
            let batch = self.batch(id).await?;
            if TERMINAL.iter().any(|status| batch["status"] == *status) {
                return Ok(batch);
            }
            anyhow::ensure!(
                started.elapsed() < within,
                "batch {id} has not ended within {within:?}: {batch}"
            );
            tokio::time::sleep(every).await;
        }
    }

    /// The content of a file; nothing for the null that stands for no file.
    pub(crate) async fn content(&self, file: &Value) -> anyhow::Result<Bytes> {
        let Some(file) = file.as_str() else { return Ok(Bytes::new()) };
        let request = self.client.get(format!("{}/v1/files/{file}/content", self.root));
        Ok(request.send().await?.error_for_status()?.bytes().await?)
    }
}

async fn json_of(request: RequestBuilder) -> anyhow::Result<Value> {
    let answer = request.send().await?;
    let (status, url, text) = (answer.status(), answer.url().clone(), answer.text().await?);
    anyhow::ensure!(status.is_success(), "{url}: {status}: {text}");
    serde_json::from_str(&text).with_context(|| format!("{url}: {text}"))
}

fn id_of(object: &Value) -> anyhow::Result<String> {
    Ok(object["id"].as_str().with_context(|| format!("no id in {object}"))?.to_owned())
}
