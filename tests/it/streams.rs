//! Streams whose usage is asked for in the client's place: it gets what it would have got otherwise.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::harness::{PATIENCE, Service, Settings, upstream};

const CHAT: &str = "/v1/chat/completions";
const LIMITED: &str = r#"providers.up.limits = { tokens = "1000000/min" }"#;
const ASKING: &str = r#""stream_options":{"include_usage":true},"#;

const CHUNK: &str = "data: {\"id\":\"x\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hé\"}}]}\r\n\r\n";
const DONE: &str = "data: [DONE]\r\n\r\n";

/// How a server takes `stream_options`.
#[derive(Clone, Copy, PartialEq)]
enum Takes {
    Them,
    /// 422 to every request that has them.
    Nothing,
    /// 400 to every request; the error quotes it.
    NoRequest,
}

#[derive(Clone)]
struct Server {
    takes: Takes,
    arrived: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn start(takes: Takes) -> (Self, SocketAddr) {
        let server = Self { takes, arrived: Arc::default() };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(answer).with_state(server.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (server, address)
    }

    /// A service in front of it.
    async fn service(takes: Takes, more: &str) -> (Self, Service) {
        let (server, address) = Self::start(takes).await;
        let unused = upstream("").await;
        let base_url = format!("providers.up.base_url = \"http://{address}/v1\"");
        let service = Service::start(Settings::new(&unused).with(LIMITED).with(&base_url).with(more)).await;
        (server, service)
    }

    /// The bodies that arrived since the last time.
    fn arrived(&self) -> Vec<String> {
        std::mem::take(&mut *self.arrived.lock().unwrap())
    }
}

async fn answer(State(server): State<Server>, body: Bytes) -> Response {
    let body = String::from_utf8(body.to_vec()).unwrap();
    server.arrived.lock().unwrap().push(body.clone());
    let asks = body.contains("stream_options");
    match server.takes {
        Takes::Nothing if asks => {
            let error = json!({"detail": [{"type": "extra_forbidden", "loc": ["body", "stream_options"]}]});
            (StatusCode::UNPROCESSABLE_ENTITY, axum::Json(error)).into_response()
        }
        Takes::NoRequest => {
            let error = json!({"error": {"message": format!("missing: {body}")}});
            (StatusCode::BAD_REQUEST, axum::Json(error)).into_response()
        }
        _ => {
            let usage = "data: {\"id\":\"x\",\"choices\":[],\"usage\":{\"prompt_tokens\":70,\"completion_tokens\":5}}\r\n\r\n";
            let usage = if asks { usage } else { "" };
            ([(CONTENT_TYPE, "text/event-stream")], format!("{CHUNK}{usage}{DONE}")).into_response()
        }
    }
}

fn used(budget: &Value) -> u64 {
    let rows = budget["data"].as_array().unwrap();
    let tokens = rows.iter().find(|row| row["level"] == "provider" && row["dimension"] == "tokens");
    tokens.unwrap()["used"].as_u64().unwrap()
}

fn streamed(more: &str) -> String {
    format!(r#"{{"model":"m", "stream" : true,"n":1.50{more},"messages":[{{"role":"user","content":"x"}}]}}"#)
}

async fn post(service: &Service, path: &str, body: &str) -> crate::harness::Answer {
    service.send(service.request(reqwest::Method::POST, path).body(body.to_owned())).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_did_not_ask_sees_no_usage_and_it_is_counted() {
    let (server, service) = Server::service(Takes::Them, "").await;
    let plain = streamed("");
    for path in [CHAT, "/v1/completions"] {
        let answer = post(&service, path, &plain).await;
        assert_eq!((answer.status.as_u16(), answer.text), (200, format!("{CHUNK}{DONE}")), "{path}");
        assert_eq!(server.arrived(), [plain.replacen('{', &format!("{{{ASKING}"), 1)]);
    }
    let counted = |metrics: &crate::harness::Metrics| {
        metrics.sum("sluicegate_tokens_total", &[r#"type="input""#]) == 140.0
    };
    service.metrics_until("the tokens of both", counted).await;
    assert!(used(&service.get("/v1/budget").await.ok()) >= 150);

    // Whoever has stream_options decides; other calls are none of this.
    let asked = streamed(r#","stream_options":{"include_usage":true}"#);
    let answer = post(&service, CHAT, &asked).await;
    assert!(answer.text.contains("\"usage\":{\"prompt_tokens\":70"), "{}", answer.text);
    let untouched = [
        (CHAT, asked.clone()),
        (CHAT, streamed(r#","stream_options":{"include_usage":false}"#)),
        (CHAT, streamed("").replace("true", "false")),
        ("/v1/responses", plain),
    ];
    for (path, body) in &untouched[1..] {
        post(&service, path, body).await;
    }
    assert_eq!(server.arrived(), untouched.map(|(_, body)| body));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_asked_for_where_no_tokens_are_counted_or_streams_always_tell() {
    for more in ["providers.up.kind = \"anthropic\"", "providers.up.limits = { tokens = [] }"] {
        let (server, service) = Server::service(Takes::Them, more).await;
        let answer = post(&service, CHAT, &streamed("")).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert_eq!(server.arrived(), [streamed("")], "{more}");
    }
    // An app's own limit counts as well.
    let (server, service) = Server::service(Takes::Them, "providers.up.limits = { tokens = [] }").await;
    service.put("/admin/v1/apps/default", &json!({"limits": {"tokens": "9000/min"}})).await.ok();
    let limited = async {
        loop {
            let budget = service.get("/v1/budget").await.ok();
            if budget["data"].as_array().unwrap().iter().any(|row| row["dimension"] == "tokens") {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, limited).await.unwrap();
    post(&service, CHAT, &streamed("")).await;
    assert!(server.arrived()[0].contains(ASKING));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_refuses_to_tell_is_asked_once() {
    let (server, service) = Server::service(Takes::Nothing, "").await;
    let answer = post(&service, CHAT, &streamed("")).await;
    assert_eq!((answer.status.as_u16(), answer.text), (200, format!("{CHUNK}{DONE}")));
    let arrived = server.arrived();
    assert_eq!(arrived.len(), 2);
    assert!(arrived[0].contains(ASKING) && arrived[1] == streamed(""));
    for _ in 0..2 {
        assert_eq!(post(&service, CHAT, &streamed("")).await.status, 200);
    }
    assert_eq!(server.arrived(), [streamed(""), streamed("")]);
    // What the client asked for itself is refused to it.
    let asked = streamed(r#","stream_options":{}"#);
    assert_eq!(post(&service, CHAT, &asked).await.status, 422);
    assert_eq!(server.arrived(), [asked]);
    // Each call counts as one, however often it was sent.
    let counted = async {
        loop {
            let apps = service.get("/admin/v1/apps?days=1").await.ok();
            let today = &apps["data"][0]["usage"][0];
            if today["requests"].as_u64().unwrap() >= 4 {
                return (today["requests"].clone(), today["failures"].clone());
            }
        }
    };
    let counted = tokio::time::timeout(PATIENCE, counted).await.unwrap();
    assert_eq!(counted, (json!(4), json!(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_that_quotes_the_request_tells_nothing_of_the_lane() {
    let (server, service) = Server::service(Takes::NoRequest, "").await;
    for _ in 0..2 {
        let answer = post(&service, CHAT, &streamed("")).await;
        assert_eq!(answer.status, 400);
        assert!(!answer.text.contains("stream_options"), "{}", answer.text);
        let arrived = server.arrived();
        assert_eq!(arrived.len(), 2);
        assert!(arrived[0].contains(ASKING) && arrived[1] == streamed(""));
    }
}
