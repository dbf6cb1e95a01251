//! The configuration in force as a file, with secrets masked and the place that each value came from.

use std::fmt::Write as _;

use super::limits;
use super::pairs::Pairs;
use super::providers::Provider;
use super::secret::masked_url;
use super::setting::{Setting, quoted};
use super::{Config, KeySource, LaneRule, MASK, StoreLocation};
use crate::domain::limits::{Limits, PROCESS_CONCURRENCY};

/// Keys with their values as a file would hold them.
pub(super) type Shown = Vec<(&'static str, Option<String>)>;

impl Config {
    /// The configuration in force as TOML. A comment says where a value came from that is not a default.
    pub fn show(&self) -> String {
        let mut text = String::new();
        for (section, shown) in self.sections() {
            self.show_section(&mut text, section, shown);
        }
        for provider in &self.providers {
            self.show_provider(&mut text, provider);
        }
        text.trim_start().to_owned()
    }

    /// The sections that concern the whole service.
    pub(super) fn sections(&self) -> [(&'static str, Shown); 10] {
        let Self {
            server, auth, store, limits, timeouts, retry, interactive, retention, batches, log, ..
        } = self;
        let (url, schema) = match &store.location {
            StoreLocation::Sqlite(path) => (quoted(&format!("sqlite:{}", path.display())), None),
            StoreLocation::Postgres { url, schema, .. } => {
                (quoted(&masked_url(url.expose())), Some(quoted(schema)))
            }
        };
        let max_concurrent = limits.max_concurrent.or(Some(PROCESS_CONCURRENCY));
        let in_force = Limits { max_concurrent, ..limits.clone() };
        let store = vec![("url", Some(url)), ("schema", schema), ("min_free", store.min_free.shown())];
        [
            ("server", server.shown()),
            ("auth", auth.shown()),
            ("store", store),
            ("limits", limits::shown(&in_force)),
            ("timeouts", timeouts.shown()),
            ("retry", retry.shown()),
            ("interactive", interactive.shown()),
            ("retention", retention.shown()),
            ("batches", batches.shown()),
            ("log", log.shown()),
        ]
    }

    fn show_section(&self, text: &mut String, section: &str, shown: Shown) {
        // Writing to a String can't fail.
        let _ = writeln!(text, "\n[{section}]");
        self.show_keys(text, section, shown);
    }

    fn show_keys(&self, text: &mut String, section: &str, shown: Shown) {
        for (key, value) in shown {
            let Some(value) = value else {
                continue;
            };
            let origin = self.origins.get(&format!("{section}.{key}"));
            let comment = origin.map(|origin| format!("  # {origin}")).unwrap_or_default();
            let _ = writeln!(text, "{key} = {value}{comment}");
        }
    }

    fn show_provider(&self, text: &mut String, provider: &Provider) {
        let path = format!("providers.{}", provider.name);
        self.show_section(text, &path, provider_keys(provider));
        let Provider { limits, timeouts, retry, lanes, .. } = provider;
        for (section, shown) in
            [("limits", limits::shown(limits)), ("timeouts", timeouts.shown()), ("retry", retry.shown())]
        {
            if shown.iter().any(|(_, value)| value.is_some()) {
                self.show_section(text, &format!("{path}.{section}"), shown);
            }
        }
        for (index, lane) in lanes.iter().enumerate() {
            self.show_lane(text, &path, index, lane);
        }
    }

    fn show_lane(&self, text: &mut String, provider: &str, index: usize, lane: &LaneRule) {
        let LaneRule { pattern, except, upstream_model, limits, order, weight, each_model } = lane;
        let _ = writeln!(text, "\n[[{provider}.lanes]]");
        if *each_model {
            let _ = writeln!(text, "# made anew for each model met, up to 64");
        }
        for pattern in except {
            let _ = writeln!(text, "# except {pattern}");
        }
        let path = format!("{provider}.lanes[{index}]");
        let keys = vec![
            ("match", pattern.shown()),
            ("upstream_model", upstream_model.shown()),
            ("order", order.shown()),
            ("weight", Some(weight.to_string())),
        ];
        self.show_keys(text, &path, keys);
        let limits: Vec<_> = limits::shown(limits)
            .into_iter()
            .filter_map(|(key, value)| Some(format!("{key} = {}", value?)))
            .collect();
        if !limits.is_empty() {
            let _ = writeln!(text, "limits = {{ {} }}", limits.join(", "));
        }
    }
}

/// A provider's own keys; its sections are apart.
pub(super) fn provider_keys(provider: &Provider) -> Shown {
    let Provider {
        name: _,
        kind,
        base_url,
        auth,
        key,
        headers,
        query,
        proxy,
        ca_file,
        client_cert_file,
        http,
        budget,
        limits: _,
        timeouts: _,
        retry: _,
        lanes: _,
    } = provider;
    let mut keys = vec![("kind", kind.shown()), ("base_url", base_url.shown())];
    keys.extend(key.as_ref().map(show_key));
    keys.extend([
        ("auth", auth.shown()),
        ("headers", Pairs(headers.clone()).shown()),
        ("query", Pairs(query.clone()).shown()),
        ("proxy", proxy.shown()),
        ("ca_file", ca_file.shown()),
        ("client_cert_file", client_cert_file.shown()),
        ("http", http.shown()),
        ("budget", budget.shown()),
    ]);
    keys
}

fn show_key(key: &KeySource) -> (&'static str, Option<String>) {
    match key {
        KeySource::Variable { name, key: _ } => ("api_key_env", Some(quoted(name))),
        KeySource::File(path) => ("api_key_file", path.shown()),
        // People put keys into commands.
        KeySource::Command(_) => ("api_key_command", Some(quoted(MASK))),
    }
}
