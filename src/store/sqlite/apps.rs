//! Apps: their rows, what they hold, and whether something new fits in their quotas.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::fault::{Fault, damaged};
use super::usage;
use super::values::{int, moment, optional_uint, uint, unreadable};
use super::writing::Writing;
use crate::domain::app::{AppName, AppRecord, AppSettings, Holdings, OverQuota, Quota};
use crate::domain::day::Day;
use crate::domain::ids::AppKey;
use crate::store::{AppReport, MOST_APPS, StoreError, json};

/// The columns of an [`AppRecord`], in the order [`read_record`] takes them.
macro_rules! select_apps {
    ($conditions:literal) => {
        concat!(
            "SELECT key, name, weight, limits, items_queued, bytes_stored, created_at FROM app ",
            $conditions
        )
    };
}

/// Every app.
pub(crate) fn all(connection: &Connection) -> Result<Vec<AppRecord>, Fault> {
    let mut statement = connection.prepare_cached(select_apps!("ORDER BY key"))?;
    let rows = statement.query_map([], read_record)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

fn by_name(connection: &Connection, name: &AppName) -> Result<Option<AppRecord>, Fault> {
    let mut statement = connection.prepare_cached(select_apps!("WHERE name = ?1"))?;
    Ok(statement.query_row([name.as_str()], read_record).optional()?)
}

/// Makes an app or gives it other settings; `None`: there are too many.
pub(crate) fn put(
    writing: &mut Writing<'_>,
    name: &AppName,
    settings: &AppSettings,
) -> Result<Option<AppRecord>, Fault> {
    let connection = writing.connection;
    if find_or_make(writing, name)?.is_none() {
        return Ok(None);
    }
    let AppSettings { weight, limits, items_queued, bytes_stored } = settings;
    connection.execute(
        "UPDATE app SET weight = ?2, limits = ?3, items_queued = ?4, bytes_stored = ?5 WHERE name = ?1",
        params![name.as_str(), weight, json::to_text(limits)?, items_queued.map(int), bytes_stored.map(int)],
    )?;
    writing.effects.apps = true;
    writing.effects.rows += 1;
    by_name(connection, name)
}

/// The app of that name, made if there is none; `None`: there are too many.
pub(super) fn find_or_make(writing: &mut Writing<'_>, name: &AppName) -> Result<Option<AppKey>, Fault> {
    let connection = writing.connection;
    if let Some(app) = by_name(connection, name)? {
        return Ok(Some(app.key));
    }
    let made = connection.execute(
        "INSERT INTO app (name, created_at) SELECT ?1, ?2 WHERE (SELECT count(*) FROM app) < ?3",
        params![name.as_str(), writing.now.micros(), int(MOST_APPS)],
    )?;
    writing.effects.apps |= made > 0;
    writing.effects.rows += made as u64;
    Ok((made > 0).then(|| AppKey(connection.last_insert_rowid())))
}

/// Every app with what it holds and used.
pub(crate) fn reports(connection: &Connection, since: Day) -> Result<Vec<AppReport>, Fault> {
    let mut reports: Vec<AppReport> = all(connection)?
        .into_iter()
        .map(|app| AppReport { app, holdings: Holdings::default(), usage: Vec::new() })
        .collect();
    let places: HashMap<AppKey, usize> =
        reports.iter().enumerate().map(|(place, report)| (report.app.key, place)).collect();
    for (app, held) in all_holdings(connection)? {
        if let Some(place) = places.get(&app) {
            let holdings = &mut reports[*place].holdings;
            holdings.items_queued += held.items_queued;
            holdings.bytes_stored += held.bytes_stored;
        }
    }
    for (app, day, used) in usage::since(connection, since)? {
        if let Some(place) = places.get(&app) {
            reports[*place].usage.push((day, used));
        }
    }
    Ok(reports)
}

fn all_holdings(connection: &Connection) -> Result<Vec<(AppKey, Holdings)>, Fault> {
    let sql = "SELECT app, 0, sum(bytes) FROM file WHERE deleted_at IS NULL GROUP BY app UNION ALL \
               SELECT app, sum(total - succeeded - failed - expired - cancelled), \
               sum(output_bytes + error_bytes) FROM batch WHERE ended_at IS NULL GROUP BY app";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map([], |row| {
        let holdings = Holdings { items_queued: uint(row, 1)?, bytes_stored: uint(row, 2)? };
        Ok((AppKey(row.get(0)?), holdings))
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Checks that so many bytes more fit in the app's quota.
pub(super) fn check_bytes(
    connection: &Connection,
    app: AppKey,
    added: u64,
) -> Result<Result<(), OverQuota>, Fault> {
    let (_, bytes_stored) = quotas(connection, app)?;
    if bytes_stored.is_none() {
        // Most apps have none: counting would be for nothing.
        return Ok(Ok(()));
    }
    // The results of running batches have no file yet.
    let sql = "SELECT (SELECT coalesce(sum(bytes), 0) FROM file WHERE app = ?1 AND deleted_at IS NULL) + \
               (SELECT coalesce(sum(output_bytes + error_bytes), 0) FROM batch \
               WHERE app = ?1 AND ended_at IS NULL)";
    let held = connection.prepare_cached(sql)?.query_row([app.0], |row| uint(row, 0))?;
    Ok(OverQuota::check(Quota::BytesStored, bytes_stored, held, added))
}

/// Checks that so many items more fit in the app's quota.
pub(super) fn check_items(
    connection: &Connection,
    app: AppKey,
    added: u64,
) -> Result<Result<(), OverQuota>, Fault> {
    let (items_queued, _) = quotas(connection, app)?;
    if items_queued.is_none() {
        return Ok(Ok(()));
    }
    let sql = "SELECT coalesce(sum(total - succeeded - failed - expired - cancelled), 0) FROM batch \
               WHERE app = ?1 AND ended_at IS NULL";
    let held = connection.prepare_cached(sql)?.query_row([app.0], |row| uint(row, 0))?;
    Ok(OverQuota::check(Quota::ItemsQueued, items_queued, held, added))
}

fn quotas(connection: &Connection, app: AppKey) -> Result<(Option<u64>, Option<u64>), Fault> {
    let sql = "SELECT items_queued, bytes_stored FROM app WHERE key = ?1";
    let read = |row: &Row<'_>| Ok((optional_uint(row, 0)?, optional_uint(row, 1)?));
    let quotas = connection.prepare_cached(sql)?.query_row([app.0], read).optional()?;
    quotas.ok_or_else(|| damaged("an app's row is gone"))
}

/// The name in a column.
pub(super) fn read_name(row: &Row<'_>, column: usize) -> rusqlite::Result<AppName> {
    let text: String = row.get(column)?;
    AppName::new(text.as_str()).ok_or_else(|| unreadable(column, format!("no name of an app: {text:?}")))
}

fn read_record(row: &Row<'_>) -> rusqlite::Result<AppRecord> {
    let limits = json::from_text(row.get_ref(3)?.as_str()?);
    Ok(AppRecord {
        key: AppKey(row.get(0)?),
        name: read_name(row, 1)?,
        settings: AppSettings {
            weight: row.get(2)?,
            limits: limits.map_err(|error: StoreError| unreadable(3, error.to_string()))?,
            items_queued: optional_uint(row, 4)?,
            bytes_stored: optional_uint(row, 5)?,
        },
        created_at: moment(row, 6)?,
    })
}
