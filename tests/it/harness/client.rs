//! A client of the API, as thin as can be: what is asserted is what went over the wire.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use reqwest::header::HeaderMap;
use reqwest::multipart::{Form, Part};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};

use super::{PATIENCE, jsonl};

/// Talks to one service.
#[derive(Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: String,
    key: Option<String>,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// The JSON of a call that must have worked.
    #[track_caller]
    pub(crate) fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text);
        self.json()
    }

    /// The error object of a call that must have been refused so.
    #[track_caller]
    pub(crate) fn refused(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        self.json()["error"].clone()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The lines of a JSONL answer.
    pub(crate) fn lines(&self) -> Vec<Value> {
        self.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Client {
    pub(crate) fn new(address: SocketAddr) -> Self {
        let http = reqwest::Client::builder().no_proxy().timeout(PATIENCE * 2).build().unwrap();
        Self { http, base: format!("http://{address}"), key: None }
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        match &self.key {
            Some(key) => request.bearer_auth(key),
            None => request,
        }
    }

    /// The same service, called with this key.
    pub(crate) fn with_key(&self, key: &str) -> Self {
        Self { key: Some(key.to_owned()), ..self.clone() }
    }

    /// The key that it calls with.
    pub(crate) fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// Makes a key with these fields and gives its text.
    pub(crate) async fn make_key(&self, fields: Value) -> String {
        self.post("/admin/v1/keys", &fields).await.ok()["key"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn send(&self, request: RequestBuilder) -> Answer {
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        Answer { status, headers, text: response.text().await.unwrap() }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path)).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(self.request(Method::POST, path).json(body)).await
    }

    /// A call of the client's own, which waits in the gate no longer than that.
    pub(crate) async fn chat_within(&self, wait: &str) -> Answer {
        let body =
            serde_json::json!({"model": "demo-small", "messages": [{"role": "user", "content": "Well?"}]});
        let request = self.request(Method::POST, "/v1/chat/completions").header("sluicegate-max-wait", wait);
        self.send(request.json(&body)).await
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> Answer {
        self.send(self.request(Method::PUT, path).json(body)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.send(self.request(Method::DELETE, path)).await
    }

    pub(crate) async fn upload(&self, content: impl Into<Vec<u8>>) -> Answer {
        let part = Part::bytes(content.into()).file_name("input.jsonl");
        let form = Form::new().text("purpose", "batch").part("file", part);
        self.send(self.request(Method::POST, "/v1/files").multipart(form)).await
    }

    /// Uploads lines and makes a batch of them; `options` are laid over the usual ones.
    pub(crate) async fn create(&self, lines: &[Value], options: Value) -> Answer {
        let file = self.upload(jsonl(lines)).await.ok();
        let mut body = json!({
            "input_file_id": file["id"], "endpoint": "/v1/chat/completions", "completion_window": "24h"
        });
        for (key, value) in options.as_object().unwrap() {
            body[key] = value.clone();
        }
        self.post("/v1/batches", &body).await
    }

    /// The id of a new batch of these lines.
    pub(crate) async fn submit(&self, lines: &[Value], options: Value) -> String {
        id_of(&self.create(lines, options).await.ok())
    }

    pub(crate) async fn batch(&self, id: &str) -> Value {
        self.get(&format!("/v1/batches/{id}")).await.ok()
    }

    /// Waits on the results until a batch has ended; its object.
    pub(crate) async fn ended(&self, id: &str) -> Value {
        let waiting = async {
            let mut after = "0".to_owned();
            loop {
                let path = format!("/v1/batches/{id}/results?limit=10000&wait=5s&after={after}");
                let page = self.get(&path).await;
                assert_eq!(page.status, 200, "{}", page.text);
                let status = page.header("sluicegate-batch-status");
                if matches!(status, "completed" | "failed" | "expired" | "cancelled") {
                    return;
                }
                after = page.header("sluicegate-next-after").to_owned();
            }
        };
        if tokio::time::timeout(PATIENCE, waiting).await.is_err() {
            panic!("it does not end: {:#}", self.batch(id).await);
        }
        self.batch(id).await
    }

    /// Waits on the events until a batch looks as wanted; its object then.
    pub(crate) async fn until(&self, id: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let waiting = async {
            loop {
                let path = format!("/v1/batches/{id}/events");
                let mut events = self.request(Method::GET, &path).send().await.unwrap();
                let mut text = String::new();
                while let Some(chunk) = events.chunk().await.unwrap() {
                    text.push_str(std::str::from_utf8(&chunk).unwrap());
                    while let Some((line, rest)) = text.split_once('\n') {
                        let batch =
                            line.strip_prefix("data:").map(|data| serde_json::from_str(data).unwrap());
                        if let Some(batch) = batch.filter(|batch| holds(batch)) {
                            return batch;
                        }
                        text = rest.to_owned();
                    }
                }
            }
        };
        match tokio::time::timeout(PATIENCE, waiting).await {
            Ok(batch) => batch,
            Err(_) => panic!("did not happen: {what}: {:#}", self.batch(id).await),
        }
    }

    /// All results, as `GET …/results` gives them with this query.
    pub(crate) async fn results(&self, id: &str, query: &str) -> Vec<Value> {
        let page = self.get(&format!("/v1/batches/{id}/results?limit=10000&{query}")).await;
        assert_eq!(page.status, 200, "{}", page.text);
        page.lines()
    }

    /// All results by `custom_id`; each must be there once.
    pub(crate) async fn by_id(&self, id: &str) -> BTreeMap<String, Value> {
        let mut found = BTreeMap::new();
        for result in self.results(id, "").await {
            let custom_id = result["custom_id"].as_str().unwrap().to_owned();
            assert!(found.insert(custom_id, result).is_none(), "a result comes twice");
        }
        found
    }

    /// A file's content.
    pub(crate) async fn content(&self, file: &Value) -> Answer {
        let content = self.get(&format!("/v1/files/{}/content", file.as_str().unwrap())).await;
        assert_eq!(content.status, 200, "{}", content.text);
        content
    }

    pub(crate) async fn metrics(&self) -> Metrics {
        Metrics(self.get("/metrics").await.text)
    }

    /// Scrapes until the gauges show what is wanted: they follow a few times a second.
    pub(crate) async fn metrics_until(&self, what: &str, holds: impl Fn(&Metrics) -> bool) -> Metrics {
        let scraping = async {
            loop {
                let metrics = self.metrics().await;
                if holds(&metrics) {
                    return metrics;
                }
            }
        };
        tokio::time::timeout(PATIENCE, scraping).await.unwrap_or_else(|_| panic!("did not show: {what}"))
    }
}

/// A batch's or file's id.
pub(crate) fn id_of(object: &Value) -> String {
    object["id"].as_str().unwrap().to_owned()
}

/// A scrape.
pub(crate) struct Metrics(pub(crate) String);

impl Metrics {
    /// The sum of a metric's series whose labels hold all of these parts, such as `outcome="failed"`.
    #[track_caller]
    pub(crate) fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        let series = self.0.lines().filter(|line| {
            let end = line.find(['{', ' ']).unwrap_or(line.len());
            &line[..end] == name && labels.iter().all(|label| line.contains(label))
        });
        let values: Vec<f64> = series.map(|line| line.rsplit(' ').next().unwrap().parse().unwrap()).collect();
        assert!(!values.is_empty(), "no series {name}{labels:?}");
        values.iter().sum()
    }
}
