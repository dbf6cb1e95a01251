//! Batches once they are there: listed, changed, cancelled, retried, deleted.

use serde_json::{Value, json};

use crate::domain::result::ItemStatus;

use super::service::Service;

#[tokio::test]
async fn batches_are_listed_newest_first_and_filtered() {
    let service = Service::start().await;
    let mut ids = Vec::new();
    for team in ["x", "y", "x"] {
        let body = format!(
            r#"{{"endpoint":null,"metadata":{{"team":"{team}"}},"requests":[{{"custom_id":"a","url":"/v1/responses","body":{{"model":"m"}}}}]}}"#
        );
        ids.push(service.batch(&body).await);
    }
    let page = service.get("/v1/batches?limit=2").await.json();
    assert_eq!(page["has_more"], true);
    assert_eq!(page["first_id"], ids[2]);
    let rest = service.get(&format!("/v1/batches?after={}", ids[1])).await.json();
    assert_eq!(rest["data"][0]["id"], ids[0]);
    assert_eq!(rest["has_more"], false);
    let labelled = service.get("/v1/batches?metadata[team]=y&status=in_progress").await.json();
    assert_eq!(labelled["data"].as_array().unwrap().len(), 1);
    assert_eq!(labelled["data"][0]["id"], ids[1]);
    let none = service.get("/v1/batches?status=completed").await.json();
    assert_eq!(none["data"], json!([]));
}

#[tokio::test]
async fn a_running_batch_can_be_changed() {
    let service = Service::start().await;
    let id = service.batch_of(1).await;
    let change =
        r#"{"priority":7,"max_concurrency":2,"completion_window":"1h","metadata":{"a":"b"},"paused":true}"#;
    let batch = service.post(&format!("/v1/batches/{id}"), change).await.json();
    assert_eq!(batch["sluicegate"]["options"]["priority"], 7);
    assert_eq!(batch["sluicegate"]["options"]["max_concurrency"], 2);
    assert_eq!(batch["sluicegate"]["options"]["paused"], true);
    assert_eq!(batch["completion_window"], "1h");
    assert_eq!(batch["expires_at"].as_i64().unwrap() - batch["created_at"].as_i64().unwrap(), 3_600);
    assert_eq!(batch["metadata"], json!({"a": "b"}));
    service.record(&id, &[(1, ItemStatus::Succeeded)]).await;
    let late = service.post(&format!("/v1/batches/{id}"), change).await;
    insta::assert_snapshot!(late.shown(), @r#"409 (no retry) {"error":{"message":"Cannot change a batch with status 'completed'.","type":"invalid_request_error","param":null,"code":null}}"#);
}

#[tokio::test]
async fn cancelling_twice_is_fine_and_too_late_is_not() {
    let service = Service::start().await;
    let id = service.batch_of(2).await;
    let cancel = format!("/v1/batches/{id}/cancel");
    assert_eq!(service.post(&cancel, "").await.json()["status"], "cancelling");
    assert_eq!(service.post(&cancel, "").await.status, 200);
    service.record(&id, &[(1, ItemStatus::Succeeded), (2, ItemStatus::Cancelled)]).await;
    let batch = service.post(&cancel, "").await.json();
    assert_eq!(batch["status"], "cancelled");
    assert_eq!(batch["request_counts"], json!({"total": 2, "completed": 1, "failed": 0}));
    assert_eq!(batch["sluicegate"]["counts"]["cancelled"], 1);
    assert!(batch["error_file_id"].is_string());

    let done = service.batch_of(1).await;
    service.record(&done, &[(1, ItemStatus::Succeeded)]).await;
    insta::assert_snapshot!(service.post(&format!("/v1/batches/{done}/cancel"), "").await.shown(), @r#"409 (no retry) {"error":{"message":"Cannot cancel a batch with status 'completed'.","type":"invalid_request_error","param":null,"code":null}}"#);
}

#[tokio::test]
async fn an_ended_batch_tells_its_statistics() {
    let service = Service::start().await;
    let id = service.batch_of(4).await;
    let results = [1, 2, 3].map(|line| (line, ItemStatus::Succeeded));
    service.record(&id, &results).await;
    let running = service.get(&format!("/v1/batches/{id}")).await.json();
    assert_eq!(running["usage"], Value::Null);
    assert_eq!(running["output_file_id"], Value::Null);
    assert_eq!(running["sluicegate"]["counts"]["pending"], 1);
    service.record(&id, &[(4, ItemStatus::Failed)]).await;
    let batch = service.get(&format!("/v1/batches/{id}")).await.json();
    assert_eq!(batch["status"], "completed");
    assert_eq!(batch["usage"]["total_tokens"], 52);
    assert_eq!(batch["usage"]["input_tokens_details"]["cached_tokens"], 16);
    assert_eq!(batch["sluicegate"]["success_rate"], 0.75);
    assert_eq!(batch["sluicegate"]["item_seconds"], json!({"mean": 0.25, "min": 0.25, "max": 0.25}));
    assert_eq!(batch["sluicegate"]["on_time"], true);
    assert!(batch["output_file_id"].is_string() && batch["error_file_id"].is_string());
}

#[tokio::test]
async fn what_did_not_succeed_can_be_retried() {
    let service = Service::start().await;
    let id = service.batch_of(200).await;
    let retry = format!("/v1/batches/{id}/retry");
    insta::assert_snapshot!(service.post(&retry, "").await.shown(), @r#"409 (no retry) {"error":{"message":"The batch has not ended. Wait until it has, or cancel it, then retry.","type":"invalid_request_error","param":null,"code":"batch_active"}}"#);
    let status = |line: u32| if line.is_multiple_of(3) { ItemStatus::Failed } else { ItemStatus::Succeeded };
    let results: Vec<_> = (1..=200).map(|line| (line, status(line))).collect();
    service.record(&id, &results).await;
    let batch = service.post(&retry, "").await.json();
    assert_eq!(batch["status"], "in_progress");
    assert_eq!(batch["request_counts"]["total"], 66);
    assert_eq!(batch["sluicegate"]["retry_of"], id);
    let new = batch["id"].as_str().unwrap();
    let item = service.get(&format!("/v1/batches/{new}/items/c6")).await.json();
    assert_eq!(item["line"], 2);
    assert_eq!(service.get(&format!("/v1/batches/{new}/items/c7")).await.status, 404);
    let done = service.batch_of(1).await;
    service.record(&done, &[(1, ItemStatus::Succeeded)]).await;
    insta::assert_snapshot!(service.post(&format!("/v1/batches/{done}/retry"), "").await.shown(), @r#"400 (no retry) {"error":{"message":"The batch has no lines that ran without success.","type":"invalid_request_error","param":null,"code":"invalid_value"}}"#);
}

#[tokio::test]
async fn a_repeated_retry_says_that_it_was_made_before() {
    let service = Service::start().await;
    let id = service.batch_of(2).await;
    service.record(&id, &[(1, ItemStatus::Failed), (2, ItemStatus::Succeeded)]).await;
    let retry = format!("/v1/batches/{id}/retry");
    let key = [("idempotency-key", "again-1")];
    let first = service.post_with(&retry, "", &key).await;
    assert_eq!((first.status.as_u16(), first.header("idempotent-replayed")), (200, ""));
    for repeat in [key, [("x-stainless-retry-count", "1")]] {
        let again = service.post_with(&retry, "", &repeat).await;
        assert_eq!(again.json()["id"], first.json()["id"]);
        assert_eq!(again.header("idempotent-replayed"), "true");
    }
}

#[tokio::test]
async fn a_retry_takes_no_options() {
    let service = Service::start().await;
    let id = service.batch_of(2).await;
    service.record(&id, &[(1, ItemStatus::Failed), (2, ItemStatus::Succeeded)]).await;
    let retry = format!("/v1/batches/{id}/retry");
    insta::assert_snapshot!(service.post(&retry, r#"{"max_concurrency":1}"#).await.shown(), @r#"400 (no retry) {"error":{"message":"Unknown parameter: 'max_concurrency'.","type":"invalid_request_error","param":"max_concurrency","code":"unknown_parameter"}}"#);
    assert_eq!(service.post(&retry, "[]").await.json()["error"]["code"], "invalid_type");
    assert_eq!(service.get("/v1/batches").await.json()["data"].as_array().map(Vec::len), Some(1));
    assert_eq!(service.post(&retry, "{}").await.status, 200);
}

#[tokio::test]
async fn a_retry_needs_its_input() {
    let service = Service::start().await;
    let line = br#"{"custom_id":"c1","method":"POST","url":"/v1/responses","body":{"model":"m"}}"#;
    let file = service.file(line).await;
    let id = service.batch(&format!(r#"{{"input_file_id":"{file}","endpoint":"/v1/responses"}}"#)).await;
    service.record(&id, &[(1, ItemStatus::Failed)]).await;
    assert_eq!(service.delete(&format!("/v1/files/{file}")).await.status, 200);
    let answer = service.post(&format!("/v1/batches/{id}/retry"), "").await;
    assert_eq!(answer.status, 404);
    assert_eq!(answer.json()["error"]["param"], "input_file_id");
}

#[tokio::test]
async fn only_an_ended_batch_can_be_deleted() {
    let service = Service::start().await;
    let id = service.batch_of(1).await;
    let path = format!("/v1/batches/{id}");
    insta::assert_snapshot!(service.delete(&path).await.shown(), @r#"409 (no retry) {"error":{"message":"The batch has not ended. Cancel it and wait until it is cancelled, then delete it.","type":"invalid_request_error","param":null,"code":"batch_active"}}"#);
    service.record(&id, &[(1, ItemStatus::Succeeded)]).await;
    let output = service.get(&path).await.json()["output_file_id"].as_str().unwrap().to_owned();
    assert_eq!(
        service.delete(&path).await.text(),
        format!(r#"{{"id":"{id}","object":"batch","deleted":true}}"#)
    );
    assert_eq!(service.get(&path).await.status, 404);
    assert_eq!(service.get(&format!("/v1/files/{output}")).await.status, 404);
}
