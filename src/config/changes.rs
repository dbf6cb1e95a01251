//! What differs between two configurations, and what of it can change while the service runs.

use std::collections::BTreeMap;

use serde::Serialize;

use super::limits;
use super::providers::Provider;
use super::setting::Setting as _;
use super::show::{Shown, provider_keys};
use super::{
    Auth, Config, Interactive, KeySource, LaneRule, Log, MASK, Secret, Server, Store, StoreLocation,
};

/// Keys that change while the service runs: each whole section, or each key, that is named here. All others keep the
/// values that they had at the start.
const LIVE: [&str; 8] = [
    "auth.admin_key_file",
    "interactive.share",
    "limits",
    "log.level",
    "providers",
    "retry",
    "server.drain_timeout",
    "timeouts",
];

/// A key that has another value than before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The key with its section; lanes are named by what they match: `providers.NAME.lanes["gpt-*"].weight`.
    pub key: String,
    /// Its value before as a file would hold it, secrets masked; `None`: it had none.
    pub before: Option<String>,
    /// Its value now.
    pub after: Option<String>,
    /// Whether it holds only from the next start on.
    #[serde(skip)]
    pub needs_restart: bool,
}

impl Config {
    /// What is different in `newer`, by key. What the defaults of two versions fill in counts like what is given.
    pub fn changes_to(&self, newer: &Self) -> Vec<Change> {
        let (mut before, mut after) = (self.values(), newer.values());
        let mut keys: Vec<String> = before.keys().chain(after.keys()).cloned().collect();
        keys.sort_unstable();
        keys.dedup();
        let renews = self.store.location.differs_in_credentials_at_most(&newer.store.location);
        let changes = keys.into_iter().filter_map(|key| {
            let (before, after) = (before.remove(&key), after.remove(&key));
            let is_renewed = renews && key == "store.url";
            let needs_restart = !is_renewed && !is_live(&key);
            let shown = |value: Option<Held>| value.map(|held| held.shown);
            (before != after).then(|| Change {
                key,
                before: shown(before),
                after: shown(after),
                needs_restart,
            })
        });
        changes.collect()
    }

    /// A key with the same value as before, whose file holds something else.
    pub fn change_of_file(&self, key: String) -> Change {
        let value = self.values().remove(&key).map(|held| held.shown);
        Change { key, before: value.clone(), after: value, needs_restart: false }
    }

    /// Keeps everything as it is in `running` that can't change while the service runs.
    pub fn keep_fixed(&mut self, running: &Self) {
        let drain_timeout = self.server.drain_timeout;
        self.server = Server { drain_timeout, ..running.server.clone() };
        let admin_key_file = self.auth.admin_key_file.take();
        self.auth = Auth { admin_key_file, ..running.auth.clone() };
        // Credentials are read from their file whenever a connection is made: what was told of is not told of again.
        let renews = running.store.location.differs_in_credentials_at_most(&self.store.location);
        let location = if renews { self.store.location.clone() } else { running.store.location.clone() };
        self.store = Store { location, ..running.store.clone() };
        self.interactive = Interactive { share: self.interactive.share, ..running.interactive.clone() };
        self.retention = running.retention.clone();
        self.batches = running.batches.clone();
        self.log = Log { level: self.log.level.clone(), ..running.log.clone() };
    }

    /// Every key that has a value.
    pub(super) fn values(&self) -> BTreeMap<String, Held> {
        let mut values = BTreeMap::new();
        for (section, shown) in self.sections() {
            hold(&mut values, section, shown);
        }
        if let StoreLocation::Postgres { url, .. } = &self.store.location {
            hold_secret(&mut values, "store.url", url.expose());
        }
        for provider in &self.providers {
            let path = format!("providers.{}", provider.name);
            hold(&mut values, &path, provider_keys(provider));
            hold(&mut values, &format!("{path}.limits"), limits::shown(&provider.limits));
            hold(&mut values, &format!("{path}.timeouts"), provider.timeouts.shown());
            hold(&mut values, &format!("{path}.retry"), provider.retry.shown());
            hold_secrets(&mut values, &path, provider);
            for lane in &provider.lanes {
                let path = format!("{path}.lanes[{:?}]", lane.pattern.as_str());
                let LaneRule { upstream_model, order, weight, limits, except, .. } = lane;
                let except: Vec<&str> = except.iter().map(|pattern| pattern.as_str()).collect();
                let except = (!except.is_empty()).then(|| format!("{except:?}"));
                let keys = vec![
                    ("upstream_model", upstream_model.shown()),
                    ("order", order.shown()),
                    ("weight", Some(weight.to_string())),
                    ("except", except),
                ];
                hold(&mut values, &path, keys);
                hold(&mut values, &format!("{path}.limits"), limits::shown(limits));
            }
        }
        values
    }
}

/// A key's value, and what tells it from another one where that is more than may be shown.
#[derive(PartialEq, Eq)]
pub(super) struct Held {
    /// The value as a file would hold it, secrets masked.
    pub(super) shown: String,
    exact: Option<String>,
}

/// Whether a key's value changes while the service runs.
pub(super) fn is_live(key: &str) -> bool {
    LIVE.iter()
        .any(|live| key.strip_prefix(live).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
}

fn hold(values: &mut BTreeMap<String, Held>, section: &str, shown: Shown) {
    for (key, value) in shown {
        if let Some(shown) = value {
            values.insert(format!("{section}.{key}"), Held { shown, exact: None });
        }
    }
}

fn hold_secret(values: &mut BTreeMap<String, Held>, key: &str, exact: &str) {
    if let Some(held) = values.get_mut(key) {
        held.exact = Some(exact.to_owned());
    }
}

/// What is shown masked is told apart all the same. Of headers and parameters only the names are shown: changes are
/// logged, and no list of names that sound secret is complete.
fn hold_secrets(values: &mut BTreeMap<String, Held>, path: &str, provider: &Provider) {
    for (key, pairs) in [("headers", &provider.headers), ("query", &provider.query)] {
        let exact: Vec<_> = pairs.iter().map(|(name, value)| format!("{name}={}", value.expose())).collect();
        let names: Vec<_> = pairs.iter().map(|(name, _)| format!("{name:?} = {MASK:?}")).collect();
        let path = format!("{path}.{key}");
        hold_secret(values, &path, &exact.join("\n"));
        if let Some(held) = values.get_mut(&path) {
            held.shown = format!("{{ {} }}", names.join(", "));
        }
    }
    if let Some(proxy) = &provider.proxy {
        hold_secret(values, &format!("{path}.proxy"), proxy.as_str());
    }
    let secret: Option<(&str, &Secret)> = match &provider.key {
        Some(KeySource::Variable { key, .. }) => Some(("api_key_env", key)),
        Some(KeySource::Command(command)) => Some(("api_key_command", command)),
        Some(KeySource::File(_)) | None => None,
    };
    if let Some((key, secret)) = secret {
        hold_secret(values, &format!("{path}.{key}"), secret.expose());
    }
}
