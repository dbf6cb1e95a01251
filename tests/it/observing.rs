//! What operators see, and what nobody may see.

use serde_json::json;

use crate::harness::{Metrics, Process, Service, Settings, chat, chats, upstream};

/// Every name that the interface pins and that concerns what exists.
const NAMES: [&str; 33] = [
    "request_duration_seconds_bucket",
    "batch_duration_seconds_bucket",
    "attempt_duration_seconds_bucket",
    "queue_wait_seconds_bucket",
    "gate_wait_seconds_bucket",
    "store_commit_seconds_bucket",
    "store_commit_rows_bucket",
    "http_request_duration_seconds_bucket",
    "items_total",
    "attempts_total",
    "retries_total",
    "upstream_429_total",
    "tokens_total",
    "budget_admitted_total",
    "budget_refunded_total",
    "budget_limit_per_second",
    "in_flight",
    "items_pending",
    "oldest_pending_seconds",
    "batches",
    "lane_state",
    "deadline_slack_seconds",
    "store_wal_bytes",
    "store_size_bytes",
    "disk_free_bytes",
    "writer_queue",
    "build_info",
    "batch_duration_seconds_count",
    "request_duration_seconds_count",
    "attempt_duration_seconds_count",
    "gate_wait_seconds_count",
    "store_commit_seconds_count",
    "http_request_duration_seconds_count",
];

#[tokio::test(flavor = "multi_thread")]
async fn metrics_have_their_names_and_add_up() {
    let upstream = upstream(r#"latency = "5ms""#).await;
    let service = Service::start(Settings::new(&upstream)).await;
    let mut lines = chats(40, "");
    lines[3] = chat("item-3", "[[400]]");
    lines[5] = chat("item-5", "[[500 x2]]");
    lines[8] = chat("item-8", "[[429 x1]]");
    lines[9] = chat("item-9", "[[reset x1]]");
    let id = service.submit(&lines, json!({})).await;
    let batch = service.ended(&id).await;
    let idle = |metrics: &Metrics| {
        metrics.sum("sluicegate_items_pending", &[]) == 0.0
            && metrics.sum("sluicegate_batches", &[r#"status="completed""#]) == 1.0
    };
    let metrics = service.metrics_until("nothing pends", idle).await;
    for name in NAMES {
        metrics.sum(&format!("sluicegate_{name}"), &[]);
    }
    metrics.sum("process_resident_memory_bytes", &[]);
    let sum = |name: &str, labels: &[&str]| metrics.sum(&format!("sluicegate_{name}"), labels);
    assert_eq!(sum("items_total", &[r#"outcome="succeeded""#]), 39.0);
    assert_eq!(sum("items_total", &[r#"outcome="failed""#]), 1.0);
    assert_eq!(sum("request_duration_seconds_count", &[r#"kind="batch""#]), 40.0);
    assert_eq!(sum("attempts_total", &[]), upstream.log().arrived as f64);
    assert_eq!(sum("attempts_total", &[r#"class="ok""#]), 39.0);
    assert_eq!(sum("attempts_total", &[r#"class="client_error""#]), 1.0);
    assert_eq!(sum("attempts_total", &[r#"class="server_error""#]), 2.0);
    assert_eq!(sum("attempts_total", &[r#"class="rate_limited""#]), 1.0);
    assert_eq!(sum("attempts_total", &[r#"class="network""#]), 1.0);
    assert_eq!(sum("retries_total", &[]), 4.0);
    assert_eq!(sum("budget_admitted_total", &[]), upstream.log().arrived as f64);
    let tokens = sum("tokens_total", &[r#"type="input""#]) + sum("tokens_total", &[r#"type="output""#]);
    assert_eq!(json!(tokens as u64), batch["usage"]["total_tokens"]);
    assert_eq!(sum("batch_duration_seconds_count", &[r#"outcome="completed""#]), 1.0);
    assert_eq!(sum("in_flight", &[]), 0.0);
    assert_eq!(sum("oldest_pending_seconds", &[]), 0.0);
    assert!(sum("gate_wait_seconds_count", &[]) >= 40.0);
    assert!(sum("disk_free_bytes", &[]) > 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_will_be_late_shows_by_how_much() {
    let upstream = upstream("").await;
    let service = Service::start(Settings::new(&upstream).with(r#"limits = { requests = "1/s" }"#)).await;
    let id = service.submit(&chats(400, ""), json!({"completion_window": "60s"})).await;
    let slack = |metrics: &Metrics| metrics.sum("sluicegate_deadline_slack_seconds", &[]);
    service
        .metrics_until("some 340 s are missing", |metrics| (-400.0..-280.0).contains(&slack(metrics)))
        .await;
    service.post(&format!("/v1/batches/{id}/cancel"), &json!({})).await.ok();
    service.metrics_until("no batch runs", |metrics| slack(metrics) == 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_models_and_the_description_need_no_key() {
    let upstream = upstream("").await;
    let settings = Settings::new(&upstream).with("providers.up.lanes = [{ match = \"demo-small\" }]");
    let service = Service::start(settings).await;
    assert_eq!(service.get("/livez").await.ok()["status"], "ok");
    assert_eq!(service.get("/readyz").await.ok()["status"], "ok");
    assert_eq!(service.get("/v1/models").await.ok()["data"][0]["id"], "demo-small");
    assert!(service.get("/openapi.yaml").await.text.starts_with("openapi:"));
    let lost = service.get("/v1/nothing").await;
    assert!(lost.refused(404)["message"].is_string());
    assert_ne!(lost.header("x-request-id"), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_seen_by_the_provider_alone() {
    const KEY: &str = "sk-canary-5c1f0a9e77";
    const HEADER: &str = "canary-header-31d2";
    let upstream = upstream(&format!("keys = [\"{KEY}\"]")).await;
    let settings = Settings::new(&upstream);
    std::fs::write(settings.file("key"), KEY).unwrap();
    let keys = format!(
        "log = {{ level = \"debug\" }}\nproviders.up.auth = \"bearer\"\nproviders.up.api_key_file = \"{}\"\n\
         providers.up.headers = {{ x-tenant = \"{HEADER}\" }}",
        settings.file("key").display()
    );
    let settings = settings.with(&keys);
    let mut process = Process::start(&settings);
    let mut lines = chats(6, "");
    lines[1] = chat("item-1", "[[400]]");
    lines[2] = chat("item-2", "[[reset]]");
    lines[3] = chat("item-3", "[[401]]");
    let id = process.submit(&lines, json!({"max_attempts": 2})).await;
    let stopped = |batch: &serde_json::Value| batch["sluicegate"]["waiting"][0]["reason"] == "credential";
    process.until(&id, "the lane is stopped", stopped).await;
    process.post(&format!("/v1/batches/{id}/cancel"), &json!({})).await.ok();
    let batch = process.ended(&id).await;
    let mut shown = vec![batch.to_string(), process.metrics().await.0, process.get("/").await.text];
    shown.extend(process.results(&id, "").await.iter().map(ToString::to_string));
    process.terminate();
    process.exited().await;
    shown.push(process.log());
    assert!(process.log().contains("the lane is stopped"));
    for text in &shown {
        assert!(!text.contains("canary"), "{text}");
    }
    assert_eq!(settings.files_with(KEY), ["key"]);
    assert_eq!(settings.files_with(HEADER), ["sluicegate.toml"]);
}
