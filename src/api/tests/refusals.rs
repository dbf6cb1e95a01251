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
    assert_snapshot!(missing.shown(), @r#"404 (no retry) {"error":{"message":"Invalid URL (GET /v1/uploads)","type":"invalid_request_error","param":null,"code":null}}"#);
    assert!(missing.header("sluicegate-request-id").starts_with("req_"));
    assert_eq!(missing.header("x-request-id"), missing.header("sluicegate-request-id"));
    assert_eq!(missing.header("content-type"), "application/json");
    let request = Request::builder().method(Method::PUT).uri("/v1/files").body(Body::empty()).unwrap();
    let wrong = service.send(request).await;
    assert_snapshot!(wrong.shown(), @r#"405 (no retry) {"error":{"message":"Method PUT is not allowed for /v1/files.","type":"invalid_request_error","param":null,"code":null}}"#);
    for method in ["GET", "POST"] {
        assert!(wrong.header("allow").contains(method));
    }
    assert_snapshot!(service.get("/v1/files/file-x").await.shown(), @r#"404 (no retry) {"error":{"message":"No such File object: file-x","type":"invalid_request_error","param":"id","code":null}}"#);
    assert_snapshot!(service.get("/v1/files/file-x/content").await.shown(), @r#"404 (no retry) {"error":{"message":"No such File object: file-x","type":"invalid_request_error","param":"id","code":null}}"#);
    assert_snapshot!(service.get("/v1/batches/batch_x").await.shown(), @r#"404 (no retry) {"error":{"message":"No batch found with id 'batch_x'.","type":"invalid_request_error","param":null,"code":null}}"#);
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
    assert_snapshot!(service.get("/v1/batches?limit=0").await.shown(), @r#"400 (no retry) {"error":{"message":"Invalid 'limit': it must be from 1 to 100.","type":"invalid_request_error","param":"limit","code":"invalid_value"}}"#);
    assert_snapshot!(service.get("/v1/batches?limit=ten").await.shown(), @r#"400 (no retry) {"error":{"message":"Invalid type for 'limit': expected a whole number.","type":"invalid_request_error","param":"limit","code":"invalid_type"}}"#);
    assert_snapshot!(service.get("/v1/files?order=up").await.shown(), @r#"400 (no retry) {"error":{"message":"Invalid value: 'up'. Supported values are: 'desc', 'asc'.","type":"invalid_request_error","param":"order","code":"invalid_value"}}"#);
    assert_snapshot!(service.get("/v1/batches?status=done").await.shown(), @r#"400 (no retry) {"error":{"message":"Invalid value: 'done'. Supported values are: 'validating', 'failed', 'in_progress', 'finalizing', 'completed', 'expired', 'cancelling', 'cancelled'.","type":"invalid_request_error","param":"status","code":"invalid_value"}}"#);
}

#[tokio::test]
async fn bad_creates() {
    let service = Service::start().await;
    let create = async |body: &str| service.post("/v1/batches", body).await.shown();
    assert_snapshot!(create("{").await, @r#"400 (no retry) {"error":{"message":"We could not parse the JSON body of your request: EOF while parsing an object at line 1 column 1.","type":"invalid_request_error","param":null,"code":"invalid_json"}}"#);
    assert_snapshot!(create("[]").await, @r#"400 (no retry) {"error":{"message":"Invalid type for the request body: expected an object.","type":"invalid_request_error","param":null,"code":"invalid_type"}}"#);
    assert_snapshot!(create("").await, @r#"400 (no retry) {"error":{"message":"Missing required parameter: 'endpoint'.","type":"invalid_request_error","param":"endpoint","code":"missing_required_parameter"}}"#);
    assert_snapshot!(create(r#"{"endpoint":"/v1/responses"}"#).await, @r#"400 (no retry) {"error":{"message":"Missing required parameter: 'input_file_id'.","type":"invalid_request_error","param":"input_file_id","code":"missing_required_parameter"}}"#);
    assert_snapshot!(create(r#"{"input_file_id":7,"endpoint":null}"#).await, @r#"400 (no retry) {"error":{"message":"Invalid type for 'input_file_id': expected a string or null, but got a number instead.","type":"invalid_request_error","param":"input_file_id","code":"invalid_type"}}"#);
    assert_snapshot!(create(r#"{"input_file_id":"file-x","endpoint":"/v1/x"}"#).await, @r#"400 (no retry) {"error":{"message":"Invalid value: '/v1/x'. Supported values are: '/v1/chat/completions', '/v1/responses', '/v1/embeddings', '/v1/completions', '/v1/moderations', '/v1/messages'.","type":"invalid_request_error","param":"endpoint","code":"invalid_value"}}"#);
    assert_snapshot!(create(r#"{"input_file_id":"file-x","endpoint":null}"#).await, @r#"400 (no retry) {"error":{"message":"No such File object: file-x","type":"invalid_request_error","param":"input_file_id","code":"invalid_value"}}"#);
    assert_snapshot!(create(r#"{"endpoint":null,"requests":{}}"#).await, @r#"400 (no retry) {"error":{"message":"Invalid type for 'requests': expected an array.","type":"invalid_request_error","param":"requests","code":"invalid_type"}}"#);
    assert_snapshot!(create(r#"{"endpoint":null,"requests":[]}"#).await, @r#"400 (no retry) {"error":{"message":"Invalid 'requests': it holds no request.","type":"invalid_request_error","param":"requests","code":"invalid_value"}}"#);
    assert_snapshot!(create(r#"{"endpoint":null,"completion_windw":"1h"}"#).await, @r#"400 (no retry) {"error":{"message":"Unknown parameter: 'completion_windw'. Did you mean 'completion_window'?","type":"invalid_request_error","param":"completion_windw","code":"unknown_parameter"}}"#);
    assert_snapshot!(create(r#"{"endpoint":null,"completion_window":"24"}"#).await, @r#"400 (no retry) {"error":{"message":"Invalid value for 'completion_window': '24'. Expected a duration with its unit, such as \"90s\" (units ms, s, m, h, d).","type":"invalid_request_error","param":"completion_window","code":"invalid_value"}}"#);
    assert_snapshot!(create(r#"{"endpoint":null,"metadata":{"tags":["a"]}}"#).await, @r#"400 (no retry) {"error":{"message":"Invalid type for 'metadata.tags': expected a string, but got an array instead.","type":"invalid_request_error","param":"metadata.tags","code":"invalid_type"}}"#);
    assert_snapshot!(create(r#"{"endpoint":null,"defaults":[]}"#).await, @r#"400 (no retry) {"error":{"message":"Invalid type for 'defaults': expected an object, but got an array instead.","type":"invalid_request_error","param":"defaults","code":"invalid_type"}}"#);
    assert_snapshot!(create(r#"{"endpoint":null,"priority":1.5}"#).await, @r#"400 (no retry) {"error":{"message":"Invalid type for 'priority': expected a whole number, but got another one instead.","type":"invalid_request_error","param":"priority","code":"invalid_type"}}"#);
    assert_snapshot!(create(r#"{"endpoint":null,"on_error":"stop"}"#).await, @r#"400 (no retry) {"error":{"message":"Invalid value: 'stop'. Supported values are: 'continue', 'fail_fast'.","type":"invalid_request_error","param":"on_error","code":"invalid_value"}}"#);
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
    assert_snapshot!(create(&[good.clone(), good.clone()]).await, @r#"400 (no retry) {"error":{"message":"The custom_id 'a' was used on an earlier line; ids must be unique in a file.","type":"invalid_request_error","param":"requests[1].custom_id","code":"duplicate_custom_id"}}"#);
    assert_snapshot!(create(&[good.clone(), line("b", r#""input":"x""#)]).await, @r#"400 (no retry) {"error":{"message":"Model parameter is required.","type":"invalid_request_error","param":"requests[1].body.model","code":"invalid_request"}}"#);
    assert_snapshot!(create(&[good.clone(), line("b", r#""model":"unserved","input":"x""#)]).await, @r#"400 (no retry) {"error":{"message":"No provider serves the model 'unserved'; GET /v1/models lists what is configured.","type":"invalid_request_error","param":"requests[1].body.model","code":"model_not_found"}}"#);
    assert_snapshot!(create(&[line("b", r#""url":"/v1/responses","body":{"model":"m"}"#)]).await, @r#"400 (no retry) {"error":{"message":"The URL provided for this request, '/v1/responses', does not match the batch endpoint '/v1/embeddings'.","type":"invalid_request_error","param":"requests[0].url","code":"invalid_url"}}"#);
}

#[tokio::test]
async fn bad_bodies() {
    let service =
        Service::with(ApiSettings { max_file: 1_000, max_inline: 1_000, ..ApiSettings::default() }).await;
    let kind = [("content-type", "text/csv")];
    assert_snapshot!(service.post_with("/v1/batches", "a,b", &kind).await.shown(), @r#"415 (no retry) {"error":{"message":"Unsupported content type: 'text/csv'. Send 'application/json' or 'application/x-ndjson'.","type":"invalid_request_error","param":null,"code":"unsupported_media_type"}}"#);
    let packed = [("content-encoding", "identity, GZIP")];
    assert_snapshot!(service.post_with("/v1/batches", "\u{1f}\u{8b}", &packed).await.shown(), @r#"415 (no retry) {"error":{"message":"Unsupported content encoding: 'gzip'. Send the body as it is, without compressing it, and leave the header 'content-encoding' out.","type":"invalid_request_error","param":null,"code":"unsupported_media_type"}}"#);
    assert_eq!(service.post_with("/v1/batches", "{}", &[("content-encoding", "identity")]).await.status, 400);
    assert_snapshot!(service.post("/v1/files", "{}").await.shown(), @r#"415 (no retry) {"error":{"message":"Unsupported content type: 'application/json'. Send the file as 'multipart/form-data'.","type":"invalid_request_error","param":null,"code":"unsupported_media_type"}}"#);
    assert_snapshot!(service.post("/v1/batches", &" ".repeat(1_001)).await.shown(), @r#"413 (no retry) {"error":{"message":"The request body is larger than 1000 bytes (batches.max_inline); upload the requests as a file, or send them as 'application/x-ndjson'.","type":"invalid_request_error","param":null,"code":"file_too_large"}}"#);
    let line = br#"{"custom_id":"a","method":"POST","url":"/v1/responses","body":{"model":"m"}}"#;
    let long = [line.as_slice(), b"\n"].concat().repeat(20);
    assert_snapshot!(service.upload(&[("purpose", b"batch"), ("file", &long)]).await.shown(), @r#"413 (no retry) {"error":{"message":"The file is larger than 1000 bytes (batches.max_file); split it.","type":"invalid_request_error","param":"file","code":"file_too_large"}}"#);
    assert_snapshot!(service.upload(&[("purpose", b"batch")]).await.shown(), @r#"400 (no retry) {"error":{"message":"Missing required parameter: 'file'.","type":"invalid_request_error","param":"file","code":"missing_required_parameter"}}"#);
    assert_snapshot!(service.upload(&[("file", line)]).await.shown(), @r#"400 (no retry) {"error":{"message":"Missing required parameter: 'purpose'.","type":"invalid_request_error","param":"purpose","code":"missing_required_parameter"}}"#);
    assert_snapshot!(service.upload(&[("file", line), ("purpose", b"vision")]).await.shown(), @r#"400 (no retry) {"error":{"message":"'vision' is not one of ['batch'] - 'purpose'","type":"invalid_request_error","param":"purpose","code":"invalid_value"}}"#);
    assert_snapshot!(service.upload(&[("purpose", b"batch"), ("file", b"")]).await.shown(), @r#"400 (no retry) {"error":{"message":"The file is empty; send one JSON request a line.","type":"invalid_request_error","param":"file","code":"invalid_value"}}"#);
    assert_snapshot!(service.upload(&[("purpose", b"batch"), ("file", b"\n\n")]).await.shown(), @r#"400 (no retry) {"error":{"message":"The file has only blank lines; send one JSON request a line.","type":"invalid_request_error","param":"file","code":"invalid_value"}}"#);
    assert_snapshot!(service.upload(&[("purpose", b"batch"), ("file", b"hello")]).await.shown(), @r#"400 (no retry) {"error":{"message":"Invalid file format, first line: This line is not parseable as valid JSON: expected value at column 1. Send JSONL: on each line one request, no array around them.","type":"invalid_request_error","param":"file","code":"invalid_value"}}"#);
    let cut = form(
        Method::POST,
        "/v1/files",
        b"--b0\r\ncontent-disposition: form-data; name=\"file\"\r\n\r\n{".to_vec(),
    );
    assert_snapshot!(service.send(cut).await.shown(), @r#"400 (no retry) {"error":{"message":"The multipart form is malformed: it ends before its last boundary.","type":"invalid_request_error","param":null,"code":"invalid_value"}}"#);
}

#[tokio::test]
async fn while_draining_reads_go_on_and_creates_do_not() {
    let service = Service::start().await;
    let batch = service.batch_of(1).await;
    assert_eq!(service.get("/readyz").await.status, 200);
    service.shutdown.begin();
    let refused = service.post("/v1/batches", r#"{"endpoint":null}"#).await;
    assert_snapshot!(refused.shown(), @r#"503 {"error":{"message":"The server is shutting down and takes no new work. Try again in a few seconds.","type":"server_error","param":null,"code":"draining"}}"#);
    assert_eq!(refused.header("retry-after"), "5");
    assert_snapshot!(service.get("/readyz").await.shown(), @r#"503 {"status":"unavailable","reasons":["draining"]}"#);
    assert_eq!(service.get(&format!("/v1/batches/{batch}")).await.status, 200);
    assert_eq!(service.get("/livez").await.status, 200);
}

#[tokio::test]
async fn pages_of_other_sites_are_refused() {
    let service = Service::start().await;
    let request =
        Request::get("/v1/models").header("origin", "https://evil.example").header("host", "localhost");
    let answer = service.send(request.body(Body::empty()).unwrap()).await;
    assert_snapshot!(answer.shown(), @r#"403 (no retry) {"error":{"message":"This origin may not call this service. Add it to server.cors_origins to let it.","type":"invalid_request_error","param":null,"code":"origin_refused"}}"#);
}
