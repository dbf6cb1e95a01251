//! Behaviour over real connections.

mod answers;
mod control;
mod faults;
mod limits;
mod protocol;

use reqwest::{Client, Response};
use serde_json::{Value, json};

use super::*;

/// An upstream with a client of its own.
struct Scene {
    upstream: Running,
    client: Client,
}

impl Scene {
    async fn of(script: &str) -> Self {
        let script = toml::from_str(script).unwrap();
        Self { upstream: ScriptedUpstream::start(script).await.unwrap(), client: client() }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.upstream.addr())
    }

    /// One chat call with this prompt.
    async fn try_chat(&self, prompt: &str) -> reqwest::Result<Response> {
        self.client.post(self.url("/v1/chat/completions")).json(&chat(prompt)).send().await
    }

    async fn chat(&self, prompt: &str) -> Response {
        self.try_chat(prompt).await.unwrap()
    }

    /// The statuses of so many equal calls, one after the other.
    async fn statuses(&self, prompt: &str, calls: usize) -> Vec<u16> {
        let mut statuses = Vec::new();
        for _ in 0..calls {
            statuses.push(self.chat(prompt).await.status().as_u16());
        }
        statuses
    }

    async fn get(&self, path: &str) -> Value {
        self.client.get(self.url(path)).send().await.unwrap().json().await.unwrap()
    }

    /// Waits until so many calls are noted as ended.
    async fn ended(&self, calls: u64) -> LogReport {
        loop {
            let report = self.upstream.log();
            if report.answered.values().sum::<u64>() + report.cut + report.gone >= calls {
                return report;
            }
            tokio::task::yield_now().await;
        }
    }
}

fn client() -> Client {
    Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap()
}

fn chat(prompt: &str) -> Value {
    json!({"model": "demo-small", "messages": [{"role": "user", "content": prompt}], "max_completion_tokens": 16})
}
