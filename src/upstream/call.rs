//! One call as its caller gives it, and the two ways it ends.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue};

use crate::domain::endpoint::Endpoint;
use crate::domain::quota::QuotaReading;
use crate::metrics::AttemptClass;

/// Limits of a call's phases. The connection's is the provider's, since connections are shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PhaseTimeouts {
    /// From the start to the reply's head, the upload included.
    pub first_byte: Duration,
    /// Between two pieces of the reply's body.
    pub idle: Duration,
    /// From the start to the reply's last byte, without the time its reader was made to wait.
    pub total: Duration,
}

impl Default for PhaseTimeouts {
    fn default() -> Self {
        Self {
            first_byte: Duration::from_secs(300),
            idle: Duration::from_secs(120),
            total: Duration::from_secs(600),
        }
    }
}

/// One request to make.
#[derive(Debug)]
pub struct Call<'a> {
    /// What of the provider is called.
    pub endpoint: Endpoint,
    /// The model as the provider names it: where models are deployments, it is part of the path.
    pub model: &'a str,
    /// The JSON body, sent as it stands.
    pub body: Bytes,
    /// Headers of this call, over those of the provider; mostly none.
    pub headers: &'a [(HeaderName, HeaderValue)],
    /// Limits of its phases.
    pub timeouts: PhaseTimeouts,
    /// Most bytes of the reply's body, decompressed.
    pub max_reply: usize,
}

/// A reply, read to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// The upstream's request id; empty if it gave none.
    pub request_id: String,
    /// How long to wait before another call, at most an hour.
    pub retry_after: Option<Duration>,
    /// What `x-should-retry` says.
    pub should_retry: Option<bool>,
    /// What the headers say of the provider's limits.
    pub quota: Vec<QuotaReading>,
    /// The body, decompressed.
    pub body: Bytes,
    /// From the start to the reply's head.
    pub first_byte: Duration,
    /// From the start to the last byte.
    pub total: Duration,
}

/// A phase of a call with a limit of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Opening a connection.
    Connect,
    /// Waiting for the reply's head.
    FirstByte,
    /// Waiting for more of its body.
    Idle,
    /// The whole call.
    Total,
}

impl fmt::Display for Phase {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Connect => "no connection",
            Self::FirstByte => "no reply",
            Self::Idle => "no more of the reply",
            Self::Total => "no whole reply",
        })
    }
}

/// Why a call has no reply. Texts hold neither the URL nor its query nor the key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// No connection: name, network, TLS or proxy.
    #[error("the upstream could not be reached: {detail}")]
    Connect {
        /// What the system said.
        detail: String,
    },
    /// A phase took longer than it may.
    #[error("{phase} within {after:?}")]
    Timeout {
        /// Which one.
        phase: Phase,
        /// Its limit.
        after: Duration,
    },
    /// The connection broke, or the reply ended early or can't be decompressed.
    #[error("the upstream broke off: {detail}")]
    BrokenOff {
        /// What the system said.
        detail: String,
    },
    /// The reply is longer than is kept.
    #[error("the reply is longer than {limit} bytes")]
    TooLarge {
        /// The limit, in bytes.
        limit: usize,
    },
    /// There is no key to send; nothing was sent.
    #[error("no API key: {detail}")]
    Credential {
        /// Why, naming the key's source.
        detail: String,
    },
}

impl CallError {
    /// As metrics count it; `None`: nothing was sent.
    pub const fn class(&self) -> Option<AttemptClass> {
        match self {
            // A connection that never came up says the same, however it failed.
            Self::Connect { .. } | Self::BrokenOff { .. } | Self::Timeout { phase: Phase::Connect, .. } => {
                Some(AttemptClass::Network)
            }
            Self::Timeout { .. } => Some(AttemptClass::Timeout),
            Self::TooLarge { .. } => Some(AttemptClass::ServerError),
            Self::Credential { .. } => None,
        }
    }
}
