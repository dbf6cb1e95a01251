//! What a provider's client is built from.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// Which HTTP a provider is spoken to in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HttpVersion {
    /// What the server chooses during the TLS handshake; HTTP/1.1 without TLS.
    #[default]
    Auto,
    /// HTTP/1.1 only.
    One,
    /// HTTP/2 only, without TLS too.
    Two,
}

/// A provider's settings, as its client needs them.
#[derive(Clone)]
pub struct UpstreamSettings {
    /// Where the provider is, version prefix included: `https://api.openai.com/v1`.
    pub base_url: String,
    /// Headers of every request, by name.
    pub headers: Vec<(String, String)>,
    /// Query parameters of every request, by name.
    pub query: Vec<(String, String)>,
    /// Whether models are addressed as deployments, in the path, as in Azure's dated API.
    pub deployments: bool,
    /// The proxy to go through; `None`: what the environment says, and none for loopback.
    pub proxy: Option<String>,
    /// A PEM file of authorities trusted besides the system's.
    pub ca_file: Option<PathBuf>,
    /// A PEM file with the client's certificate and its key.
    pub client_cert_file: Option<PathBuf>,
    /// Which HTTP to speak.
    pub http: HttpVersion,
    /// The most calls expected at once: sizes pools and shards, limits nothing.
    pub max_in_flight: usize,
    /// Limit of opening a connection, TLS included.
    pub connect_timeout: Duration,
}

impl UpstreamSettings {
    /// Settings that say nothing but where the provider is.
    pub fn new(base_url: &str) -> Self {
        Self {
            base_url: base_url.to_owned(),
            headers: Vec::new(),
            query: Vec::new(),
            deployments: false,
            proxy: None,
            ca_file: None,
            client_cert_file: None,
            http: HttpVersion::Auto,
            max_in_flight: 1024,
            connect_timeout: Duration::from_secs(10),
        }
    }
}

impl fmt::Debug for UpstreamSettings {
    /// Values of headers, of the query and of the proxy may be secrets, so only names are shown.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |pairs: &[(String, String)]| pairs.iter().map(|pair| pair.0.clone()).collect::<Vec<_>>();
        formatter
            .debug_struct("UpstreamSettings")
            .field("headers", &names(&self.headers))
            .field("query", &names(&self.query))
            .field("http", &self.http)
            .field("max_in_flight", &self.max_in_flight)
            .finish_non_exhaustive()
    }
}

/// A setting that no client can be built from.
#[derive(Debug, thiserror::Error)]
#[error("{}: {}", self.setting().unwrap_or("HTTP client"), self.reason())]
pub enum UpstreamError {
    /// `base_url` is not the address of an HTTP server.
    BaseUrl(String),
    /// A name or value in `headers` can't be in a header. The value is not shown.
    Header(String),
    /// `proxy` is not the address of a proxy. It may hold a password, so it is not shown.
    Proxy,
    /// `ca_file` or `client_cert_file` can't be used.
    File {
        /// Which of the two.
        setting: &'static str,
        /// The file it names.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The client could not be set up, mostly for want of usable certificates on this machine.
    Client(String),
}

impl UpstreamError {
    /// The setting that is to blame; `None`: no single one.
    pub const fn setting(&self) -> Option<&'static str> {
        match self {
            Self::BaseUrl(_) => Some("base_url"),
            Self::Header(_) => Some("headers"),
            Self::Proxy => Some("proxy"),
            Self::File { setting, .. } => Some(setting),
            Self::Client(_) => None,
        }
    }

    /// What is wrong with it, in words.
    pub fn reason(&self) -> String {
        match self {
            Self::BaseUrl(reason) | Self::Client(reason) => reason.clone(),
            Self::Header(name) => format!("{name} is not a header that HTTP can carry"),
            Self::Proxy => "not the address of a proxy".to_owned(),
            Self::File { path, reason, .. } => format!("{}: {reason}", path.display()),
        }
    }
}
