//! Connections: bounded in number, in silence, and at the end.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::shutdown::Shutdown;

use super::super::server::{ServerSettings, serve};

struct Server {
    address: SocketAddr,
    stop: Shutdown,
    ended: JoinHandle<()>,
}

async fn start(settings: ServerSettings) -> Server {
    let slow = get(|| async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        "slow"
    });
    let routes = Router::new().route("/", get(|| async { "quick" })).route("/slow", slow);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = Shutdown::default();
    let ended = tokio::spawn(serve(listener, routes, settings, stop.clone()));
    Server { address, stop, ended }
}

async fn send(server: &Server, text: &str) -> TcpStream {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    stream
}

async fn all(mut stream: TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

// Time is paused: it jumps to the next timer whenever nothing else can happen.
#[rstest::rstest]
#[case::nothing("")]
#[case::the_beginning_of_http2("PRI * HTT")]
#[case::half_a_head("GET / HTTP/1.1\r\nhost: x\r\n")]
#[case::a_call_and_then_nothing("GET / HTTP/1.1\r\nhost: x\r\n\r\n")]
#[tokio::test(start_paused = true)]
async fn who_sends_no_head_is_cut_off(#[case] sent: &str) {
    let server = start(ServerSettings::default()).await;
    let stream = send(&server, sent).await;
    let answered = tokio::time::timeout(Duration::from_secs(11), all(stream)).await.unwrap();
    assert_eq!(answered.contains("quick"), sent.ends_with("\r\n\r\n"));
}

#[tokio::test]
async fn connections_above_the_cap_wait_for_a_place() {
    let server = start(ServerSettings { max_connections: 1, ..ServerSettings::default() }).await;
    let first = send(&server, "GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let mut second = send(&server, "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    let early = tokio::time::timeout(Duration::from_millis(200), second.read_u8()).await;
    assert!(early.is_err(), "the second connection was served beside the first");
    drop(first);
    assert!(all(second).await.contains("quick"));
}

#[tokio::test(start_paused = true)]
async fn a_call_under_way_is_answered_before_the_end() {
    let server = start(ServerSettings::default()).await;
    let idle = send(&server, "GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let mut busy = send(&server, "GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await;
    // Both calls have reached their handlers once the idle connection's answer is there.
    let mut first = [0; 1];
    idle.peek(&mut first).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    server.stop.begin();
    let mut answer = String::new();
    busy.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("slow"), "{answer}");
    server.ended.await.unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_call_longer_than_the_grace_is_cut() {
    let server = start(ServerSettings { grace: Duration::from_secs(1), ..ServerSettings::default() }).await;
    let busy = send(&server, "GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    server.stop.begin();
    server.ended.await.unwrap();
    assert_eq!(all(busy).await, "");
}
