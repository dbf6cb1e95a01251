//! A disk that runs full: nothing new is taken or sent, nothing is lost, and it goes on by itself.

use std::io::Write as _;
use std::path::Path;

use serde_json::{Value, json};

use crate::harness::{Metrics, Process, Service, Settings, chats, eventually, upstream};

fn waits_for_disk(batch: &Value) -> bool {
    batch["sluicegate"]["waiting"][0]["reason"] == "disk"
}

#[tokio::test(flavor = "multi_thread")]
async fn under_its_reserve_nothing_is_taken_and_nothing_is_spent() {
    let upstream = upstream("").await;
    let settings = Settings::new(&upstream);
    let slow = settings.clone().with(r#"limits = { requests = "1/h" }"#);
    let service = Service::start(slow).await;
    let id = service.submit(&chats(10, ""), json!({})).await;
    eventually("the one of this hour is sent", || upstream.log().arrived == 1).await;
    service.stop().await;
    let service = Service::start(settings.clone().with(r#"store = { min_free = "1000000GB" }"#)).await;
    let refused = service.upload("{}\n").await;
    assert_eq!(refused.refused(507)["code"], "storage_full");
    let inline = json!({
        "endpoint": "/v1/chat/completions", "completion_window": "1h", "requests": chats(1, "")
    });
    assert_eq!(service.post("/v1/batches", &inline).await.refused(507)["code"], "storage_full");
    let live = service.chat_within("50ms").await;
    assert_eq!(live.refused(507)["code"], "storage_full");
    let ready = service.get("/readyz").await;
    assert_eq!((ready.status.as_u16(), ready.json()["reasons"].clone()), (503, json!(["disk_full"])));
    let takes_work =
        |takes: f64| move |metrics: &Metrics| metrics.sum("sluicegate_store_takes_work", &[]) == takes;
    let metrics = service.metrics_until("the store takes nothing", takes_work(0.0)).await;
    assert_eq!(metrics.sum("sluicegate_store_min_free_bytes", &[]), 1e15);
    // What there is can be read and changed.
    service.post(&format!("/v1/batches/{id}"), &json!({"priority": 7})).await.ok();
    service.until(&id, "it waits for the disk", waits_for_disk).await;
    assert_eq!(upstream.log().arrived, 1);
    service.stop().await;
    let service = Service::start(settings).await;
    assert_eq!(service.ended(&id).await["request_counts"]["completed"], 10);
    service.metrics_until("the store takes work", takes_work(1.0)).await;
}

/// Writes zeros until the disk takes no more.
fn fill(path: &Path) {
    let mut file = std::fs::File::create(path).unwrap();
    let zeros = vec![0; 64 * 1024];
    while file.write_all(&zeros).is_ok() {}
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_holds_everything_up_until_there_is_room() {
    const ITEMS: usize = 300;
    let upstream = upstream(r#"latency = "20ms..60ms""#).await;
    let settings = Settings::new(&upstream).with(
        r#"
        store = { min_free = "4MiB" }
        limits = { max_concurrent = 8 }
        "#,
    );
    // A file system of its own needs a namespace to mount it in; where that is forbidden there is nothing to test.
    let Some((process, data)) = Process::start_on_small_disk(&settings, "160m") else {
        return;
    };
    let id = process.submit(&chats(ITEMS, ""), json!({})).await;
    eventually("it runs", || upstream.log().arrived > 20).await;
    let filler = data.join("filler");
    fill(&filler);
    process.until(&id, "it waits for the disk", waits_for_disk).await;
    // What was in flight went to the room that the ballast left.
    let settled =
        process.until(&id, "nothing runs", |batch| batch["sluicegate"]["counts"]["running"] == 0).await;
    let arrived = upstream.log().arrived;
    assert!(arrived < ITEMS as u64);
    assert_eq!(settled["request_counts"]["completed"], arrived, "{settled:#}");
    assert_eq!(process.upload("{}\n").await.refused(507)["code"], "storage_full");
    assert_eq!(process.get("/readyz").await.status, 503);
    assert_eq!(upstream.log().arrived, arrived, "nothing is sent meanwhile");

    std::fs::remove_file(&filler).unwrap();
    let batch = process.ended(&id).await;
    assert_eq!(batch["request_counts"], json!({"total": ITEMS, "completed": ITEMS, "failed": 0}));
    assert_eq!(upstream.log().repeats, 0);
    assert_eq!(process.by_id(&id).await.len(), ITEMS);
    assert_eq!(process.get("/readyz").await.status, 200);
}
