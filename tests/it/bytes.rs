//! Bodies are bytes: they go to the upstream and come back as they were written.

use reqwest::Method;
use serde_json::json;

use crate::harness::{Recording, Service, Settings, id_of, upstream};

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
