//! HTTP itself, byte by byte.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;

const BODY: &str = r#"{"model":"m","messages":[{"role":"user","content":"[[id=1]]"}]}"#;

/// Sends pieces, half-closes, and returns all that comes back.
async fn exchange(scene: &Scene, pieces: &[&str]) -> String {
    let mut stream = TcpStream::connect(scene.upstream.addr()).await.unwrap();
    stream.set_nodelay(true).unwrap();
    for piece in pieces {
        stream.write_all(piece.as_bytes()).await.unwrap();
        tokio::task::yield_now().await;
    }
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

fn head(rest: &str) -> String {
    format!("POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n{rest}\r\n\r\n")
}

#[tokio::test]
async fn requests_may_come_in_pieces_and_ahead() {
    let scene = Scene::of("").await;
    let one = format!("{}{BODY}", head(&format!("content-length: {}", BODY.len())));
    let both = format!("{one}{one}");
    for cut in [1, 30, one.len() - 5, one.len(), one.len() + 40] {
        let answer = exchange(&scene, &[&both[..cut], &both[cut..]]).await;
        assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 2, "{cut}: {answer}");
    }
    assert_eq!(scene.upstream.calls("1"), 10);
}

#[tokio::test]
async fn bodies_may_come_in_chunks() {
    let scene = Scene::of("").await;
    let (first, second) = BODY.split_at(20);
    let chunks = format!("14;x=y\r\n{first}\r\n{:x}\r\n{second}\r\n0\r\nsome: trailer\r\n\r\n", second.len());
    let head = head("transfer-encoding: chunked");
    let answer = exchange(&scene, &[&head, &chunks[..30], &chunks[30..], &head, &chunks]).await;
    assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 2, "{answer}");
    let broken = exchange(&scene, &[&head, "zz\r\n"]).await;
    assert_eq!(broken, "");
}

#[tokio::test]
async fn a_client_may_ask_before_it_sends() {
    let scene = Scene::of("").await;
    let head = head(&format!("expect: 100-continue\r\ncontent-length: {}", BODY.len()));
    let answer = exchange(&scene, &[&head, BODY]).await;
    assert!(answer.starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n"), "{answer}");
}

#[tokio::test]
async fn a_connection_closes_when_asked_to() {
    let scene = Scene::of("").await;
    let closing = head(&format!("connection: close\r\ncontent-length: {}", BODY.len()));
    let answer = exchange(&scene, &[&closing, BODY, &closing, BODY]).await;
    assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 1);
    assert!(answer.contains("\r\nconnection: close\r\n"));
}

#[tokio::test]
async fn what_is_wrong_is_answered_as_an_error() {
    let scene = Scene::of("").await;
    let broken = scene.client.post(scene.url("/v1/chat/completions")).body("{").send().await.unwrap();
    assert_eq!(broken.status(), 400);
    for request in [
        scene.client.get(scene.url("/v1/chat/completions")),
        scene.client.post(scene.url("/v1/models")),
        scene.client.post(scene.url("/v2/chat/completions")),
        scene.client.get(scene.url("/script/none")),
    ] {
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 404);
        assert!(answer.json::<Value>().await.unwrap()["error"]["message"].is_string());
    }
}
