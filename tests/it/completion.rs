//! What clients are told of a batch's future.

use serde_json::{Value, json};

use crate::harness::{Service, Settings, chat, chats, upstream};

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

#[tokio::test(flavor = "multi_thread")]
async fn a_window_that_can_not_be_met_is_refused_with_what_would_fit() {
    let upstream = upstream("").await;
    let limits = r#"providers.up.limits = { requests = "20/s" }"#;
    let service = Service::start(Settings::new(&upstream).with(limits)).await;
    let ask = |window: &str| json!({"completion_window": window, "require_on_time": true});
    let error = service.create(&chats(200, ""), ask("5s")).await.refused(400);
    assert_eq!(
        (&error["code"], &error["param"]),
        (&json!("window_unreachable"), &json!("completion_window"))
    );
    let list = service.get("/v1/batches").await.ok();
    assert_eq!(list["data"], json!([]), "nothing was stored");
    let (window, items) = told(&error);
    assert!((10..14).contains(&window) && (75..100).contains(&items), "{error}");
    let fits = service.submit(&chats(items, ""), ask("5s")).await;
    // What is queued before it counts, and goes first with its shorter window.
    let (longer, fewer) = told(&service.create(&chats(200, ""), ask("12s")).await.refused(400));
    assert!((13..20).contains(&longer), "{longer}");
    assert!(fewer < 160, "{fewer}");
    // With a higher priority it would be the first.
    let mut first = ask("14s");
    first["priority"] = json!(10);
    let id = service.submit(&chats(200, ""), first).await;
    assert_eq!(service.ended(&id).await["status"], "completed");
    service.ended(&fits).await;
}

/// The window, in seconds, and the items that a refusal tells would fit.
fn told(error: &Value) -> (usize, usize) {
    let message = error["message"].as_str().unwrap();
    let number_before = |after: &str| {
        let (before, _) = message.split_once(after).unwrap_or_else(|| panic!("{message}"));
        before.rsplit_once(' ').unwrap().1.parse().unwrap_or_else(|_| panic!("{message}"))
    };
    (number_before("s would do"), number_before(" of its items"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_create_finds_its_batch_however_late_it_is_by_now() {
    let upstream = upstream("").await;
    let limits = r#"providers.up.limits = { requests = "20/s" }"#;
    let service = Service::start(Settings::new(&upstream).with(limits)).await;
    let file = service.upload(crate::harness::jsonl(&chats(80, ""))).await.ok();
    let create = json!({"input_file_id": file["id"], "endpoint": "/v1/chat/completions",
        "completion_window": "6s", "require_on_time": true});
    let send = |key: &'static str| {
        let request = service.request(http::Method::POST, "/v1/batches").header("idempotency-key", key);
        service.send(request.json(&create))
    };
    let made = send("one").await.ok();
    service.until(made["id"].as_str().unwrap(), "it runs", |batch| range(batch).is_some()).await;
    assert_eq!(send("two").await.refused(400)["code"], "window_unreachable");
    assert_eq!(send("one").await.ok()["id"], made["id"]);
    service.ended(made["id"].as_str().unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_nothing_known_every_window_is_accepted() {
    let upstream = upstream("").await;
    let service = Service::start(Settings::new(&upstream)).await;
    let options = json!({"completion_window": "2s", "require_on_time": true});
    let id = service.submit(&chats(500, ""), options).await;
    service.ended(&id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_item_shows_that_it_runs_or_what_it_waits_for() {
    let upstream = upstream("").await;
    let service = Service::start(Settings::new(&upstream)).await;
    let lines = [chat("item-0", "[[hang]]"), chat("item-1", "")];
    let id = service.submit(&lines, json!({"max_concurrency": 1})).await;
    let path = format!("/v1/batches/{id}");
    let batch = service.until(&id, "one runs", |batch| batch["sluicegate"]["counts"]["running"] == 1).await;
    assert_eq!(batch["sluicegate"]["counts"]["pending"], 1, "{batch:#}");
    let items = [0, 1].map(|number| format!("{path}/items/item-{number}"));
    let (runs, waits) = (service.get(&items[0]).await.ok(), service.get(&items[1]).await.ok());
    let both = [&runs["state"], &runs["waiting"], &waits["state"], &waits["waiting"]["reason"]];
    assert_eq!(both, [&json!("running"), &json!(null), &json!("pending"), &json!("concurrency")], "{waits}");
    service.post(&path, &json!({"paused": true})).await.ok();
    let paused = |batch: &Value| batch["sluicegate"]["waiting"][0]["reason"] == "paused";
    service.until(&id, "it is paused", paused).await;
    assert_eq!(service.get(&items[1]).await.ok()["waiting"]["reason"], "paused");
}
