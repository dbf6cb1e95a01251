//! Apps: their rows, what they hold, and whether something new fits in their quotas.

use std::collections::HashMap;

use tokio_postgres::Row;

use super::arguments::arguments;
use super::columns::{Columns, int};
use super::connections::{Lane, Queries};
use super::fault::{Attempt, damaged};
use super::transaction::Transaction;
use super::{Database, usage};
use crate::domain::app::{AppName, AppRecord, AppSettings, Holdings, OverQuota, Quota};
use crate::domain::day::Day;
use crate::domain::ids::AppKey;
use crate::store::{AppReport, MOST_APPS, Result, json};

/// Selects what [`read_record`] reads; conditions follow.
macro_rules! select_apps {
    ($rest:literal) => {
        concat!("SELECT key, name, weight, limits, items_queued, bytes_stored, created_at FROM app ", $rest)
    };
}

/// Every app.
pub(crate) async fn all(queries: &impl Queries) -> Attempt<Vec<AppRecord>> {
    let rows = queries.rows(select_apps!("ORDER BY key"), &[]).await?;
    rows.iter().map(read_record).collect()
}

async fn by_name(transaction: &Transaction, name: &AppName) -> Attempt<Option<AppRecord>> {
    let row = transaction.row(select_apps!("WHERE name = $1"), &arguments![name.as_str()]).await?;
    row.as_ref().map(read_record).transpose()
}

/// Makes an app or gives it other settings; `None`: there are too many.
pub(crate) async fn put(
    database: &Database,
    name: &AppName,
    settings: &AppSettings,
) -> Result<Option<AppRecord>> {
    let mut transaction = database.begin(Lane::Control).await?;
    if find_or_make(&mut transaction, name).await?.is_none() {
        return Ok(None);
    }
    let AppSettings { weight, limits, items_queued, bytes_stored } = settings;
    let sql = "UPDATE app SET weight = $2, limits = $3, items_queued = $4, bytes_stored = $5 WHERE name = $1";
    let (weight, limits) = (i64::from(*weight), json::to_text(limits)?);
    let (items_queued, bytes_stored) = (items_queued.map(int), bytes_stored.map(int));
    transaction.execute(sql, &arguments![name.as_str(), weight, limits, items_queued, bytes_stored]).await?;
    transaction.effects.apps = true;
    transaction.effects.rows += 1;
    let put = by_name(&transaction, name).await?;
    transaction.commit().await?;
    Ok(put)
}

/// The app of that name, made if there is none; `None`: there are too many.
pub(super) async fn find_or_make(transaction: &mut Transaction, name: &AppName) -> Attempt<Option<AppKey>> {
    // One at a time, so that two can't make the same one or one too many; it keeps no app from being used.
    transaction.execute("LOCK TABLE app IN SHARE ROW EXCLUSIVE MODE", &[]).await?;
    if let Some(app) = by_name(transaction, name).await? {
        return Ok(Some(app.key));
    }
    let sql = "INSERT INTO app (name, created_at) SELECT $1, $2 WHERE (SELECT count(*) FROM app) < $3 RETURNING key";
    let now = transaction.now.micros();
    let made = transaction.row(sql, &arguments![name.as_str(), now, int(MOST_APPS)]).await?;
    transaction.effects.apps |= made.is_some();
    transaction.effects.rows += u64::from(made.is_some());
    made.map(|row| Ok(AppKey(Columns::of(&row).take()?))).transpose()
}

/// Every app with what it holds and used.
pub(crate) async fn reports(database: &Database, since: Day) -> Result<Vec<AppReport>> {
    let snapshot = database.snapshot().await?;
    let apps = all(&snapshot).await?.into_iter();
    let mut reports: Vec<AppReport> =
        apps.map(|app| AppReport { app, holdings: Holdings::default(), usage: Vec::new() }).collect();
    let places: HashMap<AppKey, usize> =
        reports.iter().enumerate().map(|(place, report)| (report.app.key, place)).collect();
    for (app, held) in all_holdings(&snapshot).await? {
        if let Some(place) = places.get(&app) {
            let holdings = &mut reports[*place].holdings;
            holdings.items_queued += held.items_queued;
            holdings.bytes_stored += held.bytes_stored;
        }
    }
    for (app, day, used) in usage::since(&snapshot, since).await? {
        if let Some(place) = places.get(&app) {
            reports[*place].usage.push((day, used));
        }
    }
    Ok(reports)
}

async fn all_holdings(queries: &impl Queries) -> Attempt<Vec<(AppKey, Holdings)>> {
    let sql = "SELECT app, 0::bigint, sum(bytes)::bigint FROM file WHERE deleted_at IS NULL GROUP BY app UNION ALL \
               SELECT app, sum(total - succeeded - failed - expired - cancelled)::bigint, \
               sum(output_bytes + error_bytes)::bigint FROM batch WHERE ended_at IS NULL GROUP BY app";
    let rows = queries.rows(sql, &[]).await?;
    let read = |row| {
        let mut columns = Columns::of(row);
        let app = AppKey(columns.take()?);
        Ok((app, Holdings { items_queued: columns.uint()?, bytes_stored: columns.uint()? }))
    };
    rows.iter().map(read).collect()
}

/// What an app may hold. Its row is locked: what fits now fits until the commit.
pub(super) struct Quotas {
    app: AppKey,
    items_queued: Option<u64>,
    bytes_stored: Option<u64>,
}

/// Locks an app's row and reads its quotas.
pub(super) async fn lock(transaction: &Transaction, app: AppKey) -> Attempt<Quotas> {
    // Not for its key: rows elsewhere that name the app wait for nothing.
    let sql = "SELECT items_queued, bytes_stored FROM app WHERE key = $1 FOR NO KEY UPDATE";
    let row =
        transaction.row(sql, &arguments![app.0]).await?.ok_or_else(|| damaged("an app's row is gone"))?;
    let mut columns = Columns::of(&row);
    Ok(Quotas { app, items_queued: columns.optional_uint()?, bytes_stored: columns.optional_uint()? })
}

impl Quotas {
    /// Checks that so many bytes more fit.
    pub(super) async fn check_bytes(
        &self,
        transaction: &Transaction,
        added: u64,
    ) -> Attempt<std::result::Result<(), OverQuota>> {
        // The results of running batches have no file yet.
        let sql = "SELECT ((SELECT coalesce(sum(bytes), 0) FROM file WHERE app = $1 AND deleted_at IS NULL) + \
                   (SELECT coalesce(sum(output_bytes + error_bytes), 0) FROM batch \
                   WHERE app = $1 AND ended_at IS NULL))::bigint";
        self.check(transaction, (Quota::BytesStored, self.bytes_stored), added, sql).await
    }

    /// Checks that so many items more fit.
    pub(super) async fn check_items(
        &self,
        transaction: &Transaction,
        added: u64,
    ) -> Attempt<std::result::Result<(), OverQuota>> {
        let sql = "SELECT coalesce(sum(total - succeeded - failed - expired - cancelled), 0)::bigint FROM batch \
                   WHERE app = $1 AND ended_at IS NULL";
        self.check(transaction, (Quota::ItemsQueued, self.items_queued), added, sql).await
    }

    async fn check(
        &self,
        transaction: &Transaction,
        (quota, limit): (Quota, Option<u64>),
        added: u64,
        held: &str,
    ) -> Attempt<std::result::Result<(), OverQuota>> {
        if limit.is_none() {
            // Most apps have none: counting would be for nothing.
            return Ok(Ok(()));
        }
        let row = transaction.row(held, &arguments![self.app.0]).await?;
        let held = row.map(|row| Columns::of(&row).uint()).transpose()?.unwrap_or_default();
        Ok(OverQuota::check(quota, limit, held, added))
    }
}

/// The name in the next column.
pub(super) fn read_name(columns: &mut Columns<'_>) -> Attempt<AppName> {
    columns.word(|text| AppName::new(text))
}

fn read_record(row: &Row) -> Attempt<AppRecord> {
    let mut columns = Columns::of(row);
    Ok(AppRecord {
        key: AppKey(columns.take()?),
        name: read_name(&mut columns)?,
        settings: AppSettings {
            weight: columns.uint()?,
            limits: json::from_text(columns.take()?)?,
            items_queued: columns.optional_uint()?,
            bytes_stored: columns.optional_uint()?,
        },
        created_at: columns.moment()?,
    })
}
