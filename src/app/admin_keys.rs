//! The operator's own admin keys: given to the keyring, and again when their file changes.

use std::time::Duration;

use crate::api::Keyring;
use crate::config::{KeySource, SHORTEST_ADMIN_KEY};
use crate::domain::api_key::KeyHash;
use crate::shutdown::Shutdown;

/// How often a key file's metadata is looked at: a rotated key is in use within this.
const LOOK: Duration = Duration::from_secs(2);

/// Reads each source now, and the files again when they change.
pub(super) async fn follow(sources: &[KeySource], keyring: &Keyring, shutdown: &Shutdown) {
    for (place, source) in sources.iter().enumerate() {
        let known = source.fingerprint();
        read(source, place, keyring).await;
        if matches!(source, KeySource::File(_)) {
            let (source, keyring, ending) = (source.clone(), keyring.clone(), shutdown.clone());
            shutdown.spawn(async move {
                let mut known = known;
                loop {
                    tokio::select! {
                        () = tokio::time::sleep(LOOK) => {}
                        () = ending.begun() => return,
                    }
                    if source.changed_since(known) {
                        known = source.fingerprint();
                        read(&source, place, &keyring).await;
                    }
                }
            });
        }
    }
}

/// A source without a good key has none: the one before must not stay in use once it was taken away.
async fn read(source: &KeySource, place: usize, keyring: &Keyring) {
    let reading = source.clone();
    let key = match tokio::task::spawn_blocking(move || reading.read()).await {
        Ok(Ok(key)) if key.expose().len() >= SHORTEST_ADMIN_KEY => Some(KeyHash::of(key.expose())),
        Ok(Ok(_)) => {
            tracing::warn!("the admin key has fewer than {SHORTEST_ADMIN_KEY} characters and is not taken");
            None
        }
        Ok(Err(error)) => {
            tracing::warn!(%error, "the admin key can't be read; it is refused until it can");
            None
        }
        Err(_) => None,
    };
    keyring.set_admin_key(place, key);
}
