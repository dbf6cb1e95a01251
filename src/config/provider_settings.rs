//! The keys of a provider and of its lanes, as given.

use std::num::NonZeroU32;
use std::path::PathBuf;

use super::address::Url;
use super::lanes::Pattern;
use super::pairs::Pairs;
use super::providers::{AuthScheme, HttpVersion, Kind};
use super::reader::keys;

keys! {
    /// A provider's own keys; its sections are read apart.
    pub(super) struct ProviderKeys {
        pub(super) kind: Option<Kind> = None,
        pub(super) base_url: Option<Url> = None,
        pub(super) api_key_env: Option<String> = None,
        pub(super) api_key_file: Option<PathBuf> = None,
        pub(super) api_key_command: Option<String> = None,
        pub(super) auth: Option<AuthScheme> = None,
        pub(super) headers: Pairs = Pairs::default(),
        pub(super) query: Pairs = Pairs::default(),
        pub(super) proxy: Option<Url> = None,
        pub(super) ca_file: Option<PathBuf> = None,
        pub(super) client_cert_file: Option<PathBuf> = None,
        pub(super) http: HttpVersion = HttpVersion::Auto,
        pub(super) budget: Option<String> = None,
    }
}

keys! {
    /// A lane's own keys; its limits are read apart.
    pub(super) struct LaneKeys {
        pub(super) r#match: Option<Pattern> = None,
        pub(super) upstream_model: Option<String> = None,
        pub(super) order: i32 = 0,
        pub(super) weight: NonZeroU32 = NonZeroU32::MIN,
    }
}
