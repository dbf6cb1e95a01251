//! Recording: what a group of flushes becomes in the database.
//!
//! The hot path of the whole service. Three round trips, however many results: begin; lock the batches and look which
//! lines have a row; write everything and commit. Positions and counters are worked out in between, under the
//! lock, by the same rules as in the other database.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use futures_util::future::try_join;

use super::arguments::{Statement, arguments};
use super::batch_rows;
use super::columns::{Columns, int};
use super::connections::{Connections, Lane, Queries};
use super::fault::Attempt;
use super::membership::Identity;
use super::result_rows::{Body, ResultRows, pack};
use super::transaction::Transaction;
use super::usage;
use super::views::Views;
use crate::domain::ids::BatchKey;
use crate::domain::output_line::file_line_bytes;
use crate::domain::result::{NewResult, Payload, RetryRecord};
use crate::store::kept::{Kepts, ResultPiece};
use crate::store::state::BatchState;
use crate::store::usage_sums::UsageSums;
use crate::store::{Flush, LedgerEntry, Recorded};

/// A line of a batch.
type Item = (BatchKey, u32);

/// What one transaction is to write.
pub(super) struct Group<'k> {
    kepts: &'k Kepts,
    usage: UsageSums,
    /// Whose segments are finished.
    worker: Identity,
    /// The payloads of the results, in their order; the last is the piece of a large one, if there is one.
    bodies: Vec<Body>,
}

/// A transaction that has only to be sent.
pub(super) struct Ready {
    pub(super) transaction: Transaction,
    pub(super) statements: Vec<Statement>,
    pub(super) answers: Vec<Recorded>,
}

impl<'k> Group<'k> {
    /// Takes what is kept and packs its payloads, before any lock is held.
    pub(super) async fn of(kepts: &'k Kepts, usage: &UsageSums, worker: Option<Identity>) -> Self {
        let results = kepts.flushes().flat_map(|flush| &flush.results);
        let mut payloads: Vec<_> = results.map(|result| stored_payload(&result.payload)).collect();
        payloads.extend(kepts.piece().map(|piece| piece.data));
        let worker = worker.unwrap_or(Identity::NOBODY);
        Self { kepts, usage: usage.clone(), worker, bodies: pack(payloads).await }
    }

    /// Begins the transaction and works out what to write.
    pub(super) async fn prepare(mut self, connections: &Arc<Connections>) -> Attempt<Ready> {
        let mut transaction = connections.begin(Lane::Flush).await?;
        let (states, recorded) =
            try_join(batch_rows::lock(&transaction, self.batches()), self.recorded(&transaction)).await?;
        let mut writing = Writing { states, recorded, ..Writing::default() };
        let piece_body = self.kepts.piece().and_then(|_| self.bodies.pop());
        let piece = self.kepts.piece().zip(piece_body);
        if let Some((piece, body)) = piece {
            writing.piece(&piece, body);
        }
        let mut bodies = std::mem::take(&mut self.bodies).into_iter();
        let mut answers = Vec::new();
        for flush in self.kepts.flushes() {
            answers.push(writing.flush(flush, &mut bodies, &mut self.usage, &mut transaction));
        }
        writing.finished.extend(self.kepts.finished_segments());
        let statements = self.statements(writing, &mut transaction);
        Ok(Ready { transaction, statements, answers })
    }

    /// The batches that get results or retries, to be locked in this order.
    fn batches(&self) -> Vec<i64> {
        let mut keys: Vec<i64> = self.items().map(|(batch, _)| batch.0).collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    /// The lines that get a result, a piece of one, or a retry.
    fn items(&self) -> impl Iterator<Item = Item> {
        let of_flush = |flush: &'k Flush| {
            let results = flush.results.iter().map(|result| (result.batch, result.line));
            results.chain(flush.retries.iter().map(|retry| (retry.batch, retry.line)))
        };
        let piece = self.kepts.piece().map(|piece| (piece.result.batch, piece.result.line));
        self.kepts.flushes().flat_map(of_flush).chain(piece)
    }

    /// Which of them have a row. Asked after the lock was, on the same connection: nobody adds one meanwhile.
    async fn recorded(&self, transaction: &Transaction) -> Attempt<HashSet<Item>> {
        let (batches, lines): (Vec<i64>, Vec<i64>) =
            self.items().map(|(batch, line)| (batch.0, i64::from(line))).unzip();
        if batches.is_empty() {
            return Ok(HashSet::new());
        }
        let sql = "SELECT batch, line FROM result \
                   WHERE (batch, line) IN (SELECT * FROM unnest($1::bigint[], $2::bigint[]))";
        let rows = transaction.rows(sql, &arguments![batches, lines]).await?;
        let read = |row: &tokio_postgres::Row| {
            let mut columns = Columns::of(row);
            Ok((BatchKey(columns.take()?), columns.uint()?))
        };
        rows.iter().map(read).collect()
    }

    /// Everything to send, in the order of the locks.
    fn statements(&mut self, writing: Writing, transaction: &mut Transaction) -> Vec<Statement> {
        let Writing { mut states, moved, ended, rows, pieces, retries, finished, ledger, .. } = writing;
        let (now, has_results) = (transaction.now, !rows.is_empty());
        let mut views = Views::default();
        for key in &ended {
            if let Some(state) = states.get_mut(key) {
                views.leave_behind(state, now);
            }
        }
        let moved: Vec<&BatchState> = moved.iter().filter_map(|key| states.get(key)).collect();
        let effects = &mut transaction.effects;
        effects.work |= !ended.is_empty();
        effects.progress |= has_results;
        effects.levels |= !ledger.is_empty();
        effects.rows += (moved.len() + finished.len() + rows.len() + pieces.len()) as u64;
        effects.rows += (retries.len() + ledger.len()) as u64;
        let mut statements = Vec::new();
        if !moved.is_empty() {
            statements.push(batch_rows::saving(&moved));
        }
        if !finished.is_empty() {
            let (batches, segments): (Vec<i64>, Vec<i64>) =
                finished.iter().map(|(batch, segment)| (batch.0, i64::from(*segment))).unzip();
            let finish = Statement::new(FINISH).with(batches).with(segments);
            statements.push(finish.with(self.worker.key).with(self.worker.epoch));
        }
        statements.extend(pieces);
        if has_results {
            let (batches, lines) = rows.items();
            statements.push(rows.inserting());
            statements.push(Statement::new(FORGET_RETRIES).with(batches).with(lines));
            statements.push(Statement::new(RECORDED_SOMETHING).with(self.worker.boot));
        }
        statements.extend(noting_retries(retries));
        statements.extend(saving_ledger(ledger, self.worker.key));
        statements.extend(usage::moving(&mut self.usage, effects));
        statements.extend(views.statements());
        statements
    }
}

/// What a group comes to, as its flushes are gone through.
#[derive(Default)]
struct Writing {
    states: HashMap<BatchKey, BatchState>,
    /// The lines with a row, those of this transaction too.
    recorded: HashSet<Item>,
    moved: Vec<BatchKey>,
    ended: Vec<BatchKey>,
    rows: ResultRows,
    pieces: Vec<Statement>,
    retries: BTreeMap<Item, RetryRecord>,
    finished: Vec<(BatchKey, u32)>,
    ledger: BTreeMap<String, Vec<u8>>,
}

impl Writing {
    fn flush(
        &mut self,
        flush: &Flush,
        bodies: &mut impl Iterator<Item = Body>,
        usage: &mut UsageSums,
        transaction: &mut Transaction,
    ) -> Recorded {
        let mut answer = Recorded::default();
        for (result, body) in flush.results.iter().zip(bodies) {
            if self.record(result, body, usage) {
                answer.inserted += 1;
            } else {
                answer.dropped += 1;
                continue;
            }
            if let Some(state) = self.states.get_mut(&result.batch)
                && state.end_if_done(transaction.now)
            {
                answer.ended.push((result.batch, state.status));
                self.ended.push(result.batch);
            }
        }
        for retry in &flush.retries {
            let item = (retry.batch, retry.line);
            if self.takes(retry.batch) && !self.recorded.contains(&item) {
                self.retries.insert(item, retry.clone());
            }
        }
        for LedgerEntry { name, state } in &flush.ledger {
            self.ledger.insert(name.clone(), state.clone());
        }
        self.finished.extend(&flush.finished_segments);
        answer
    }

    /// Whether a batch takes results.
    fn takes(&self, batch: BatchKey) -> bool {
        self.states.get(&batch).is_some_and(|state| state.status.accepts_results())
    }

    /// Adds a result's row unless its line has one or its batch takes none, and counts it.
    fn record(&mut self, result: &NewResult, body: Body, usage: &mut UsageSums) -> bool {
        let item = (result.batch, result.line);
        if !self.takes(result.batch) || !self.recorded.insert(item) {
            return false;
        }
        let Some(state) = self.states.get_mut(&result.batch) else { return false };
        let line_bytes = file_line_bytes(&state.id, result);
        self.rows.push(result, state.next_position(), line_bytes, body);
        state.count(result, line_bytes);
        usage.add_result(state.app, result);
        self.retries.remove(&item);
        if self.moved.last() != Some(&result.batch) && !self.moved.contains(&result.batch) {
            self.moved.push(result.batch);
        }
        true
    }

    /// Adds a piece of a large result. A row that is there may have pieces of its own under the same numbers.
    fn piece(&mut self, piece: &ResultPiece<'_>, body: Body) {
        let (batch, line) = (piece.result.batch, piece.result.line);
        if self.takes(batch) && !self.recorded.contains(&(batch, line)) {
            let sql = "INSERT INTO result_chunk (batch, line, no, compressed, data) VALUES ($1, $2, $3, $4, $5) \
                       ON CONFLICT (batch, line, no) \
                       DO UPDATE SET compressed = excluded.compressed, data = excluded.data";
            let statement = Statement::new(sql).with(batch.0).with(i64::from(line)).with(i64::from(piece.no));
            self.pieces.push(statement.with(body.is_compressed).with(body.stored));
        }
    }
}

/// The bytes that a result's row holds; nothing where its pieces were written before.
fn stored_payload(payload: &Payload) -> bytes::Bytes {
    match payload {
        Payload::Response { body, .. } if crate::store::payload::pieces_of(body.len()) > 0 => {
            bytes::Bytes::new()
        }
        Payload::Response { body, .. } => body.clone(),
        Payload::Error { message, .. } => bytes::Bytes::copy_from_slice(message.as_bytes()),
    }
}

/// What is another's by now, because this worker lost its part, is the other's to finish.
const FINISH: &str = "DELETE FROM batch_segment \
     WHERE (batch, segment) IN (SELECT * FROM unnest($1::bigint[], $2::bigint[])) AND worker = $3 AND epoch = $4";

const FORGET_RETRIES: &str =
    "DELETE FROM retry WHERE (batch, line) IN (SELECT * FROM unnest($1::bigint[], $2::bigint[]))";

const RECORDED_SOMETHING: &str = "UPDATE boot SET recorded = 1 WHERE id = $1 AND recorded = 0";

fn noting_retries(retries: BTreeMap<Item, RetryRecord>) -> Option<Statement> {
    let sql = "INSERT INTO retry (batch, line, attempts, not_before, started_at, last_error) \
               SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::text[]) \
               ON CONFLICT (batch, line) DO UPDATE SET attempts = excluded.attempts, \
               not_before = excluded.not_before, started_at = excluded.started_at, last_error = excluded.last_error";
    if retries.is_empty() {
        return None;
    }
    let column = |of: fn(&RetryRecord) -> i64| -> Vec<i64> { retries.values().map(of).collect() };
    let errors: Vec<String> = retries.values().map(|retry| retry.last_error.clone()).collect();
    let statement = Statement::new(sql)
        .with(column(|retry| retry.batch.0))
        .with(column(|retry| retry.line.into()))
        .with(column(|retry| int(retry.attempts.into())))
        .with(column(|retry| retry.not_before.micros()))
        .with(column(|retry| retry.started_at.micros()));
    Some(statement.with(errors))
}

/// In the order of their names, as other workers do.
fn saving_ledger(ledger: BTreeMap<String, Vec<u8>>, worker: i64) -> Option<Statement> {
    let sql = "INSERT INTO ledger (name, state, version, worker) \
               SELECT name, state, pg_current_xact_id()::text::bigint, $3 \
               FROM unnest($1::text[], $2::bytea[]) AS saved (name, state) \
               ON CONFLICT (name) DO UPDATE SET state = excluded.state, version = excluded.version, \
               worker = excluded.worker";
    let (names, states): (Vec<String>, Vec<Vec<u8>>) = ledger.into_iter().unzip();
    (!names.is_empty()).then(|| Statement::new(sql).with(names).with(states).with(worker))
}
