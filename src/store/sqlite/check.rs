//! A database file and everything in it, looked at.

use std::path::Path;

use rusqlite::Connection;

use super::connection::open_reader;
use super::fault::{Fault, Severity};
use super::folder::{foreign_log, has_foreign_log};
use super::{check_input, check_payloads, schema};
use crate::store::check::{CheckError, CheckReport, MOST_LINES, invariants};
use crate::store::{Result, StoreError};

/// Checks the database as it is now.
pub(in crate::store) fn check(
    path: &Path,
    tell: &mut dyn FnMut(&'static str),
) -> std::result::Result<CheckReport, CheckError> {
    if !path.is_file() {
        return Err(CheckError::Missing(path.to_owned()));
    }
    if has_foreign_log(path) {
        return Err(foreign_log().into());
    }
    let opened = || -> std::result::Result<_, Fault> {
        let connection = open_reader(path)?;
        connection.execute_batch("BEGIN")?;
        let (version, _) = schema::marked(&connection)?;
        Ok((connection, version))
    };
    let (connection, version) = opened().map_err(StoreError::from)?;
    CheckError::unless_current(version, schema::SUPPORTED)?;
    let mut report = CheckReport::default();
    tell("the database file");
    let whole = integrity(&connection, &mut report)?;
    let parts: [(&'static str, Part); 3] =
        [("the rows", rows), ("the input", check_input::check), ("the results", check_payloads::check)];
    for (name, part) in parts {
        tell(name);
        match part(&connection, &mut report) {
            Ok(()) => {}
            // What is damaged may be unreadable too, and that was said; any other fault is news.
            Err(fault) if whole && fault.severity() != Severity::Fatal => {
                return Err(StoreError::from(fault).into());
            }
            Err(fault) => report.add(name, [StoreError::from(fault).to_string()]),
        }
    }
    Ok(report)
}

/// What looks at a part of the store.
type Part = fn(&Connection, &mut CheckReport) -> std::result::Result<(), Fault>;

/// `SQLite`'s own check: pages, indexes against their tables, NULLs, CHECKs and UNIQUEs. Whether nothing was found.
fn integrity(connection: &Connection, report: &mut CheckReport) -> Result<bool> {
    let found = || -> std::result::Result<Vec<String>, Fault> {
        let mut statement = connection.prepare(&format!("PRAGMA integrity_check({MOST_LINES})"))?;
        let lines = statement.query_map([], |row| row.get(0))?;
        Ok(lines.collect::<rusqlite::Result<_>>()?)
    };
    let pages: i64 = connection
        .query_row("PRAGMA page_count", [], |row| row.get(0))
        .map_err(|error| StoreError::from(Fault::from(error)))?;
    report.looked_at.push(("pages", u64::try_from(pages).unwrap_or(0)));
    let lines = match found() {
        Ok(lines) => lines,
        Err(fault) if fault.severity() == Severity::Fatal => vec![StoreError::from(fault).to_string()],
        Err(fault) => return Err(fault.into()),
    };
    let wrong: Vec<String> = lines.into_iter().filter(|line| line != "ok").collect();
    let whole = wrong.is_empty();
    // One answer may hold several lines.
    report.add("file", wrong.iter().flat_map(|text| text.lines()).map(str::to_owned));
    Ok(whole)
}

/// What the rows say of each other.
fn rows(connection: &Connection, report: &mut CheckReport) -> std::result::Result<(), Fault> {
    for invariant in invariants() {
        let mut statement = connection.prepare(&invariant.sql)?;
        let mut rows = statement.query([])?;
        // Read to its end: how much is wrong does not matter, but that all of it can be read does.
        while let Some(row) = rows.next()? {
            report.add(invariant.kind, [row.get::<_, String>(0)?]);
        }
    }
    Ok(())
}
