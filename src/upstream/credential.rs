//! A provider's key: read by whoever knows its source, held as the header that carries it.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use http::{HeaderName, HeaderValue, header};
use tokio::sync::{Mutex, watch};

/// How a provider wants its key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AuthStyle {
    /// `authorization: Bearer KEY`
    #[default]
    Bearer,
    /// `x-api-key: KEY`
    XApiKey,
    /// `api-key: KEY`
    ApiKey,
    /// No key at all.
    None,
}

impl AuthStyle {
    const fn header(self) -> HeaderName {
        match self {
            Self::Bearer | Self::None => header::AUTHORIZATION,
            Self::XApiKey => HeaderName::from_static("x-api-key"),
            Self::ApiKey => HeaderName::from_static("api-key"),
        }
    }

    const fn prefix(self) -> &'static str {
        match self {
            Self::Bearer => "Bearer ",
            Self::XApiKey | Self::ApiKey | Self::None => "",
        }
    }
}

/// Why there is no key: names its source, never its value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CredentialError(pub String);

type Read = dyn Fn() -> Result<String, CredentialError> + Send + Sync;

/// A provider's key, replaced in place when its source has another.
pub struct Credential {
    style: AuthStyle,
    read: Option<Arc<Read>>,
    held: RwLock<Result<HeaderValue, CredentialError>>,
    /// Reads begun; moved by whoever holds `turn`.
    begun: AtomicU64,
    turn: Mutex<()>,
    changed: watch::Sender<u64>,
}

impl fmt::Debug for Credential {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Credential").field("style", &self.style).finish_non_exhaustive()
    }
}

impl Credential {
    /// A key that `read` fetches from a file, a variable or a command. It may block, and is first
    /// called by [`Credential::refresh`].
    pub fn new(
        style: AuthStyle,
        read: impl Fn() -> Result<String, CredentialError> + Send + Sync + 'static,
    ) -> Arc<Self> {
        let read: Option<Arc<Read>> = if style == AuthStyle::None { None } else { Some(Arc::new(read)) };
        Arc::new(Self::holding(style, read))
    }

    /// For a provider that wants no key.
    pub fn none() -> Arc<Self> {
        Arc::new(Self::holding(AuthStyle::None, None))
    }

    fn holding(style: AuthStyle, read: Option<Arc<Read>>) -> Self {
        Self {
            style,
            read,
            held: RwLock::new(Err(CredentialError("the API key was not read yet".to_owned()))),
            begun: AtomicU64::new(0),
            turn: Mutex::new(()),
            changed: watch::Sender::new(0),
        }
    }

    /// The header that carries the key, marked sensitive; `None` if the provider wants none.
    ///
    /// # Errors
    /// Why the latest read gave no key.
    pub fn current(&self) -> Result<Option<(HeaderName, HeaderValue)>, CredentialError> {
        if self.read.is_none() {
            return Ok(None);
        }
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        held.clone().map(|value| Some((self.style.header(), value)))
    }

    /// Reads the key anew and says whether it is another one. Calls that come together share a read.
    ///
    /// # Errors
    /// Why the source gave no usable key. A key that was held before stays: a file that is being
    /// replaced must not stop what works.
    pub async fn refresh(&self) -> Result<bool, CredentialError> {
        let Some(read) = &self.read else { return Ok(false) };
        let begun_before = self.begun.load(Ordering::Acquire);
        let version_before = *self.changed.borrow();
        let turn = self.turn.lock().await;
        // One that began after we asked saw what ours would see.
        if self.begun.load(Ordering::Acquire) == begun_before {
            self.begun.fetch_add(1, Ordering::AcqRel);
            let read = Arc::clone(read);
            let key = tokio::task::spawn_blocking(move || read()).await;
            let key =
                key.unwrap_or_else(|_| Err(CredentialError("reading the API key broke off".to_owned())));
            self.hold(key.and_then(|key| self.header_value(&key)))?;
        }
        drop(turn);
        Ok(*self.changed.borrow() != version_before)
    }

    /// Moves on each time the key has become another one.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn hold(&self, key: Result<HeaderValue, CredentialError>) -> Result<(), CredentialError> {
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        match key {
            Ok(value) => {
                let another = held.as_ref().ok() != Some(&value);
                *held = Ok(value);
                drop(held);
                if another {
                    self.changed.send_modify(|version| *version += 1);
                }
                Ok(())
            }
            Err(error) => {
                if held.is_err() {
                    *held = Err(error.clone());
                }
                Err(error)
            }
        }
    }

    fn header_value(&self, key: &str) -> Result<HeaderValue, CredentialError> {
        let key = key.trim();
        if key.is_empty() {
            return Err(CredentialError("the API key is empty".to_owned()));
        }
        let text = format!("{}{key}", self.style.prefix());
        let mut value = HeaderValue::try_from(text)
            .map_err(|_| CredentialError("the API key holds what a header can't carry".to_owned()))?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// The body without the key, should an error reply quote it: replies are stored and shown.
    pub(super) fn blank_out(&self, body: bytes::Bytes) -> bytes::Bytes {
        let Ok(Some((_, value))) = self.current() else { return body };
        let key = &value.as_bytes()[self.style.prefix().len()..];
        // A short word would match what is no key at all.
        if key.len() < 8 || memchr::memmem::find(&body, key).is_none() {
            return body;
        }
        let mut blanked = Vec::with_capacity(body.len());
        let mut rest = 0;
        for at in memchr::memmem::find_iter(&body, key) {
            blanked.extend_from_slice(&body[rest..at]);
            blanked.extend_from_slice(b"***");
            rest = at + key.len();
        }
        blanked.extend_from_slice(&body[rest..]);
        blanked.into()
    }
}
