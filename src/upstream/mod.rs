//! A provider's client: one wire attempt per call, with its phases timed, its reply capped and its
//! key kept out of sight.
//!
//! Nothing here decides what an answer means or whether to try again; hidden retries and redirects
//! are off, so that every request on the wire is one that the gate let through.

mod call;
mod check;
mod client;
mod collect;
mod credential;
mod exchange;
mod probe;
mod quota_headers;
mod reply_head;
mod request_url;
mod settings;
mod shards;
mod streaming;
#[cfg(test)]
mod tests;

pub use self::call::{Call, CallError, Phase, PhaseTimeouts, Reply};
pub use self::check::check;
pub use self::collect::{FREE_REPLY, GROWTH_STEP, ReplyMemory, Unlimited};
pub use self::credential::{AuthStyle, Credential, CredentialError};
pub use self::exchange::Upstream;
pub use self::probe::Probe;
pub use self::settings::{HttpVersion, UpstreamError, UpstreamSettings};
pub use self::streaming::{Opening, Streamed, StreamedBody};
