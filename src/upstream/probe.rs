//! Asking a provider for its list of models: whether it is there and takes the key, at no cost.

use std::time::{Duration, SystemTime};

use http::{Method, header};
use reqwest::Request;
use tokio::time::Instant;

use super::call::{CallError, PhaseTimeouts};
use super::exchange::Upstream;

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// HTTP status.
    pub status: u16,
    /// The time by the provider's clock, if it told.
    pub date: Option<SystemTime>,
    /// From the start to the reply's head.
    pub took: Duration,
}

impl Upstream {
    /// Asks for the provider's models, with its key, proxy and certificates as any call has them.
    ///
    /// # Errors
    /// Why there is no reply. Any status is one.
    pub async fn probe(&self, timeouts: &PhaseTimeouts) -> Result<Probe, CallError> {
        let started = Instant::now();
        let mut request = Request::new(Method::GET, self.models_url());
        self.put_headers(&mut request)?;
        request.headers_mut().remove(header::CONTENT_TYPE);
        let response = self.reach(request, started, timeouts).await?;
        let date = response.headers().get(header::DATE).and_then(|date| date.to_str().ok());
        let date = date.and_then(|date| httpdate::parse_http_date(date).ok());
        Ok(Probe { status: response.status().as_u16(), date, took: started.elapsed() })
    }
}
