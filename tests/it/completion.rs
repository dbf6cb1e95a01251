//! What clients are told of a batch's future.

use serde_json::{Value, json};

use crate::harness::{Service, Settings, chats, upstream};

fn range(batch: &Value) -> Option<(i64, i64)> {
    let range = batch["sluicegate"]["estimated_completion_range"].as_array()?;
    Some((range[0].as_i64().unwrap(), range[1].as_i64().unwrap()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_steady_batch_ends_within_its_range() {
    for (latency, limits) in [("1ms..50ms", r#"requests = "60/s""#), ("50ms..150ms", "max_concurrent = 6")] {
        let upstream = upstream(&format!("latency = \"{latency}\"")).await;
        let limits = format!("providers.up.limits = {{ {limits} }}");
        let service = Service::start(Settings::new(&upstream).with(&limits)).await;
        let id = service.submit(&chats(300, ""), json!({})).await;
        let tenth = |batch: &Value| batch["request_counts"]["completed"].as_u64() >= Some(30);
        let batch =
            service.until(&id, "it knows its end", |batch| tenth(batch) && range(batch).is_some()).await;
        assert_eq!(batch["sluicegate"]["on_time"], true, "{batch:#}");
        let (p50, p90) = range(&batch).unwrap();
        assert_eq!(batch["sluicegate"]["estimated_completion_at"], p50);
        let ended = service.ended(&id).await["completed_at"].as_i64().unwrap();
        // Whole seconds, and a second for a machine that does other things too.
        assert!((p50 - 1..=p90 + 1).contains(&ended), "{ended} of {p50}..{p90}: {limits}");
        assert!(p90 - p50 <= 2, "{p50}..{p90}: {limits}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_that_is_too_short_is_told_before_it_ends() {
    let upstream = upstream("").await;
    let limits = r#"providers.up.limits = { requests = "10/s" }"#;
    let service = Service::start(Settings::new(&upstream).with(limits)).await;
    let id = service.submit(&chats(400, ""), json!({"completion_window": "20s"})).await;
    let late = |batch: &Value| batch["sluicegate"]["on_time"] == false && range(batch).is_some();
    let batch = service.until(&id, "it is late", late).await;
    assert!(range(&batch).unwrap().0 > batch["expires_at"].as_i64().unwrap(), "{batch:#}");
    // Another one goes first: this one is later by it.
    let ahead = json!({"priority": 5, "completion_window": "1h"});
    let first = service.submit(&chats(200, ""), ahead).await;
    let later = service
        .until(&id, "it is put off", |now| range(now) > range(&batch).map(|(p50, p90)| (p50 + 15, p90)));
    later.await;
    let goes_first = service.until(&first, "it knows its end", |batch| range(batch).is_some()).await;
    assert_eq!(goes_first["sluicegate"]["on_time"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_said_while_nobody_knows_when_it_goes_on() {
    let upstream = upstream("").await;
    let limits = r#"providers.up.limits = { requests = "20/s" }"#;
    let service = Service::start(Settings::new(&upstream).with(limits)).await;
    let id = service.submit(&chats(100, ""), json!({})).await;
    service.until(&id, "it knows its end", |batch| range(batch).is_some()).await;
    let (path, lane) = (format!("/v1/batches/{id}"), json!({"provider": "up", "model": "demo-small"}));
    service.post(&path, &json!({"paused": true})).await.ok();
    service.until(&id, "its pause is open-ended", |batch| range(batch).is_none()).await;
    service.post(&path, &json!({"paused": false})).await.ok();
    service.until(&id, "it goes on", |batch| range(batch).is_some()).await;
    service.post("/admin/v1/lanes/pause", &lane).await.ok();
    service.until(&id, "its lane's pause is open-ended", |batch| range(batch).is_none()).await;
    service.post("/admin/v1/lanes/resume", &lane).await.ok();
    service.until(&id, "it goes on", |batch| range(batch).is_some()).await;
    service.ended(&id).await;
}
