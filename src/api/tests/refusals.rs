//! Every refusal's envelope, word for word.

use axum::body::Body;
use http::{Method, Request};
use insta::assert_snapshot;

use super::super::ApiSettings;
use super::service::{Service, form};

#[tokio::test]
async fn what_does_not_exist() {
    let service = Service::start().await;
    let missing = service.get("/v1/uploads").await;
    assert_snapshot!(missing.shown(), @"");
    assert!(missing.header("sluicegate-request-id").starts_with("req_"));
    assert_eq!(missing.header("x-request-id"), missing.header("sluicegate-request-id"));
    assert_eq!(missing.header("content-type"), "application/json");
    let request = Request::builder().method(Method::PUT).uri("/v1/files").body(Body::empty()).unwrap();
    let wrong = service.send(request).await;
    assert_snapshot!(wrong.shown(), @"");
    assert_eq!(wrong.header("allow"), "GET,HEAD,POST");
    assert_snapshot!(service.get("/v1/files/file-x").await.shown(), @"");
    assert_snapshot!(service.get("/v1/files/file-x/content").await.shown(), @"");
    assert_snapshot!(service.get("/v1/batches/batch_x").await.shown(), @"");
    let routes = ["cancel", "retry"].map(|action| format!("/v1/batches/batch_x/{action}"));
    for route in routes {
        assert_eq!(service.post(&route, "").await.status, 404);
    }
    for route in ["results", "events", "items/a"] {
        assert_eq!(service.get(&format!("/v1/batches/batch_x/{route}")).await.status, 404);
    }
    assert_eq!(service.delete("/v1/batches/batch_x").await.status, 404);
}

#[tokio::test]
async fn bad_queries() {
    let service = Service::start().await;
    assert_snapshot!(service.get("/v1/batches?limit=0").await.shown(), @"");
    assert_snapshot!(service.get("/v1/batches?limit=ten").await.shown(), @"");
    assert_snapshot!(service.get("/v1/files?order=up").await.shown(), @"");
    assert_snapshot!(service.get("/v1/batches?status=done").await.shown(), @"");
}

#[tokio::test]
async fn bad_creates() {
    let service = Service::start().await;
    let create = async |body: &str| service.post("/v1/batches", body).await.shown();
    assert_snapshot!(create("{").await, @"");
    assert_snapshot!(create("[]").await, @"");
    assert_snapshot!(create("").await, @"");
    assert_snapshot!(create(r#"{"endpoint":"/v1/responses"}"#).await, @"");
    assert_snapshot!(create(r#"{"input_file_id":7,"endpoint":null}"#).await, @"");
    assert_snapshot!(create(r#"{"input_file_id":"file-x","endpoint":"/v1/x"}"#).await, @"");
    assert_snapshot!(create(r#"{"input_file_id":"file-x","endpoint":null}"#).await, @"");
    assert_snapshot!(create(r#"{"endpoint":null,"requests":{}}"#).await, @"");
    assert_snapshot!(create(r#"{"endpoint":null,"requests":[]}"#).await, @"");
    assert_snapshot!(create(r#"{"endpoint":null,"completion_windw":"1h"}"#).await, @"");
    assert_snapshot!(create(r#"{"endpoint":null,"completion_window":"24"}"#).await, @"");
    assert_snapshot!(create(r#"{"endpoint":null,"metadata":{"tags":["a"]}}"#).await, @"");
    assert_snapshot!(create(r#"{"endpoint":null,"defaults":[]}"#).await, @"");
    assert_snapshot!(create(r#"{"endpoint":null,"priority":1.5}"#).await, @"");
    assert_snapshot!(create(r#"{"endpoint":null,"on_error":"stop"}"#).await, @"");
}

#[tokio::test]
async fn bad_lines_sent_with_a_create_name_their_place() {
    let service = Service::start().await;
    let line = |id: &str, rest: &str| format!(r#"{{"custom_id":"{id}",{rest}}}"#);
    let create = async |requests: &[String]| {
        let body = format!(r#"{{"endpoint":"/v1/embeddings","requests":[{}]}}"#, requests.join(","));
        service.post("/v1/batches", &body).await.shown()
    };
    let good = line("a", r#""model":"m","input":"x""#);
    assert_snapshot!(create(&[good.clone(), good.clone()]).await, @"");
    assert_snapshot!(create(&[good.clone(), line("b", r#""input":"x""#)]).await, @"");
    assert_snapshot!(create(&[good.clone(), line("b", r#""model":"unserved","input":"x""#)]).await, @"");
    assert_snapshot!(create(&[line("b", r#""url":"/v1/responses","body":{"model":"m"}"#)]).await, @"");
}

#[tokio::test]
async fn bad_bodies() {
    let service =
        Service::with(ApiSettings { max_file: 1_000, max_inline: 1_000, ..ApiSettings::default() }).await;
    let kind = [("content-type", "text/csv")];
    assert_snapshot!(service.post_with("/v1/batches", "a,b", &kind).await.shown(), @"");
    assert_snapshot!(service.post("/v1/files", "{}").await.shown(), @"");
    assert_snapshot!(service.post("/v1/batches", &" ".repeat(1_001)).await.shown(), @"");
    let line = br#"{"custom_id":"a","method":"POST","url":"/v1/responses","body":{"model":"m"}}"#;
    let long = [line.as_slice(), b"\n"].concat().repeat(20);
    assert_snapshot!(service.upload(&[("purpose", b"batch"), ("file", &long)]).await.shown(), @"");
    assert_snapshot!(service.upload(&[("purpose", b"batch")]).await.shown(), @"");
    assert_snapshot!(service.upload(&[("file", line)]).await.shown(), @"");
    assert_snapshot!(service.upload(&[("file", line), ("purpose", b"vision")]).await.shown(), @"");
    assert_snapshot!(service.upload(&[("purpose", b"batch"), ("file", b"")]).await.shown(), @"");
    assert_snapshot!(service.upload(&[("purpose", b"batch"), ("file", b"\n\n")]).await.shown(), @"");
    assert_snapshot!(service.upload(&[("purpose", b"batch"), ("file", b"hello")]).await.shown(), @"");
    let cut = form(
        Method::POST,
        "/v1/files",
        b"--b0\r\ncontent-disposition: form-data; name=\"file\"\r\n\r\n{".to_vec(),
    );
    assert_snapshot!(service.send(cut).await.shown(), @"");
}

#[tokio::test]
async fn while_draining_reads_go_on_and_creates_do_not() {
    let service = Service::start().await;
    let batch = service.batch_of(1).await;
    assert_eq!(service.get("/readyz").await.status, 200);
    service.shutdown.begin();
    let refused = service.post("/v1/batches", r#"{"endpoint":null}"#).await;
    assert_snapshot!(refused.shown(), @"");
    assert_eq!(refused.header("retry-after"), "5");
    assert_snapshot!(service.get("/readyz").await.shown(), @"");
    assert_eq!(service.get(&format!("/v1/batches/{batch}")).await.status, 200);
    assert_eq!(service.get("/livez").await.status, 200);
}

#[tokio::test]
async fn pages_of_other_sites_are_refused() {
    let service = Service::start().await;
    let request =
        Request::get("/v1/models").header("origin", "https://evil.example").header("host", "localhost");
    let answer = service.send(request.body(Body::empty()).unwrap()).await;
    assert_snapshot!(answer.shown(), @"");
}
