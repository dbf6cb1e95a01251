//! The operator's own admin keys: given to the keyring, and again when their file or its place changes.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;

use crate::api::Keyring;
use crate::config::{Fingerprint, KeySource, SHORTEST_ADMIN_KEY};
use crate::domain::api_key::KeyHash;
use crate::shutdown::Shutdown;

/// How often a key file's metadata is looked at: a rotated key is in use within this.
const LOOK: Duration = Duration::from_secs(2);

/// Where admin keys come from, and what was found there. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct AdminKeys {
    keyring: Keyring,
    sources: Arc<Mutex<Vec<Source>>>,
}

#[derive(Debug)]
struct Source {
    source: KeySource,
    known: Option<Fingerprint>,
    key: Option<KeyHash>,
}

impl AdminKeys {
    /// Reads each source now, and the files again when they change.
    pub(super) async fn follow(sources: &[KeySource], keyring: &Keyring, shutdown: &Shutdown) -> Self {
        let keys = Self { keyring: keyring.clone(), sources: Arc::default() };
        keys.replace(sources).await;
        let (following, ending) = (keys.clone(), shutdown.clone());
        shutdown.spawn(async move {
            loop {
                tokio::select! {
                    () = tokio::time::sleep(LOOK) => following.look().await,
                    () = ending.begun() => return,
                }
            }
        });
        keys
    }

    /// Whether nobody could call any more with these sources.
    pub(super) fn would_lock_everyone_out(&self, sources: &[KeySource]) -> bool {
        self.keyring.would_lock_everyone_out(sources.len())
    }

    /// Other sources hold from now on: what only the ones before gave is refused.
    pub(super) async fn replace(&self, sources: &[KeySource]) {
        let mut held = self.sources.lock().await;
        let mut read = Vec::with_capacity(sources.len());
        for source in sources {
            read.push(Source::read(source.clone()).await);
        }
        *held = read;
        self.give(&held);
    }

    async fn look(&self) {
        let mut held = self.sources.lock().await;
        let mut changed = false;
        for source in held.iter_mut().filter(|source| source.source.changed_since(source.known)) {
            *source = Source::read(source.source.clone()).await;
            changed = true;
        }
        if changed {
            self.give(&held);
        }
    }

    fn give(&self, held: &[Source]) {
        self.keyring.set_admin_keys(held.iter().map(|source| source.key).collect());
    }
}

impl Source {
    /// A source without a good key has none: the one before must not stay in use once it was taken away.
    async fn read(source: KeySource) -> Self {
        // Before the key: what changes in between is read again.
        let known = source.fingerprint();
        let reading = source.clone();
        let key = match tokio::task::spawn_blocking(move || reading.read()).await {
            Ok(Ok(key)) if key.expose().len() >= SHORTEST_ADMIN_KEY => Some(KeyHash::of(key.expose())),
            Ok(Ok(_)) => {
                tracing::warn!(
                    "the admin key has fewer than {SHORTEST_ADMIN_KEY} characters and is not taken"
                );
                None
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, "the admin key can't be read; it is refused until it can");
                None
            }
            Err(_) => None,
        };
        Self { source, known, key }
    }
}
