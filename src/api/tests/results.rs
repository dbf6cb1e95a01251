//! Results: while they come and afterwards, in either order; items, events and counts of calls.

use std::time::Duration;

use axum::body::Body;
use http::Request;
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::api::followers::Followers;
use crate::domain::ids::{AppKey, BatchId};
use crate::domain::result::ItemStatus::{Failed, Succeeded};

use super::service::Service;

#[tokio::test]
async fn results_come_in_completion_order_and_in_input_order() {
    let service = Service::start().await;
    let id = service.batch_of(5).await;
    let path = format!("/v1/batches/{id}/results");
    let none = service.get(&path).await;
    assert_eq!((none.status.as_u16(), none.text(), none.header("sluicegate-next-after")), (200, "", "0"));
    service.record(&id, &[(4, Succeeded), (1, Failed), (2, Succeeded)]).await;

    let all = service.get(&path).await;
    assert_eq!(all.ids(), ["c4", "c1", "c2"]);
    assert_eq!(all.header("content-type"), "application/x-ndjson");
    assert_eq!(all.header("sluicegate-next-after"), "3");
    assert_eq!(all.header("sluicegate-batch-status"), "in_progress");
    let last: Value = serde_json::from_str(all.text().lines().last().unwrap()).unwrap();
    assert_eq!(last["sluicegate"], json!({"position": 3, "line": 2, "attempts": 1, "seconds": 0.25}));
    assert_eq!(last["response"]["body"], json!({"line": 2}));

    let page = service.get(&format!("{path}?limit=2&after=1")).await;
    assert_eq!(page.ids(), ["c1", "c2"]);
    let in_order = service.get(&format!("{path}?order=input")).await;
    assert_eq!(in_order.ids(), ["c1", "c2"], "line 3 has no result yet");
    assert_eq!(in_order.header("sluicegate-next-after"), "2");
    let filtered = service.get(&format!("{path}?order=input&status=succeeded")).await;
    assert_eq!(filtered.ids(), ["c2"]);
    let failed = service.get(&format!("{path}?status=failed")).await;
    assert_eq!(failed.ids(), ["c1"]);
    assert_eq!(failed.header("sluicegate-next-after"), "2");

    service.record(&id, &[(5, Succeeded), (3, Succeeded)]).await;
    let rest = service.get(&format!("{path}?order=input&after=2")).await;
    assert_eq!(rest.ids(), ["c3", "c4", "c5"]);
    assert_eq!(rest.header("sluicegate-batch-status"), "completed");
    let end = service.get(&format!("{path}?order=input&after=5&wait=60s")).await;
    assert_eq!((end.text(), end.header("sluicegate-next-after")), ("", "5"));
}

#[tokio::test]
async fn files_of_results_are_in_input_order_with_openais_keys() {
    let service = Service::start().await;
    let id = service.batch_of(1_200).await;
    let status = |line: u32| if line.is_multiple_of(4) { Failed } else { Succeeded };
    let results: Vec<_> = (1..=1_200).rev().map(|line| (line, status(line))).collect();
    service.record(&id, &results).await;
    let batch = service.get(&format!("/v1/batches/{id}")).await.json();
    for (key, keep) in [("output_file_id", Succeeded), ("error_file_id", Failed)] {
        let file = batch[key].as_str().unwrap();
        let view = service.get(&format!("/v1/files/{file}")).await.json();
        let content = service.get(&format!("/v1/files/{file}/content")).await;
        assert_eq!(view["purpose"], "batch_output");
        assert_eq!(view["bytes"], content.bytes.len());
        let expected: Vec<_> =
            (1..=1_200).filter(|line| status(*line) == keep).map(|line| format!("c{line}")).collect();
        assert_eq!(content.ids(), expected);
        let first: Value = serde_json::from_str(content.text().lines().next().unwrap()).unwrap();
        assert_eq!(
            first.as_object().unwrap().keys().collect::<Vec<_>>(),
            ["custom_id", "error", "id", "response"]
        );
    }
}

#[tokio::test]
async fn a_long_poll_returns_as_soon_as_something_is_there() {
    let service = Service::start().await;
    let id = service.batch_of(2).await;
    let path = format!("/v1/batches/{id}/results?wait=60");
    let (found, ()) = tokio::join!(service.get(&path), async {
        tokio::task::yield_now().await;
        service.record(&id, &[(2, Succeeded)]).await;
    });
    assert_eq!(found.ids(), ["c2"]);
    let started = tokio::time::Instant::now();
    let none = service.get(&format!("/v1/batches/{id}/results?after=1&wait=1")).await;
    assert_eq!((none.status.as_u16(), none.text(), none.header("sluicegate-next-after")), (200, "", "1"));
    assert!(started.elapsed() >= Duration::from_secs(1));
    assert_eq!(service.get(&format!("/v1/batches/{id}/results?wait=61s")).await.status, 400);
}

#[tokio::test]
async fn followers_see_everything_once_and_end_with_the_batch() {
    let service = Service::start().await;
    let id = service.batch_of(3).await;
    let path = format!("/v1/batches/{id}/results?follow=true");
    let (first, second, ()) = tokio::join!(service.get(&path), service.get(&path), async {
        for line in [2, 3, 1] {
            tokio::task::yield_now().await;
            service.record(&id, &[(line, Succeeded)]).await;
        }
    });
    assert_eq!(first.ids(), ["c2", "c3", "c1"]);
    assert_eq!(second.ids(), first.ids());
}

#[tokio::test]
async fn results_that_are_erased_meanwhile_do_not_pass_for_all() {
    let service = Service::start().await;
    for query in ["follow=true", "follow=true&order=input", "limit=10000", "limit=10000&status=succeeded"] {
        let id = service.batch_of(1_200).await;
        let results: Vec<_> = (1..=1_200).map(|line| (line, Succeeded)).collect();
        service.record(&id, &results).await;
        let path = format!("/v1/batches/{id}");
        let request = Request::get(format!("{path}/results?{query}")).body(Body::empty()).unwrap();
        let mut body = service.open(request).await.into_body();
        assert!(body.frame().await.unwrap().is_ok(), "{query}");
        assert_eq!(service.delete(&path).await.status, 200);
        service.sweep().await;
        let error = body.collect().await.unwrap_err();
        assert!(error.to_string().contains("erased"), "{query}: {error}");
    }
    // Who has all of them has lost nothing.
    let id = service.batch_of(2).await;
    service.record(&id, &[(2, Succeeded), (1, Succeeded)]).await;
    let request = Request::get(format!("/v1/batches/{id}/results?follow=true")).body(Body::empty()).unwrap();
    let mut body = service.open(request).await.into_body();
    assert!(body.frame().await.unwrap().is_ok());
    assert_eq!(service.delete(&format!("/v1/batches/{id}")).await.status, 200);
    assert!(body.frame().await.is_none());
}

#[tokio::test]
async fn a_row_that_is_followed_is_known_to_its_app_alone() {
    let service = Service::start().await;
    let id = service.batch_of(1).await;
    let followers = Followers::new(service.store.clone(), service.shutdown.clone());
    let (row, id) = (service.row(&id).await, BatchId::new(&id));
    assert!(followers.known(row.app, &id).is_none(), "nobody follows it");
    let _latest = followers.follow(row.clone());
    assert_eq!(followers.known(row.app, &id).map(|row| row.id), Some(id.clone()));
    assert!(followers.known(AppKey(row.app.0 + 1), &id).is_none());
}

#[tokio::test]
async fn the_end_of_the_process_ends_followers() {
    let service = Service::start().await;
    let id = service.batch_of(1).await;
    let results = format!("/v1/batches/{id}/results?follow=true");
    let events = format!("/v1/batches/{id}/events");
    let (followed, told, ()) = tokio::join!(service.get(&results), service.get(&events), async {
        tokio::task::yield_now().await;
        service.shutdown.begin();
    });
    assert_eq!(followed.text(), "");
    assert!(told.text().starts_with("event: progress\ndata: {"), "{}", told.text());
    assert!(!told.text().contains("event: end"));
}

#[tokio::test]
async fn events_tell_progress_and_the_end() {
    let service = Service::start().await;
    let id = service.batch_of(2).await;
    let request = Request::get(format!("/v1/batches/{id}/events")).body(Body::empty()).unwrap();
    let mut body = service.open(request).await.into_body();
    let mut next = async || {
        let frame = body.frame().await?.unwrap().into_data().unwrap();
        let text = String::from_utf8(frame.to_vec()).unwrap();
        let (name, data) = text.trim_end().split_once("\ndata: ").unwrap();
        Some((name.to_owned(), serde_json::from_str::<Value>(data).unwrap()))
    };
    let (name, batch) = next().await.unwrap();
    assert_eq!((name.as_str(), &batch["request_counts"]["completed"]), ("event: progress", &json!(0)));
    service.record(&id, &[(1, Succeeded)]).await;
    let (name, batch) = next().await.unwrap();
    assert_eq!((name.as_str(), &batch["request_counts"]["completed"]), ("event: progress", &json!(1)));
    service.record(&id, &[(2, Succeeded)]).await;
    let (name, batch) = next().await.unwrap();
    assert_eq!((name.as_str(), &batch["status"]), ("event: end", &json!("completed")));
    assert_eq!(next().await, None);
}

#[tokio::test]
async fn an_item_is_found_by_its_custom_id() {
    let service = Service::start().await;
    let body = r#"{"endpoint":"/v1/embeddings","requests":[
        {"custom_id":"a/b é%","model":"m","input":"x"},{"custom_id":"b","model":"m","input":"x"}]}"#;
    let id = service.batch(body).await;
    let path = format!("/v1/batches/{id}/items/a%2Fb%20%C3%A9%25");
    let item = service.get(&path).await;
    insta::assert_snapshot!(item.text(), @r#"{"object":"sluicegate.item","custom_id":"a/b é%","line":1,"state":"pending","attempts":0,"result":null,"waiting":null}"#);
    service.record(&id, &[(1, Succeeded)]).await;
    let item = service.get(&path).await.json();
    assert_eq!(item["state"], "succeeded");
    assert_eq!(item["result"]["sluicegate"]["position"], 1);
    insta::assert_snapshot!(service.get(&format!("/v1/batches/{id}/items/c")).await.shown(), @r#"404 (no retry) {"error":{"message":"The batch has no item with the custom_id 'c'.","type":"invalid_request_error","param":"custom_id","code":null}}"#);
}

#[tokio::test]
async fn calls_are_counted_by_their_route() {
    let service = Service::start().await;
    service.get("/v1/batches/batch_x").await;
    service.get("/nowhere").await;
    let id = service.batch_of(1).await;
    // A client that goes away before the answer is complete.
    let request = Request::get(format!("/v1/batches/{id}/events")).body(Body::empty()).unwrap();
    drop(service.open(request).await);
    let text = service.get("/metrics").await;
    let counted = |method: &str, route: &str, status: u16| {
        let series = format!(
            "sluicegate_http_request_duration_seconds_count{{method=\"{method}\",route=\"{route}\",status=\"{status}\"}} 1"
        );
        assert!(text.text().contains(&series), "{series}");
    };
    counted("GET", "/v1/batches/{batch_id}", 404);
    counted("GET", "unmatched", 404);
    counted("POST", "/v1/batches", 200);
    counted("GET", "/v1/batches/{batch_id}/events", 499);
    assert!(service.metrics.encode().unwrap().contains("route=\"/livez\""));
}
