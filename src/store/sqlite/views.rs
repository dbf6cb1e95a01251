//! What a batch leaves behind when it ends: its output and error files, and none of its work rows.

use rusqlite::{Connection, params};

use super::fault::Fault;
use super::values::int;
use crate::domain::ids::FileId;
use crate::domain::time::Timestamp;
use crate::store::state::BatchState;

/// Makes the files of a batch that just took its final state, and deletes what was to be run.
pub(super) fn leave_behind(
    connection: &Connection,
    state: &mut BatchState,
    now: Timestamp,
) -> Result<(), Fault> {
    let succeeded = state.counts.succeeded;
    let other = state.counts.recorded() - succeeded;
    if succeeded > 0 {
        let id = make_view(connection, state, now, &View::OUTPUT, (succeeded, state.sums.output_bytes))?;
        state.output_file_id = Some(id);
    }
    if other > 0 {
        let id = make_view(connection, state, now, &View::ERRORS, (other, state.sums.error_bytes))?;
        state.error_file_id = Some(id);
    }
    for sql in [
        "DELETE FROM cursor WHERE batch = ?1",
        "DELETE FROM batch_segment WHERE batch = ?1",
        "DELETE FROM retry WHERE batch = ?1",
    ] {
        connection.prepare_cached(sql)?.execute([state.key.0])?;
    }
    Ok(())
}

/// One of the two views.
struct View {
    source: &'static str,
    suffix: &'static str,
}

impl View {
    const OUTPUT: Self = Self { source: "output", suffix: "output" };
    const ERRORS: Self = Self { source: "errors", suffix: "error" };
}

fn make_view(
    connection: &Connection,
    state: &BatchState,
    now: Timestamp,
    view: &View,
    (items, bytes): (u64, u64),
) -> Result<FileId, Fault> {
    let id = FileId::from_random(rand::random());
    let filename = format!("{}_{}.jsonl", state.id, view.suffix);
    connection
        .prepare_cached(
            "INSERT INTO file (id, app, source, status, batch, filename, bytes, items, created_at, expires_at) \
             SELECT ?1, app, ?2, 'processed', key, ?3, ?4, ?5, ?6, ?6 + output_expires * 1000000 \
             FROM batch WHERE key = ?7",
        )?
        .execute(params![
            id.as_str(),
            view.source,
            filename,
            int(bytes),
            int(items),
            now.micros(),
            state.key.0
        ])?;
    Ok(id)
}
