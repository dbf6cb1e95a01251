//! Serving connections: one task each, one request after the other.

use std::io::{self, Write as _};
use std::sync::Arc;

use serde_json::json;
use tokio::net::{TcpListener, TcpStream};

use super::control;
use super::desk::{Desk, Incoming};
use super::head::Head;
use super::perform::{After, Asked, perform, reason};
use super::prompt::Prompt;
use super::refusal::Refusal;
use super::wire::Wire;
use crate::domain::endpoint::Endpoint;
use crate::shutdown::Shutdown;

/// Accepts until the shutdown begins.
///
/// # Errors
/// If the listener itself fails.
pub(super) async fn accept(listener: TcpListener, desk: Arc<Desk>, shutdown: Shutdown) -> io::Result<()> {
    loop {
        let stream = tokio::select! {
            () = shutdown.begun() => return Ok(()),
            accepted = listener.accept() => accepted?.0,
        };
        let (desk, end) = (Arc::clone(&desk), shutdown.clone());
        shutdown.spawn(async move {
            tokio::select! {
                () = end.begun() => {}
                // A connection that breaks is the client's business; the log has its calls.
                _ = serve(stream, &desk) => {}
            }
        });
    }
}

async fn serve(stream: TcpStream, desk: &Arc<Desk>) -> io::Result<()> {
    let mut wire = Wire::new(stream)?;
    let mut body = Vec::new();
    while let Some(head) = wire.next_head().await? {
        wire.read_body(&head, &mut body).await?;
        if turn(&mut wire, desk, &head, &body).await? == After::Closed {
            break;
        }
        if body.capacity() > 1024 * 1024 {
            body = Vec::new();
        }
    }
    Ok(())
}

async fn turn(wire: &mut Wire, desk: &Arc<Desk>, head: &Head, body: &[u8]) -> io::Result<After> {
    let path = head.target.split('?').next().unwrap_or_default();
    if let Some(endpoint) = Endpoint::from_path(path).filter(|_| head.method == "POST") {
        let prompt = Prompt::read(body);
        let incoming = Incoming {
            endpoint,
            key: head.key.as_deref(),
            caller: head.caller.as_deref(),
            prompt: prompt.as_ref(),
            body,
        };
        let visit = desk.arrive(&incoming);
        return perform(wire, &Asked { endpoint, prompt, keep_alive: head.keep_alive }, visit).await;
    }
    let (status, body) = if path.starts_with("/script/") {
        control::answer(desk, &head.method, &head.target, body)
    } else if path == "/v1/models" && head.method == "GET" && !desk.lets_in(head.key.as_deref()) {
        let refusal = Refusal::Key;
        (refusal.status(), refusal.body(None, "", "").to_string().into_bytes())
    } else if path == "/v1/models" && head.method == "GET" {
        (200, models(desk).into_bytes())
    } else {
        let refusal = Refusal::Path;
        (refusal.status(), refusal.body(None, "", "").to_string().into_bytes())
    };
    reply(wire, head, status, &body).await
}

fn models(desk: &Desk) -> String {
    let script = desk.script();
    let data: Vec<_> = script
        .models
        .iter()
        .map(|id| json!({"id": id, "object": "model", "created": 1_700_000_000, "owned_by": "demo"}))
        .collect();
    json!({"object": "list", "data": data}).to_string()
}

async fn reply(wire: &mut Wire, head: &Head, status: u16, body: &[u8]) -> io::Result<After> {
    let mut bytes = Vec::with_capacity(body.len() + 128);
    let closing = if head.keep_alive { "" } else { "connection: close\r\n" };
    write!(
        bytes,
        "HTTP/1.1 {status} {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n{closing}\r\n",
        reason(status),
        body.len()
    )?;
    bytes.extend_from_slice(body);
    wire.send(&bytes).await?;
    Ok(if head.keep_alive { After::Open } else { After::Closed })
}
