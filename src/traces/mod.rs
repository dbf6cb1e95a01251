//! `OpenTelemetry`: one span for each call that is answered and for each attempt at a provider, exported where the program
//! was built with the feature `otel` and the environment names a collector.
//!
//! Without the feature nothing of it is there: what is handed in is handed on. Spans name routes, providers, models and
//! how it ended; never a body, a header, a key, a name that a client gave or an address.

#[cfg(not(feature = "otel"))]
mod off;
#[cfg(feature = "otel")]
mod on;

#[cfg(not(feature = "otel"))]
pub use self::off::{AttemptSpan, call, end, outcome};
#[cfg(feature = "otel")]
pub(crate) use self::on::subscriber;
#[cfg(feature = "otel")]
pub use self::on::{AttemptSpan, TraceError, call, end, outcome};

/// What an attempt's span tells from the start.
#[derive(Clone, Copy, Debug)]
pub struct AttemptFacts<'a> {
    /// The provider's name in the configuration.
    pub provider: &'a str,
    /// The model that the line names.
    pub model: &'a str,
    /// The endpoint's path.
    pub endpoint: &'a str,
    /// Which of the item's attempts it is, from 1.
    pub number: u32,
}
