//! Results on the readers.

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::fault::{Fault, damaged};
use super::values::{int, low_half, moment, optional_moment, optional_word, pair, uint, unreadable, word};
use crate::domain::batch::Usage;
use crate::domain::ids::BatchKey;
use crate::domain::result::{ErrorCode, ItemStatus, NewResult, Payload, RetryRecord, StoredResult};
use crate::store::payload::unpack;
use crate::store::{ResultFilter, ResultOrder, ResultQuery};

/// Most rows of one read: a longer one would keep the log from being folded.
const MOST_ROWS: usize = 500;

/// The columns of a result, in the order [`read`] takes them.
macro_rules! select_results {
    ($rest:literal) => {
        concat!(
            "SELECT id, batch, line, custom_id, status, http_status, error_code, request_id, attempts, \
             started_at, finished_at, input_tokens, cached_tokens, output_tokens, reasoning_tokens, \
             line_bytes, compressed, chunks, payload FROM result ",
            $rest
        )
    };
}

/// A page.
pub(crate) fn page(connection: &Connection, query: &ResultQuery) -> Result<Vec<StoredResult>, Fault> {
    // One snapshot for the rows and their pieces: the batch may be erased meanwhile.
    let snapshot = connection.unchecked_transaction()?;
    let mut statement = snapshot.prepare_cached(page_sql(query.order, query.filter))?;
    let batch = query.batch.0;
    let limit = int(query.limit.min(MOST_ROWS) as u64);
    let mut rows = match query.order {
        ResultOrder::Completion => {
            let (after, last) = (query.after.min(u32::MAX.into()), u32::MAX.into());
            statement.query(params![pair(batch, after), pair(batch, last), limit])?
        }
        ResultOrder::Input => statement.query(params![batch, int(query.after), limit])?,
    };
    let (mut page, mut bytes) = (Vec::new(), 0_u64);
    while let Some(row) = rows.next()? {
        bytes = bytes.saturating_add(uint(row, 15)?);
        if !page.is_empty() && bytes > query.max_bytes as u64 {
            break;
        }
        page.push(read(&snapshot, row)?);
    }
    Ok(page)
}

/// Each order and filter has its index; without the names a planner that knows no numbers might scan.
fn page_sql(order: ResultOrder, filter: ResultFilter) -> &'static str {
    use ResultFilter::{All, NotSucceeded, Succeeded};
    use ResultOrder::{Completion, Input};
    match (order, filter) {
        (Completion, All) => select_results!("WHERE id > ?1 AND id <= ?2 ORDER BY id LIMIT ?3"),
        (Completion, Succeeded) => {
            select_results!("WHERE id > ?1 AND id <= ?2 AND status = 'succeeded' ORDER BY id LIMIT ?3")
        }
        (Completion, NotSucceeded) => select_results!(
            "INDEXED BY result_error_position \
             WHERE id > ?1 AND id <= ?2 AND status <> 'succeeded' ORDER BY id LIMIT ?3"
        ),
        (Input, All) => {
            select_results!("INDEXED BY result_line WHERE batch = ?1 AND line > ?2 ORDER BY line LIMIT ?3")
        }
        (Input, Succeeded) => select_results!(
            "INDEXED BY result_line \
             WHERE batch = ?1 AND line > ?2 AND status = 'succeeded' ORDER BY line LIMIT ?3"
        ),
        (Input, NotSucceeded) => select_results!(
            "INDEXED BY result_error_line \
             WHERE batch = ?1 AND line > ?2 AND status <> 'succeeded' ORDER BY line LIMIT ?3"
        ),
    }
}

/// The last row of a query, by keys alone.
pub(crate) fn last(connection: &Connection, query: &ResultQuery, until: u64) -> Result<Option<u64>, Fault> {
    let (batch, limit) = (query.batch.0, int(query.limit as u64));
    let filter = match query.filter {
        ResultFilter::All => "",
        ResultFilter::Succeeded => "AND status = 'succeeded'",
        ResultFilter::NotSucceeded => "AND status <> 'succeeded'",
    };
    let last: Option<i64> = match query.order {
        ResultOrder::Completion => {
            let (after, last) = (query.after.min(u32::MAX.into()), until.min(u32::MAX.into()));
            let sql = format!(
                "SELECT max(id) FROM (SELECT id FROM result WHERE id > ?1 AND id <= ?2 {filter} ORDER BY id LIMIT ?3)"
            );
            let mut statement = connection.prepare_cached(&sql)?;
            statement.query_row(params![pair(batch, after), pair(batch, last), limit], |row| row.get(0))?
        }
        ResultOrder::Input => {
            let sql = format!(
                "SELECT max(line) FROM (SELECT line FROM result \
                 WHERE batch = ?1 AND line > ?2 AND line <= ?3 {filter} ORDER BY line LIMIT ?4)"
            );
            let mut statement = connection.prepare_cached(&sql)?;
            let until = int(until.min(u32::MAX.into()));
            statement.query_row(params![batch, int(query.after), until, limit], |row| row.get(0))?
        }
    };
    Ok(last.map(low_half))
}

/// The result of one line.
pub(crate) fn of_line(
    connection: &Connection,
    batch: BatchKey,
    line: u32,
) -> Result<Option<StoredResult>, Fault> {
    let snapshot = connection.unchecked_transaction()?;
    let mut statement = snapshot.prepare_cached(select_results!("WHERE batch = ?1 AND line = ?2"))?;
    let mut rows = statement.query(params![batch.0, line])?;
    rows.next()?.map(|row| read(&snapshot, row)).transpose()
}

fn read(connection: &Connection, row: &Row<'_>) -> Result<StoredResult, Fault> {
    let (batch, line) = (BatchKey(row.get(1)?), row.get(2)?);
    let result = NewResult {
        batch,
        line,
        custom_id: row.get(3)?,
        status: word(row, 4, status)?,
        attempts: row.get(8)?,
        started_at: optional_moment(row, 9)?,
        finished_at: moment(row, 10)?,
        usage: Usage {
            input_tokens: uint(row, 11)?,
            cached_tokens: uint(row, 12)?,
            output_tokens: uint(row, 13)?,
            reasoning_tokens: uint(row, 14)?,
        },
        payload: payload(row, body(connection, row, (batch, line))?)?,
    };
    Ok(StoredResult { position: low_half(row.get(0)?), result })
}

fn body(connection: &Connection, row: &Row<'_>, item: (BatchKey, u32)) -> Result<Bytes, Fault> {
    let chunks: u32 = row.get(17)?;
    if chunks > 0 {
        return pieces(connection, item, chunks);
    }
    let stored = row.get_ref(18)?.as_blob_or_null().map_err(rusqlite::Error::from)?.unwrap_or_default();
    Ok(Bytes::from(unpack(stored, row.get(16)?)?.into_owned()))
}

/// A large payload. Rows numbered beyond `chunks` are left from a longer one whose row never came.
fn pieces(connection: &Connection, (batch, line): (BatchKey, u32), chunks: u32) -> Result<Bytes, Fault> {
    let mut statement = connection.prepare_cached(
        "SELECT data, compressed FROM result_chunk WHERE batch = ?1 AND line = ?2 AND no < ?3 ORDER BY no",
    )?;
    let mut rows = statement.query(params![batch.0, line, chunks])?;
    let (mut body, mut met) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        let stored = row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?;
        body.extend_from_slice(&unpack(stored, row.get(1)?)?);
        met += 1;
    }
    if met == chunks { Ok(body.into()) } else { Err(damaged("pieces of a result are missing")) }
}

fn payload(row: &Row<'_>, body: Bytes) -> Result<Payload, Fault> {
    let code = optional_word(row, 6, ErrorCode::from_stored)?;
    Ok(match code {
        None => Payload::Response {
            status: row.get(5)?,
            request_id: row.get::<_, Option<String>>(7)?.unwrap_or_default(),
            body,
        },
        Some(code) => Payload::Error {
            code,
            message: String::from_utf8(body.into())
                .map_err(|_| unreadable(18, "an error's message is not UTF-8".to_owned()))?,
        },
    })
}

fn status(text: &str) -> Option<ItemStatus> {
    use ItemStatus::{Cancelled, Expired, Failed, Succeeded};
    [Succeeded, Failed, Cancelled, Expired].into_iter().find(|status| status.as_str() == text)
}

/// The retries of a run of lines.
pub(crate) fn retries(
    connection: &Connection,
    batch: BatchKey,
    first: u32,
    last: u32,
) -> Result<Vec<RetryRecord>, Fault> {
    let mut statement = connection.prepare_cached(
        "SELECT line, attempts, not_before, started_at, last_error FROM retry \
         WHERE batch = ?1 AND line BETWEEN ?2 AND ?3 ORDER BY line",
    )?;
    let rows = statement.query_map(params![batch.0, first, last], |row| {
        Ok(RetryRecord {
            batch,
            line: row.get(0)?,
            attempts: row.get(1)?,
            not_before: moment(row, 2)?,
            started_at: moment(row, 3)?,
            last_error: row.get(4)?,
        })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// The lines of a run that have a result, ascending.
pub(crate) fn done_lines(
    connection: &Connection,
    batch: BatchKey,
    first: u32,
    last: u32,
) -> Result<Vec<u32>, Fault> {
    let sql = "SELECT line FROM result INDEXED BY result_line WHERE batch = ?1 AND line BETWEEN ?2 AND ?3 \
               ORDER BY line";
    let mut statement = connection.prepare_cached(sql)?;
    let lines = statement.query_map(params![batch.0, first, last], |row| row.get(0))?;
    Ok(lines.collect::<rusqlite::Result<_>>()?)
}

/// Whether a line has a result.
pub(crate) fn has_line(connection: &Connection, batch: BatchKey, line: u32) -> Result<bool, Fault> {
    let sql = "SELECT 1 FROM result INDEXED BY result_line WHERE batch = ?1 AND line = ?2";
    let found: Option<i64> =
        connection.prepare_cached(sql)?.query_row(params![batch.0, line], |row| row.get(0)).optional()?;
    Ok(found.is_some())
}
