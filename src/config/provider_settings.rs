//! The keys of a provider and of its lanes, as given.

use std::num::NonZeroU32;
use std::path::PathBuf;

use super::address::Url;
use super::description::{KeyDescription, ValueKind};
use super::lanes::Pattern;
use super::pairs::Pairs;
use super::providers::{AuthScheme, HttpVersion, Kind};
use super::reader::keys;

keys! {
    /// A provider's own keys; its sections are read apart.
    pub(super) struct ProviderKeys {
        /// Whose API it speaks.
        pub(super) kind: Option<Kind> = None => Kind::OpenAi,
        /// Its URL with the version prefix; what follows `/v1` is appended. Needed, except for `openai`, `anthropic`,
        /// `openrouter` and `ollama`.
        pub(super) base_url: Option<Url> = None,
        /// The variable that holds the key.
        pub(super) api_key_env: Option<String> = None,
        /// The file that holds the key. It is read again when it changes and when the provider answers 401.
        pub(super) api_key_file: Option<PathBuf> = None,
        /// A command for `sh` that prints the key, within 30 s.
        pub(super) api_key_command: Option<String> = None,
        /// The header that carries the key. Not set: as the kind wants it, or none without a key.
        pub(super) auth: Option<AuthScheme> = None,
        /// Headers added to each call.
        pub(super) headers: Pairs = Pairs::default(),
        /// Parameters added to each call's URL.
        pub(super) query: Pairs = Pairs::default(),
        /// The proxy for it; not set: what `HTTPS_PROXY` and `NO_PROXY` say.
        pub(super) proxy: Option<Url> = None,
        /// Certificates, in PEM, that are trusted beside the system's.
        pub(super) ca_file: Option<PathBuf> = None,
        /// Our own certificate and key, in PEM.
        pub(super) client_cert_file: Option<PathBuf> = None,
        /// The version of HTTP that it is spoken to in; `auto`: what the connection negotiates.
        pub(super) http: HttpVersion = HttpVersion::Auto,
        /// A name that providers with the same key, base URL and limits share, so that they share one budget, lane by
        /// lane.
        pub(super) budget: Option<String> = None,
    }
}

keys! {
    /// A lane's own keys; its limits are read apart.
    pub(super) struct LaneKeys {
        /// The models that it serves. Needed in each lane.
        pub(super) r#match: Option<Pattern> = None,
        /// The name that the provider has for the model.
        pub(super) upstream_model: Option<String> = None,
        /// Lanes of a lower order are preferred.
        pub(super) order: i32 = 0,
        /// The share among lanes of the same order.
        pub(super) weight: NonZeroU32 = NonZeroU32::MIN,
    }
}

/// A provider's sections as the reference has them.
pub(super) fn provider_sections() -> Vec<KeyDescription> {
    vec![
        section("limits", "Limits over all of its lanes."),
        section("timeouts", "Timeouts of its own; what is missing is taken from `timeouts`."),
        section("retry", "Retries of its own; what is missing is taken from `retry`."),
    ]
}

/// A lane's sections as the reference has them.
pub(super) fn lane_sections() -> Vec<KeyDescription> {
    vec![section("limits", "Limits of this lane.")]
}

/// A section with the keys of the service's section of that name.
fn section(name: &'static str, meaning: &'static str) -> KeyDescription {
    KeyDescription { name, kind: ValueKind::Section(name), default: None, meaning }
}
