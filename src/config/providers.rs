//! Providers: how each is reached, with which key, and which lanes it has.

use std::path::PathBuf;
use std::time::Duration;

use super::address::Url;
use super::key::KeySource;
use super::lanes::LaneRule;
use super::limits::read_limits;
use super::nearest::nearest;
use super::problem::Origin;
use super::provider_key::{key_source, resolve_auth};
use super::provider_settings::{LaneKeys, ProviderKeys};
use super::reader::{Reader, Report};
use super::secret::Secret;
use super::sections::{Retry, Timeouts};
use super::setting::choice;
use super::sources::Environment;
use super::wellknown::{self, Preset};
use crate::domain::limits::Limits;

choice! {
    /// Whose API a provider speaks.
    Kind {
        /// `OpenAI`'s, as most servers do.
        OpenAi = "openai",
        /// Anthropic's.
        Anthropic = "anthropic",
        /// Azure's form of `OpenAI`'s.
        Azure = "azure",
    }
}

choice! {
    /// The header that carries the key.
    AuthScheme {
        /// `authorization: Bearer KEY`
        Bearer = "bearer",
        /// `x-api-key: KEY`
        XApiKey = "x-api-key",
        /// `api-key: KEY`
        ApiKey = "api-key",
        /// None: no key is sent.
        None = "none",
    }
}

choice! {
    /// Which HTTP a provider is spoken to in.
    HttpVersion {
        /// What the connection negotiates.
        Auto = "auto",
        /// HTTP/1.1.
        One = "1",
        /// HTTP/2.
        Two = "2",
    }
}

impl Kind {
    pub(super) fn default_auth(self) -> AuthScheme {
        match self {
            Self::OpenAi => AuthScheme::Bearer,
            Self::Anthropic => AuthScheme::XApiKey,
            Self::Azure => AuthScheme::ApiKey,
        }
    }

    /// Parameters that its API demands, unless the configuration has them.
    fn demanded_query(self, base_url: &Url) -> &'static [(&'static str, &'static str)] {
        match self {
            // The latest version of the dated API that is not a preview (Azure's API version lifecycle).
            Self::Azure if !is_undated(base_url) => &[("api-version", "2024-10-21")],
            Self::Azure | Self::OpenAi | Self::Anthropic => &[],
        }
    }

    /// Headers that its API demands, unless the configuration has them.
    fn demanded_headers(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Anthropic => &[("anthropic-version", "2023-06-01")],
            Self::OpenAi | Self::Azure => &[],
        }
    }
}

/// Azure's API has two forms: a dated one below `/openai`, where a model is a deployment in the path, and one
/// without dates below `/openai/v1`, which is `OpenAI`'s own.
fn is_undated(base_url: &Url) -> bool {
    base_url.as_str().trim_end_matches('/').ends_with("/v1")
}

/// One provider, resolved: nothing in it depends on another section any more.
#[derive(Clone, Debug, PartialEq)]
pub struct Provider {
    /// Its name, `[a-z][a-z0-9_]*`.
    pub name: String,
    /// Whose API it speaks.
    pub kind: Kind,
    /// Its URL with the version prefix; what follows `/v1` on our side is appended.
    pub base_url: Url,
    /// The header that carries the key; [`AuthScheme::None`] if there is no key.
    pub auth: AuthScheme,
    /// Where its key comes from; there is one unless `auth` is none.
    pub key: Option<KeySource>,
    /// Headers added to each call, names in lower case.
    pub headers: Vec<(String, Secret)>,
    /// Parameters added to each call's URL.
    pub query: Vec<(String, Secret)>,
    /// The proxy for it; `None`: what the environment says.
    pub proxy: Option<Url>,
    /// Certificates that are trusted beside the system's.
    pub ca_file: Option<PathBuf>,
    /// Our own certificate and key, for servers that ask for one.
    pub client_cert_file: Option<PathBuf>,
    /// Which HTTP is spoken.
    pub http: HttpVersion,
    /// The ledger that it shares with other providers of the same account.
    pub budget: Option<String>,
    /// What is limited over all of its lanes.
    pub limits: Limits,
    /// Its timeouts.
    pub timeouts: Timeouts,
    /// Its retries.
    pub retry: Retry,
    /// Its lanes; never empty.
    pub lanes: Vec<LaneRule>,
}

/// What providers take over from the rest of the configuration.
pub(super) struct Shared<'a> {
    pub(super) environment: &'a Environment,
    pub(super) period: Duration,
    pub(super) timeouts: &'a Timeouts,
    pub(super) retry: &'a Retry,
}

/// One provider as read, before what it lacks is filled in.
struct Given {
    name: String,
    origin: Origin,
    keys: ProviderKeys,
    limits: Limits,
    timeouts: Timeouts,
    retry: Retry,
    lanes: Vec<LaneRule>,
}

/// Every provider that can be made out, by name; what is wrong with the others is reported.
pub(super) fn read_providers(root: &mut Reader<'_>, shared: &Shared<'_>) -> Vec<Provider> {
    let given = root.each_named("providers", |name, origin, reader| read(name, origin, reader, shared));
    let names: Vec<_> = given.iter().map(|given| given.name.clone()).collect();
    let report = root.report();
    given.into_iter().filter_map(|given| resolve(given, &names, shared, report)).collect()
}

fn read(name: &str, origin: Origin, mut reader: Reader<'_>, shared: &Shared<'_>) -> Given {
    let limits = read_limits(&mut reader, shared.period);
    let timeouts = Timeouts::read(reader.section("timeouts"), shared.timeouts);
    let retry = Retry::read(reader.section("retry"), shared.retry);
    let lanes = reader.each_listed("lanes", |lane| read_lane(lane, shared.period));
    let lanes = lanes.into_iter().flatten().collect();
    let keys = ProviderKeys::read(reader, &ProviderKeys::default());
    Given { name: name.to_owned(), origin, keys, limits, timeouts, retry, lanes }
}

/// A lane; `None` if it does not say what it matches, which is reported.
fn read_lane(mut reader: Reader<'_>, period: Duration) -> Option<LaneRule> {
    if !reader.holds("match") {
        let path = reader.path_of("match");
        reader.report().problem(&path, None, "is missing: a model's name, or a pattern such as \"gpt-*\"");
    }
    let limits = read_limits(&mut reader, period);
    let LaneKeys { r#match, upstream_model, order, weight } = LaneKeys::read(reader, &LaneKeys::default());
    let (except, each_model) = (Vec::new(), false);
    let weight = weight.get();
    r#match.map(|pattern| LaneRule { pattern, except, upstream_model, limits, order, weight, each_model })
}

fn resolve(given: Given, names: &[String], shared: &Shared<'_>, report: &mut Report) -> Option<Provider> {
    let Given { name, origin, keys, limits, timeouts, retry, lanes } = given;
    let path = format!("providers.{name}");
    check_name(&name, &path, &origin, report);
    let preset = wellknown::preset(&name);
    let kind = keys.kind.or_else(|| preset.map(|preset| preset.kind)).unwrap_or(Kind::OpenAi);
    let key = key_source(&keys, &path, preset, shared.environment, report);
    let auth = resolve_auth(&keys, kind, key.is_some(), &path, report);
    let preset_url = || preset.map(Preset::base_url);
    let Some(base_url) = keys.base_url.or_else(preset_url) else {
        if !report.is_reported(&format!("{path}.base_url")) {
            missing_base_url(&name, &origin, names, report);
        }
        return None;
    };
    let mut headers = keys.headers.into_lowercase();
    for (name, value) in kind.demanded_headers() {
        if !headers.iter().any(|(known, _)| known == name) {
            headers.push(((*name).to_owned(), Secret::new(*value)));
        }
    }
    let mut query = keys.query.0;
    for (name, value) in kind.demanded_query(&base_url) {
        if !query.iter().any(|(known, _)| known == name) {
            query.push(((*name).to_owned(), Secret::new(*value)));
        }
    }
    Some(Provider {
        name,
        kind,
        base_url,
        auth,
        key: key.filter(|_| auth != AuthScheme::None),
        headers,
        query,
        proxy: keys.proxy,
        ca_file: keys.ca_file,
        client_cert_file: keys.client_cert_file,
        http: keys.http,
        budget: keys.budget,
        limits,
        timeouts,
        retry,
        lanes: if lanes.is_empty() { vec![LaneRule::every_model()] } else { lanes },
    })
}

fn check_name(name: &str, path: &str, origin: &Origin, report: &mut Report) {
    let starts_well = name.starts_with(|first: char| first.is_ascii_lowercase());
    let goes_on_well = name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'));
    if !(starts_well && goes_on_well) {
        let message = "must be named with a letter first and only a-z, 0-9 and _";
        report.problem_at(path, origin, message, None);
    }
}

fn missing_base_url(name: &str, origin: &Origin, names: &[String], report: &mut Report) {
    let others = names.iter().map(String::as_str).filter(|other| *other != name);
    let meant = nearest(name, others.chain(["openai", "anthropic", "openrouter", "ollama"]));
    let meant = meant.map(|other| format!("providers.{other}"));
    let message =
        "is missing: the provider's URL with its version prefix, such as \"https://api.example.com/v1\"";
    report.problem_at(&format!("providers.{name}.base_url"), origin, message, meant);
}

impl Provider {
    /// Whether its models are addressed as deployments, in the path.
    pub fn has_deployments(&self) -> bool {
        let named_already = self.base_url.as_str().contains("/deployments/");
        self.kind == Kind::Azure && !is_undated(&self.base_url) && !named_already
    }
}

impl Preset {
    fn base_url(&self) -> Url {
        Url::known(self.base_url)
    }
}

#[cfg(test)]
impl Provider {
    /// A provider that only has lanes.
    pub(super) fn bare(name: &str, lanes: Vec<LaneRule>) -> Self {
        Self {
            name: name.to_owned(),
            kind: Kind::OpenAi,
            base_url: Url::known("http://127.0.0.1:1/v1"),
            auth: AuthScheme::None,
            key: None,
            headers: Vec::new(),
            query: Vec::new(),
            proxy: None,
            ca_file: None,
            client_cert_file: None,
            http: HttpVersion::Auto,
            budget: None,
            limits: Limits::default(),
            timeouts: Timeouts::default(),
            retry: Retry::default(),
            lanes,
        }
    }
}
