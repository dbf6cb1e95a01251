//! Lists of batches.

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, params, params_from_iter};

use super::batch_rows::{SELECT_BATCHES, read_record};
use super::fault::Fault;
use super::values::int;
use crate::domain::batch::{BatchRecord, BatchStatus};
use crate::store::{BatchQuery, Page};

/// A page, newest first.
pub(crate) fn page(connection: &Connection, query: &BatchQuery) -> Result<Page<BatchRecord>, Fault> {
    let mut sql = String::from(SELECT_BATCHES);
    sql.push_str("AND app = ? ");
    let mut values = vec![Value::from(query.app.0)];
    if let Some(after) = &query.after {
        let Some(key) = key_of(connection, query, after.as_str())? else {
            return Ok(Page { data: Vec::new(), has_more: false });
        };
        sql.push_str("AND key < ? ");
        values.push(key.into());
    }
    if let Some(status) = query.status {
        sql.push_str(status_condition(status));
        values.push(status.as_str().to_owned().into());
    }
    for (label, value) in &query.metadata {
        sql.push_str(
            "AND EXISTS (SELECT 1 FROM json_each(metadata) AS label \
             WHERE label.value ->> 0 = ? AND label.value ->> 1 = ?) ",
        );
        values.push(label.clone().into());
        values.push(value.clone().into());
    }
    sql.push_str("ORDER BY key DESC LIMIT ?");
    values.push(int(query.limit as u64 + 1).into());
    let mut statement = connection.prepare(&sql)?;
    let rows = statement.query_map(params_from_iter(values), read_record)?;
    let found = rows.collect::<rusqlite::Result<_>>()?;
    Ok(Page::of(found, query.limit))
}

/// How many batches there are of each status.
pub(crate) fn counts(connection: &Connection) -> Result<Vec<(BatchStatus, u64)>, Fault> {
    let sql = "SELECT status, count(*) FROM batch WHERE deleted_at IS NULL GROUP BY status";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map([], |row| {
        let status = super::values::word(row, 0, BatchStatus::from_stored)?;
        Ok((status, super::values::uint(row, 1)?))
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Running batches have an index; naming its condition lets a list of few among many use it.
fn status_condition(status: BatchStatus) -> &'static str {
    if status.is_terminal() { "AND status = ? " } else { "AND ended_at IS NULL AND status = ? " }
}

/// The place of a batch in the order; of a deleted one too, so that a client can page on from it.
fn key_of(connection: &Connection, query: &BatchQuery, id: &str) -> Result<Option<i64>, Fault> {
    let sql = "SELECT key FROM batch WHERE app = ?1 AND id = ?2";
    Ok(connection.prepare_cached(sql)?.query_row(params![query.app.0, id], |row| row.get(0)).optional()?)
}
