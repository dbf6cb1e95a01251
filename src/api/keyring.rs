//! Whose key is whose, held in memory so that no call costs a query.
//!
//! The store bounds how many keys are good at once, so all of them are here; a change is read again before
//! its call is answered.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::clock::Clock;
use crate::complaint::Complaint;
use crate::config::AuthMode;
use crate::domain::api_key::{KeyHash, KeyRecord, KeyText, Scope};
use crate::domain::day::Day;
use crate::domain::ids::AppKey;
use crate::domain::time::Timestamp;
use crate::shutdown::Shutdown;
use crate::store::{Result, Store};

use super::caller::Caller;

/// Longer texts are no keys; hashing them would be work for nothing.
const LONGEST: usize = 512;

/// Keys that are not known make the store be read no more often.
const BETWEEN_LOOKS: Duration = Duration::from_millis(100);

/// Pause after the store did not answer.
const AGAIN: Duration = Duration::from_secs(1);

/// Who may call without a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyringSettings {
    /// As configured.
    pub mode: AuthMode,
    /// Whether only this machine reaches the service.
    pub is_local: bool,
    /// How many admin keys the operator holds outside of the store, at the start.
    pub admin_keys: usize,
}

impl KeyringSettings {
    /// Whether every call needs a key. `any_ever`: the store has, or had, one.
    fn demand_keys(self, any_ever: bool) -> bool {
        match self.mode {
            AuthMode::Keys => true,
            AuthMode::None => false,
            AuthMode::Auto => !self.is_local || self.admin_keys > 0 || any_ever,
        }
    }

    /// What callers without a key may do where none is needed. Who lets everyone in from elsewhere does not
    /// mean to let everyone change the service.
    fn scope_without_key(self) -> Scope {
        if self.is_local && self.admin_keys == 0 { Scope::Admin } else { Scope::App }
    }
}

/// All keys that may be used. Cloning shares it.
#[derive(Clone)]
pub struct Keyring {
    shared: Arc<Shared>,
}

struct Shared {
    store: Store,
    clock: Clock,
    settings: KeyringSettings,
    ring: RwLock<Arc<Ring>>,
    /// The operator's own keys, one place for each source; empty where it can't be read.
    admin: RwLock<Vec<Option<KeyHash>>>,
    /// Held while the store is read again: of two readings the later one must stay.
    reading: Mutex<()>,
    /// When the store was last asked for a key that was not known, if ever.
    looked: Mutex<Option<Instant>>,
}

/// The keys as the store had them.
#[derive(Default)]
struct Ring {
    keys: HashMap<KeyHash, LiveKey>,
    apps: HashMap<AppKey, Arc<str>>,
    any_ever: bool,
}

struct LiveKey {
    record: KeyRecord,
    /// The day whose use the store knows of.
    noted: AtomicI64,
}

impl fmt::Debug for Keyring {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Keyring").field("settings", &self.shared.settings).finish_non_exhaustive()
    }
}

impl Keyring {
    /// Reads every key.
    ///
    /// # Errors
    /// The store's.
    pub async fn load(store: Store, clock: Clock, settings: KeyringSettings) -> Result<Self> {
        let shared = Shared {
            store,
            clock,
            settings,
            ring: RwLock::default(),
            admin: RwLock::new(vec![None; settings.admin_keys]),
            reading: Mutex::new(()),
            looked: Mutex::new(None),
        };
        let keyring = Self { shared: Arc::new(shared) };
        keyring.reload().await?;
        Ok(keyring)
    }

    /// Whether keys are asked for though there is none that could be given.
    pub fn locks_everyone_out(&self) -> bool {
        self.would_lock_everyone_out(self.settings().admin_keys)
    }

    /// Whether that would be so with so many sources of admin keys.
    pub fn would_lock_everyone_out(&self, admin_keys: usize) -> bool {
        let (settings, any_ever) =
            (KeyringSettings { admin_keys, ..self.shared.settings }, self.ring().any_ever);
        settings.demand_keys(any_ever) && !any_ever && admin_keys == 0
    }

    /// Sets the operator's keys, one for each source; `None`: that source has none at the moment.
    pub fn set_admin_keys(&self, keys: Vec<Option<KeyHash>>) {
        *self.shared.admin.write().unwrap_or_else(PoisonError::into_inner) = keys;
    }

    /// Reads keys and apps again, after they changed.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn reload(&self) -> Result<()> {
        let _reading = self.shared.reading.lock().await;
        let live = self.shared.store.live_api_keys(self.shared.clock.now()).await?;
        let apps = self.shared.store.apps().await?;
        let keys = live.keys.into_iter().map(|record| {
            let noted = AtomicI64::new(record.last_used.map_or(i64::MIN, |day| day.0));
            (record.hash, LiveKey { record, noted })
        });
        let ring = Ring {
            keys: keys.collect(),
            apps: apps.into_iter().map(|app| (app.key, Arc::from(app.name.as_str()))).collect(),
            any_ever: live.any_ever,
        };
        *self.shared.ring.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(ring);
        Ok(())
    }

    /// Reads keys and apps again whenever they change, by other processes too.
    pub async fn follow(self, shutdown: Shutdown) {
        let mut changes = self.shared.store.apps_wakeup().listen();
        loop {
            tokio::select! {
                () = changes.heard() => {}
                () = shutdown.begun() => return,
            }
            let mut complaint = Complaint::default();
            while let Err(error) = self.reload().await {
                if complaint.begin() {
                    tracing::warn!(error = %error, "keys could not be read again; trying again");
                }
                tokio::select! {
                    () = tokio::time::sleep(AGAIN) => {}
                    () = shutdown.begun() => return,
                }
            }
        }
    }

    /// Who sends a call with these headers; `None`: nobody who may.
    ///
    /// Where other processes make keys too, one that looks like a key of ours and is not known is looked for in the
    /// store: it may have been made a moment ago.
    pub(crate) async fn caller(&self, headers: &HeaderMap) -> Option<Caller> {
        let known = self.holder_of(headers);
        let may_be_new = known.is_none() && self.shared.store.is_shared();
        if may_be_new && presented(headers).any(|text| KeyText::parse(text).is_some()) {
            self.look_again().await;
            return self.holder_of(headers).or_else(|| self.without_key());
        }
        known.or_else(|| self.without_key())
    }

    fn holder_of(&self, headers: &HeaderMap) -> Option<Caller> {
        let (ring, now) = (self.ring(), self.shared.clock.now());
        presented(headers).find_map(|text| self.holder(&ring, text, now))
    }

    /// Reads the keys again unless somebody has begun to since. Not often: anyone can make up a key.
    async fn look_again(&self) {
        let asked = Instant::now();
        let mut looked = self.shared.looked.lock().await;
        if let Some(last) = *looked {
            if last > asked {
                return;
            }
            tokio::time::sleep_until(last + BETWEEN_LOOKS).await;
        }
        *looked = Some(Instant::now());
        if let Err(error) = self.reload().await {
            tracing::warn!(error = %error, "keys could not be read again: one that is new may be refused");
        }
    }

    /// Whether a key that is not an admin's, made now, would leave nobody who can make another one.
    pub(crate) fn first_must_be_admin(&self) -> bool {
        self.shared.settings.mode == AuthMode::Auto && !self.demands_keys()
    }

    /// An app's name.
    pub(crate) fn app_name(&self, app: AppKey) -> Arc<str> {
        self.ring().apps.get(&app).map_or_else(|| Arc::from("unknown"), Arc::clone)
    }

    /// Whether every call needs a key at present.
    pub(crate) fn demands_keys(&self) -> bool {
        self.settings().demand_keys(self.ring().any_ever)
    }

    /// With as many admin keys as there are at present.
    fn settings(&self) -> KeyringSettings {
        let admin_keys = self.shared.admin.read().unwrap_or_else(PoisonError::into_inner).len();
        KeyringSettings { admin_keys, ..self.shared.settings }
    }

    fn without_key(&self) -> Option<Caller> {
        let scope = self.settings().scope_without_key();
        (!self.demands_keys()).then_some(Caller { app: AppKey::DEFAULT, scope })
    }

    fn holder(&self, ring: &Ring, text: &str, now: Timestamp) -> Option<Caller> {
        if self.is_admin_key(text) {
            return Some(Caller { app: AppKey::DEFAULT, scope: Scope::Admin });
        }
        let hash = KeyText::parse(text)?.hash();
        let key = ring.keys.get(&hash)?;
        // Looking up by a hash tells a guesser nothing of the text, and this not even of the hash.
        if !(key.record.hash.is_same(&hash) && key.record.is_live(now)) {
            return None;
        }
        self.note_use(key, Day::of(now));
        Some(Caller { app: key.record.app, scope: key.record.scope })
    }

    fn is_admin_key(&self, text: &str) -> bool {
        let admin = self.shared.admin.read().unwrap_or_else(PoisonError::into_inner);
        if admin.is_empty() {
            return false;
        }
        let hash = KeyHash::of(text);
        admin.iter().flatten().fold(false, |found, key| found | key.is_same(&hash))
    }

    /// One write a day and key.
    fn note_use(&self, key: &LiveKey, day: Day) {
        if key.noted.load(Ordering::Relaxed) < day.0 && key.noted.fetch_max(day.0, Ordering::Relaxed) < day.0
        {
            self.shared.store.note_api_key_used(&key.record.id, day);
        }
    }

    fn ring(&self) -> Arc<Ring> {
        Arc::clone(&self.shared.ring.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The texts that may be keys: `OpenAI`'s and `Anthropic`'s newer SDKs send `Authorization`, the older ones of
/// `Anthropic`'s `x-api-key`. A proxy may need the former for itself.
fn presented(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let bearer = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(|value| {
        let (scheme, text) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(text)
    });
    let plain = headers.get("x-api-key").and_then(|value| value.to_str().ok());
    bearer.into_iter().chain(plain).map(str::trim).filter(|text| !text.is_empty() && text.len() <= LONGEST)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::fresh_on_loopback(AuthMode::Auto, true, 0, false, Some(Scope::Admin))]
    #[case::once_there_was_a_key(AuthMode::Auto, true, 0, true, None)]
    #[case::with_an_admin_key(AuthMode::Auto, true, 1, false, None)]
    #[case::beyond_loopback(AuthMode::Auto, false, 0, false, None)]
    #[case::always(AuthMode::Keys, true, 0, false, None)]
    #[case::never(AuthMode::None, true, 0, true, Some(Scope::Admin))]
    #[case::never_and_beyond(AuthMode::None, false, 0, false, Some(Scope::App))]
    #[case::never_but_admin(AuthMode::None, true, 1, false, Some(Scope::App))]
    fn callers_without_a_key(
        #[case] mode: AuthMode,
        #[case] is_local: bool,
        #[case] admin_keys: usize,
        #[case] any_ever: bool,
        #[case] scope: Option<Scope>,
    ) {
        let settings = KeyringSettings { mode, is_local, admin_keys };
        let open = !settings.demand_keys(any_ever);
        assert_eq!(open.then(|| settings.scope_without_key()), scope);
    }

    #[rstest]
    #[case(&[("authorization", "Bearer a")], &["a"])]
    #[case(&[("authorization", "bearer  a ")], &["a"])]
    #[case(&[("x-api-key", "b")], &["b"])]
    #[case(&[("authorization", "Bearer a"), ("x-api-key", "b")], &["a", "b"])]
    #[case(&[("authorization", "Basic a"), ("x-api-key", "b")], &["b"])]
    #[case(&[("authorization", "a")], &[])]
    #[case(&[("authorization", "Bearer ")], &[])]
    #[case(&[], &[])]
    fn keys_are_found_in_both_headers(#[case] headers: &[(&'static str, &str)], #[case] texts: &[&str]) {
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap()))
            .collect();
        assert_eq!(presented(&headers).collect::<Vec<_>>(), texts);
    }

    #[test]
    fn what_is_too_long_is_no_key() {
        let value = "x".repeat(LONGEST + 1).parse().unwrap();
        let headers: HeaderMap = [(http::HeaderName::from_static("x-api-key"), value)].into_iter().collect();
        assert_eq!(presented(&headers).count(), 0);
    }
}
