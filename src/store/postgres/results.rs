//! Results as they are read.

use bytes::Bytes;
use tokio_postgres::Row;

use super::Database;
use super::arguments::arguments;
use super::columns::{Columns, int};
use super::connections::Queries;
use super::fault::{Attempt, damaged};
use super::result_rows::{low_half, pair};
use crate::domain::batch::Usage;
use crate::domain::ids::BatchKey;
use crate::domain::result::{ErrorCode, ItemStatus, NewResult, Payload, RetryRecord, StoredResult};
use crate::store::payload::unpack;
use crate::store::{Result, ResultFilter, ResultOrder, ResultQuery};

/// Most rows of one read.
const MOST_ROWS: usize = 500;

/// The columns that [`read`] reads. The pieces of a large payload come by the same statement: they may be erased
/// between two. Rows numbered beyond `chunks` are left from a longer one whose row never came.
const COLUMNS: &str = "result.id, batch, line, custom_id, status, attempts, started_at, finished_at, \
     input_tokens, cached_tokens, output_tokens, reasoning_tokens, http_status, error_code, request_id, \
     compressed, chunks, payload, \
     CASE WHEN chunks > 0 THEN ARRAY(SELECT piece.data FROM result_chunk AS piece WHERE piece.batch = result.batch \
         AND piece.line = result.line AND piece.no < result.chunks ORDER BY piece.no) END, \
     CASE WHEN chunks > 0 THEN ARRAY(SELECT piece.compressed FROM result_chunk AS piece \
         WHERE piece.batch = result.batch AND piece.line = result.line AND piece.no < result.chunks \
         ORDER BY piece.no) END";

/// A page. Where it ends is decided by the lengths alone, so that no more payloads are read than it holds.
pub(crate) async fn page(database: &Database, query: &ResultQuery) -> Result<Vec<StoredResult>> {
    let (order, filter) = (order_column(query.order), condition(query.filter));
    let sql = format!(
        "SELECT {COLUMNS} FROM result JOIN ( \
             SELECT id, row_number() OVER paged AS number, sum(line_bytes) OVER paged AS bytes FROM ( \
                 SELECT id, {order} AS place, line_bytes FROM result \
                 WHERE {order} > $1 AND {order} <= $2 {filter} {of_batch} ORDER BY {order} LIMIT $3 \
             ) AS most WINDOW paged AS (ORDER BY place) \
         ) AS page ON page.id = result.id WHERE page.number = 1 OR page.bytes <= $4 ORDER BY {order}",
        of_batch = of_batch(query),
        order = format_args!("result.{order}"),
    );
    let (after, last) = bounds(query, u64::from(u32::MAX));
    let (limit, max_bytes) = (int(query.limit.min(MOST_ROWS) as u64), int(query.max_bytes as u64));
    let rows = database.rows(&sql, &arguments![after, last, limit, max_bytes]).await?;
    Ok(rows.iter().map(read).collect::<Attempt<_>>()?)
}

/// The last row of a query, by keys alone.
pub(crate) async fn last(database: &Database, query: &ResultQuery, until: u64) -> Result<Option<u64>> {
    let (order, filter, of_batch) = (order_column(query.order), condition(query.filter), of_batch(query));
    let sql = format!(
        "SELECT max({order}) FROM (SELECT {order} FROM result WHERE {order} > $1 AND {order} <= $2 \
         {filter} {of_batch} ORDER BY {order} LIMIT $3) AS most"
    );
    let (after, last) = bounds(query, until);
    let row = database.row(&sql, &arguments![after, last, int(query.limit as u64)]).await?;
    let last: Option<i64> = row.map(|row| Columns::of(&row).take()).transpose()?.flatten();
    Ok(last.map(low_half))
}

/// What an order goes by.
fn order_column(order: ResultOrder) -> &'static str {
    match order {
        ResultOrder::Completion => "id",
        ResultOrder::Input => "line",
    }
}

fn condition(filter: ResultFilter) -> &'static str {
    match filter {
        ResultFilter::All => "",
        ResultFilter::Succeeded => "AND status = 'succeeded'",
        ResultFilter::NotSucceeded => "AND status <> 'succeeded'",
    }
}

/// The condition that names the batch, where the order's bounds don't.
fn of_batch(query: &ResultQuery) -> String {
    match query.order {
        ResultOrder::Completion => String::new(),
        // Part of the text: it is a number, and leaves the places of the others as they are.
        ResultOrder::Input => format!("AND batch = {}", query.batch.0),
    }
}

/// Between which values of the order's column a page lies.
fn bounds(query: &ResultQuery, until: u64) -> (i64, i64) {
    let (after, until) = (query.after.min(u32::MAX.into()), until.min(u32::MAX.into()));
    match query.order {
        ResultOrder::Completion => (pair(query.batch.0, after), pair(query.batch.0, until)),
        ResultOrder::Input => (int(after), int(until)),
    }
}

/// The result of one line.
pub(crate) async fn of_line(database: &Database, batch: BatchKey, line: u32) -> Result<Option<StoredResult>> {
    let sql = format!("SELECT {COLUMNS} FROM result WHERE batch = $1 AND line = $2");
    let row = database.row(&sql, &arguments![batch.0, i64::from(line)]).await?;
    Ok(row.as_ref().map(read).transpose()?)
}

fn read(row: &Row) -> Attempt<StoredResult> {
    let columns = &mut Columns::of(row);
    let position = low_half(columns.take()?);
    Ok(StoredResult {
        position,
        result: NewResult {
            batch: BatchKey(columns.take()?),
            line: columns.uint()?,
            custom_id: columns.take()?,
            status: columns.word(status)?,
            attempts: columns.uint()?,
            started_at: columns.optional_moment()?,
            finished_at: columns.moment()?,
            usage: Usage {
                input_tokens: columns.uint()?,
                cached_tokens: columns.uint()?,
                output_tokens: columns.uint()?,
                reasoning_tokens: columns.uint()?,
            },
            payload: read_payload(columns)?,
        },
    })
}

fn read_payload(columns: &mut Columns<'_>) -> Attempt<Payload> {
    let http_status: Option<u16> = columns.optional_uint()?;
    let code = columns.optional_word(ErrorCode::from_stored)?;
    let request_id: Option<String> = columns.take()?;
    let body = read_body(columns)?;
    Ok(match (code, http_status) {
        (None, Some(status)) => {
            Payload::Response { status, request_id: request_id.unwrap_or_default(), body }
        }
        (Some(code), _) => Payload::Error {
            code,
            message: String::from_utf8(body.into())
                .map_err(|_| damaged("an error's message is not UTF-8"))?,
        },
        (None, None) => return Err(damaged("a result is neither a response nor an error")),
    })
}

fn read_body(columns: &mut Columns<'_>) -> Attempt<Bytes> {
    let (is_compressed, chunks) = (columns.take()?, columns.uint::<usize>()?);
    let stored: Option<&[u8]> = columns.take()?;
    let pieces: Option<Vec<&[u8]>> = columns.take()?;
    let compressed: Option<Vec<bool>> = columns.take()?;
    let (Some(pieces), Some(compressed)) = (pieces, compressed) else {
        return Ok(Bytes::from(unpack(stored.unwrap_or_default(), is_compressed)?.into_owned()));
    };
    if pieces.len() != chunks || compressed.len() != chunks {
        return Err(damaged("pieces of a result are missing"));
    }
    let mut body = Vec::new();
    for (piece, is_compressed) in pieces.into_iter().zip(compressed) {
        body.extend_from_slice(&unpack(piece, is_compressed)?);
    }
    Ok(body.into())
}

fn status(text: &str) -> Option<ItemStatus> {
    use ItemStatus::{Cancelled, Expired, Failed, Succeeded};
    [Succeeded, Failed, Cancelled, Expired].into_iter().find(|status| status.as_str() == text)
}

/// The retries of a run of lines.
pub(crate) async fn retries(
    database: &Database,
    batch: BatchKey,
    first: u32,
    last: u32,
) -> Result<Vec<RetryRecord>> {
    let sql = "SELECT line, attempts, not_before, started_at, last_error FROM retry \
               WHERE batch = $1 AND line BETWEEN $2 AND $3 ORDER BY line";
    let rows = database.rows(sql, &arguments![batch.0, i64::from(first), i64::from(last)]).await?;
    let read = |row| {
        let mut columns = Columns::of(row);
        Ok(RetryRecord {
            batch,
            line: columns.uint()?,
            attempts: columns.uint()?,
            not_before: columns.moment()?,
            started_at: columns.moment()?,
            last_error: columns.take()?,
        })
    };
    Ok(rows.iter().map(read).collect::<Attempt<_>>()?)
}

/// The lines of a run that have a result, ascending.
pub(crate) async fn done_lines(
    queries: &impl Queries,
    batch: BatchKey,
    first: u32,
    last: u32,
) -> Attempt<Vec<u32>> {
    let sql = "SELECT line FROM result WHERE batch = $1 AND line BETWEEN $2 AND $3 ORDER BY line";
    let rows = queries.rows(sql, &arguments![batch.0, i64::from(first), i64::from(last)]).await?;
    rows.iter().map(|row| Columns::of(row).uint()).collect()
}
