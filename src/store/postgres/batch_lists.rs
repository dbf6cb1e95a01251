//! Lists of batches.

use super::Database;
use super::arguments::{Argument, argument, arguments};
use super::batch_rows::{SELECT_BATCHES, read_record};
use super::columns::{Columns, int};
use super::connections::Queries;
use super::fault::Attempt;
use crate::domain::batch::{BatchRecord, BatchStatus};
use crate::store::{BatchQuery, Page, Result, json};

/// A page, newest first.
pub(crate) async fn page(database: &Database, query: &BatchQuery) -> Result<Page<BatchRecord>> {
    let (after, status) = (query.after.as_ref().map(|id| id.as_str()), query.status.map(BatchStatus::as_str));
    let limit = int(query.limit as u64 + 1);
    let mut sql = format!("{SELECT_BATCHES}app = $1 ");
    let mut arguments: Vec<Argument<'_>> = vec![argument(&query.app.0), argument(&limit)];
    if let Some(after) = &after {
        // Null for an unknown id: then nothing lies beyond. One that is deleted has its place still.
        arguments.push(argument(after));
        sql.push_str("AND key < (SELECT key FROM batch AS last WHERE last.app = $1 AND last.id = $3) ");
    }
    if let Some(status) = &status {
        arguments.push(argument(status));
        // Running batches have an index; naming its condition lets a list of few among many use it.
        let running =
            if query.status.is_some_and(BatchStatus::is_terminal) { "" } else { "ended_at IS NULL AND " };
        sql.push_str(&format!("AND {running}status = ${} ", arguments.len()));
    }
    let labels = query.metadata.iter().map(json::label_to_text).collect::<Result<Vec<_>>>()?;
    for label in &labels {
        arguments.push(argument(label));
        // As text: a pair in its brackets can't be part of a string, whose quotes are escaped. The server's
        // own JSON functions refuse some of what a label may hold.
        sql.push_str(&format!("AND strpos(metadata, ${}) > 0 ", arguments.len()));
    }
    sql.push_str("ORDER BY key DESC LIMIT $2");
    let rows = database.rows(&sql, &arguments).await?;
    let found = rows.iter().map(read_record).collect::<Attempt<Vec<_>>>()?;
    Ok(Page::of(found, query.limit))
}

/// How many batches there are of each status.
pub(crate) async fn counts(database: &Database) -> Result<Vec<(BatchStatus, u64)>> {
    let connections = &database.connections;
    let schema = &connections.schema;
    let sql =
        format!("SELECT status, count(*) FROM \"{schema}\".batch WHERE deleted_at IS NULL GROUP BY status");
    let rows = connections.read_plain(&sql, &arguments![]).await?;
    let read = |row| {
        let mut columns = Columns::of(row);
        Ok((columns.word(BatchStatus::from_stored)?, columns.uint()?))
    };
    Ok(rows.iter().map(read).collect::<Attempt<_>>()?)
}
