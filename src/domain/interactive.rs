//! Calls of clients that wait: what the API hands to whoever makes them, and what it gets back.
//!
//! The API and the engine know only these types of each other. The engine's implementation takes a
//! call through one bounded channel to the gate, and makes the upstream call in the task that waits
//! for the answer, so that nothing stands between a client and its reply but the admission.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;

use super::endpoint::Endpoint;
use super::ids::AppKey;

/// What keeps a body's room until another holder has charged it; given back when dropped.
pub type Room = Box<dyn Send + Sync>;

/// A call that a client waits for.
pub struct Call {
    /// The app that it is made and charged for.
    pub app: AppKey,
    /// What of the provider is called.
    pub endpoint: Endpoint,
    /// The model as the client names it; empty where the body names none.
    pub model: String,
    /// The body, sent as it stands but for the model's name where a lane has another, and for the usage
    /// that a stream is asked for.
    pub body: Bytes,
    /// Headers of the client that may go upstream.
    pub headers: HeaderMap,
    /// The query that the client gave.
    pub query: Option<String>,
    /// The longest wait in the gate.
    pub max_wait: Duration,
    /// The body's room outside the gate, given back once the gate's memory level holds it.
    pub room: Option<Room>,
}

impl fmt::Debug for Call {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Call")
            .field("endpoint", &self.endpoint)
            .field("model", &self.model)
            .finish_non_exhaustive()
    }
}

/// The body of a reply on its way: whoever reads it slowly slows the upstream down. Dropping it ends
/// the upstream call.
pub trait ReplyBody: Send {
    /// The next piece as it came; `None` at the end.
    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, BrokenOff>>>;

    /// Bytes still to come, where the upstream has announced how many.
    fn left(&self) -> Option<u64>;
}

/// A reply ended before its end; what was missing can't be made up for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the reply broke off: {0}")]
pub struct BrokenOff(pub String);

/// What the upstream answered.
pub struct Reply {
    /// The provider that answered.
    pub provider: Arc<str>,
    /// Time spent in the gate.
    pub waited: Duration,
    /// HTTP status, whatever it is.
    pub status: u16,
    /// Every header that came.
    pub headers: HeaderMap,
    /// The body.
    pub body: Box<dyn ReplyBody>,
}

impl fmt::Debug for Reply {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Reply")
            .field("provider", &self.provider)
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

/// Why there is no answer of the upstream's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No lane serves the model.
    NoLane,
    /// The lane is stopped until its operator acts.
    LaneStopped {
        /// Its name, `provider/model`.
        lane: Arc<str>,
        /// Why: `credential` or `quota`.
        reason: &'static str,
        /// When it is tried again, at the earliest.
        retry_after: Duration,
    },
    /// The gate did not open within the longest wait.
    Waited {
        /// What held the call back, in the words of the gate.
        reason: &'static str,
        /// When it may be let through, at the earliest.
        retry_after: Duration,
    },
    /// No limit will ever let the call through: it needs more tokens at once than one of them allows.
    NeverFits {
        /// The figures, as a whole sentence.
        detail: String,
    },
    /// The process is ending.
    Draining,
    /// The upstream could not be reached or broke off before its answer.
    Unreachable(String),
    /// The upstream did not answer in time.
    TimedOut(String),
}

/// A refused call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Time spent in the gate.
    pub waited: Duration,
    /// The provider that was called, if one was.
    pub provider: Option<Arc<str>>,
    /// Why.
    pub refusal: Refusal,
}

/// The end of a call, to be waited for. Dropping it takes the call back.
pub type Answer = Pin<Box<dyn Future<Output = Result<Reply, Refused>> + Send>>;

/// Whoever makes calls for clients that wait.
pub trait Interactive: Send + Sync {
    /// Waits for the call's turn, makes it, and gives back the reply's head with its body to be read.
    fn call(&self, call: Call) -> Answer;
}
