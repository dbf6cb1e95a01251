//! Live calls: what clients make that wait for the answer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use reqwest::{Client, Response};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::setting::sleep_until;

/// A short chat request.
pub(crate) fn chat_body() -> Vec<Value> {
    vec![json!({"model": "bench", "messages": [{"role": "user", "content": "Say something."}]})]
}

/// Makes calls with some bodies in turn.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    client: Client,
    url: String,
    bodies: Arc<[Value]>,
}

/// What became of calls that were made as fast as a pace demands.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Demand {
    /// Calls that were answered with 200.
    pub(crate) answered: u64,
    /// Those that were answered with another status, or not at all.
    pub(crate) failed: u64,
    /// Those that were not made, as too many were waiting already.
    pub(crate) held_back: u64,
}

impl Caller {
    /// Of the service at an address.
    pub(crate) fn of(address: SocketAddr, bodies: Vec<Value>) -> anyhow::Result<Self> {
        Self::at(format!("http://{address}/v1/chat/completions"), bodies)
    }

    /// Of whatever answers at a URL.
    pub(crate) fn at(url: String, bodies: Vec<Value>) -> anyhow::Result<Self> {
        let client = Client::builder().no_proxy().retry(reqwest::retry::never()).build()?;
        Ok(Self { client, url, bodies: bodies.into() })
    }

    /// Makes one call and reads its answer; the seconds that took.
    pub(crate) async fn timed(&self, number: usize) -> anyhow::Result<f64> {
        let started = Instant::now();
        self.send(number).await?.error_for_status()?.bytes().await?;
        Ok(started.elapsed().as_secs_f64())
    }

    /// Makes calls at random moments until one: what each waited in the gate, in milliseconds.
    pub(crate) async fn at_random(&self, per_second: f64, until: Instant) -> anyhow::Result<Vec<f64>> {
        let mut under_way = JoinSet::new();
        let mut next = Instant::now();
        while next < until {
            sleep_until(next).await;
            let caller = self.clone();
            under_way.spawn(async move { caller.waited(0).await });
            next += gap(per_second);
        }
        under_way.join_all().await.into_iter().collect()
    }

    /// Makes calls at random moments until one, with at most so many waiting at once.
    pub(crate) async fn demand(&self, per_second: f64, waiting: usize, until: Instant) -> Demand {
        let (mut under_way, mut demand) = (JoinSet::new(), Demand::default());
        let places = Arc::new(Semaphore::new(waiting));
        let mut next = Instant::now();
        for number in 0.. {
            next += gap(per_second);
            if next >= until {
                break;
            }
            sleep_until(next).await;
            while let Some(ended) = under_way.try_join_next() {
                demand.count(ended.unwrap_or(false));
            }
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                demand.held_back += 1;
                continue;
            };
            let caller = self.clone();
            under_way.spawn(async move {
                let _place = place;
                caller.timed(number).await.is_ok()
            });
        }
        for ended in under_way.join_all().await {
            demand.count(ended);
        }
        demand
    }

    async fn send(&self, number: usize) -> anyhow::Result<Response> {
        let body = self.bodies.get(number % self.bodies.len().max(1)).context("no body to send")?;
        Ok(self.client.post(&self.url).json(body).send().await?)
    }

    async fn waited(&self, number: usize) -> anyhow::Result<f64> {
        let answer = self.send(number).await?.error_for_status()?;
        let waited = answer
            .headers()
            .get("sluicegate-waited-ms")
            .context("the answer names no wait")?
            .to_str()?
            .parse()?;
        answer.bytes().await?;
        Ok(waited)
    }
}

impl Demand {
    fn count(&mut self, is_answered: bool) {
        if is_answered {
            self.answered += 1;
        } else {
            self.failed += 1;
        }
    }
}

/// Calls of many people come at random: the gaps are exponential.
fn gap(per_second: f64) -> Duration {
    Duration::from_secs_f64(-(1.0 - rand::random::<f64>()).ln() / per_second)
}
