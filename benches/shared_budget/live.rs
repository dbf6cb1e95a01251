//! Live calls beside the batches, streamed and not in turn.

use std::time::Duration;

use serde_json::json;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::client::{Findings, is_connection_loss};
use super::harness::api::Api;
use super::instance::PROVIDERS;

/// From one call to the next.
const PAUSE: Duration = Duration::from_millis(500);

/// Makes calls until it is told to stop. What fails is not tried again: it is what is counted.
pub(crate) async fn calls(api: &Api, stopped: &watch::Receiver<bool>) -> anyhow::Result<Findings> {
    let mut found = Findings::default();
    let mut ticks = tokio::time::interval(PAUSE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for number in 0_usize.. {
        ticks.tick().await;
        if *stopped.borrow() {
            break;
        }
        let stream = number.is_multiple_of(2);
        let body = json!({
            "model": PROVIDERS[number / 2 % PROVIDERS.len()],
            "stream": stream,
            "max_tokens": 40,
            "messages": [{"role": "user", "content": format!("[[id=live-{number}]][[out=20]] Say something short.")}],
        });
        match api.chat(&body).await {
            Ok((200, text)) if !stream || text.contains("[DONE]") => found.live_answered += 1,
            Ok((status, text)) => found.faults.push(format!("live call {number}: {status}: {text}")),
            Err(error) if is_connection_loss(&error) => found.live_lost += 1,
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}
