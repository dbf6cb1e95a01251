//! A store on `PostgreSQL`: whether the server lets a service in, and the schema is one that it can use.

use super::Finding;
use crate::cli::error::store_exit;
use crate::cli::show::seconds;
use crate::config::Secret;
use crate::store::StoreError;
use crate::store::inspection::{Certified, Encrypted, Inspection, SchemaState, Seen, inspect};

/// Looks at the server and the schema; changes nothing there.
pub(super) async fn look(url: &Secret, schema: &str) -> Vec<Finding> {
    let Inspection { place, seen } = inspect(url, schema).await;
    let seen = match seen {
        Ok(seen) => seen,
        Err(error) => {
            let found = format!("{place}: {}", reason(&error));
            let advice = "is store.url right (address, user, sslmode), and does the server run and let this machine in?";
            return vec![Finding::fail("database", found, advice, store_exit(&error))];
        }
    };
    let Seen { version, took, is_local, tls, syncs, schema: state } = seen;
    let took = seconds(took.as_secs_f64());
    let found = format!("PostgreSQL {version} at {place}; it answers in {took}");
    let mut findings = vec![Finding::ok("database", found), protection(is_local, tls)];
    if !syncs {
        let found =
            "the server runs with fsync = off: what is acknowledged may be lost when its machine fails";
        findings.push(Finding::warn("database's disk", found, "set fsync = on in its postgresql.conf"));
    }
    findings.push(judge(schema, state));
    findings
}

/// What can be read on the way, and by whom.
fn protection(is_local: bool, tls: Option<Encrypted>) -> Finding {
    let about = "database's TLS";
    match tls {
        None if is_local => Finding::ok(about, "none, and none is needed on this machine"),
        None => Finding::warn(
            about,
            "none: whoever is on the way can read the password and every request",
            "set ssl = on at the server, and sslmode=verify-full in store.url",
        ),
        Some(Encrypted { version, server: Certified::Unknown }) if is_local => Finding::ok(
            about,
            format!("{version}; the certificate is not checked, and need not be on this machine"),
        ),
        Some(Encrypted { version, server: Certified::Unknown }) => Finding::warn(
            about,
            format!("{version}, but any server's certificate is taken"),
            "sslmode=verify-full in store.url checks it; sslrootcert names its authority's file, or `system`",
        ),
        Some(Encrypted { version, server: Certified::OfAuthority }) => {
            Finding::ok(about, format!("{version}; the certificate's authority is checked, its name is not"))
        }
        Some(Encrypted { version, server: Certified::ByName }) => {
            Finding::ok(about, format!("{version}; the server's certificate and name are checked"))
        }
    }
}

/// What is wrong, without the words that it is not available: whether it was reached is said beside it.
fn reason(error: &StoreError) -> String {
    match error {
        StoreError::Unavailable(reason) => reason.clone(),
        other => other.to_string(),
    }
}

fn judge(schema: &str, state: Result<SchemaState, StoreError>) -> Finding {
    let about = format!("schema {schema}");
    match state {
        Ok(SchemaState::Missing) => Finding::ok(about, "not there yet; the first start makes it"),
        Ok(SchemaState::Current(version)) => {
            Finding::ok(about, format!("version {version}, as this program's"))
        }
        Ok(SchemaState::Older { found, supported }) => Finding::warn(
            about,
            format!("version {found}; the next start, or `sluicegate migrate`, makes it {supported}"),
            "docs/operations.md says in which order to update",
        ),
        Ok(SchemaState::Newer { found, supported }) => Finding::warn(
            about,
            format!("version {found}, later than this program's {supported}, which can still work with it"),
            "run the newer program",
        ),
        Err(error) => Finding::fail(about, reason(&error), "", store_exit(&error)),
    }
}
