//! The client against real sockets: each ends a call in one of the ways that servers and networks do.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::routing::post;
use axum::serve::ListenerExt;
use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Barrier;

use super::*;
use crate::domain::endpoint::Endpoint;
use crate::metrics::AttemptClass;

const KEY: &str = "sk-test-0123456789";
const LONG: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_millis(30);
const LONG_TIMEOUTS: PhaseTimeouts = PhaseTimeouts { first_byte: LONG, idle: LONG, total: LONG };

/// How a raw server ends after what it wrote.
#[derive(Clone, Copy)]
enum End {
    Hold,
    Close,
    Reset,
}

/// A server that answers each request with the same bytes; it keeps what it was sent.
struct Raw {
    base_url: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Raw {
    async fn start(answer: impl Into<Vec<u8>>, end: End) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let base_url = format!("http://{}/v1", listener.local_addr().expect("its address"));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (kept, answer) = (Arc::clone(&requests), answer.into());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, answer.clone(), end, Arc::clone(&kept)));
            }
        });
        Self { base_url, requests }
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().expect("requests").clone()
    }
}

async fn serve(mut stream: TcpStream, answer: Vec<u8>, end: End, kept: Arc<Mutex<Vec<String>>>) {
    while let Some(request) = read_request(&mut stream).await {
        kept.lock().expect("requests").push(request);
        if stream.write_all(&answer).await.is_err() {
            return;
        }
        match end {
            End::Hold => {}
            End::Close => return,
            End::Reset => return SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("linger"),
        }
    }
}

/// A whole request; `None` once the client has gone.
async fn read_request(stream: &mut TcpStream) -> Option<String> {
    let mut request = Vec::new();
    loop {
        if stream.read_buf(&mut request).await.ok()? == 0 {
            return None;
        }
        let text = String::from_utf8_lossy(&request);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "))?;
        if body.len() >= length.parse().ok()? {
            return Some(text.into_owned());
        }
    }
}

async fn key() -> Arc<Credential> {
    let credential = Credential::new(AuthStyle::Bearer, || Ok(format!("{KEY}\n")));
    assert_eq!(credential.refresh().await, Ok(true));
    credential
}

async fn client(base_url: &str) -> Upstream {
    Upstream::new(&UpstreamSettings::new(base_url), key().await).expect("a client")
}

fn call(timeouts: PhaseTimeouts) -> Call<'static> {
    Call {
        endpoint: Endpoint::ChatCompletions,
        model: "m",
        body: Bytes::from_static(b"{\"model\": \"m\"}"),
        headers: &[],
        timeouts,
        max_reply: 1 << 20,
    }
}

async fn call_raw(answer: &str, end: End, timeouts: PhaseTimeouts) -> Result<Reply, CallError> {
    let server = Raw::start(answer, end).await;
    client(&server.base_url).await.call(call(timeouts), &Unlimited).await
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn a_request_goes_out_as_configured_and_its_reply_comes_back() {
    let answer = "HTTP/1.1 503 Busy\r\nx-request-id: req_7\r\nretry-after-ms: 250\r\nx-should-retry: true\r\n\
                  content-length: 4\r\n\r\nbusy";
    let server = Raw::start(answer, End::Hold).await;
    let mut settings = UpstreamSettings::new(&server.base_url);
    settings.query = vec![("api-version".to_owned(), "2026".to_owned())];
    settings.headers = vec![("OpenAI-Project".to_owned(), "p1".to_owned())];
    let upstream = Upstream::new(&settings, key().await).expect("a client");
    let extra = [(HeaderName::from_static("x-extra"), HeaderValue::from_static("e1"))];
    let reply =
        upstream.call(Call { headers: &extra, ..call(LONG_TIMEOUTS) }, &Unlimited).await.expect("a reply");

    assert_eq!((reply.status, &reply.body[..], &reply.request_id[..]), (503, &b"busy"[..], "req_7"));
    assert_eq!(reply.retry_after, Some(Duration::from_millis(250)));
    assert_eq!(reply.should_retry, Some(true));
    assert!(reply.first_byte <= reply.total && reply.total < LONG);
    let [request] = &server.requests()[..] else { panic!("not one request") };
    let (head, body) = request.split_once("\r\n\r\n").expect("a head and a body");
    assert!(head.starts_with("POST /v1/chat/completions?api-version=2026 HTTP/1.1\r\n"), "{head}");
    for line in ["authorization: Bearer sk-test-0123456789", "openai-project: p1", "x-extra: e1"] {
        assert!(head.lines().any(|each| each == line), "{line} is not in {head}");
    }
    assert_eq!(head.matches("content-type: application/json").count(), 1);
    assert_eq!(body, "{\"model\": \"m\"}");
    assert_eq!(upstream.in_flight(), 0);
}

#[tokio::test]
async fn each_phase_has_its_limit() {
    let half = "HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\n{\"a\"";
    for (answer, timeouts, phase) in [
        ("", PhaseTimeouts { first_byte: SHORT, ..LONG_TIMEOUTS }, Phase::FirstByte),
        ("", PhaseTimeouts { total: SHORT, ..LONG_TIMEOUTS }, Phase::Total),
        (half, PhaseTimeouts { idle: SHORT, ..LONG_TIMEOUTS }, Phase::Idle),
        (half, PhaseTimeouts { total: SHORT, ..LONG_TIMEOUTS }, Phase::Total),
    ] {
        let error = call_raw(answer, End::Hold, timeouts).await.expect_err("no reply");
        assert_eq!(error, CallError::Timeout { phase, after: SHORT });
        assert_eq!(error.class(), Some(AttemptClass::Timeout));
    }
}

#[tokio::test]
async fn a_handshake_that_hangs_ends_as_a_connect_timeout() {
    let server = Raw::start("", End::Hold).await;
    let mut settings = UpstreamSettings::new(&server.base_url.replace("http:", "https:"));
    settings.connect_timeout = SHORT;
    let upstream = Upstream::new(&settings, key().await).expect("a client");
    let error = upstream.call(call(LONG_TIMEOUTS), &Unlimited).await.expect_err("no reply");
    assert_eq!(error, CallError::Timeout { phase: Phase::Connect, after: SHORT });
    assert_eq!(error.class(), Some(AttemptClass::Network));
}

#[tokio::test]
async fn a_closed_port_is_no_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("its address");
    drop(listener);
    let upstream = client(&format!("http://{address}/v1?secret=s3cret")).await;
    let error = upstream.call(call(LONG_TIMEOUTS), &Unlimited).await.expect_err("no reply");
    assert!(matches!(&error, CallError::Connect { detail } if detail.contains("refused")), "{error}");
    assert!(!error.to_string().contains("s3cret"), "{error}");
}

#[tokio::test]
async fn what_breaks_off_is_no_reply() {
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\n{\"a\"\r\n";
    let garbled = "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 4\r\n\r\nnope";
    for (answer, end) in [
        ("", End::Reset),
        ("", End::Close),
        ("HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\n{\"a\"", End::Close),
        ("HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\n{\"a\"", End::Reset),
        (chunked, End::Close),
        (garbled, End::Hold),
        ("not HTTP at all\r\n\r\n", End::Close),
    ] {
        let error = call_raw(answer, end, LONG_TIMEOUTS).await.expect_err("no reply");
        assert!(matches!(error, CallError::BrokenOff { .. }), "{answer:?}: {error}");
        assert_eq!(error.class(), Some(AttemptClass::Network));
    }
}

#[tokio::test]
async fn bodies_in_every_framing_are_read_whole() {
    let pieces =
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n1\r\nf\r\n0\r\n\r\n";
    let until_close = "HTTP/1.1 200 OK\r\n\r\nabcdef";
    for (answer, end) in [(ok("abcdef").as_str(), End::Hold), (pieces, End::Hold), (until_close, End::Close)]
    {
        let reply = call_raw(answer, end, LONG_TIMEOUTS).await.expect("a reply");
        assert_eq!(&reply.body[..], b"abcdef", "{answer:?}");
    }
    let reply = call_raw(&ok(""), End::Hold, LONG_TIMEOUTS).await.expect("a reply");
    assert!(reply.body.is_empty());
}

#[tokio::test]
async fn a_reply_above_the_cap_is_not_read() {
    let body = "x".repeat(200_000);
    let chunked = format!(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
        body.len()
    );
    let announced = "HTTP/1.1 200 OK\r\ncontent-length: 200000\r\n\r\n";
    for (answer, max_reply) in [(&chunked[..], 199_999), (announced, 199_999), (&ok("x"), 0)] {
        let server = Raw::start(answer, End::Hold).await;
        let call = Call { max_reply, ..call(LONG_TIMEOUTS) };
        let error = client(&server.base_url).await.call(call, &Unlimited).await.expect_err("no reply");
        assert_eq!(error, CallError::TooLarge { limit: max_reply });
    }
    let server = Raw::start(chunked, End::Hold).await;
    let call = Call { max_reply: 200_000, ..call(LONG_TIMEOUTS) };
    let reply = client(&server.base_url).await.call(call, &Unlimited).await.expect("a reply");
    assert_eq!(reply.body.len(), 200_000);
}

async fn axum_server(router: Router) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let base_url = format!("http://{}/v1", listener.local_addr().expect("its address"));
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    let listener = listener.tap_io(move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
    });
    tokio::spawn(async move { axum::serve(listener, router).await });
    (base_url, connections)
}

#[tokio::test]
async fn a_compressed_reply_counts_as_what_it_unpacks_to() {
    let unpacked = 3_000_000;
    let router = Router::new()
        .route("/v1/chat/completions", post(move || async move { " ".repeat(unpacked) }))
        .layer(tower_http::compression::CompressionLayer::new());
    let (base_url, _) = axum_server(router).await;
    let upstream = client(&base_url).await;
    let capped = Call { max_reply: unpacked - 1, ..call(LONG_TIMEOUTS) };
    let error = upstream.call(capped, &Unlimited).await.expect_err("too large");
    assert_eq!(error, CallError::TooLarge { limit: unpacked - 1 });
    let whole = Call { max_reply: unpacked, ..call(LONG_TIMEOUTS) };
    assert_eq!(upstream.call(whole, &Unlimited).await.expect("a reply").body.len(), unpacked);
}

#[tokio::test]
async fn a_redirect_is_a_reply() {
    let server =
        Raw::start("HTTP/1.1 307 Go\r\nlocation: /v1/models\r\ncontent-length: 0\r\n\r\n", End::Hold).await;
    let reply = client(&server.base_url).await.call(call(LONG_TIMEOUTS), &Unlimited).await.expect("a reply");
    assert_eq!(reply.status, 307);
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn nothing_is_sent_twice() {
    // The second request meets a connection that its server closes on it.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let upstream = client(&format!("http://{}/v1", listener.local_addr().expect("its address"))).await;
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        read_request(&mut stream).await.expect("the first request");
        stream.write_all(ok("{}").as_bytes()).await.expect("answered");
        read_request(&mut stream).await.expect("the second request");
        drop(stream);
        listener
    });
    upstream.call(call(LONG_TIMEOUTS), &Unlimited).await.expect("a reply");
    let error = upstream.call(call(LONG_TIMEOUTS), &Unlimited).await.expect_err("no reply");
    assert!(matches!(error, CallError::BrokenOff { .. }), "{error}");
    let listener = server.await.expect("the server").into_std().expect("a socket");
    let again = listener.accept().expect_err("no other connection");
    assert_eq!(again.kind(), std::io::ErrorKind::WouldBlock);
}

/// Memory that says what it was asked for, and may keep a reader waiting.
#[derive(Default)]
struct Counted {
    asked: Mutex<Vec<usize>>,
    wait: Duration,
}

impl ReplyMemory for Counted {
    async fn grow(&self, bytes: usize) {
        self.asked.lock().expect("asked").push(bytes);
        tokio::time::sleep(self.wait).await;
    }
}

#[tokio::test]
async fn a_long_reply_asks_for_its_memory() {
    let body = "x".repeat(1_000_000);
    let chunked = format!(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
        body.len()
    );
    for answer in [ok(&body), chunked] {
        let server = Raw::start(answer, End::Hold).await;
        let memory = Counted::default();
        let reply = client(&server.base_url).await.call(call(LONG_TIMEOUTS), &memory).await.expect("a reply");
        assert_eq!(reply.body.len(), 1_000_000);
        let asked = memory.asked.into_inner().expect("asked");
        assert!(asked.iter().all(|bytes| bytes % GROWTH_STEP == 0), "{asked:?}");
        let held = asked.iter().sum::<usize>() + FREE_REPLY;
        assert!((1_000_000..=2_000_000 + GROWTH_STEP).contains(&held), "{held}");
    }
    let server = Raw::start(ok(&"x".repeat(FREE_REPLY)), End::Hold).await;
    let memory = Counted::default();
    client(&server.base_url).await.call(call(LONG_TIMEOUTS), &memory).await.expect("a reply");
    assert!(memory.asked.into_inner().expect("asked").is_empty());
}

#[tokio::test]
async fn no_timer_runs_while_a_reader_waits_for_memory() {
    let server = Raw::start(ok(&"x".repeat(300_000)), End::Hold).await;
    let limit = Duration::from_millis(400);
    let timeouts = PhaseTimeouts { first_byte: limit, idle: limit, total: limit };
    let memory = Counted { wait: limit, ..Counted::default() };
    let reply = client(&server.base_url).await.call(call(timeouts), &memory).await.expect("a reply");
    assert!(reply.total > limit && reply.body.len() == 300_000);
}

#[tokio::test]
async fn a_dropped_call_leaves_nothing_behind() {
    let server = Raw::start("", End::Hold).await;
    let upstream = client(&server.base_url).await;
    {
        let running = upstream.call(call(LONG_TIMEOUTS), &Unlimited);
        tokio::pin!(running);
        while server.requests().is_empty() {
            tokio::select! {
                _ = &mut running => panic!("ended"),
                () = tokio::task::yield_now() => {}
            }
        }
        assert_eq!(upstream.in_flight(), 1);
    }
    assert_eq!(upstream.in_flight(), 0);
}

#[tokio::test]
async fn many_calls_are_spread_over_connections() {
    const CALLS: usize = 200;
    let all_here = Arc::new(Barrier::new(CALLS));
    let router = Router::new().route(
        "/v1/chat/completions",
        post(move || {
            let all_here = Arc::clone(&all_here);
            async move {
                all_here.wait().await;
                "{}"
            }
        }),
    );
    let (base_url, connections) = axum_server(router).await;
    let mut settings = UpstreamSettings::new(&base_url);
    settings.http = HttpVersion::Two;
    let upstream = Arc::new(Upstream::new(&settings, key().await).expect("a client"));
    let calls = (0..CALLS).map(|_| {
        let upstream = Arc::clone(&upstream);
        tokio::spawn(
            async move { upstream.call(call(LONG_TIMEOUTS), &Unlimited).await.map(|reply| reply.status) },
        )
    });
    for status in futures_util::future::join_all(calls).await {
        assert_eq!(status.expect("joined"), Ok(200));
    }
    assert_eq!(connections.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_key_is_never_shown() {
    let echo = format!("HTTP/1.1 401 No\r\ncontent-length: 41\r\n\r\nno such key: {KEY}, {KEY:.8}");
    let server = Raw::start(echo, End::Hold).await;
    let mut settings = UpstreamSettings::new(&server.base_url);
    settings.headers = vec![("x-gateway-key".to_owned(), KEY.to_owned())];
    settings.query = vec![("key".to_owned(), KEY.to_owned())];
    settings.proxy = None;
    let credential = key().await;
    let upstream = Upstream::new(&settings, Arc::clone(&credential)).expect("a client");
    for shown in [format!("{upstream:?}"), format!("{settings:?}"), format!("{credential:?}")] {
        assert!(!shown.contains(KEY), "{shown}");
    }
    assert!(!format!("{:?}", credential.current()).contains(KEY));
    let reply = upstream.call(call(LONG_TIMEOUTS), &Unlimited).await.expect("a reply");
    assert_eq!(&reply.body[..], b"no such key: ***, sk-test-");
    settings.proxy = Some(format!("http://name:{KEY}@"));
    let error = Upstream::new(&settings, credential).expect_err("refused");
    assert!(!format!("{error} {error:?}").contains(KEY), "{error:?}");
}

#[tokio::test]
async fn without_a_key_nothing_is_sent() {
    let server = Raw::start(ok("{}"), End::Hold).await;
    let credential =
        Credential::new(AuthStyle::XApiKey, || Err(CredentialError("KEY_FILE is missing".to_owned())));
    let upstream =
        Upstream::new(&UpstreamSettings::new(&server.base_url), Arc::clone(&credential)).expect("a client");
    for refreshed in [false, true] {
        if refreshed {
            assert!(credential.refresh().await.is_err());
        }
        let error = upstream.call(call(LONG_TIMEOUTS), &Unlimited).await.expect_err("no key");
        assert!(
            matches!(&error, CallError::Credential { detail } if !refreshed || detail == "KEY_FILE is missing")
        );
        assert_eq!(error.class(), None);
    }
    assert!(server.requests().is_empty());
    let keyless =
        Upstream::new(&UpstreamSettings::new(&server.base_url), Credential::none()).expect("a client");
    keyless.call(call(LONG_TIMEOUTS), &Unlimited).await.expect("a reply");
    assert!(!server.requests()[0].contains("authorization"));
}

#[tokio::test]
async fn a_key_is_replaced_when_its_source_has_another() {
    let source = Arc::new(Mutex::new(Ok("first-key".to_owned())));
    let read_from = Arc::clone(&source);
    let credential = Credential::new(AuthStyle::ApiKey, move || read_from.lock().expect("source").clone());
    let held = || credential.current().expect("a key").map(|(name, value)| (name.to_string(), value));
    let key = |key| Some(("api-key".to_owned(), HeaderValue::from_static(key)));
    let mut changes = credential.changes();
    for changed in [true, false] {
        assert_eq!(credential.refresh().await, Ok(changed));
        assert_eq!(changes.has_changed().expect("alive"), changed);
        changes.mark_unchanged();
    }
    for bad in [Err(CredentialError("gone".to_owned())), Ok(" \n".to_owned()), Ok("a\nb".to_owned())] {
        *source.lock().expect("source") = bad;
        assert!(credential.refresh().await.is_err());
        assert_eq!(held(), key("first-key"));
    }
    *source.lock().expect("source") = Ok("second-key".to_owned());
    assert_eq!(credential.refresh().await, Ok(true));
    assert!(changes.has_changed().expect("alive"));
    assert_eq!(held(), key("second-key"));
}

#[tokio::test]
async fn refreshes_that_come_together_share_a_read() {
    let (release, gate) = std::sync::mpsc::channel::<()>();
    let (reads, gate) = (Arc::new(AtomicUsize::new(0)), Mutex::new(gate));
    let counted = Arc::clone(&reads);
    let credential = Credential::new(AuthStyle::Bearer, move || {
        gate.lock().expect("gate").recv().expect("released");
        Ok(format!("key-{}", counted.fetch_add(1, Ordering::SeqCst)))
    });
    let mut refreshes: Vec<_> = (0..50).map(|_| Box::pin(credential.refresh())).collect();
    for refresh in &mut refreshes {
        assert!(futures_util::poll!(refresh).is_pending());
    }
    // The first was under way when the others asked, so one more serves them all.
    release.send(()).expect("the first read");
    release.send(()).expect("the second read");
    drop(release);
    for refreshed in futures_util::future::join_all(refreshes).await {
        assert_eq!(refreshed, Ok(true));
    }
    assert_eq!(reads.load(Ordering::SeqCst), 2);
}
