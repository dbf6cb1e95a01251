//! The sections that concern the service itself.

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use super::address::{Network, Url};
use super::description::{Notation, ValueKind};
use super::nearest::nearest;
use super::reader::{keys, section};
use super::secret::Secret;
use super::setting::{Mismatch, Setting, Share, Size, choice, quoted, text_of};
use super::tree::Value;

const DAY: Duration = Duration::from_hours(24);

section! {
    /// `server`: where the service listens and what it may hold.
    pub struct Server {
        /// Where the API is served. Beyond loopback it needs keys, see [operations](operations.md#keys).
        pub listen: SocketAddr = SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
        /// Where `/metrics` and `/admin` are served instead, with `/livez` and `/readyz`.
        pub admin_listen: Option<SocketAddr> = None,
        /// The URL that clients see.
        pub public_url: Option<Url> = None,
        /// How long calls in flight may still take once the end was asked for.
        pub drain_timeout: Duration = Duration::from_secs(30),
        /// Origins of pages that may call the API from a browser.
        pub cors_origins: Vec<String> = Vec::new(),
        /// Networks of proxies whose `X-Forwarded-For` is believed.
        pub trusted_proxies: Vec<Network> = Vec::new(),
        /// The most memory for bodies of requests and replies together. At least twice `batches.max_line`.
        pub memory_budget: Size = Size(64 << 20),
        /// Whether lists, results and files are compressed by gzip for clients that ask for it; they have no length then.
        /// Live calls and event streams never are.
        pub compress: bool = false,
    }
}

choice! {
    /// Who may call.
    AuthMode {
        /// Anyone on loopback as long as there are no keys; else only holders of one.
        Auto = "auto",
        /// Only holders of a key.
        Keys = "keys",
        /// Anyone.
        None = "none",
    }
}

section! {
    /// `auth`: who may call.
    pub struct Auth {
        /// Who may call. `auto`: everyone as long as only this machine reaches the service and there is no key, else
        /// holders of a key. `keys`: only they. `none`: everyone who reaches the address; a proxy or firewall decides
        /// who that is.
        pub mode: AuthMode = AuthMode::Auto,
        /// A file with an admin key of your own, at least 24 characters; read again when it changes. The variable
        /// `SLUICEGATE_ADMIN_KEY` gives one too.
        pub admin_key_file: Option<PathBuf> = None,
    }
}

keys! {
    /// `store` as given; see [`Store`].
    pub(super) struct StoreKeys {
        /// Where everything is kept: an SQLite file, whose folder belongs to the service alone, or a PostgreSQL
        /// database (13 or later): `postgres://user:password@host/database`, with libpq's `sslmode` (`disable`,
        /// `allow`, `prefer`, `require`, `verify-ca`, `verify-full`) and `sslrootcert` (a PEM file, or `system`).
        /// Without a file the `verify` modes ask the system's authorities. Of several hosts, `host,host`, the one that takes
        /// writes is used. `connect_timeout`, `application_name` and `options` are taken too, client certificates are not.
        pub(super) url: String = "sqlite:./sluicegate-data/store.db".to_owned(),
        /// A file that holds the URL, instead of `store.url`: for one with a password. Its user and password are read again
        /// for each new connection.
        pub(super) url_file: Option<PathBuf> = None,
        /// With PostgreSQL: the schema that holds everything. Made at the first start if the user may, and shared by
        /// [several replicas](operations.md#several-replicas). [Operations](operations.md#move-to-postgresql) says how
        /// a store moves there.
        pub(super) schema: Option<String> = None => DEFAULT_SCHEMA.to_owned(),
        /// With SQLite: below this many free bytes on the disk nothing new is accepted or sent.
        pub(super) min_free: Size = Size(1 << 30),
    }
}

/// `store`: where everything is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    /// The database.
    pub location: StoreLocation,
    /// Below this many free bytes nothing new is accepted or sent; for a database file alone.
    pub min_free: Size,
}

/// The schema in PostgreSQL, where none is named.
pub(super) const DEFAULT_SCHEMA: &str = "sluicegate";

/// Where everything is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreLocation {
    /// An SQLite database; its folder holds everything else that lasts.
    Sqlite(PathBuf),
    /// A schema of a PostgreSQL database.
    Postgres {
        /// The database, with who uses it.
        url: Secret,
        /// The schema.
        schema: String,
        /// The file that the URL was read from: what it says of who uses the database holds for each new connection.
        url_file: Option<PathBuf>,
    },
}

impl StoreLocation {
    /// Whether another configuration means the same place, with the same file, and at most other credentials in it: those
    /// are read from there while the service runs.
    pub(super) fn differs_in_credentials_at_most(&self, other: &Self) -> bool {
        let (
            Self::Postgres { url, schema, url_file: Some(file) },
            Self::Postgres { url: other_url, schema: other_schema, url_file: Some(other_file) },
        ) = (self, other)
        else {
            return false;
        };
        let without = |url: &Secret| without_credentials(url.expose());
        schema == other_schema && file == other_file && without(url) == without(other_url)
    }
}

/// A URL without who uses it, wherever it says so.
fn without_credentials(url: &str) -> String {
    let (base, query) = url.split_once('?').unwrap_or((url, ""));
    let (scheme, rest) = base.split_once("://").unwrap_or(("", base));
    let place = rest.rsplit_once('@').map_or(rest, |(_, place)| place);
    let is_credential = |pair: &&str| pair.starts_with("user=") || pair.starts_with("password=");
    let rest: Vec<&str> = query.split('&').filter(|pair| !is_credential(pair)).collect();
    format!("{scheme}://{place}?{}", rest.join("&"))
}

section! {
    /// `interactive`: calls of clients that wait.
    pub struct Interactive {
        /// How long a client's own call may wait to be sent. A call's header `sluicegate-max-wait` may say less, not
        /// more.
        pub max_wait: Duration = Duration::from_secs(30),
        /// The share of a lane's budget in which such calls go first.
        pub share: Share = Share(0.5),
        /// Whether such calls are served at all.
        pub passthrough: bool = true,
    }
}

section! {
    /// `retention`: how long things are kept.
    pub struct Retention {
        /// How long uploaded files are kept after their creation.
        pub files: Duration = DAY * 30,
        /// How long batches and their results are kept after their end.
        pub results: Duration = DAY * 30,
    }
}

section! {
    /// `batches`: how large a batch may be.
    pub struct Batches {
        /// Lines of one file.
        pub max_items: NonZeroU32 = NonZeroU32::MIN.saturating_add(999_999),
        /// Bytes of one line.
        pub max_line: Size = Size(16 << 20),
        /// Bytes of one file.
        pub max_file: Size = Size(512 << 20),
        /// Bytes of a request that carries its lines inline.
        pub max_inline: Size = Size(32 << 20),
    }
}

section! {
    /// `timeouts`: of one upstream call.
    pub struct Timeouts {
        /// Until a connection stands.
        pub connect: Duration = Duration::from_secs(10),
        /// From the request's last byte to the reply's first.
        pub first_byte: Duration = Duration::from_mins(5),
        /// Between two pieces of a reply.
        pub idle: Duration = Duration::from_mins(2),
        /// The whole call.
        pub request: Duration = Duration::from_mins(10),
    }
}

/// What makes an attempt worth repeating.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryOn {
    /// This HTTP status.
    Status(u16),
    /// Any status from 500 to 599.
    AnyServerError,
    /// One of [`Timeouts`] ran out.
    Timeout,
    /// No connection, or one that broke.
    Network,
}

impl Setting for RetryOn {
    fn kind() -> ValueKind {
        ValueKind::Written(Notation {
            name: "failure",
            examples: &["408", "\"5xx\"", "\"timeout\"", "\"network\""],
            note: "a status from 400 to 599, any from 500 on, a timeout that ran out, no connection or one that broke",
        })
    }

    fn read(value: &Value) -> Result<Self, Mismatch> {
        const WORDS: [(&str, RetryOn); 3] =
            [("5xx", RetryOn::AnyServerError), ("timeout", RetryOn::Timeout), ("network", RetryOn::Network)];
        let status = match value {
            Value::Integer(status) => u16::try_from(*status).ok(),
            value => text_of(value).and_then(|text| text.parse().ok()),
        };
        let word = text_of(value).unwrap_or_default();
        let known = WORDS.iter().find(|(name, _)| *name == word).map(|(_, on)| *on);
        known.or_else(|| status.filter(|status| (400..600).contains(status)).map(Self::Status)).ok_or_else(
            || Mismatch {
                expected: "statuses from 400 to 599, \"5xx\", \"timeout\" or \"network\"".to_owned(),
                nearest: nearest(word, WORDS.map(|(name, _)| name)).map(quoted),
            },
        )
    }

    fn shown(&self) -> Option<String> {
        match self {
            Self::Status(status) => Some(status.to_string()),
            Self::AnyServerError => Some(quoted("5xx")),
            Self::Timeout => Some(quoted("timeout")),
            Self::Network => Some(quoted("network")),
        }
    }
}

section! {
    /// `retry`: how often and when an item is sent again.
    pub struct Retry {
        /// Upstream calls of one item, the first included.
        pub max_attempts: NonZeroU32 = NonZeroU32::MIN.saturating_add(4),
        /// The longest wait before the second attempt; it doubles for each one after.
        pub min_delay: Duration = Duration::from_millis(500),
        /// The longest wait before any attempt.
        pub max_delay: Duration = Duration::from_mins(1),
        /// What makes an attempt worth repeating.
        pub on: Vec<RetryOn> = vec![
            RetryOn::Status(408),
            RetryOn::Status(409),
            RetryOn::Status(425),
            RetryOn::AnyServerError,
            RetryOn::Timeout,
            RetryOn::Network,
        ],
    }
}

choice! {
    /// How log lines look.
    LogFormat {
        /// For people.
        Text = "text",
        /// One object a line.
        Json = "json",
    }
}

/// What is logged: a level, or several `target=level` with commas between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFilter(pub String);

impl Setting for LogFilter {
    fn kind() -> ValueKind {
        ValueKind::Written(Notation {
            name: "log level",
            examples: &["\"info\"", "\"info,sluicegate::gate=debug\""],
            note: "`error`, `warn`, `info`, `debug`, `trace` or `off`; or several with commas, each for a target",
        })
    }

    fn read(value: &Value) -> Result<Self, Mismatch> {
        const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];
        let text = text_of(value).unwrap_or_default();
        for directive in text.split(',') {
            let level = directive.split_once('=').map_or(directive, |(_, level)| level).trim();
            if !LEVELS.contains(&level) {
                return Err(Mismatch {
                    expected: format!("{}, or \"target=level\" of these", LEVELS.join(", ")),
                    nearest: nearest(level, LEVELS).map(quoted),
                });
            }
        }
        Ok(Self(text.to_owned()))
    }

    fn shown(&self) -> Option<String> {
        Some(quoted(&self.0))
    }
}

section! {
    /// `log`: what is logged, on standard error.
    pub struct Log {
        /// How log lines look; `json`: one object a line. They go to standard error.
        pub format: LogFormat = LogFormat::Text,
        /// What is logged: a level, or one for everything and others for parts of the service.
        pub level: LogFilter = LogFilter("info".to_owned()),
    }
}
