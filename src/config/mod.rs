//! Configuration: plain data, made from all of its sources at once or refused with all that is wrong.
//!
//! Sources, the weakest first: defaults, one file, variables `SLUICEGATE__SECTION__KEY`, flags. Everything
//! that is looked at comes in [`Sources`]; nothing here reads the process's environment.

mod address;
mod admin_key;
mod changes;
mod description;
mod key;
mod lanes;
mod limits;
mod nearest;
mod pairs;
mod problem;
mod provider_key;
mod provider_settings;
mod providers;
mod reader;
mod reference;
mod secret;
mod sections;
mod setting;
mod show;
mod sources;
mod tree;
mod validate;
mod wellknown;

use std::collections::BTreeMap;

pub use self::address::{Network, Url};
pub use self::admin_key::SHORTEST_ADMIN_KEY;
pub use self::changes::Change;
pub use self::key::{Fingerprint, KeyError, KeySource};
pub use self::lanes::{Candidate, LaneRule, Pattern, route};
pub use self::nearest::nearest;
pub use self::problem::{ConfigError, Origin, Problem};
pub use self::providers::{AuthScheme, HttpVersion, Kind, Provider};
pub use self::reference::{DocumentedKey, Reference};
pub use self::secret::{MASK, Secret};
pub use self::sections::{
    Auth, AuthMode, Batches, Interactive, Log, LogFilter, LogFormat, Retention, Retry, RetryOn, Server,
    Store, StoreLocation, Timeouts,
};
pub use self::setting::{Share, Size};
pub use self::sources::{Environment, Override, ReadFile, Sources};

use self::reader::{Reader, Report};
use self::sections::StoreKeys;
use crate::domain::limits::Limits;

/// Calls in flight in a lane for which nothing at all is configured.
const LANE_CONCURRENCY: u32 = 64;

/// The whole configuration, checked and resolved.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Where the service listens and what it may hold.
    pub server: Server,
    /// Who may call.
    pub auth: Auth,
    /// Where the operator's own admin keys come from.
    pub admin_keys: Vec<KeySource>,
    /// Where everything is kept.
    pub store: Store,
    /// What is limited over all providers.
    pub limits: Limits,
    /// Timeouts of providers that have none of their own.
    pub timeouts: Timeouts,
    /// Retries of providers that have none of their own.
    pub retry: Retry,
    /// Calls of clients that wait.
    pub interactive: Interactive,
    /// How long things are kept.
    pub retention: Retention,
    /// How large a batch may be.
    pub batches: Batches,
    /// What is logged.
    pub log: Log,
    /// Where requests go, by name.
    pub providers: Vec<Provider>,
    /// What an operator may wonder about; to be logged at start.
    pub notices: Vec<String>,
    /// Where each value came from that is not a default.
    origins: BTreeMap<String, Origin>,
}

impl Config {
    /// Reads, lays over one another and checks all sources.
    ///
    /// # Errors
    /// [`ConfigError::Problems`] with everything that is wrong.
    pub fn load(sources: &Sources<'_>) -> Result<Self, ConfigError> {
        let (config, problems) = Self::examine(sources);
        if problems.is_empty() { Ok(config) } else { Err(ConfigError::Problems(problems)) }
    }

    /// The same for whoever has more to check: everything that is wrong, and what the rest makes, with defaults where
    /// something is wrong.
    pub fn examine(sources: &Sources<'_>) -> (Self, Vec<Problem>) {
        let mut report = Report::default();
        let merged = sources.merge();
        report.problems = merged.problems;
        let mut config = Self::read(merged.table, sources, &mut report);
        if let Some((name, patterns)) = &merged.found.rest {
            config.leave_out(name, patterns);
        }
        config.notices = merged.found.notices;
        validate::check(&config, &mut report);
        config.fill_in_concurrency();
        config.origins = std::mem::take(&mut report.origins);
        (config, report.into_problems())
    }

    /// Something wrong with the value that a key has.
    pub fn problem(&self, key: &str, message: String) -> Problem {
        let value = self.values().remove(key).map(|held| held.shown);
        Problem { key: key.to_owned(), value, origin: self.origins.get(key).cloned(), message, nearest: None }
    }

    /// The key that names the store's database.
    pub fn store_key(&self) -> &'static str {
        let from_file = self.origins.contains_key("store.url_file");
        if from_file { "store.url_file" } else { "store.url" }
    }

    /// Checks that requests have somewhere to go, which `serve` needs and `config show` does not.
    ///
    /// # Errors
    /// [`ConfigError::NoProvider`] if there is no provider.
    pub fn require_provider(&self) -> Result<(), ConfigError> {
        if self.providers.is_empty() { Err(ConfigError::NoProvider) } else { Ok(()) }
    }

    /// The lanes that may serve a model, the preferred one first; empty: none does.
    pub fn route(&self, model: &str) -> Vec<Candidate<'_>> {
        route(&self.providers, model)
    }

    fn read(table: tree::Table, sources: &Sources<'_>, report: &mut Report) -> Self {
        let mut root = Reader::new(table, String::new(), report);
        let server = Server::read(root.section("server"), &Server::default());
        let auth = Auth::read(root.section("auth"), &Auth::default());
        let admin_keys = admin_key::admin_keys(&sources.environment, &auth, root.report());
        let store = StoreKeys::read(root.section("store"), &StoreKeys::default());
        let store = validate::resolve_store(store, sources.read_file, root.report());
        let (limits, period) = limits::read_service_limits(&mut root);
        let timeouts = Timeouts::read(root.section("timeouts"), &Timeouts::default());
        let retry = Retry::read(root.section("retry"), &Retry::default());
        let environment = &sources.environment;
        let shared = providers::Shared { environment, period, timeouts: &timeouts, retry: &retry };
        let providers = providers::read_providers(&mut root, &shared);
        let config = Self {
            server,
            auth,
            admin_keys,
            store,
            limits,
            providers,
            timeouts,
            retry,
            interactive: Interactive::read(root.section("interactive"), &Interactive::default()),
            retention: Retention::read(root.section("retention"), &Retention::default()),
            batches: Batches::read(root.section("batches"), &Batches::default()),
            log: Log::read(root.section("log"), &Log::default()),
            notices: Vec::new(),
            origins: BTreeMap::new(),
        };
        root.finish();
        config
    }

    /// Makes one provider's only lane leave to others what their patterns take.
    fn leave_out(&mut self, name: &str, patterns: &[&str]) {
        for provider in self.providers.iter_mut().filter(|provider| provider.name == name) {
            for lane in &mut provider.lanes {
                lane.except = patterns.iter().map(|pattern| Pattern::new(pattern)).collect();
            }
        }
    }

    /// Bounds what nothing else does. Where a rate or another ceiling binds already, a ceiling of our own
    /// could leave part of a budget unused that the operator has paid for.
    fn fill_in_concurrency(&mut self) {
        let service_is_limited = is_limited(&self.limits);
        for provider in &mut self.providers {
            let provider_is_limited = service_is_limited || is_limited(&provider.limits);
            for lane in &mut provider.lanes {
                if !provider_is_limited && !is_limited(&lane.limits) {
                    lane.limits.max_concurrent = Some(LANE_CONCURRENCY);
                }
            }
        }
    }
}

fn is_limited(limits: &Limits) -> bool {
    let Limits { max_concurrent, requests, tokens, input_tokens, output_tokens, .. } = limits;
    max_concurrent.is_some()
        || [requests, tokens, input_tokens, output_tokens].iter().any(|rates| !rates.is_empty())
}

#[cfg(test)]
mod tests;
