//! What a batch leaves behind when it ends: its output and error files, and none of its work rows.

use super::arguments::Statement;
use super::columns::int;
use crate::domain::ids::FileId;
use crate::domain::time::Timestamp;
use crate::store::state::BatchState;

/// The files of batches that just took their final state, and the batches.
#[derive(Default)]
pub(super) struct Views {
    ended: Vec<i64>,
    now: i64,
    id: Vec<String>,
    source: Vec<&'static str>,
    batch: Vec<i64>,
    filename: Vec<String>,
    bytes: Vec<i64>,
    items: Vec<i64>,
}

impl Views {
    /// Gives a batch its files.
    pub(super) fn leave_behind(&mut self, state: &mut BatchState, now: Timestamp) {
        self.now = now.micros();
        self.ended.push(state.key.0);
        let succeeded = state.counts.succeeded;
        let other = state.counts.recorded() - succeeded;
        if succeeded > 0 {
            state.output_file_id =
                Some(self.add(state, "output", "output", (succeeded, state.sums.output_bytes)));
        }
        if other > 0 {
            state.error_file_id = Some(self.add(state, "errors", "error", (other, state.sums.error_bytes)));
        }
    }

    fn add(
        &mut self,
        state: &BatchState,
        source: &'static str,
        suffix: &str,
        (items, bytes): (u64, u64),
    ) -> FileId {
        let id = FileId::from_random(rand::random());
        self.id.push(id.as_str().to_owned());
        self.source.push(source);
        self.batch.push(state.key.0);
        self.filename.push(format!("{}_{suffix}.jsonl", state.id));
        self.bytes.push(int(bytes));
        self.items.push(int(items));
        id
    }

    /// The statements that write the files and delete what was to be run.
    pub(super) fn statements(self) -> Vec<Statement> {
        let Self { ended, now, id, source, batch, filename, bytes, items } = self;
        let mut statements = Vec::new();
        if !ended.is_empty() {
            let deletes = [
                "DELETE FROM cursor WHERE batch = ANY($1)",
                "DELETE FROM batch_segment WHERE batch = ANY($1)",
                "DELETE FROM retry WHERE batch = ANY($1)",
            ];
            statements.extend(deletes.map(|sql| Statement::new(sql).with(ended.clone())));
        }
        if !id.is_empty() {
            let insert = Statement::new(INSERT).with(id).with(source).with(batch).with(filename);
            statements.push(insert.with(bytes).with(items).with(now));
        }
        statements
    }
}

const INSERT: &str = "INSERT INTO file (id, app, source, status, batch, filename, bytes, items, created_at, expires_at) \
     SELECT made.id, batch.app, made.source, 'processed', made.batch, made.filename, made.bytes, made.items, \
     $7, $7 + batch.output_expires * 1000000 \
     FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::bigint[], $6::bigint[]) \
     AS made (id, source, batch, filename, bytes, items) JOIN batch ON batch.key = made.batch";
