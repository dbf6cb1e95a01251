//! Batches that end early, wait, or go before others.

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::harness::{Client, Service, Settings, chat, chats, eventually, upstream};

/// Succeeded, failed, expired and cancelled of an ended batch, which must add up; so must its rows.
async fn tally(service: &Client, id: &str) -> [u64; 4] {
    let batch = service.ended(id).await;
    let counts = &batch["sluicegate"]["counts"];
    let tally = ["succeeded", "failed", "expired", "cancelled"].map(|state| counts[state].as_u64().unwrap());
    assert_eq!(json!(tally.iter().sum::<u64>()), batch["request_counts"]["total"], "{batch}");
    assert_eq!(counts["pending"], 0);
    assert_eq!(counts["running"], 0);
    assert_eq!(batch["request_counts"]["completed"], tally[0]);
    assert_eq!(batch["request_counts"]["failed"], tally[1]);
    let results = service.by_id(id).await;
    assert_eq!(results.len() as u64, tally.iter().sum::<u64>());
    let of = |code: &str| results.values().filter(|result| result["error"]["code"] == code).count() as u64;
    assert_eq!(of("batch_expired"), tally[2]);
    assert_eq!(of("batch_cancelled") + of("fail_fast"), tally[3]);
    tally
}

async fn cancel(service: &Client, id: &str) -> Value {
    service.post(&format!("/v1/batches/{id}/cancel"), &json!({})).await.ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_batch_keeps_what_it_has() {
    let upstream = upstream(r#"latency = "20ms..60ms""#).await;
    let settings = Settings::new(&upstream).with("limits = { max_concurrent = 8 }");
    let service = Service::start(settings).await;
    let id = service.submit(&chats(300, ""), json!({})).await;
    service
        .until(&id, "some are done", |batch| batch["request_counts"]["completed"].as_u64() > Some(10))
        .await;
    let told = cancel(&service, &id).await;
    assert!(["cancelling", "cancelled"].contains(&told["status"].as_str().unwrap()), "{told}");
    let [succeeded, failed, expired, cancelled] = tally(&service, &id).await;
    assert!(succeeded > 10 && cancelled > 0, "{succeeded} {cancelled}");
    assert_eq!((failed, expired), (0, 0));
    let batch = service.batch(&id).await;
    assert_eq!(batch["status"], "cancelled");
    assert!(batch["cancelled_at"].is_number() && batch["cancelling_at"].is_number());
    assert_eq!(service.content(&batch["output_file_id"]).await.lines().len() as u64, succeeded);
    assert_eq!(service.content(&batch["error_file_id"]).await.lines().len() as u64, cancelled);
    // Nothing was sent for those that were cancelled, and what was in flight has its answer.
    assert_eq!(upstream.log().arrived, succeeded);
    let metrics = service.metrics().await;
    assert_eq!(metrics.sum("sluicegate_items_total", &[r#"outcome="succeeded""#]), succeeded as f64);
    assert_eq!(metrics.sum("sluicegate_items_total", &[r#"outcome="cancelled""#]), cancelled as f64);
    assert_eq!(metrics.sum("sluicegate_batch_duration_seconds_count", &[r#"outcome="cancelled""#]), 1.0);
    // Again: the same; of one that is complete: a conflict that is not worth a retry.
    assert_eq!(cancel(&service, &id).await["status"], "cancelled");
    let done = service.submit(&chats(1, ""), json!({})).await;
    service.ended(&done).await;
    let refused = service.post(&format!("/v1/batches/{done}/cancel"), &json!({})).await;
    refused.refused(409);
    assert_eq!(refused.header("x-should-retry"), "false");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_right_after_the_create_ends_every_item() {
    let upstream = upstream("").await;
    // Nothing is in flight to be waited for: the end meets leases that are on their way to the disk.
    let service = Service::start(Settings::new(&upstream).with(r#"limits = { requests = "1/h" }"#)).await;
    let one = async || {
        let id = service.submit(&chats(200, ""), json!({})).await;
        cancel(&service, &id).await;
        tally(&service, &id).await;
    };
    join_all((0..40).map(|_| one())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fail_fast_stops_at_the_first_failed_item() {
    let upstream = upstream(r#"latency = "20ms""#).await;
    let settings = Settings::new(&upstream).with("limits = { max_concurrent = 4 }");
    let service = Service::start(settings).await;
    let mut lines = chats(200, "");
    lines[20] = chat("item-20", "[[400]]");
    let id = service.submit(&lines, json!({"on_error": "fail_fast"})).await;
    let [succeeded, failed, _, cancelled] = tally(&service, &id).await;
    assert_eq!(failed, 1);
    assert!((17..30).contains(&succeeded), "{succeeded}");
    assert!(cancelled > 0);
    let batch = service.batch(&id).await;
    assert_eq!(batch["status"], "cancelled");
    assert_eq!(batch["errors"]["data"][0]["code"], "fail_fast");
    assert_eq!(batch["errors"]["data"][0]["line"], 21);
    assert_eq!(service.by_id(&id).await["item-199"]["error"]["code"], "fail_fast");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_done_at_the_deadline_expires() {
    let upstream = upstream(r#"latency = "50ms""#).await;
    let settings = Settings::new(&upstream).with("limits = { max_concurrent = 2 }");
    let service = Service::start(settings).await;
    let mut lines = chats(200, "");
    // One that runs on beyond the deadline and still counts.
    lines[0] = chat("item-0", "[[slow=2s]]");
    let id = service.submit(&lines, json!({"completion_window": "1500ms"})).await;
    let [succeeded, failed, expired, cancelled] = tally(&service, &id).await;
    assert!(succeeded >= 5 && expired > 100, "{succeeded} {expired}");
    assert_eq!((failed, cancelled), (0, 0));
    assert_eq!(service.by_id(&id).await["item-0"]["response"]["status_code"], 200);
    let batch = service.batch(&id).await;
    assert_eq!(batch["status"], "expired");
    assert!(batch["expired_at"].is_number());
    let metrics = service.metrics().await;
    assert_eq!(metrics.sum("sluicegate_items_total", &[r#"outcome="expired""#]), expired as f64);
    assert_eq!(metrics.sum("sluicegate_batch_duration_seconds_count", &[r#"outcome="expired""#]), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn items_in_retry_expire_with_their_attempts_counted() {
    let upstream = upstream("").await;
    let settings = Settings::new(&upstream).with(r#"retry = { min_delay = "30s", max_delay = "60s" }"#);
    let service = Service::start(settings).await;
    let id = service.submit(&chats(3, "[[503 retry-after=30]]"), json!({"completion_window": "1s"})).await;
    assert_eq!(tally(&service, &id).await, [0, 0, 3, 0]);
    assert_eq!(service.batch(&id).await["sluicegate"]["attempts"], 3);
    assert_eq!(upstream.log().arrived, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_keeps_to_its_own_concurrency() {
    let upstream = upstream(r#"latency = "10ms""#).await;
    let service = Service::start(Settings::new(&upstream)).await;
    let id = service.submit(&chats(40, ""), json!({"max_concurrency": 3})).await;
    service.ended(&id).await;
    assert_eq!(upstream.oracle().max_in_flight, 3);
    let id = service.submit(&chats(200, ""), json!({"endpoint": "/v1/chat/completions"})).await;
    service.ended(&id).await;
    assert!(upstream.oracle().max_in_flight > 20, "{}", upstream.oracle().max_in_flight);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_batch_starts_nothing_until_told_to() {
    let upstream = upstream(r#"latency = "20ms""#).await;
    let settings = Settings::new(&upstream).with("limits = { max_concurrent = 2 }");
    let service = Service::start(settings).await;
    let id = service.submit(&chats(60, ""), json!({})).await;
    let path = format!("/v1/batches/{id}");
    eventually("it runs", || upstream.log().arrived > 4).await;
    service.post(&path, &json!({"paused": true})).await.ok();
    let paused = service
        .until(&id, "it is paused and nothing runs", |batch| {
            let ours = &batch["sluicegate"];
            ours["waiting"][0]["reason"] == "paused" && ours["counts"]["running"] == 0
        })
        .await;
    let done = upstream.log().arrived;
    assert!(done < 60, "{paused}");
    // Another batch is not held up by it, retries of its own included.
    let other = service.submit(&[chat("other", "[[503 x2]]")], json!({})).await;
    assert_eq!(service.ended(&other).await["request_counts"]["completed"], 1);
    assert_eq!(upstream.log().arrived, done + 3);
    service.post(&path, &json!({"paused": false})).await.ok();
    assert_eq!(service.ended(&id).await["request_counts"]["completed"], 60);
    assert_eq!(upstream.log().arrived, 63);
}

#[tokio::test(flavor = "multi_thread")]
async fn higher_priority_goes_first() {
    let upstream = upstream("latency = \"5ms\"\nlog = \"full\"").await;
    let settings = Settings::new(&upstream).with("limits = { max_concurrent = 1 }");
    let service = Service::start(settings).await;
    let lines =
        |name: &str| -> Vec<Value> { (0..150).map(|number| chat(&format!("{name}-{number}"), "")).collect() };
    let low = service.submit(&lines("low"), json!({"priority": -5})).await;
    let high = service.submit(&lines("high"), json!({"priority": 5})).await;
    service.ended(&low).await;
    service.ended(&high).await;
    let order: Vec<String> =
        upstream.entries(0, 400).into_iter().filter_map(|call| call.id).map(String::from).collect();
    let last_high = order.iter().rposition(|id| id.starts_with("high")).unwrap();
    let low_before = order[..last_high].iter().filter(|id| id.starts_with("low")).count();
    // What low had sent before high came, and a little that was in the gate already.
    let first_high = order.iter().position(|id| id.starts_with("high")).unwrap();
    assert!(
        low_before - first_high <= 1,
        "{low_before} low ones before the last high one, {first_high} before the first"
    );
    assert!(low_before < 150);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_batch_is_not_stuck_behind_a_large_one() {
    let upstream = upstream("latency = \"5ms\"\nlog = \"full\"").await;
    let settings = Settings::new(&upstream).with("limits = { max_concurrent = 4 }");
    let service = Service::start(settings).await;
    let large = service.submit(&chats(600, ""), json!({})).await;
    eventually("it runs", || upstream.log().arrived > 20).await;
    let small: Vec<Value> = (0..5).map(|number| chat(&format!("small-{number}"), "")).collect();
    let small = service.submit(&small, json!({})).await;
    service.ended(&small).await;
    assert_eq!(service.batch(&large).await["status"], "in_progress");
    service.ended(&large).await;
}
