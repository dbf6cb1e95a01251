//! Recording: results with dense positions, retries, finished segments and the gate's ledger.
//!
//! The hot path of the whole service. A result costs one insert through a cached statement; the batch's
//! counters and its app's usage move in memory and are written once per batch, and per app and day, and commit.

use rusqlite::{CachedStatement, Connection, params};

use super::batch_rows;
use super::fault::Fault;
use super::values::{int, micros, pair};
use super::writing::{ActiveBatch, Writing};
use super::{usage, views};
use crate::domain::ids::BatchKey;
use crate::domain::output_line::file_line_bytes;
use crate::domain::result::{NewResult, Payload, RetryRecord};
use crate::store::payload::{Packer, pieces_of};
use crate::store::{Flush, LedgerEntry, Recorded};

/// Writes a group's flushes in their order; one answer each.
pub(super) fn write<'f>(
    writing: &mut Writing<'_>,
    packer: &mut Packer,
    flushes: impl Iterator<Item = &'f Flush>,
) -> Result<Vec<Recorded>, Fault> {
    let mut insert = writing.connection.prepare_cached(INSERT)?;
    let mut answers = Vec::new();
    for flush in flushes {
        let mut recorded = Recorded::default();
        for result in &flush.results {
            record(writing, packer, &mut insert, result, &mut recorded)?;
        }
        retries(writing, &flush.retries)?;
        ledger(writing, &flush.ledger)?;
        finish_segments(writing, &flush.finished_segments)?;
        answers.push(recorded);
    }
    save_moved(writing, &answers)?;
    Ok(answers)
}

const INSERT: &str = "INSERT INTO result (id, batch, line, custom_id, status, http_status, error_code, request_id, \
     attempts, started_at, finished_at, input_tokens, cached_tokens, output_tokens, reasoning_tokens, \
     line_bytes, compressed, chunks, payload) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19) \
     ON CONFLICT (batch, line) DO NOTHING";

/// Inserts one result unless its line has one or its batch takes none, and counts it.
fn record(
    writing: &mut Writing<'_>,
    packer: &mut Packer,
    insert: &mut CachedStatement<'_>,
    result: &NewResult,
    recorded: &mut Recorded,
) -> Result<(), Fault> {
    let Some(batch) = writing.batches.get(writing.connection, result.batch)? else {
        recorded.dropped += 1;
        return Ok(());
    };
    let line_bytes = file_line_bytes(&batch.state.id, result);
    if !insert_row(packer, insert, batch, result, line_bytes)? {
        recorded.dropped += 1;
        return Ok(());
    }
    if batch.has_retries {
        delete_retry(writing.connection, result.batch, result.line)?;
    }
    batch.state.count(result, line_bytes);
    writing.usage.add_result(batch.state.app, result);
    batch.moved = true;
    recorded.inserted += 1;
    writing.effects.rows += 1;
    writing.effects.progress = true;
    if batch.state.end_if_done(writing.now) {
        recorded.ended.push((result.batch, batch.state.status));
    }
    Ok(())
}

fn insert_row(
    packer: &mut Packer,
    insert: &mut CachedStatement<'_>,
    batch: &ActiveBatch,
    result: &NewResult,
    line_bytes: u64,
) -> Result<bool, Fault> {
    let (http_status, code, request_id, payload) = match &result.payload {
        Payload::Response { status, request_id, body } => {
            (Some(*status), None, Some(request_id.as_str()), body.as_ref())
        }
        Payload::Error { code, message } => (None, Some(code.as_str()), None, message.as_bytes()),
    };
    // The pieces were written by earlier commits; see `pieces`.
    let chunks = pieces_of(payload.len());
    let (stored, compressed) = if chunks == 0 { packer.pack(payload) } else { (&[][..], false) };
    let inserted = insert.execute(params![
        pair(result.batch.0, batch.state.next_position()),
        result.batch.0,
        result.line,
        result.custom_id.as_deref(),
        result.status.as_str(),
        http_status,
        code,
        request_id.filter(|id| !id.is_empty()),
        result.attempts,
        micros(result.started_at),
        result.finished_at.micros(),
        int(result.usage.input_tokens),
        int(result.usage.cached_tokens),
        int(result.usage.output_tokens),
        int(result.usage.reasoning_tokens),
        int(line_bytes),
        compressed,
        chunks,
        stored,
    ])?;
    Ok(inserted == 1)
}

fn delete_retry(connection: &Connection, batch: BatchKey, line: u32) -> Result<(), Fault> {
    let sql = "DELETE FROM retry WHERE batch = ?1 AND line = ?2";
    connection.prepare_cached(sql)?.execute(params![batch.0, line])?;
    Ok(())
}

/// Notes retries of lines that have no result.
pub(super) fn retries(writing: &mut Writing<'_>, retries: &[RetryRecord]) -> Result<(), Fault> {
    for retry in retries {
        let Some(batch) = writing.batches.get(writing.connection, retry.batch)? else { continue };
        let mut statement = writing.connection.prepare_cached(
            "INSERT OR REPLACE INTO retry (batch, line, attempts, not_before, started_at, last_error) \
             SELECT ?1, ?2, ?3, ?4, ?5, ?6 \
             WHERE NOT EXISTS (SELECT 1 FROM result WHERE batch = ?1 AND line = ?2)",
        )?;
        statement.execute(params![
            retry.batch.0,
            retry.line,
            retry.attempts,
            retry.not_before.micros(),
            retry.started_at.micros(),
            retry.last_error
        ])?;
        batch.has_retries = true;
        writing.effects.rows += 1;
    }
    Ok(())
}

/// Saves levels of the gate.
pub(super) fn ledger(writing: &mut Writing<'_>, entries: &[LedgerEntry]) -> Result<(), Fault> {
    for entry in entries {
        let sql = "INSERT OR REPLACE INTO ledger (name, state) VALUES (?1, ?2)";
        writing.connection.prepare_cached(sql)?.execute(params![entry.name, entry.state])?;
        writing.effects.rows += 1;
    }
    Ok(())
}

/// Deletes the rows of segments whose items have all ended.
pub(super) fn finish_segments(writing: &mut Writing<'_>, segments: &[(BatchKey, u32)]) -> Result<(), Fault> {
    for (batch, segment) in segments {
        let sql = "DELETE FROM batch_segment WHERE batch = ?1 AND segment = ?2";
        writing.connection.prepare_cached(sql)?.execute(params![batch.0, segment])?;
        writing.effects.rows += 1;
    }
    Ok(())
}

/// Writes the rows of the batches that moved, and what the ended ones leave behind.
fn save_moved(writing: &mut Writing<'_>, answers: &[Recorded]) -> Result<(), Fault> {
    for (key, _) in answers.iter().flat_map(|recorded| &recorded.ended) {
        writing.effects.work = true;
        // It still stands among those remembered, though it takes no more results.
        if let Some(batch) = writing.batches.ended_mut(*key) {
            views::leave_behind(writing.connection, &mut batch.state, writing.now)?;
        }
    }
    for batch in writing.batches.take_moved() {
        batch_rows::save(writing.connection, &batch.state)?;
        writing.effects.rows += 1;
    }
    usage::save(writing)
}
