//! The configured providers as the engine wants them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{self, AuthScheme, Change, Config, Fingerprint, Problem, Secret};
use crate::domain::limits::Limits;
use crate::engine::backoff::Backoff;
use crate::engine::judge::RetryOn;
use crate::engine::{EngineSettings, LaneChoice, ProviderSetup, RetrySetup, RouteModel};
use crate::gate::Accounting;
use crate::shutdown::Shutdown;
use crate::upstream::{
    self, AuthStyle, Credential, CredentialError, HttpVersion, PhaseTimeouts, Probe, Upstream, UpstreamError,
    UpstreamSettings,
};

/// How often a key file's metadata is looked at: a rotated key is in use within this.
const KEY_LOOK: Duration = Duration::from_secs(2);

/// A provider's client, with what it was made of.
#[derive(Debug)]
pub(super) struct Client {
    provider: config::Provider,
    upstream: Arc<Upstream>,
    certificates: Certificates,
}

/// A provider's `ca_file` and `client_cert_file`, as they were at a moment: what tells that they changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Certificates([Option<Fingerprint>; 2]);

impl Certificates {
    fn of(provider: &config::Provider) -> Self {
        let present = |path: &Option<PathBuf>| path.as_deref().and_then(Fingerprint::of_file);
        Self([present(&provider.ca_file), present(&provider.client_cert_file)])
    }

    /// As they were when each client was made.
    pub(super) fn in_use(clients: &[Client]) -> Vec<Self> {
        clients.iter().map(|client| client.certificates).collect()
    }

    /// As they are now.
    pub(super) fn present(clients: &[Client]) -> Vec<Self> {
        clients.iter().map(|client| Self::of(&client.provider)).collect()
    }
}

/// Whether a key must be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Demand {
    /// A key that can't be read stops its lanes until it can.
    Later,
    /// A client that is new needs its key.
    Now,
}

/// Every provider's client: the one of before where nothing changed of what it is made of, files included, so that its
/// connections and its key go on.
pub(super) async fn clients(
    config: &Config,
    before: &[Client],
    demand: Demand,
    shutdown: &Shutdown,
) -> Result<Vec<Client>, Vec<Problem>> {
    let (mut clients, mut problems) = (Vec::with_capacity(config.providers.len()), Vec::new());
    for provider in &config.providers {
        // Before they are read: what changes in between is read again.
        let certificates = Certificates::of(provider);
        let is_same = |client: &&Client| {
            client.certificates == certificates && is_same_client(&client.provider, provider)
        };
        let kept = before.iter().find(is_same);
        let upstream = match kept {
            Some(client) => Ok(Arc::clone(&client.upstream)),
            None => open(config, provider, demand, shutdown).await,
        };
        match upstream {
            Ok(upstream) => clients.push(Client { provider: provider.clone(), upstream, certificates }),
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() { Ok(clients) } else { Err(problems) }
}

/// The keys whose files hold other certificates in `after` than in `before`.
pub(super) fn changed_files(config: &Config, before: &[Client], after: &[Client]) -> Vec<Change> {
    let changed = after.iter().flat_map(|client| {
        let before = before.iter().find(|before| is_same_client(&before.provider, &client.provider));
        let Certificates(new) = client.certificates;
        let Certificates(old) = before.map_or(client.certificates, |before| before.certificates);
        let files = ["ca_file", "client_cert_file"].into_iter().zip(old.into_iter().zip(new));
        let changed = files.filter(|(_, (old, new))| old != new);
        changed.map(|(key, _)| config.change_of_file(format!("providers.{}.{key}", client.provider.name)))
    });
    changed.collect()
}

/// Providers that no client can be made for, whatever their keys are.
pub(super) fn problems(config: &Config) -> Vec<Problem> {
    let problems = |provider: &config::Provider| {
        let errors = upstream::check(&settings(provider));
        errors.iter().map(|error| unusable(config, provider, error)).collect::<Vec<_>>()
    };
    config.providers.iter().flat_map(problems).collect()
}

fn build(provider: &config::Provider, credential: Arc<Credential>) -> Result<Upstream, UpstreamError> {
    Upstream::new(&settings(provider), credential)
}

fn unusable(config: &Config, provider: &config::Provider, error: &UpstreamError) -> Problem {
    let path = format!("providers.{}", provider.name);
    let key = error.setting().map_or_else(|| path.clone(), |setting| format!("{path}.{setting}"));
    config.problem(&key, format!("can't be used: {}", error.reason()))
}

/// Everything that a client is made of; what else a provider has holds for each call anew.
fn is_same_client(one: &config::Provider, other: &config::Provider) -> bool {
    let parts = |provider: &config::Provider| config::Provider {
        timeouts: config::Timeouts { connect: provider.timeouts.connect, ..config::Timeouts::default() },
        limits: Limits::default(),
        retry: config::Retry::default(),
        budget: None,
        lanes: Vec::new(),
        ..provider.clone()
    };
    parts(one) == parts(other)
}

async fn open(
    config: &Config,
    provider: &config::Provider,
    demand: Demand,
    shutdown: &Shutdown,
) -> Result<Arc<Upstream>, Problem> {
    let credential = credential(provider);
    if let Err(error) = credential.refresh().await {
        if demand == Demand::Now {
            let key = format!("providers.{}", provider.name);
            return Err(config.problem(&key, format!("can't be used: {error}")));
        }
        tracing::warn!(provider = %provider.name, error = %error, "the provider's key can't be read; its lanes wait for it");
    }
    let upstream = build(provider, Arc::clone(&credential));
    let upstream = upstream.map_err(|error| unusable(config, provider, &error))?;
    watch_key(provider, &credential, shutdown);
    Ok(Arc::new(upstream))
}

/// What the engine goes by.
pub(super) fn engine_settings(config: &Arc<Config>, clients: &[Client]) -> EngineSettings {
    EngineSettings {
        limits: config.limits.clone(),
        interactive_share: config.interactive.share.0,
        drain_timeout: config.server.drain_timeout,
        providers: clients.iter().map(|client| Arc::new(setup(client))).collect(),
        route: route(config),
    }
}

fn setup(Client { provider, upstream, .. }: &Client) -> ProviderSetup {
    ProviderSetup {
        name: provider.name.clone(),
        upstream: Arc::clone(upstream),
        limits: provider.limits.clone(),
        timeouts: PhaseTimeouts {
            first_byte: provider.timeouts.first_byte,
            idle: provider.timeouts.idle,
            total: provider.timeouts.request,
        },
        accounting: accounting(provider.kind),
        budget: provider.budget.clone(),
        retry: RetrySetup {
            max_attempts: provider.retry.max_attempts.get(),
            backoff: Backoff { min: provider.retry.min_delay, max: provider.retry.max_delay },
            on: retry_on(&provider.retry.on),
        },
    }
}

/// Asks a provider for its models: whether it is there and takes the key that is configured.
///
/// # Errors
/// Why there is no answer, in words.
pub async fn probe(provider: &config::Provider) -> Result<Probe, String> {
    const PATIENCE: Duration = Duration::from_secs(15);
    let credential = credential(provider);
    credential.refresh().await.map_err(|error| error.0)?;
    let upstream = build(provider, credential).map_err(|error| error.to_string())?;
    let timeouts = PhaseTimeouts { first_byte: PATIENCE, idle: PATIENCE, total: PATIENCE };
    upstream.probe(&timeouts).await.map_err(|error| error.to_string())
}

/// The lanes that the configuration has for a model.
fn route(config: &Arc<Config>) -> RouteModel {
    let config = Arc::clone(config);
    Arc::new(move |model| {
        let choices = config.route(model).into_iter().filter_map(|candidate| {
            let named = |provider: &config::Provider| provider.name == candidate.provider.name;
            let provider = config.providers.iter().position(named)?;
            let rule = candidate.lane;
            let lane = if rule.each_model { model.to_owned() } else { rule.pattern.as_str().to_owned() };
            Some(LaneChoice {
                provider,
                lane: if lane.is_empty() { "none".to_owned() } else { lane },
                configured: !rule.each_model,
                limits: rule.limits.clone(),
                order: rule.order,
                weight: rule.weight,
                upstream_model: rule.upstream_model.as_deref().map(Arc::from),
            })
        });
        choices.collect()
    })
}

/// OpenAI, and whoever follows its ways, charges what a request may use when it admits it; Anthropic what it used,
/// without what its cache served.
fn accounting(kind: config::Kind) -> Accounting {
    match kind {
        config::Kind::Anthropic => Accounting::Actual { cached_input_free: true },
        _ => Accounting::Admission,
    }
}

fn settings(provider: &config::Provider) -> UpstreamSettings {
    let plain = |pairs: &[(String, Secret)]| {
        pairs.iter().map(|(name, value)| (name.clone(), value.expose().to_owned())).collect()
    };
    let mut settings = UpstreamSettings::new(provider.base_url.as_str());
    settings.headers = plain(&provider.headers);
    settings.query = plain(&provider.query);
    settings.deployments = provider.has_deployments();
    settings.proxy = provider.proxy.as_ref().map(|proxy| proxy.as_str().to_owned());
    settings.ca_file.clone_from(&provider.ca_file);
    settings.client_cert_file.clone_from(&provider.client_cert_file);
    settings.http = match provider.http {
        config::HttpVersion::Auto => HttpVersion::Auto,
        config::HttpVersion::One => HttpVersion::One,
        config::HttpVersion::Two => HttpVersion::Two,
    };
    settings.connect_timeout = provider.timeouts.connect;
    settings
}

fn auth(scheme: AuthScheme) -> AuthStyle {
    match scheme {
        AuthScheme::Bearer => AuthStyle::Bearer,
        AuthScheme::XApiKey => AuthStyle::XApiKey,
        AuthScheme::ApiKey => AuthStyle::ApiKey,
        AuthScheme::None => AuthStyle::None,
    }
}

fn credential(provider: &config::Provider) -> Arc<Credential> {
    let Some(source) = provider.key.clone() else {
        return Credential::none();
    };
    Credential::new(auth(provider.auth), move || {
        let key = source.read().map_err(|error| CredentialError(error.to_string()))?;
        Ok(key.expose().to_owned())
    })
}

/// Reads a key file again when it changed, as long as the client is there.
fn watch_key(provider: &config::Provider, credential: &Arc<Credential>, shutdown: &Shutdown) {
    let Some(source) = provider.key.clone().filter(|source| matches!(source, config::KeySource::File(_)))
    else {
        return;
    };
    let (name, ending, credential) = (provider.name.clone(), shutdown.clone(), Arc::downgrade(credential));
    let mut known = source.fingerprint();
    shutdown.spawn(async move {
        loop {
            tokio::select! {
                () = tokio::time::sleep(KEY_LOOK) => {}
                () = ending.begun() => return,
            }
            let Some(credential) = credential.upgrade() else { return };
            if !source.changed_since(known) {
                continue;
            }
            known = source.fingerprint();
            match credential.refresh().await {
                Ok(true) => tracing::info!(provider = %name, "the provider's key changed and is in use"),
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(provider = %name, error = %error, "the changed key can't be read")
                }
            }
        }
    });
}

/// The judge's set of what the configuration names.
fn retry_on(on: &[config::RetryOn]) -> RetryOn {
    on.iter().fold(RetryOn::NONE, |set, on| match on {
        config::RetryOn::Status(status) => set.with_status(*status),
        config::RetryOn::AnyServerError => set.with_server_errors(),
        config::RetryOn::Timeout => set.with_timeouts(),
        config::RetryOn::Network => set.with_network(),
    })
}
