//! Which batch goes first.

use serde_json::{Value, json};

use crate::harness::{Service, Settings, chats, upstream};

fn completed(batch: &Value) -> u64 {
    batch["request_counts"]["completed"].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_is_late_already_goes_behind_without_starving() {
    let upstream = upstream(r#"latency = "5ms""#).await;
    let limits = r#"providers.up.limits = { requests = "150/s" }"#;
    let service = Service::start(Settings::new(&upstream).with(limits)).await;
    // 40 s of work.
    let late = service.submit(&chats(6_000, ""), json!({"completion_window": "25s"})).await;
    service.until(&late, "it is late", |batch| batch["sluicegate"]["on_time"] == false).await;
    let before = completed(&service.batch(&late).await);
    // Fifteen segments.
    let in_time = service.submit(&chats(960, ""), json!({"completion_window": "1h"})).await;
    service.ended(&in_time).await;
    let meanwhile = completed(&service.batch(&late).await) - before;
    // At least one lease of 64, and what goes while the other batch is taken up and ends.
    assert!((64..300).contains(&meanwhile), "{meanwhile}");
    let path = format!("/v1/batches/{late}/cancel");
    service.post(&path, &json!({})).await.ok();
    service.ended(&late).await;
}
