//! Files: up, down, listed, gone.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::Body;
use bytes::Bytes;
use http::Request;

use super::service::Service;

fn line(id: &str) -> String {
    format!(
        r#"{{"custom_id":"{id}","method":"POST","url":"/v1/responses","body":{{"model":"m","input":"{id}"}}}}"#
    )
}

#[tokio::test]
async fn a_file_comes_back_byte_for_byte_whatever_the_order_of_parts() {
    let service = Service::start().await;
    let content = format!("\u{feff}{}\r\n\r\n  \n{}", line("a"), line("b"));
    let content = content.as_bytes();
    let first = service.upload(&[("purpose", b"batch"), ("file", content)]).await.json();
    let second = service
        .upload(&[
            ("file", content),
            ("expires_after[anchor]", b"created_at"),
            ("expires_after[seconds]", b"3600"),
            ("purpose", b"batch"),
        ])
        .await
        .json();
    for file in [&first, &second] {
        assert_eq!(file["object"], "file");
        assert_eq!(file["filename"], "in.jsonl");
        assert_eq!(file["purpose"], "batch");
        assert_eq!(file["status"], "processed");
        assert_eq!(file["bytes"], content.len());
        let id = file["id"].as_str().unwrap();
        let answer = service.get(&format!("/v1/files/{id}/content")).await;
        assert_eq!(answer.bytes, content);
        assert_eq!(answer.header("content-length"), content.len().to_string());
        assert_eq!(service.get(&format!("/v1/files/{id}")).await.json(), *file);
    }
    assert_eq!(first["expires_at"], serde_json::Value::Null);
    let kept = second["expires_at"].as_i64().unwrap() - second["created_at"].as_i64().unwrap();
    assert_eq!(kept, 3_600);
}

#[tokio::test]
async fn a_file_of_many_models_and_segments_comes_back_in_order() {
    let service = Service::start().await;
    let mut content = String::new();
    for no in 0..3_000 {
        let text = "x".repeat(no % 700);
        content.push_str(&format!(
            r#"{{"custom_id":"{no}","method":"POST","url":"/v1/responses","body":{{"model":"m{}","input":"{text}"}}}}"#,
            no % 7
        ));
        content.push('\n');
    }
    let id = service.file(content.as_bytes()).await;
    let answer = service.get(&format!("/v1/files/{id}/content")).await;
    assert!(answer.bytes == content.as_bytes());
}

#[tokio::test]
async fn files_are_listed_in_pages() {
    let service = Service::start().await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(service.file(line("a").as_bytes()).await);
    }
    let page = service.get("/v1/files?limit=2&order=asc").await.json();
    assert_eq!(page["object"], "list");
    assert_eq!(page["has_more"], true);
    assert_eq!(page["first_id"], ids[0]);
    assert_eq!(page["last_id"], ids[1]);
    let rest = service.get(&format!("/v1/files?limit=2&order=asc&after={}", ids[1])).await.json();
    assert_eq!(rest["has_more"], false);
    assert_eq!(rest["data"][0]["id"], ids[2]);
    let newest = service.get("/v1/files").await.json();
    assert_eq!(newest["data"][0]["id"], ids[2]);
    let none = service.get("/v1/files?purpose=batch_output").await;
    assert_eq!(none.text(), r#"{"object":"list","data":[],"first_id":null,"last_id":null,"has_more":false}"#);
}

#[tokio::test]
async fn a_deleted_file_is_gone_at_once() {
    let service = Service::start().await;
    let id = service.file(line("a").as_bytes()).await;
    let answer = service.delete(&format!("/v1/files/{id}")).await;
    assert_eq!(answer.text(), format!(r#"{{"id":"{id}","object":"file","deleted":true}}"#));
    assert_eq!(service.get(&format!("/v1/files/{id}/content")).await.status, 404);
    assert_eq!(service.delete(&format!("/v1/files/{id}")).await.status, 404);
}

#[tokio::test]
async fn a_refused_upload_is_read_to_its_end_and_leaves_nothing() {
    let service = Service::start().await;
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&sent);
    let pieces = std::iter::repeat_n(Bytes::from(vec![b'x'; 64 << 10]), 32).map(move |piece| {
        counted.fetch_add(piece.len(), Ordering::Relaxed);
        Ok::<_, Infallible>(piece)
    });
    let body = Body::from_stream(futures_util::stream::iter(pieces));
    let request = Request::post("/v1/files").header("content-type", "text/plain").body(body).unwrap();
    assert_eq!(service.send(request).await.status, 415);
    assert_eq!(sent.load(Ordering::Relaxed), 32 * (64 << 10));
    assert_eq!(service.get("/v1/files").await.json()["data"], serde_json::json!([]));
}
