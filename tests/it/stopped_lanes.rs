//! What only an operator can mend: keys, quotas, an upstream that is away.

use serde_json::{Value, json};
use sluicegate::demo::upstream::{Script, ScriptedUpstream};

use crate::harness::{Metrics, Service, Settings, chat, chats, eventually, upstream};

fn waits_for(reason: &'static str) -> impl Fn(&Value) -> bool {
    move |batch| batch["sluicegate"]["waiting"][0]["reason"] == reason
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_key_file_opens_the_lane_and_no_attempt_is_lost() {
    let upstream = upstream(r#"keys = ["sk-right"]"#).await;
    let settings = Settings::new(&upstream);
    let key_file = settings.file("key");
    std::fs::write(&key_file, "sk-wrong\n").unwrap();
    let keys =
        format!("providers.up.auth = \"bearer\"\nproviders.up.api_key_file = \"{}\"", key_file.display());
    let service = Service::start(settings.with(&keys)).await;
    let id = service.submit(&chats(20, ""), json!({"max_attempts": 1})).await;
    service.until(&id, "the lane waits for its key", waits_for("credential")).await;
    let metrics = service.metrics().await;
    assert_eq!(metrics.sum("sluicegate_lane_state", &[r#"state="stopped""#]), 1.0);
    let refused = upstream.log().arrived;
    assert!(refused <= 20, "a stopped lane probes, it does not knock: {refused}");

    std::fs::write(&key_file, "sk-right\n").unwrap();
    let batch = service.ended(&id).await;
    assert_eq!(batch["request_counts"], json!({"total": 20, "completed": 20, "failed": 0}));
    assert_eq!(batch["sluicegate"]["attempts"], 20);
    let opened = |metrics: &Metrics| metrics.sum("sluicegate_lane_state", &[r#"state="open""#]) == 1.0;
    service.metrics_until("the lane is open", opened).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_key_file_stops_the_lane_and_not_the_service() {
    let upstream = upstream(r#"keys = ["sk-right"]"#).await;
    let settings = Settings::new(&upstream);
    let key_file = settings.file("key");
    let keys =
        format!("providers.up.auth = \"bearer\"\nproviders.up.api_key_file = \"{}\"", key_file.display());
    let service = Service::start(settings.with(&keys)).await;
    let id = service.submit(&chats(3, ""), json!({"max_attempts": 1})).await;
    service.until(&id, "the lane waits for its key", waits_for("credential")).await;
    assert_eq!(upstream.log().arrived, 0, "nothing is sent without the key");
    std::fs::write(&key_file, "sk-right").unwrap();
    let batch = service.ended(&id).await;
    assert_eq!(batch["request_counts"]["completed"], 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_quota_stops_the_lane_and_shows_it() {
    let upstream = upstream("").await;
    let service = Service::start(Settings::new(&upstream)).await;
    let mut lines = chats(10, "");
    lines[0] = chat("item-0", "[[quota]]");
    let id = service.submit(&lines, json!({"max_concurrency": 1})).await;
    let batch = service.until(&id, "the lane waits for quota", waits_for("quota")).await;
    assert_eq!(batch["status"], "in_progress");
    assert_eq!(batch["sluicegate"]["attempts"], 0);
    assert_eq!(batch["request_counts"], json!({"total": 10, "completed": 0, "failed": 0}));
    assert_eq!(upstream.log().arrived, 1, "the rest is not tried");
    let item = service.get(&format!("/v1/batches/{id}/items/item-5")).await.ok();
    assert_eq!(item["state"], "pending");
    let metrics = service.metrics().await;
    assert_eq!(metrics.sum("sluicegate_upstream_429_total", &[r#"kind="quota""#]), 1.0);
    // A stopped lane holds up neither a cancel nor what follows.
    service.post(&format!("/v1/batches/{id}/cancel"), &json!({})).await.ok();
    assert_eq!(service.ended(&id).await["status"], "cancelled");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_comes_up_late_gets_everything() {
    let upstream = upstream("").await;
    let address = upstream.addr();
    let settings = Settings::new(&upstream)
        .with(r#"retry = { max_attempts = 50, min_delay = "50ms", max_delay = "100ms" }"#);
    upstream.shutdown().await;
    let service = Service::start(settings).await;
    let id = service.submit(&chats(5, ""), json!({})).await;
    service.until(&id, "it tries", |batch| batch["sluicegate"]["waiting"].is_array()).await;
    let upstream = ScriptedUpstream::start_at(address, Script::default()).await.unwrap();
    let batch = service.ended(&id).await;
    assert_eq!(batch["request_counts"]["completed"], 5, "{batch}");
    eventually("all have arrived", || upstream.log().arrived == 5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_stays_away_fails_the_items_with_a_reason() {
    let upstream = upstream("").await;
    let settings = Settings::new(&upstream).with("retry = { max_attempts = 2 }");
    upstream.shutdown().await;
    let service = Service::start(settings).await;
    let id = service.submit(&chats(5, ""), json!({})).await;
    let batch = service.ended(&id).await;
    assert_eq!(batch["status"], "completed");
    assert_eq!(batch["request_counts"], json!({"total": 5, "completed": 0, "failed": 5}));
    assert_eq!(batch["output_file_id"], Value::Null);
    for result in service.results(&id, "").await {
        assert_eq!(result["error"]["code"], "connection_error");
        assert_eq!(result["sluicegate"]["attempts"], 2);
    }
}
