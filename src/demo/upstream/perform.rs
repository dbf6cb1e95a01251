//! Carrying out what a call was told it will meet.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::time::Duration;

use super::answer::{self, Naming, Usage};
use super::bomb;
use super::call_log::Ending;
use super::desk::{Plan, Visit};
use super::marker::Act;
use super::prompt::Prompt;
use super::refusal::Refusal;
use super::script::Unit;
use super::stream;
use super::wire::Wire;
use crate::domain::endpoint::Endpoint;

/// Filler of huge bodies is written in pieces of this size.
const PIECE: usize = 64 * 1024;

/// What a call asked for.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) endpoint: Endpoint,
    pub(super) prompt: Option<Prompt>,
    pub(super) keep_alive: bool,
}

/// Whether the connection is of use afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    /// It may carry the next request.
    Open,
    /// It is to be dropped.
    Closed,
}

/// Answers one call, or fails to, as planned.
///
/// # Errors
/// If the client leaves before the end.
pub(super) async fn perform(wire: &mut Wire, asked: &Asked, mut visit: Visit) -> io::Result<After> {
    let plan = std::mem::replace(&mut visit.plan, Plan::Answer(Duration::ZERO));
    let ending = match plan {
        Plan::Refuse(refusal) => Answering { wire, asked, visit: &visit }.refuse(&refusal).await?,
        Plan::Answer(latency) => {
            wire.pause(latency).await?;
            Answering { wire, asked, visit: &visit }.answer().await?
        }
        Plan::Act(act, latency) => {
            wire.pause(latency).await?;
            Answering { wire, asked, visit: &visit }.act(&act).await?
        }
    };
    visit.end(ending);
    let whole = matches!(ending, Ending::Status(_));
    Ok(if whole && asked.keep_alive { After::Open } else { After::Closed })
}

struct Answering<'a> {
    wire: &'a mut Wire,
    asked: &'a Asked,
    visit: &'a Visit,
}

impl Answering<'_> {
    async fn answer(&mut self) -> io::Result<Ending> {
        self.spend();
        if self.streams() {
            return self.stream().await;
        }
        let (body, _) = self.usual_body();
        self.reply(200, "", &body).await
    }

    /// Whether the answer is a stream of events.
    fn streams(&self) -> bool {
        let asked = self.asked.prompt.as_ref().is_some_and(|prompt| prompt.stream);
        asked && stream::can_stream(self.asked.endpoint)
    }

    async fn stream(&mut self) -> io::Result<Ending> {
        let events = self.events();
        let mut bytes = self.head(200, "", None);
        let pause = Duration::from_micros(self.visit.script.stream_pause.micros());
        for (at, event) in events.iter().enumerate() {
            let _ = write!(bytes, "{:x}\r\n{event}\r\n", event.len());
            if !pause.is_zero() || at + 1 == events.len() {
                self.wire.send(&bytes).await?;
                self.wire.pause(pause).await?;
                bytes.clear();
            }
        }
        self.wire.send(b"0\r\n\r\n").await?;
        Ok(Ending::Status(200))
    }

    fn events(&self) -> Vec<String> {
        let unread = Prompt::default();
        let prompt = self.asked.prompt.as_ref().unwrap_or(&unread);
        let (call, text) = self.spoken(prompt);
        stream::events(self.asked.endpoint, prompt, &text, call, self.visit.script.stream_pieces)
    }

    /// An answer leaves: what it reports as used is charged.
    fn spend(&self) {
        let Some(prompt) = &self.asked.prompt else { return };
        let (_, text) = self.spoken(prompt);
        self.visit.spend(Usage::of(prompt, &text).charged(self.asked.endpoint));
    }

    fn spoken<'a>(&self, prompt: &'a Prompt) -> (Naming<'a>, String) {
        let visit = self.visit;
        let call = Naming { number: visit.number, id: prompt.markers.id.as_deref(), created: visit.created };
        (call, visit.texts().answer(&visit.script.answers, visit.script.answer_bytes, &call))
    }

    async fn refuse(&mut self, refusal: &Refusal) -> io::Result<Ending> {
        let model = self.asked.prompt.as_ref().map_or("", |prompt| &prompt.model);
        let body = refusal.body(Some(self.asked.endpoint), model, &self.visit.request_id).to_string();
        let mut extra = String::new();
        if let Some(seconds) = refusal.retry_after() {
            let _ = write!(extra, "retry-after: {seconds}\r\n");
        }
        self.reply(refusal.status(), &extra, body.as_bytes()).await
    }

    async fn act(&mut self, act: &Act) -> io::Result<Ending> {
        match act {
            Act::Status(status, seconds) => self.refuse(&Refusal::Scripted(*status, *seconds)).await,
            Act::Quota => self.refuse(&Refusal::Quota).await,
            Act::TooLarge => {
                let requested = self.asked.prompt.as_ref().map_or(0, Prompt::charge);
                let limit = requested / 2;
                self.refuse(&Refusal::TooLarge { unit: Unit::Tokens, limit, requested }).await
            }
            Act::Hang | Act::Drip(_) | Act::Stall => self.linger(act).await,
            Act::Reset | Act::ResetMid | Act::Close | Act::Truncated => self.cut(act).await,
            Act::InvalidJson => {
                let (body, _) = self.usual_body();
                self.reply(200, "", &body[..body.len() / 2]).await
            }
            Act::NotJson => {
                let page = b"<html><head><title>502 Bad Gateway</title></head></html>\n";
                self.reply(502, "content-type: text/html\r\n", page).await
            }
            Act::Empty => self.reply(200, "", b"").await,
            Act::Redirect => self.reply(307, "location: /v1/models\r\n", b"").await,
            Act::OkError(code) => {
                let body = format!(
                    r#"{{"error":{{"code":{code},"message":"The script asked for an error here."}}}}"#
                );
                self.reply(200, "", body.as_bytes()).await
            }
            Act::Huge(bytes) => self.huge(*bytes).await,
            Act::Bomb(bytes) => self.bomb(*bytes).await,
        }
    }

    /// Answers that never end, or not for long.
    async fn linger(&mut self, act: &Act) -> io::Result<Ending> {
        let (body, _) = self.usual_body();
        match act {
            Act::Drip(each) => {
                self.send_head(200, "", body.len() as u64).await?;
                for byte in &body {
                    self.wire.pause(each.0).await?;
                    self.wire.send(&[*byte]).await?;
                }
                return Ok(Ending::Status(200));
            }
            Act::Stall => {
                self.send_head(200, "", body.len() as u64).await?;
                self.wire.send(&body[..body.len() / 2]).await?;
            }
            _ => {}
        }
        self.wire.outlast().await;
        Ok(Ending::Gone)
    }

    /// Answers cut short.
    async fn cut(&mut self, act: &Act) -> io::Result<Ending> {
        if matches!(act, Act::ResetMid | Act::Truncated) {
            let (body, _) = self.usual_body();
            self.send_head(200, "", body.len() as u64).await?;
            self.wire.send(&body[..body.len() / 2]).await?;
        }
        if *act == Act::ResetMid {
            // An RST overtakes what the client hasn't read; let it have the half first.
            self.wire.pause(Duration::from_millis(20)).await?;
        }
        if matches!(act, Act::Reset | Act::ResetMid) {
            self.wire.arm_reset()?;
        } else {
            self.wire.close().await?;
        }
        Ok(Ending::Cut)
    }

    async fn huge(&mut self, bytes: u64) -> io::Result<Ending> {
        self.spend();
        let (body, room) = self.usual_body();
        let mut filler = bytes.saturating_sub(body.len() as u64);
        self.send_head(200, "", body.len() as u64 + filler).await?;
        self.wire.send(&body[..room]).await?;
        let piece = vec![b' '; PIECE];
        while filler > 0 {
            let length = filler.min(PIECE as u64);
            self.wire.send(&piece[..length as usize]).await?;
            filler -= length;
        }
        self.wire.send(&body[room..]).await?;
        Ok(Ending::Status(200))
    }

    async fn bomb(&mut self, bytes: u64) -> io::Result<Ending> {
        let packed = bomb::gzip_of_spaces(bytes);
        self.reply(200, "content-encoding: gzip\r\n", &packed).await
    }

    /// The whole body of the usual answer, and where spaces may be added to it.
    fn usual_body(&self) -> (Vec<u8>, usize) {
        if self.streams() {
            let body = self.events().concat().into_bytes();
            let end = body.len();
            return (body, end);
        }
        let unread = Prompt::default();
        let prompt = self.asked.prompt.as_ref().unwrap_or(&unread);
        let (call, text) = self.spoken(prompt);
        let mut body = Vec::with_capacity(text.len() + 512);
        let room = answer::write(&mut body, self.asked.endpoint, prompt, &text, call);
        (body, room)
    }

    async fn reply(&mut self, status: u16, extra: &str, body: &[u8]) -> io::Result<Ending> {
        let mut bytes = self.head(status, extra, Some(body.len() as u64));
        bytes.extend_from_slice(body);
        self.wire.send(&bytes).await?;
        Ok(Ending::Status(status))
    }

    async fn send_head(&mut self, status: u16, extra: &str, length: u64) -> io::Result<()> {
        let head = self.head(status, extra, Some(length));
        self.wire.send(&head).await
    }

    /// A reply's head; without a length its body comes in chunks.
    fn head(&self, status: u16, extra: &str, length: Option<u64>) -> Vec<u8> {
        let body = length.and_then(|length| usize::try_from(length).ok()).unwrap_or(0);
        let mut head = Vec::with_capacity(512 + body.min(PIECE));
        // Writing into memory can't fail.
        let _ = write!(head, "HTTP/1.1 {status} {}\r\n", reason(status));
        let _ = match length {
            Some(length) => write!(head, "content-length: {length}\r\n"),
            None => write!(head, "transfer-encoding: chunked\r\n"),
        };
        if status == 200 && self.streams() {
            head.extend_from_slice(b"content-type: text/event-stream; charset=utf-8\r\n");
        } else if !extra.contains("content-type") {
            head.extend_from_slice(b"content-type: application/json\r\n");
        }
        for (name, value) in &self.visit.script.headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        let name = if self.asked.endpoint == Endpoint::Messages { "request-id" } else { "x-request-id" };
        let _ = write!(head, "{name}: {}\r\n{extra}", self.visit.request_id);
        for (unit, limit, left, full_again) in &self.visit.ratelimits {
            let word = unit.word();
            let _ = write!(
                head,
                "x-ratelimit-limit-{word}: {limit}\r\nx-ratelimit-remaining-{word}: {left}\r\n\
                 x-ratelimit-reset-{word}: {}ms\r\n",
                full_again.div_ceil(1_000)
            );
        }
        if !self.asked.keep_alive {
            head.extend_from_slice(b"connection: close\r\n");
        }
        head.extend_from_slice(b"\r\n");
        head
    }
}

/// The phrase of a status line; clients go by the number.
pub(super) fn reason(status: u16) -> &'static str {
    let known = http::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    known.unwrap_or("Scripted")
}
