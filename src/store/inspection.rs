//! What there is where a store on `PostgreSQL` is to be, seen without changing anything.

use std::time::Duration;

use super::{StoreError, postgres};
use crate::config::Secret;

/// A server and a schema on it, as a service would meet them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// The server, the database and the user; no password.
    pub place: String,
    /// What there is, or why nobody is let in.
    pub seen: Result<Seen, StoreError>,
}

/// A server that lets this user in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its version, such as `15.14`.
    pub version: String,
    /// How long it took to connect.
    pub took: Duration,
    /// Whether it is reached without leaving this machine.
    pub is_local: bool,
    /// What TLS makes of the way there; `None`: nothing is encrypted.
    pub tls: Option<Encrypted>,
    /// Whether it writes to its disk what it has acknowledged.
    pub syncs: bool,
    /// The schema, or why this server, database or user won't do.
    pub schema: Result<SchemaState, StoreError>,
}

/// A connection inside TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encrypted {
    /// By which version.
    pub version: &'static str,
    /// Who is at the other end.
    pub server: Certified,
}

/// What is known of who is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certified {
    /// Nothing: any certificate is taken.
    Unknown,
    /// It is one of the servers of an authority that is trusted.
    OfAuthority,
    /// It is the server of that name.
    ByName,
}

/// How a schema stands to this program, which may use it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SchemaState {
    /// There is none yet; a start makes it.
    Missing,
    /// It is of an earlier version; a start brings it up to date.
    Older {
        /// Its version.
        found: i64,
        /// The one that it gets.
        supported: i64,
    },
    /// It is of this version.
    Current(i64),
    /// It is of a later version that this program can work with.
    Newer {
        /// Its version.
        found: i64,
        /// The newest that this program knows.
        supported: i64,
    },
}

/// Looks at the server and the schema as a start would, and changes nothing.
pub async fn inspect(url: &Secret, schema: &str) -> Inspection {
    postgres::inspection::inspect(url, schema).await
}
