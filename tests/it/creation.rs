//! The ways to make a batch, and what may be wrong with its lines.

use reqwest::Method;
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};

use crate::harness::{Client, Service, Settings, chat, chats, id_of, jsonl, line, upstream};

async fn inline(service: &Client, key: Option<&str>, body: &Value) -> crate::harness::Answer {
    let mut request = service.request(Method::POST, "/v1/batches").json(body);
    if let Some(key) = key {
        request = request.header("idempotency-key", key);
    }
    service.send(request).await
}

#[tokio::test(flavor = "multi_thread")]
async fn inline_requests_with_defaults_under_them() {
    let upstream = upstream("").await;
    let service = Service::start(Settings::new(&upstream)).await;
    let bare = json!({"custom_id": "bare", "messages": [{"role": "user", "content": "[[id=bare]]"}]});
    let whole = line(
        "whole",
        "/v1/chat/completions",
        &json!({
            "model": "own", "messages": [{"role": "user", "content": "[[id=whole]]"}]
        }),
    );
    let body = json!({
        "endpoint": "/v1/chat/completions", "completion_window": "1h",
        "requests": [bare, whole], "defaults": {"model": "laid-under", "max_tokens": 3}
    });
    let created = inline(&service, None, &body).await.ok();
    assert_eq!(created["input_file_id"], Value::Null);
    let id = created["id"].as_str().unwrap();
    service.ended(id).await;
    let results = service.by_id(id).await;
    assert_eq!(results["bare"]["response"]["body"]["model"], "laid-under");
    assert_eq!(results["whole"]["response"]["body"]["model"], "own");
    assert_eq!(results["bare"]["response"]["body"]["usage"]["completion_tokens"], 3, "{}", results["bare"]);

    let bad = json!({
        "endpoint": "/v1/chat/completions", "completion_window": "1h",
        "requests": [body["requests"][1], {"custom_id": "no-model", "messages": []}]
    });
    let error = inline(&service, None, &bad).await.refused(400);
    assert_eq!(error["param"], "requests[1].body.model", "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ndjson_with_options_in_the_query() {
    let upstream = upstream("").await;
    let service = Service::start(Settings::new(&upstream)).await;
    let path =
        "/v1/batches?endpoint=/v1/chat/completions&completion_window=2h&max_concurrency=2&metadata[team]=x";
    let request = service.request(Method::POST, path).header("content-type", "application/x-ndjson");
    let created = service.send(request.body(jsonl(&chats(10, "")))).await.ok();
    assert_eq!(created["metadata"], json!({"team": "x"}));
    assert_eq!(created["sluicegate"]["options"]["max_concurrency"], 2);
    let batch = service.ended(created["id"].as_str().unwrap()).await;
    assert_eq!(batch["request_counts"]["completed"], 10);
    assert!(upstream.oracle().max_in_flight <= 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_be_passed_over_is_refused_with_what_to_do() {
    let upstream = upstream("").await;
    let service = Service::start(Settings::new(&upstream)).await;
    let body = json!({"endpoint": "/v1/chat/completions", "requests": chats(1, "")});
    let create = async |query: &str, kind: &str, body: String| {
        let request = service.request(Method::POST, &format!("/v1/batches{query}"));
        service.send(request.header("content-type", kind).body(body)).await
    };
    let json = "application/json";
    for (query, param) in [("?max_concurrency=2", "max_concurrency"), ("?a=b&metadata[team]=x", "metadata")] {
        assert_eq!(create(query, json, body.to_string()).await.refused(400)["param"], param);
    }
    // What stood in a base URL means nothing here; nor does the mark that some editors put at the start.
    create("?api-version=2", json, body.to_string()).await.ok();
    create("", json, format!("\u{feff}{body}")).await.ok();
    let bare = json!({"custom_id": "a", "model": "m", "messages": []});
    let error = create("", "application/x-ndjson", bare.to_string()).await.refused(400);
    assert_eq!(error["param"], "url");
    assert!(error["message"].as_str().unwrap().contains("'endpoint'"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_key_gives_the_same_batch() {
    let upstream = upstream("").await;
    let service = Service::start(Settings::new(&upstream)).await;
    let body = json!({
        "endpoint": "/v1/chat/completions", "completion_window": "1h", "requests": chats(3, "")
    });
    let first = inline(&service, Some("nightly"), &body).await;
    assert_eq!(first.header("idempotent-replayed"), "");
    let id = first.ok()["id"].clone();
    service.ended(id.as_str().unwrap()).await;
    let service = service.restart().await;
    let again = inline(&service, Some("nightly"), &body).await;
    assert_eq!(again.header("idempotent-replayed"), "true");
    assert_eq!(again.ok()["id"], id);
    let mut other = body.clone();
    other["requests"] = json!(chats(4, ""));
    assert_eq!(
        inline(&service, Some("nightly"), &other).await.refused(422)["code"],
        "idempotency_key_reused"
    );
    let daily = inline(&service, Some("daily"), &body).await.ok()["id"].clone();
    assert_ne!(daily, id);
    service.ended(daily.as_str().unwrap()).await;
    assert_eq!(upstream.calls("item-0"), 2);
    // A create that an SDK sends again gives the batch that the first one made.
    let retried = |count: &'static str| {
        service.request(Method::POST, "/v1/batches").header("x-stainless-retry-count", count).json(&other)
    };
    let made = service.send(retried("0")).await.ok();
    assert_eq!(service.send(retried("1")).await.ok()["id"], made["id"]);
    assert_ne!(service.send(retried("0")).await.ok()["id"], made["id"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_create_gives_its_batch_though_its_input_is_gone() {
    let upstream = upstream("").await;
    let service = Service::start(Settings::new(&upstream)).await;
    let file = service.upload(jsonl(&[chat("good", ""), chat("bad", "[[400]]")])).await.ok();
    let file = format!("/v1/files/{}", id_of(&file));
    let body = json!({
        "input_file_id": file.rsplit('/').next(), "endpoint": "/v1/chat/completions", "completion_window": "1h"
    });
    let first = inline(&service, Some("k"), &body).await.ok();
    let batch = service.ended(&id_of(&first)).await;
    let retry = format!("/v1/batches/{}/retry", id_of(&batch));
    let again = || service.request(Method::POST, &retry).header("idempotency-key", "r").json(&json!({}));
    let retried = service.send(again()).await.ok();
    assert_eq!(service.delete(&file).await.ok()["deleted"], true);

    let repeated = inline(&service, Some("k"), &body).await;
    assert_eq!(repeated.header("idempotent-replayed"), "true", "{}", repeated.text);
    assert_eq!(repeated.ok()["id"], first["id"]);
    assert_eq!(service.send(again()).await.ok()["id"], retried["id"]);
    // Whoever asks for the first time is told.
    assert_eq!(inline(&service, Some("other"), &body).await.refused(400)["param"], "input_file_id");
    assert_eq!(service.post(&retry, &json!({})).await.refused(404)["param"], "input_file_id");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_objects_are_requests() {
    let upstream = upstream("").await;
    let service = Service::start(Settings::new(&upstream)).await;
    // The values of a request's fields, in their order.
    let array = r#"["a","POST","/v1/chat/completions",{"model":"m","messages":[]}]"#;
    let lines = format!("{}\n{array}\n5\n{{\"custom_id\":\n", chat("good", ""));
    let file = service.upload(lines).await.ok();
    let body = json!({
        "input_file_id": file["id"], "endpoint": "/v1/chat/completions", "completion_window": "24h"
    });
    let batch = service.post("/v1/batches", &body).await.ok();
    let errors = batch["errors"]["data"].as_array().unwrap();
    let lines: Vec<&Value> = errors.iter().map(|error| &error["line"]).collect();
    assert_eq!(lines, [2, 3, 4], "{batch:#}");
    for error in errors {
        let message = error["message"].as_str().unwrap();
        assert_eq!(error["code"], "invalid_json_line");
        // Neither our own types, nor the line that every line is to a parser.
        assert!(!message.contains("struct") && !message.contains("line 1"), "{message}");
    }
    assert!(errors[0]["message"].as_str().unwrap().contains("an object with 'custom_id'"), "{batch:#}");
    let requests: Value = format!("[{array}]").parse().unwrap();
    let body = json!({"endpoint": "/v1/chat/completions", "requests": requests});
    assert_eq!(inline(&service, None, &body).await.refused(400)["param"], "requests[0]");
    let body = json!({
        "endpoint": "/v1/chat/completions", "requests": [chat("a", "")], "output_expires_after": ["created_at", 3_600]
    });
    assert_eq!(inline(&service, None, &body).await.refused(400)["param"], "output_expires_after");
    // What most often is uploaded in a file's place.
    let pretty = service.upload(serde_json::to_string_pretty(&[chat("a", "")]).unwrap()).await;
    let message = pretty.refused(400)["message"].as_str().unwrap().to_owned();
    assert!(message.contains("no array around them"), "{message}");
    assert_eq!(upstream.log().arrived, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_and_shown_of_a_batch_has_a_length() {
    let upstream = upstream("").await;
    let service = Service::start(Settings::new(&upstream)).await;
    let long = "0".repeat(100_000);
    let requests = json!([{"custom_id": "a", "body": {"messages": []}}]);
    let create = |field: &str, value: Value| {
        let mut body = json!({
            "endpoint": "/v1/chat/completions", "requests": requests, "defaults": {"model": "m"}
        });
        body[field] = value;
        body
    };
    for (field, value, param) in [
        ("completion_window", json!(format!("{long}24h")), "completion_window"),
        // The model of a lane is a label of metrics, and is shown in terminals.
        ("defaults", json!({"model": long}), "defaults.model"),
        ("defaults", json!({"model": "a\u{1b}[2Jb"}), "defaults.model"),
        (
            "requests",
            json!([{"custom_id": "a", "method": long, "body": {"model": "m"}}]),
            "requests[0].method",
        ),
    ] {
        let answer = inline(&service, None, &create(field, value)).await;
        assert_eq!(answer.refused(400)["param"], param, "{:.300}", answer.text);
        assert!(answer.text.len() < 1_000, "{:.300}", answer.text);
    }
    let part = Part::text(jsonl(&chats(1, ""))).file_name("é".repeat(3_000));
    let form = Form::new().text("purpose", "batch").part("file", part);
    let file = service.send(service.request(Method::POST, "/v1/files").multipart(form)).await.ok();
    assert_eq!(file["filename"], "é".repeat(255));
    let body = json!({"input_file_id": long, "endpoint": "/v1/chat/completions", "completion_window": "1h"});
    let answer = inline(&service, None, &body).await;
    assert_eq!(answer.refused(400)["param"], "input_file_id");
    assert!(answer.text.len() < 1_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_base_url_is_told_what_it_should_be() {
    let upstream = upstream("").await;
    let service = Service::start(Settings::new(&upstream)).await;
    for (path, hint) in [
        ("/chat/completions", "must end in it"),
        ("/v1/v1/messages", "leave it out"),
        ("/v1/images/generations", "(POST /v1/images/generations)"),
    ] {
        let answer = service.post(path, &json!({})).await;
        let message = answer.refused(404)["message"].as_str().unwrap().to_owned();
        assert!(message.starts_with(&format!("Invalid URL (POST {path})")), "{message}");
        assert!(message.contains(hint), "{message}");
        assert_eq!(message.ends_with(')'), path.contains("images"), "{message}");
    }
    // Neither is what is no text answered with one that isn't JSON.
    for path in ["/v1/batches/%ff", "/v1/batches/%ff/items/a", "/v1/files/%ff/content"] {
        assert_eq!(service.get(path).await.refused(400)["code"], "invalid_value", "{path}");
    }
}

/// Lines of which all but the first and the last can't be run.
fn faulty_lines() -> String {
    let good = |id: &str| chat(id, "").to_string();
    let stream =
        line("stream", "/v1/chat/completions", &json!({"model": "m", "stream": true, "messages": []}));
    let wrong_url = line("url", "/v1/embeddings", &json!({"model": "m", "input": "x"}));
    let no_model = line("no-model", "/v1/chat/completions", &json!({"messages": []}));
    let mut get = chat("get", "");
    get["method"] = json!("GET");
    [
        good("first"),
        "not json".to_owned(),
        stream.to_string(),
        wrong_url.to_string(),
        good("first"),
        no_model.to_string(),
        get.to_string(),
        r#"{"method":"POST","url":"/v1/chat/completions","body":{"model":"m"}}"#.to_owned(),
        good("last"),
    ]
    .join("\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bad_line_is_listed_and_nothing_runs() {
    let upstream = upstream("").await;
    let service = Service::start(Settings::new(&upstream)).await;
    let file = service.upload(faulty_lines()).await.ok();
    let body = json!({
        "input_file_id": file["id"], "endpoint": "/v1/chat/completions", "completion_window": "24h"
    });
    let batch = service.post("/v1/batches", &body).await.ok();
    let batch = service.ended(batch["id"].as_str().unwrap()).await;
    assert_eq!(batch["status"], "failed");
    let errors = batch["errors"]["data"].as_array().unwrap();
    let listed: Vec<(u64, &str)> =
        errors.iter().map(|e| (e["line"].as_u64().unwrap(), e["code"].as_str().unwrap())).collect();
    let expected = [
        (2, "invalid_json_line"),
        (3, "streaming_unsupported"),
        (4, "invalid_url"),
        (5, "duplicate_custom_id"),
        (6, "invalid_request"),
        (7, "invalid_method"),
        (8, "missing_required_parameter"),
    ];
    assert_eq!(listed, expected, "{batch:#}");
    let message = errors[2]["message"].as_str().unwrap();
    assert!(message.contains("'/v1/embeddings'") && message.contains("'/v1/chat/completions'"), "{message}");
    assert_eq!(batch["request_counts"], json!({"total": 0, "completed": 0, "failed": 0}));
    assert_eq!(upstream.log().arrived, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_lines_fail_as_items_if_wished() {
    let upstream = upstream("").await;
    let service = Service::start(Settings::new(&upstream)).await;
    let file = service.upload(faulty_lines()).await.ok();
    let body = json!({
        "input_file_id": file["id"], "endpoint": "/v1/chat/completions", "completion_window": "24h",
        "on_invalid": "fail_item"
    });
    let batch = service.post("/v1/batches", &body).await.ok();
    let id = batch["id"].as_str().unwrap();
    let batch = service.ended(id).await;
    assert_eq!(batch["status"], "completed");
    assert_eq!(batch["request_counts"], json!({"total": 9, "completed": 2, "failed": 7}));
    let results = service.results(id, "order=input").await;
    let good: Vec<u64> = results
        .iter()
        .filter(|result| result["response"]["status_code"] == 200)
        .map(|result| result["sluicegate"]["line"].as_u64().unwrap())
        .collect();
    assert_eq!(good, [1, 9], "of duplicates the first runs");
    for result in results.iter().filter(|result| result["response"].is_null()) {
        assert_eq!(result["error"]["code"], "invalid_request", "{result}");
    }
    assert_eq!(results[1]["custom_id"], Value::Null);
    assert_eq!(results[4]["custom_id"], "first");
    assert_eq!(upstream.log().arrived, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_nobody_serves_is_an_error_of_its_line() {
    let upstream = upstream("").await;
    let settings = Settings::new(&upstream).with("providers.up.lanes = [{ match = \"demo-*\" }]");
    let service = Service::start(settings).await;
    let mut lines = chats(3, "");
    lines[1]["body"]["model"] = json!("unheard-of");
    let failed = service.create(&lines, json!({})).await.ok();
    let failed = service.ended(failed["id"].as_str().unwrap()).await;
    assert_eq!(failed["errors"]["data"][0]["code"], "model_not_found");
    assert_eq!(failed["errors"]["data"][0]["line"], 2);
    let id = service.submit(&lines, json!({"on_invalid": "fail_item"})).await;
    assert_eq!(service.ended(&id).await["request_counts"]["completed"], 2);
    assert_eq!(service.by_id(&id).await["item-1"]["error"]["code"], "model_not_found");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_did_not_succeed_is_run_again_as_a_new_batch() {
    let upstream = upstream("").await;
    let service = Service::start(Settings::new(&upstream)).await;
    let mut lines = chats(20, "");
    lines[4] = chat("item-4", "[[500 x2]]");
    lines[11] = chat("item-11", "[[400]]");
    let id = service.submit(&lines, json!({"max_attempts": 2, "metadata": {"job": "j"}})).await;
    assert_eq!(service.ended(&id).await["request_counts"]["failed"], 2);
    let retry = service.post(&format!("/v1/batches/{id}/retry"), &json!({})).await.ok();
    assert_eq!(retry["sluicegate"]["retry_of"], id.as_str());
    let second = retry["id"].as_str().unwrap();
    let batch = service.ended(second).await;
    assert_eq!(batch["request_counts"], json!({"total": 2, "completed": 1, "failed": 1}));
    let results = service.by_id(second).await;
    assert_eq!(results["item-4"]["response"]["status_code"], 200);
    assert_eq!(results["item-11"]["response"]["status_code"], 400);
    assert_eq!(upstream.log().repeats, 3);

    // Lines that can't be run fail again, wherever they stand.
    let file = service.upload(faulty_lines()).await.ok();
    let body = json!({
        "input_file_id": file["id"], "endpoint": "/v1/chat/completions", "completion_window": "24h",
        "on_invalid": "fail_item"
    });
    let id = id_of(&service.post("/v1/batches", &body).await.ok());
    assert_eq!(service.ended(&id).await["request_counts"]["failed"], 7);
    let retry = id_of(&service.post(&format!("/v1/batches/{id}/retry"), &json!({})).await.ok());
    // The line whose id an earlier one had is alone now, and runs.
    let counts = json!({"total": 7, "completed": 1, "failed": 6});
    assert_eq!(service.ended(&retry).await["request_counts"], counts);

    let all = service.submit(&chats(2, ""), json!({})).await;
    service.ended(&all).await;
    service.post(&format!("/v1/batches/{all}/retry"), &json!({})).await.refused(400);
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting_goes_for_ended_batches_only() {
    let upstream = upstream(r#"latency = "50ms""#).await;
    let service = Service::start(Settings::new(&upstream)).await;
    let id = service.submit(&chats(20, ""), json!({"max_concurrency": 1})).await;
    let path = format!("/v1/batches/{id}");
    assert_eq!(service.delete(&path).await.refused(409)["code"], "batch_active");
    // Its input may go at once: the batch runs on.
    let input = service.batch(&id).await["input_file_id"].as_str().unwrap().to_owned();
    assert_eq!(service.delete(&format!("/v1/files/{input}")).await.ok()["deleted"], true);
    service.get(&format!("/v1/files/{input}")).await.refused(404);
    let batch = service.ended(&id).await;
    assert_eq!(batch["request_counts"]["completed"], 20);
    assert_eq!(service.delete(&path).await.ok()["deleted"], true);
    service.get(&path).await.refused(404);
    service.get(&format!("{path}/results")).await.refused(404);
    let output = batch["output_file_id"].as_str().unwrap();
    service.get(&format!("/v1/files/{output}/content")).await.refused(404);
}
