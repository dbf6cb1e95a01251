//! Clients' own calls, passed through: bytes both ways, headers, waiting, refusals, aborts.

use std::time::Duration;

use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::harness::{Answer, Client, PATIENCE, Recording, Service, Settings, chats, eventually, upstream};

const CHAT: &str = "/v1/chat/completions";

/// What a client's SDK may send.
const SENT: [(&str, &str); 10] = [
    ("content-type", "application/json; charset=utf-8"),
    ("authorization", "Bearer sk-clients-own"),
    ("x-api-key", "sk-clients-own"),
    ("openai-organization", "theirs"),
    ("openai-beta", "b1"),
    ("anthropic-version", "2024-01-01"),
    ("anthropic-beta", "b2"),
    ("x-stainless-lang", "python"),
    ("sluicegate-max-wait", "5s"),
    ("cookie", "a=b"),
];

fn chat(text: &str) -> Value {
    json!({"model": "demo-small", "messages": [{"role": "user", "content": text}]})
}

fn streamed(text: &str) -> Value {
    let mut body = chat(text);
    body["stream"] = true.into();
    body["stream_options"] = json!({"include_usage": true});
    body
}

/// A call with headers of its own.
async fn post_with(client: &Client, path: &str, body: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = client.request(Method::POST, path).body(body.to_owned());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    client.send(request).await
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_are_untouched_both_ways_and_the_client_s_key_stays_here() {
    const ANSWER: &str = "{ \"id\":\"x\",\"n\": 1.50, \"odd\":\"\\u00e9 é\" }\n";
    const BODY: &str = "{ \"model\" :\"m\",\r\n \"zzz\":1.50,\"text\":\"\\u00e9\" }";
    let (recording, address) = Recording::start(ANSWER).await;
    let unused = upstream("").await;
    let providers = format!(
        r#"
        [providers.up]
        base_url = "http://{address}/v1"
        headers = {{ OpenAI-Organization = "ours" }}
        query = {{ tier = "gold" }}
        "#
    );
    let service = Service::start(Settings::new(&unused).with(&providers)).await;
    for path in [
        CHAT,
        "/v1/responses",
        "/v1/embeddings",
        "/v1/completions",
        "/v1/moderations",
        "/v1/messages?beta=true&tier=lead",
    ] {
        let answer = post_with(&service, path, BODY, &SENT).await;
        assert_eq!((answer.status.as_u16(), answer.text.as_str()), (200, ANSWER), "{path}");
        assert_eq!(answer.header("sluicegate-provider"), "up");
        assert!(answer.header("sluicegate-waited-ms").parse::<u64>().is_ok());
        assert!(answer.header("sluicegate-request-id").starts_with("req_"));
        assert_eq!(answer.header("sluicegate-error-source"), "");
        assert_eq!(answer.header("content-length"), ANSWER.len().to_string());
    }
    let arrived = recording.arrived();
    assert_eq!(arrived.len(), 6);
    for (headers, body) in &arrived {
        assert_eq!(body, BODY);
        let text = format!("{headers:?}");
        assert!(!text.contains("sk-clients-own") && !text.contains("cookie"), "{text}");
        for (name, value) in [
            ("content-type", "application/json; charset=utf-8"),
            ("openai-organization", "ours"),
            ("openai-beta", "b1"),
            ("anthropic-version", "2024-01-01"),
            ("anthropic-beta", "b2"),
        ] {
            assert_eq!(headers[name], value);
        }
        assert!(!headers.contains_key("x-stainless-lang") && !headers.contains_key("sluicegate-max-wait"));
    }
    let targets: Vec<String> = recording.targets();
    assert_eq!(targets[0], "/v1/chat/completions?tier=gold");
    assert_eq!(targets[5], "/v1/messages?tier=gold&beta=true");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_comes_as_it_is_made_and_its_usage_is_counted() {
    let upstream = upstream("stream_pieces = 5\nstream_pause = \"100ms\"").await;
    let service = Service::start(Settings::new(&upstream)).await;
    let direct = reqwest::Client::builder().no_proxy().build().unwrap();
    for path in [CHAT, "/v1/completions", "/v1/responses", "/v1/messages"] {
        let mut body = streamed("[[out=37]] Say hello.");
        body["input"] = "[[out=37]]".into();
        let began = Instant::now();
        let mut reply = service.request(Method::POST, path).json(&body).send().await.unwrap();
        assert_eq!(reply.headers()[CONTENT_TYPE], "text/event-stream; charset=utf-8");
        assert_eq!(reply.headers()["cache-control"], "no-cache");
        let first = reply.chunk().await.unwrap().unwrap();
        let (first_after, mut through) = (began.elapsed(), first.to_vec());
        while let Some(piece) = reply.chunk().await.unwrap() {
            through.extend_from_slice(&piece);
        }
        assert!(first_after * 2 < began.elapsed(), "{path}: the first event waited for the others");
        let own = direct.post(format!("http://{}{path}", upstream.addr())).json(&body).send().await.unwrap();
        let own = own.text().await.unwrap();
        assert_eq!(
            String::from_utf8(through).unwrap().lines().count(),
            own.lines().count(),
            "{path}: another number of lines than the upstream's own"
        );
    }
    let counted = |metrics: &crate::harness::Metrics| {
        metrics.sum("sluicegate_tokens_total", &[r#"type="output""#]) == 4.0 * 37.0
    };
    let metrics = service.metrics_until("the tokens of each stream", counted).await;
    let interactive = [r#"kind="interactive""#];
    assert_eq!(metrics.sum("sluicegate_request_duration_seconds_count", &interactive), 4.0);
    assert_eq!(metrics.sum("sluicegate_queue_wait_seconds_count", &interactive), 4.0);
    assert_eq!(metrics.sum("sluicegate_attempts_total", &[r#"class="ok""#]), 4.0);
    assert_eq!(metrics.sum("sluicegate_in_flight", &[]), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_upstream_says_is_passed_on_and_only_rate_is_waited_for() {
    let upstream = upstream("").await;
    let service = Service::start(Settings::new(&upstream)).await;
    for (text, status, class) in [
        ("[[id=a]][[400]]", 400, "client_error"),
        ("[[id=b]][[500]]", 500, "server_error"),
        ("[[id=c]][[503]]", 503, "overloaded"),
        ("[[id=d]][[not-json]]", 502, "server_error"),
    ] {
        let answer = service.post(CHAT, &chat(text)).await;
        assert_eq!(answer.status, status, "{}", answer.text);
        assert_eq!(answer.header("sluicegate-error-source"), "upstream");
        assert_eq!(answer.header("sluicegate-provider"), "up");
        let metrics = service.metrics().await;
        assert!(metrics.sum("sluicegate_attempts_total", &[&format!("class=\"{class}\"")]) > 0.0);
    }
    assert_eq!(upstream.log().arrived, 4, "nothing is sent twice");
    let answer = service.post(CHAT, &chat("[[id=e]][[429 retry-after=1 x1]]")).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(upstream.calls("e"), 2);
    assert!(answer.header("sluicegate-waited-ms").parse::<u64>().unwrap() >= 900);
    // Its turn comes again too late: the upstream's own refusal is the answer.
    let answer = post_with(
        &service,
        CHAT,
        &chat("[[id=f]][[429 retry-after=7]]").to_string(),
        &[("sluicegate-max-wait", "1s")],
    )
    .await;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (429, "7"));
    assert_eq!(answer.header("sluicegate-error-source"), "upstream");
    assert_eq!(upstream.calls("f"), 1);
    let error = answer.refused(429);
    assert_eq!(error["code"], "rate_limit_exceeded");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_connection_and_a_silent_upstream_are_told_apart() {
    let upstream = upstream("").await;
    let settings = Settings::new(&upstream).with("timeouts = { first_byte = \"100ms\" }");
    let service = Service::start(settings).await;
    for (text, status, code) in [("[[reset]]", 502, "connection_error"), ("[[hang]]", 504, "request_timeout")]
    {
        let answer = service.post(CHAT, &chat(text)).await;
        let error = answer.refused(status);
        assert_eq!(error["code"], code);
        assert_eq!(answer.header("sluicegate-error-source"), "upstream");
    }
    // A reply that breaks off in the middle can't be taken back: the client sees it break off too.
    let reply = service.request(Method::POST, CHAT).json(&streamed("[[reset-mid]]")).send().await.unwrap();
    assert_eq!(reply.status(), 200);
    assert!(reply.bytes().await.is_err());
    let failed = |metrics: &crate::harness::Metrics| {
        metrics.sum("sluicegate_request_duration_seconds_count", &[r#"outcome="failed""#, "interactive"])
            == 3.0
    };
    service.metrics_until("three failures", failed).await;
}

/// An upstream that sends this much of a stream and closes the connection, whatever it is asked.
async fn breaking_off(piece: &'static str) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    let answer = format!("{head}{:x}\r\n{piece}\r\n", piece.len());
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            let mut asked = Vec::new();
            while !asked.ends_with(b"}") && connection.read_buf(&mut asked).await.unwrap() > 0 {}
            connection.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_before_a_reply_broke_off_reaches_the_client() {
    const PIECE: &str = "data: {\"error\":{\"message\":\"out of memory\"}}\n\n";
    let address = breaking_off(PIECE).await;
    let unused = upstream("").await;
    let more = format!("providers.up.base_url = \"http://{address}/v1\"");
    let service = Service::start(Settings::new(&unused).with(&more)).await;
    for _ in 0..5 {
        let mut reply = service.request(Method::POST, CHAT).json(&streamed("")).send().await.unwrap();
        let mut came = Vec::new();
        let broke_off = loop {
            match reply.chunk().await {
                Ok(Some(piece)) => came.extend_from_slice(&piece),
                ended => break ended.is_err(),
            }
        };
        assert_eq!(String::from_utf8(came).unwrap(), PIECE);
        assert!(broke_off);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_of_the_gate_are_honest() {
    let upstream = upstream("").await;
    let lanes = r#"
        [[providers.up.lanes]]
        match = "demo-small"
        limits.requests = "2/min"
        [[providers.up.lanes]]
        match = "one"
        limits.max_concurrent = 1
    "#;
    let service = Service::start(Settings::new(&upstream).with(lanes)).await;
    assert_eq!(service.post(CHAT, &chat("")).await.status, 200);
    let wait = [("sluicegate-max-wait", "50ms"), ("content-type", "application/json")];
    let answer = post_with(&service, CHAT, &chat("").to_string(), &wait).await;
    let error = answer.refused(429);
    assert_eq!((&error["code"], &error["type"]), (&json!("rate_limit_exceeded"), &json!("requests")));
    let after: u64 = answer.header("retry-after").parse().unwrap();
    assert!((25..=31).contains(&after), "{after}");
    assert!(answer.header("retry-after-ms").parse::<u64>().unwrap().div_ceil(1_000) == after);
    assert_eq!((answer.header("sluicegate-error-source"), answer.header("x-should-retry")), ("gate", ""));
    assert!(answer.header("sluicegate-waited-ms").parse::<u64>().unwrap() >= 50);

    let answer = service.post(CHAT, &json!({"model": "nobody's", "messages": []})).await;
    let error = answer.refused(404);
    assert_eq!((&error["code"], &error["param"]), (&json!("model_not_found"), &json!("model")));
    for (body, status, code) in [
        ("{\"model\":", 400, "invalid_json"),
        ("{}", 400, "missing_required_parameter"),
        ("{\"model\":\"\"}", 400, "missing_required_parameter"),
        ("{\"model\":7}", 400, "invalid_type"),
    ] {
        let answer = post_with(&service, CHAT, body, &[]).await;
        assert_eq!(answer.refused(status)["code"], code);
        assert_eq!(answer.header("sluicegate-error-source"), "gate");
    }
    let answer = post_with(&service, CHAT, &chat("").to_string(), &[("sluicegate-max-wait", "soon")]).await;
    assert_eq!(answer.refused(400)["param"], "sluicegate-max-wait");
    assert_eq!(upstream.log().arrived, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn when_to_come_back_counts_the_tokens_of_those_before() {
    let upstream = upstream("latency = \"5m\"").await;
    let service = Service::start(Settings::new(&upstream).with(r#"limits = { tokens = "6000/min" }"#)).await;
    let mut body = chat("");
    body["max_tokens"] = 1500.into();
    let _calls = tokio::task::JoinSet::from_iter((0..3).map(|_| {
        let request = service.request(Method::POST, CHAT).json(&body);
        async move { request.send().await }
    }));
    let two_wait = async {
        let waits = |limit: &Value| limit["waiting"] == 2;
        while !service.get("/v1/budget").await.ok()["data"].as_array().unwrap().iter().any(waits) {}
    };
    tokio::time::timeout(PATIENCE, two_wait).await.unwrap();
    let wait = [("sluicegate-max-wait", "50ms"), ("content-type", "application/json")];
    let answer = post_with(&service, CHAT, &body.to_string(), &wait).await;
    assert_eq!(answer.refused(429)["type"], "tokens");
    // 15 s for the call that went, and as much for each of the two before this one.
    let after: u64 = answer.header("retry-after").parse().unwrap();
    assert!((36..=46).contains(&after), "{after}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_goes_before_the_batch() {
    let upstream = upstream("latency = \"5ms\"").await;
    let limits = "providers.up.limits = { requests = \"20/s\" }";
    let service = Service::start(Settings::new(&upstream).with(limits)).await;
    let id = service.submit(&chats(400, ""), json!({})).await;
    service
        .until(&id, "it waits for its rate", |batch| batch["sluicegate"]["waiting"][0]["reason"] == "rate")
        .await;
    for _ in 0..5 {
        let answer = service.post(CHAT, &chat("")).await;
        assert_eq!(answer.status, 200);
        let waited: u64 = answer.header("sluicegate-waited-ms").parse().unwrap();
        assert!(waited <= 150, "{waited} ms: more than its turn at 20/s");
    }
    service.post(&format!("/v1/batches/{id}/cancel"), &json!({})).await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_aborted_call_ends_upstream_and_gives_its_place_back() {
    let upstream = upstream("stream_pieces = 100\nstream_pause = \"50ms\"").await;
    let limits = "providers.up.limits = { max_concurrent = 1 }";
    let service = Service::start(Settings::new(&upstream).with(limits)).await;
    for body in [streamed("word word word"), chat("[[hang]]")] {
        let call = service.request(Method::POST, CHAT).json(&body);
        let aborted = tokio::spawn(async move {
            let mut reply = call.send().await.unwrap();
            while reply.chunk().await.unwrap().is_some() {}
        });
        eventually("it is upstream", || upstream.oracle().in_flight == 1).await;
        // One that leaves while it waits takes no place at all.
        let waiting = service.request(Method::POST, CHAT).json(&chat("[[id=left]]"));
        let waiting = tokio::spawn(async move { waiting.send().await.map(|_| ()) });
        aborted.abort();
        waiting.abort();
        let began = Instant::now();
        eventually("it is aborted upstream", || upstream.oracle().in_flight == 0).await;
        let answer = service.post(CHAT, &chat("")).await;
        assert_eq!(answer.status, 200);
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    }
    assert_eq!(upstream.calls("left"), 0);
    let metrics = service.metrics().await;
    assert!(
        metrics.sum("sluicegate_request_duration_seconds_count", &[r#"outcome="cancelled""#, "interactive"])
            >= 2.0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_lane_says_so_at_once_and_a_new_key_opens_it() {
    let upstream = upstream(r#"keys = ["sk-right-0123456789"]"#).await;
    let settings = Settings::new(&upstream);
    let key_file = settings.file("key");
    std::fs::write(&key_file, "sk-wrong-0123456789\n").unwrap();
    let keys =
        format!("providers.up.auth = \"bearer\"\nproviders.up.api_key_file = \"{}\"", key_file.display());
    let service = Service::start(settings.with(&keys)).await;
    let answer = service.post(CHAT, &chat("")).await;
    assert_eq!((answer.status.as_u16(), answer.header("sluicegate-error-source")), (401, "upstream"));
    // An SDK that tried again would show the stop in place of its cause.
    assert_eq!(answer.header("x-should-retry"), "false");
    assert!(!answer.text.contains("sk-wrong-0123456789"), "{}", answer.text);
    let answer = service.post(CHAT, &chat("")).await;
    let error = answer.refused(503);
    assert_eq!(error["code"], "lane_stopped");
    assert_eq!(
        (answer.header("sluicegate-error-source"), answer.header("x-should-retry")),
        ("gate", "false")
    );
    assert!(answer.header("retry-after").parse::<u64>().unwrap() <= 60);
    assert_eq!(upstream.log().arrived, 1);

    std::fs::write(&key_file, "sk-right-0123456789\n").unwrap();
    let opened = async { while service.post(CHAT, &chat("")).await.status != 200 {} };
    tokio::time::timeout(crate::harness::PATIENCE, opened).await.unwrap();
    let open =
        |metrics: &crate::harness::Metrics| metrics.sum("sluicegate_lane_state", &[r#"state="open""#]) == 1.0;
    service.metrics_until("the lane is open", open).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_for_rate_goes_to_the_next_lane_at_once() {
    let first = upstream("storm = { every = \"1h\", lasts = \"1h\" }").await;
    let second = upstream("").await;
    let more = format!(
        r#"
        [[providers.up.lanes]]
        match = "*"
        [providers.second]
        base_url = "{}"
        [[providers.second.lanes]]
        match = "*"
        order = 1
        "#,
        second.base_url()
    );
    let service = Service::start(Settings::new(&first).with(&more)).await;
    for _ in 0..3 {
        let answer = service.post(CHAT, &chat("")).await;
        assert_eq!((answer.status.as_u16(), answer.header("sluicegate-provider")), (200, "second"));
        assert!(answer.header("sluicegate-waited-ms").parse::<u64>().unwrap() < 1_000);
    }
    assert_eq!((first.log().arrived, second.log().arrived), (1, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_reserved_settled_and_refused_where_they_never_fit() {
    let upstream = upstream("").await;
    let limits = r#"providers.up.limits = { tokens = "6000/min" }"#;
    let service = Service::start(Settings::new(&upstream).with(limits)).await;
    let mut body = chat("hello");
    body["max_tokens"] = 7_000.into();
    let answer = service.post(CHAT, &body).await;
    let error = answer.refused(400);
    assert_eq!(error["code"], "token_budget_exceeded");
    assert!(error["message"].as_str().unwrap().contains("6000"), "{error}");
    // Half of a minute's tokens: the one after has to wait for them.
    body["max_tokens"] = 3_000.into();
    assert_eq!(service.post(CHAT, &body).await.status, 200);
    let metrics = service.metrics().await;
    let admitted = metrics.sum("sluicegate_budget_admitted_total", &[r#"dimension="output_tokens""#]);
    assert_eq!(admitted, 3_000.0);
    let wait = [("sluicegate-max-wait", "50ms"), ("content-type", "application/json")];
    let answer = post_with(&service, CHAT, &body.to_string(), &wait).await;
    let error = answer.refused(429);
    assert_eq!((&error["code"], &error["type"]), (&json!("rate_limit_exceeded"), &json!("tokens")));
}

#[tokio::test(flavor = "multi_thread")]
async fn both_styles_of_keys_let_a_client_in_and_none_goes_upstream() {
    let (recording, address) = Recording::start("{}").await;
    let unused = upstream("").await;
    let more = format!("providers.up.base_url = \"http://{address}/v1\"");
    let service = Service::start(Settings::new(&unused).with(&more)).await;
    let made = service.post("/admin/v1/keys", &json!({"app": "default", "scope": "admin"})).await.ok();
    let key = made["key"].as_str().unwrap();
    let body = r#"{"model":"m"}"#;
    assert_eq!(post_with(&service, "/v1/messages", body, &[]).await.status, 401);
    let bearer = format!("Bearer {key}");
    for header in [("authorization", bearer.as_str()), ("x-api-key", key)] {
        assert_eq!(post_with(&service, "/v1/messages", body, &[header]).await.status, 200);
    }
    let arrived = recording.arrived();
    assert_eq!(arrived.len(), 2);
    for (headers, _) in arrived {
        assert!(!format!("{headers:?}").contains(key));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_lets_streams_finish_and_takes_no_new_call() {
    let upstream = upstream("stream_pieces = 10\nstream_pause = \"50ms\"").await;
    let service = Service::start(Settings::new(&upstream)).await;
    let mut reply =
        service.request(Method::POST, CHAT).json(&streamed("some words to say")).send().await.unwrap();
    let first = reply.chunk().await.unwrap().unwrap();
    let client = Client::clone(&service);
    let stopping = tokio::spawn(service.stop());
    let draining = async {
        loop {
            let answer = client.post(CHAT, &chat("")).await;
            if answer.status == 503 {
                return answer;
            }
        }
    };
    let answer = tokio::time::timeout(crate::harness::PATIENCE, draining).await.unwrap();
    assert_eq!(answer.refused(503)["code"], "draining");
    let mut text = String::from_utf8(first.to_vec()).unwrap();
    while let Some(piece) = reply.chunk().await.unwrap() {
        text.push_str(std::str::from_utf8(&piece).unwrap());
    }
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
    stopping.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_s_end_answers_calls_without_an_answer_and_breaks_streams_off() {
    let upstream = upstream("stream_pieces = 2\nstream_pause = \"1h\"").await;
    let settings = Settings::new(&upstream).with(r#"server.drain_timeout = "300ms""#);
    let service = Service::start(settings).await;
    let mut stream = service.request(Method::POST, CHAT).json(&streamed("a b")).send().await.unwrap();
    assert!(stream.chunk().await.unwrap().is_some());
    let client = Client::clone(&service);
    let hanging = tokio::spawn(async move { client.post(CHAT, &chat("[[hang]]")).await });
    eventually("both calls are under way", || upstream.log().arrived == 2).await;
    service.stop().await;
    let answer = hanging.await.unwrap();
    assert_eq!(answer.refused(503)["code"], "draining");
    assert_eq!((answer.header("retry-after"), answer.header("sluicegate-error-source")), ("5", "gate"));
    let broke_off = loop {
        match stream.chunk().await {
            Ok(Some(_)) => {}
            Ok(None) => break false,
            Err(_) => break true,
        }
    };
    assert!(broke_off, "the stream ended as if it were whole");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_configured_stands_above_what_is_asked_for() {
    let upstream = upstream("").await;
    let more = r#"
        batches = { max_line = "1KiB" }
        interactive = { max_wait = "100ms" }
        providers.up.limits = { requests = "1/min" }
    "#;
    let service = Service::start(Settings::new(&upstream).with(more)).await;
    let (fits, long) = (chat(&"x".repeat(900)).to_string(), chat(&"x".repeat(1_024)).to_string());
    assert_eq!(post_with(&service, CHAT, &fits, &[]).await.status, 200);
    let answer = post_with(&service, CHAT, &long, &[]).await;
    assert_eq!(answer.refused(413)["code"], "file_too_large");
    // Sent piece by piece, without a length.
    let pieces: Vec<Result<Vec<u8>, std::io::Error>> =
        long.as_bytes().chunks(100).map(|piece| Ok(piece.to_vec())).collect();
    let body = reqwest::Body::wrap_stream(futures_util::stream::iter(pieces));
    let answer = service.send(service.request(Method::POST, CHAT).body(body)).await;
    assert_eq!(answer.refused(413)["code"], "file_too_large");

    let began = Instant::now();
    let answer = post_with(&service, CHAT, &fits, &[("sluicegate-max-wait", "1h")]).await;
    assert_eq!(answer.refused(429)["code"], "rate_limit_exceeded");
    assert!(began.elapsed() < Duration::from_secs(10));
}

#[tokio::test(flavor = "multi_thread")]
async fn they_can_be_turned_off() {
    let upstream = upstream("").await;
    let service = Service::start(Settings::new(&upstream).with("interactive.passthrough = false")).await;
    service.post(CHAT, &chat("")).await.refused(404);
    assert_eq!(upstream.log().arrived, 0);
}
