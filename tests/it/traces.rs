//! Traces: what a collector is sent, and what it never is.

use serde_json::json;

use crate::harness::{Process, Recording, Settings, chat, upstream};

fn holds(sent: &[u8], text: &str) -> bool {
    sent.windows(text.len()).any(|window| window == text.as_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_gets_spans_of_calls_and_attempts_and_no_secret() {
    let (collector, address) = Recording::start("").await;
    let upstream = upstream("").await;
    let settings = Settings::new(&upstream);
    let endpoint = format!("http://{address}");
    let environment = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str())];
    let mut process = Process::start_with_environment(&settings, &environment);
    let key = process.make_key(json!({"app": "default", "scope": "admin"})).await;
    let client = process.with_key(&key);
    let lines = [chat("name-of-a-client", "text of a prompt"), chat("other", "[[500 x1]]")];
    let id = client.submit(&lines, json!({})).await;
    client.ended(&id).await;
    let log = process.log();
    assert!(!log.contains("\"span\""), "log lines name no spans: {log}");
    process.terminate();
    assert!(process.exited().await.success());

    assert!(collector.targets().iter().all(|target| target == "/v1/traces"), "{:?}", collector.targets());
    let sent: Vec<u8> = collector.arrived().into_iter().flat_map(|(_, body)| body).collect();
    for there in
        ["sluicegate", "attempt", "POST /v1/files", "http.route", "demo-small", "server_error", "outcome"]
    {
        assert!(holds(&sent, there), "{there} is missing");
    }
    for secret in [key.as_str(), "Bearer", "text of a prompt", "name-of-a-client", id.as_str(), "127.0.0.1"] {
        assert!(!holds(&sent, secret), "{secret} was sent");
    }
}
