//! `PgBouncer`, before the PostgreSQL server that tests use.

use std::process::Command;

use super::postgres::{self, Own};

/// One of this process, which gives each transaction whichever session is free.
pub(crate) fn start() -> Own {
    let url = postgres::url();
    let (_, port) = url.strip_suffix("/postgres").unwrap().rsplit_once(':').unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/pgbouncer");
    Own::start(Command::new("bash").args([script, port]))
}
