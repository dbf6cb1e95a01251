//! Bodies are bytes: they go to the upstream and come back as they were written.

use reqwest::Method;
use serde_json::json;

use crate::harness::{PATIENCE, Recording, Service, Settings, chat, chats, id_of, upstream};

/// Bodies that any re-serialising would change: spaces, escapes, numbers, order and repetition of keys.
const BODIES: [&str; 4] = [
    r#"{ "model" : "m",  "messages":[ ] , "temperature":1.0e+0, "seed":12345678901234567890123 }"#,
    r#"{"z":1,"a":2,"model":"m","text":"\u00e9 é \ud83d\ude00 \/ ","z":3}"#,
    r#"{"model":"m","messages":[{"role":"user","content":"line\nbreak	"}],"x":-0.0,"y":1E400}"#,
    r#"{"model":"m","nested":{"custom_id":"no","body":{"model":"n"}},"e":""}"#,
];

/// A reply of the same kind, on one line.
const ANSWER: &str =
    r#"{ "id":"a", "choices":[ ] ,"big":98765432109876543210, "é":"\u00e9\/", "z":1.50, "z":2 }"#;

#[tokio::test(flavor = "multi_thread")]
async fn bodies_go_and_come_byte_for_byte() {
    let (recording, address) = Recording::start(ANSWER).await;
    let nobody = upstream("").await;
    let base = format!("providers.up.base_url = \"http://{address}/v1\"");
    let service = Service::start(Settings::new(&nobody).with(&base)).await;
    // A mark, Windows line ends, a blank line and no end of line at the end.
    let lines = BODIES.iter().enumerate().map(|(number, body)| {
        format!(r#"{{"body":{body} ,"custom_id":"c{number}","url":"/v1/chat/completions","method":"POST"}}"#)
    });
    let content = format!("\u{feff}{}", lines.collect::<Vec<_>>().join("\r\n\r\n"));
    // The tab inside of a string is no JSON: that line fails, the others run.
    let file = service.upload(content.clone()).await.ok();
    let body = json!({
        "input_file_id": file["id"], "endpoint": "/v1/chat/completions", "completion_window": "1h",
        "on_invalid": "fail_item", "max_concurrency": 1
    });
    let id = id_of(&service.post("/v1/batches", &body).await.ok());
    let batch = service.ended(&id).await;
    assert_eq!(batch["request_counts"], json!({"total": 4, "completed": 3, "failed": 1}), "{batch:#}");

    let arrived: Vec<String> =
        recording.arrived().iter().map(|(_, body)| String::from_utf8(body.to_vec()).unwrap()).collect();
    assert_eq!(arrived, [BODIES[0], BODIES[1], BODIES[3]]);
    let output = service.content(&batch["output_file_id"]).await.text;
    for line in output.lines() {
        assert!(line.contains(&format!(r#""body":{ANSWER}}},"error":null"#)), "{line}");
    }
    assert_eq!(output.lines().count(), 3);
    assert_eq!(service.content(&batch["input_file_id"]).await.text, content);
}

#[tokio::test(flavor = "multi_thread")]
async fn defaults_are_laid_under_and_change_nothing_else() {
    let (recording, address) = Recording::start(ANSWER).await;
    let nobody = upstream("").await;
    let base = format!("providers.up.base_url = \"http://{address}/v1\"");
    let service = Service::start(Settings::new(&nobody).with(&base)).await;
    let line = format!(
        "{{\"custom_id\":\"c\",\"method\":\"POST\",\"url\":\"/v1/chat/completions\",\"body\":{}}}\n",
        BODIES[1]
    );
    let file = service.upload(line).await.ok();
    let body = json!({
        "input_file_id": file["id"], "endpoint": "/v1/chat/completions", "completion_window": "1h",
        "defaults": {"a": 9, "max_tokens": 5}
    });
    let id = id_of(&service.post("/v1/batches", &body).await.ok());
    assert_eq!(service.ended(&id).await["request_counts"]["completed"], 1);
    let (headers, sent) = recording.arrived().remove(0);
    let own = BODIES[1].strip_suffix('}').unwrap();
    assert_eq!(sent, format!("{own},\"max_tokens\":5}}"));
    assert_eq!(headers["content-type"], "application/json");
    // No provider is told who asked, or by what.
    assert!(headers.keys().all(|name| !name.as_str().contains("forwarded")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_in_an_encoding_that_is_not_read_is_refused_with_what_to_do() {
    let upstream = upstream("").await;
    let service = Service::start(Settings::new(&upstream)).await;
    let body = json!({"model": "m", "messages": []}).to_string();
    for encoding in ["gzip", "snappy", "identity, x-lzma", "aws-chunked", "\u{e9}"] {
        for (path, kind) in [
            ("/v1/chat/completions", "application/json"),
            ("/v1/messages", "application/json"),
            ("/v1/files", "multipart/form-data; boundary=b0"),
            ("/v1/batches", "application/x-ndjson"),
        ] {
            let request = service.request(Method::POST, path).header("content-encoding", encoding.as_bytes());
            let answer = service.send(request.header("content-type", kind).body(body.clone())).await;
            let error = answer.refused(415);
            assert_eq!(error["code"], "unsupported_media_type", "{path} {encoding}");
            assert!(error["message"].as_str().unwrap().contains("without compressing it"), "{error}");
        }
    }
    for encoding in ["identity", "", "Identity"] {
        let request =
            service.request(Method::POST, "/v1/chat/completions").header("content-encoding", encoding);
        assert_eq!(service.send(request.body(body.clone())).await.status, 200, "{encoding:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_read_is_compressed_where_that_is_wanted() {
    let upstream = upstream("").await;
    let service = Service::start(Settings::new(&upstream).with("server.compress = true")).await;
    let id = service.submit(&chats(40, ""), json!({})).await;
    let batch = service.ended(&id).await;
    // The harness's client asks for gzip and unpacks it, unseen.
    let raw = reqwest::Client::builder().no_proxy().no_gzip().build().unwrap();
    let fetch = async |path: &str, encodings: &str| {
        let url = service.request(Method::GET, path).build().unwrap().url().clone();
        let answer = raw.get(url).header("accept-encoding", encodings).send().await.unwrap();
        let headers = answer.headers().clone();
        let text = |name: &str| headers.get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
        (text("content-encoding"), text("content-length"), answer.bytes().await.unwrap())
    };
    let output = format!("/v1/files/{}/content", batch["output_file_id"].as_str().unwrap());
    let results = format!("/v1/batches/{id}/results");
    for path in
        [&output, &results, &format!("{results}?follow=true"), "/v1/batches", "/metrics", "/openapi.yaml"]
    {
        let (encoding, length, packed) = fetch(path, "br, gzip").await;
        assert_eq!((encoding.as_str(), length.as_str()), ("gzip", ""), "{path}");
        let plain = service.get(path).await.text;
        assert!(
            packed.starts_with(&[0x1f, 0x8b]) && packed.len() < plain.len() / 2,
            "{path}: {}",
            packed.len()
        );
        assert_eq!(fetch(path, "identity").await.0, "", "{path}");
    }
    assert_eq!(service.get(&output).await.lines().len(), 40);
    // What is taken apart as it comes, and what is short.
    for path in [&format!("/v1/batches/{id}/events"), "/v1/models"] {
        assert_eq!(fetch(path, "gzip").await.0, "", "{path}");
    }
    let body = json!({"model": "demo-small", "messages": [{"role": "user", "content": "word ".repeat(900)}]});
    let live = service.request(Method::POST, "/v1/chat/completions").json(&body).build().unwrap();
    let live = raw.post(live.url().clone()).header("accept-encoding", "gzip").json(&body);
    assert!(!live.send().await.unwrap().headers().contains_key("content-encoding"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_followed_comes_at_once_though_compressed() {
    let upstream = upstream("").await;
    let service = Service::start(Settings::new(&upstream).with("server.compress = true")).await;
    let lines = [chat("quick", ""), chat("never", "[[hang]]")];
    let id = service.submit(&lines, json!({})).await;
    let path = format!("/v1/batches/{id}/results?follow=true");
    let mut following = service.request(Method::GET, &path).send().await.unwrap();
    assert_eq!(following.headers()["x-accel-buffering"], "no");
    let mut text = String::new();
    while !text.contains('\n') {
        let piece = tokio::time::timeout(PATIENCE, following.chunk()).await.unwrap().unwrap().unwrap();
        text.push_str(std::str::from_utf8(&piece).unwrap());
    }
    assert!(text.contains("\"quick\""), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn defaults_count_in_the_memory_budget_of_each_call_and_have_an_end() {
    let upstream = upstream(r#"latency = "100ms""#).await;
    let little = "server.memory_budget = \"4MiB\"\nbatches.max_line = \"1MiB\"";
    let service = Service::start(Settings::new(&upstream).with(little)).await;
    let create = |bytes: usize| {
        json!({
            "endpoint": "/v1/chat/completions", "requests": chats(64, ""), "defaults": {"user": "x".repeat(bytes)}
        })
    };
    let id = id_of(&service.post("/v1/batches", &create(200 << 10)).await.ok());
    let batch = service.ended(&id).await;
    assert_eq!(batch["request_counts"], json!({"total": 64, "completed": 64, "failed": 0}));
    let most = upstream.oracle().max_in_flight;
    assert!((2..=20).contains(&most), "{most} calls with 200 KiB each were in flight at once");
    // They stand in every batch object.
    assert_eq!(service.post("/v1/batches", &create(256 << 10)).await.refused(400)["param"], "defaults");
}
