//! Answers of status 200 that are errors: clients get them as they are, and lanes are judged by what they say.

use serde_json::{Value, json};

use crate::harness::{Metrics, PATIENCE, Recording, Service, Settings, upstream};

const CHAT: &str = "/v1/chat/completions";
const ATTEMPTS: &str = "sluicegate_attempts_total";

fn chat(text: &str) -> Value {
    json!({"model": "demo-small", "messages": [{"role": "user", "content": text}]})
}

fn attempts(class: &'static str, count: f64) -> impl Fn(&Metrics) -> bool {
    move |metrics| metrics.sum(ATTEMPTS, &[&format!("class=\"{class}\"")]) == count
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_is_passed_on_as_it_is_and_counts_as_its_status() {
    let upstream = upstream("").await;
    let service = Service::start(Settings::new(&upstream)).await;
    let answer = service.post(CHAT, &chat("[[200-error=502]]")).await;
    let sent = r#"{"error":{"code":502,"message":"The script asked for an error here."}}"#;
    assert_eq!((answer.status.as_u16(), answer.text.as_str()), (200, sent));
    let metrics = service.metrics_until("a failed attempt", attempts("server_error", 1.0)).await;
    let calls = "sluicegate_request_duration_seconds_count";
    assert_eq!(metrics.sum(calls, &[r#"outcome="failed""#, "interactive"]), 1.0);
    // What is the request's own fault is no fault of the lane's.
    assert_eq!(service.post(CHAT, &chat("[[200-error=400]]")).await.status, 200);
    service.metrics_until("a refused request", attempts("client_error", 1.0)).await;
    let failures =
        async { while service.get("/admin/v1/apps").await.ok()["data"][0]["usage"][0]["failures"] != 2 {} };
    tokio::time::timeout(PATIENCE, failures).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_for_rate_closes_the_lane_and_one_of_the_key_stops_it() {
    let upstream = upstream("").await;
    let service = Service::start(Settings::new(&upstream)).await;
    let refused = service.post(CHAT, &chat("[[200-error=429]]")).await;
    assert!(refused.text.contains("429"), "the client waits for nothing: {}", refused.text);
    let metrics = service.metrics_until("a refusal", attempts("rate_limited", 1.0)).await;
    assert_eq!(metrics.sum("sluicegate_upstream_429_total", &[r#"kind="rate""#]), 1.0);
    // The next call waits until the lane opens again.
    let answer = service.post(CHAT, &chat("")).await;
    assert_eq!(answer.status, 200);
    assert!(answer.header("sluicegate-waited-ms").parse::<u64>().unwrap() > 0);

    let refused = service.post(CHAT, &chat("[[200-error=401]]")).await;
    assert_eq!(refused.status, 200);
    let stopped = |metrics: &Metrics| metrics.sum("sluicegate_lane_state", &[r#"state="stopped""#]) == 1.0;
    service.metrics_until("the lane is stopped", stopped).await;
    assert_eq!(service.post(CHAT, &chat("")).await.refused(503)["code"], "lane_stopped");
    assert_eq!(upstream.log().arrived, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_speaks_of_errors_is_an_answer() {
    // As every answer of the responses endpoint has it.
    const ANSWER: &str = "{\"error\": null, \"output\": \"\\\"error\\\": {}\", \"x\": {\"error\": {}}}\n";
    let (_recording, address) = Recording::start(ANSWER).await;
    let unused = upstream("").await;
    let more = format!("providers.up.base_url = \"http://{address}/v1\"");
    let service = Service::start(Settings::new(&unused).with(&more)).await;
    assert_eq!(service.post("/v1/responses", &json!({"model": "m"})).await.text, ANSWER);
    service.metrics_until("an answer", attempts("ok", 1.0)).await;
}
