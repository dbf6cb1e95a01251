//! Creating batches: of files, of requests, of NDJSON; once, however often it is asked.

use serde_json::{Value, json};

use super::service::Service;

fn line(id: &str, url: &str, model: &str) -> String {
    format!(r#"{{"custom_id":"{id}","method":"POST","url":"{url}","body":{{"model":"{model}"}}}}"#)
}

#[tokio::test]
async fn the_batch_object_is_whole() {
    let service = Service::start().await;
    let file = service.file(line("a", "/v1/responses", "m").as_bytes()).await;
    let body = json!({
        "input_file_id": file, "endpoint": "/v1/responses", "completion_window": "90m",
        "metadata": {"team": "x"}, "max_concurrency": 3, "request_timeout": "90s",
    });
    let mut batch = service.post("/v1/batches", &body.to_string()).await.json();
    for (key, kind) in [("id", "batch_"), ("input_file_id", "file-")] {
        assert!(batch[key].as_str().unwrap().starts_with(kind));
        batch[key] = Value::Null;
    }
    let created = batch["created_at"].as_i64().unwrap();
    assert_eq!(batch["expires_at"].as_i64().unwrap() - created, 5_400);
    assert_eq!(batch["in_progress_at"], created);
    for key in ["created_at", "expires_at", "in_progress_at"] {
        batch[key] = json!(0);
    }
    let ours = batch.as_object_mut().unwrap().remove("sluicegate").unwrap();
    insta::assert_snapshot!(batch.to_string(), @r#"{"cancelled_at":null,"cancelling_at":null,"completed_at":null,"completion_window":"90m","created_at":0,"endpoint":"/v1/responses","error_file_id":null,"errors":null,"expired_at":null,"expires_at":0,"failed_at":null,"finalizing_at":null,"id":null,"in_progress_at":0,"input_file_id":null,"metadata":{"team":"x"},"model":"m","object":"batch","output_file_id":null,"request_counts":{"completed":0,"failed":0,"total":1},"status":"in_progress","usage":null}"#);
    insta::assert_snapshot!(ours.to_string(), @r#"{"app":"default","attempts":0,"counts":{"cancelled":0,"expired":0,"failed":0,"pending":1,"running":0,"succeeded":0},"estimated_completion_at":null,"estimated_completion_range":null,"item_seconds":{"max":null,"mean":null,"min":null},"items_per_second":null,"last_result_at":null,"on_time":null,"options":{"defaults":null,"max_attempts":null,"max_concurrency":3,"on_error":"continue","on_invalid":"fail_batch","output_expires_after":null,"paused":false,"priority":0,"request_timeout":"1m30s","require_on_time":false},"retries":0,"retry_of":null,"started_at":null,"success_rate":null,"waiting":[]}"#);
}

#[tokio::test]
async fn bad_lines_of_a_file_make_the_batch_fail_with_all_of_them_listed() {
    let service = Service::start().await;
    let good = line("a", "/v1/responses", "m");
    let content = [
        good.as_str(),
        "nonsense",
        &good,
        &line("b", "/v1/embeddings", "m"),
        &line("c", "/v1/responses", "unserved"),
    ]
    .join("\n");
    let file = service.file(content.as_bytes()).await;
    let body = json!({"input_file_id": file, "endpoint": "/v1/responses"}).to_string();
    let batch = service.post("/v1/batches", &body).await.json();
    assert_eq!(batch["status"], "failed");
    assert_eq!(batch["request_counts"], json!({"total": 0, "completed": 0, "failed": 0}));
    assert_eq!(batch["in_progress_at"], Value::Null);
    let errors = batch["errors"]["data"].as_array().unwrap();
    let found: Vec<_> = errors.iter().map(|error| (error["line"].clone(), error["code"].clone())).collect();
    let expected = [
        (json!(2), json!("invalid_json_line")),
        (json!(3), json!("duplicate_custom_id")),
        (json!(4), json!("invalid_url")),
        (json!(5), json!("model_not_found")),
    ];
    assert_eq!(found, expected);
    let body = json!({"input_file_id": file, "endpoint": "/v1/responses", "on_invalid": "fail_item"});
    let batch = service.post("/v1/batches", &body.to_string()).await.json();
    assert_eq!(batch["status"], "in_progress");
    assert_eq!(batch["request_counts"]["total"], 5);
}

#[tokio::test]
async fn requests_may_be_lines_or_bodies() {
    let service = Service::start().await;
    let body = json!({
        "endpoint": "/v1/responses",
        "defaults": {"model": "m"},
        "requests": [
            {"custom_id": "a", "input": "x"},
            {"custom_id": "b", "body": {"input": "x"}},
            {"custom_id": "c", "method": "POST", "url": "/v1/responses", "body": {"input": "x"}},
        ],
    });
    let batch = service.post("/v1/batches", &body.to_string()).await.json();
    assert_eq!(batch["status"], "in_progress");
    assert_eq!(batch["request_counts"]["total"], 3);
    assert_eq!(batch["input_file_id"], Value::Null);
    assert_eq!(batch["model"], "m");
    assert_eq!(service.get("/v1/files").await.json()["data"], json!([]));
}

#[tokio::test]
async fn lines_may_differ_where_the_endpoint_is_null() {
    let service = Service::start().await;
    let lines = [line("a", "/v1/responses", "m"), line("b", "/v1/embeddings", "n")].join("\n");
    let query = "/v1/batches?metadata[team]=x&priority=5&completion_window=2h";
    let kind = [("content-type", "application/x-ndjson")];
    let batch = service.post_with(query, &lines, &kind).await.json();
    assert_eq!(batch["status"], "in_progress");
    assert_eq!(batch["endpoint"], Value::Null);
    assert_eq!(batch["model"], Value::Null);
    assert_eq!(batch["metadata"], json!({"team": "x"}));
    assert_eq!(batch["completion_window"], "2h");
    assert_eq!(batch["sluicegate"]["options"]["priority"], 5);
    let bad = [lines.as_str(), "nonsense"].join("\n");
    insta::assert_snapshot!(service.post_with("/v1/batches", &bad, &kind).await.shown(), @r#"400 (no retry) {"error":{"message":"Line 3: This line is not parseable as valid JSON: expected ident at column 2.","type":"invalid_request_error","param":null,"code":"invalid_json_line"}}"#);
    let unknown = service.post_with("/v1/batches?metadta[team]=x", &lines, &kind).await;
    insta::assert_snapshot!(unknown.shown(), @r#"400 (no retry) {"error":{"message":"Unknown parameter: 'metadta'. Did you mean 'metadata'?","type":"invalid_request_error","param":"metadta","code":"unknown_parameter"}}"#);
}

#[tokio::test]
async fn an_idempotency_key_names_a_batch() {
    let service = Service::start().await;
    let body = r#"{"endpoint":"/v1/embeddings","requests":[{"custom_id":"a","model":"m","input":"x"}]}"#;
    let key = [("idempotency-key", "nightly-1")];
    let first = service.post_with("/v1/batches", body, &key).await;
    assert_eq!(first.header("idempotent-replayed"), "");
    let again = service.post_with("/v1/batches", body, &key).await;
    assert_eq!(again.header("idempotent-replayed"), "true");
    assert_eq!(again.json()["id"], first.json()["id"]);
    let other = service.post_with("/v1/batches", &body.replace("\"x\"", "\"y\""), &key).await;
    insta::assert_snapshot!(other.shown(), @r#"422 (no retry) {"error":{"message":"This idempotency key was used for another request. Use a new key, or repeat that request.","type":"invalid_request_error","param":"Idempotency-Key","code":"idempotency_key_reused"}}"#);
    let without = service.post("/v1/batches", body).await;
    assert_ne!(without.json()["id"], first.json()["id"]);
}

#[tokio::test]
async fn a_create_that_an_sdk_repeats_makes_no_twin() {
    let service = Service::start().await;
    let body = r#"{"endpoint":"/v1/embeddings","requests":[{"custom_id":"a","model":"m","input":"x"}]}"#;
    let first = service.post_with("/v1/batches", body, &[("x-stainless-retry-count", "0")]).await.json();
    let again = service.post_with("/v1/batches", body, &[("x-stainless-retry-count", "1")]).await.json();
    assert_eq!(again["id"], first["id"]);
    let other = body.replace("\"x\"", "\"y\"");
    let other = service.post_with("/v1/batches", &other, &[("x-stainless-retry-count", "1")]).await.json();
    assert_ne!(other["id"], first["id"]);
}
