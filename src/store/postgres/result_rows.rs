//! Rows of results on their way in: a list per column, so that one statement inserts them all.

use bytes::Bytes;

use super::arguments::Statement;
use super::columns::{int, micros};
use crate::domain::result::{NewResult, Payload};
use crate::store::payload::{Packer, pieces_of};

/// Above it payloads are packed on a thread of their own: this many bytes take under a millisecond.
const PACKED_HERE: usize = 256 * 1024;

/// A payload as stored.
pub(super) struct Body {
    pub(super) stored: Vec<u8>,
    pub(super) is_compressed: bool,
}

/// Packs payloads.
pub(super) async fn pack(payloads: Vec<Bytes>) -> Vec<Body> {
    let count = payloads.len();
    if payloads.iter().map(Bytes::len).sum::<usize>() <= PACKED_HERE {
        return pack_now(&payloads);
    }
    let packed = tokio::task::spawn_blocking(move || pack_now(&payloads)).await;
    // It ends early only with its runtime, and then nothing is written any more.
    packed.unwrap_or_else(|_| (0..count).map(|_| Body { stored: Vec::new(), is_compressed: false }).collect())
}

fn pack_now(payloads: &[Bytes]) -> Vec<Body> {
    let mut packer = Packer::new();
    let body = |payload: &Bytes| {
        let (stored, is_compressed) = packer.pack(payload);
        Body { stored: stored.to_vec(), is_compressed }
    };
    payloads.iter().map(body).collect()
}

/// The columns.
#[derive(Default)]
pub(super) struct ResultRows {
    id: Vec<i64>,
    batch: Vec<i64>,
    line: Vec<i64>,
    custom_id: Vec<Option<String>>,
    status: Vec<&'static str>,
    http_status: Vec<Option<i64>>,
    error_code: Vec<Option<&'static str>>,
    request_id: Vec<Option<String>>,
    attempts: Vec<i64>,
    started_at: Vec<Option<i64>>,
    finished_at: Vec<i64>,
    input_tokens: Vec<i64>,
    cached_tokens: Vec<i64>,
    output_tokens: Vec<i64>,
    reasoning_tokens: Vec<i64>,
    line_bytes: Vec<i64>,
    compressed: Vec<bool>,
    chunks: Vec<i64>,
    payload: Vec<Vec<u8>>,
}

impl ResultRows {
    pub(super) fn len(&self) -> usize {
        self.id.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.id.is_empty()
    }

    /// Adds one. `line_bytes` is its length in a file.
    pub(super) fn push(&mut self, result: &NewResult, position: u64, line_bytes: u64, body: Body) {
        let (http_status, error_code, request_id, chunks) = match &result.payload {
            Payload::Response { status, request_id, body } => {
                (Some(i64::from(*status)), None, Some(request_id), pieces_of(body.len()))
            }
            Payload::Error { code, .. } => (None, Some(code.as_str()), None, 0),
        };
        self.id.push(pair(result.batch.0, position));
        self.batch.push(result.batch.0);
        self.line.push(result.line.into());
        self.custom_id.push(result.custom_id.as_deref().map(str::to_owned));
        self.status.push(result.status.as_str());
        self.http_status.push(http_status);
        self.error_code.push(error_code);
        self.request_id.push(request_id.filter(|id| !id.is_empty()).cloned());
        self.attempts.push(result.attempts.into());
        self.started_at.push(micros(result.started_at));
        self.finished_at.push(result.finished_at.micros());
        self.input_tokens.push(int(result.usage.input_tokens));
        self.cached_tokens.push(int(result.usage.cached_tokens));
        self.output_tokens.push(int(result.usage.output_tokens));
        self.reasoning_tokens.push(int(result.usage.reasoning_tokens));
        self.line_bytes.push(int(line_bytes));
        self.compressed.push(body.is_compressed);
        self.chunks.push(chunks.into());
        self.payload.push(body.stored);
    }

    /// Their batches and lines.
    pub(super) fn items(&self) -> (Vec<i64>, Vec<i64>) {
        (self.batch.clone(), self.line.clone())
    }

    /// The statement that inserts them.
    pub(super) fn inserting(self) -> Statement {
        Statement::new(INSERT)
            .with(self.id)
            .with(self.batch)
            .with(self.line)
            .with(self.custom_id)
            .with(self.status)
            .with(self.http_status)
            .with(self.error_code)
            .with(self.request_id)
            .with(self.attempts)
            .with(self.started_at)
            .with(self.finished_at)
            .with(self.input_tokens)
            .with(self.cached_tokens)
            .with(self.output_tokens)
            .with(self.reasoning_tokens)
            .with(self.line_bytes)
            .with(self.compressed)
            .with(self.chunks)
            .with(self.payload)
    }
}

/// Lines with a row were sorted out under the batch's lock, so a conflict means that the lock did not hold. It must
/// fail the transaction, which then runs again: a row left out in silence would leave the counters wrong.
const INSERT: &str = "INSERT INTO result (id, batch, line, custom_id, status, http_status, error_code, request_id, \
     attempts, started_at, finished_at, input_tokens, cached_tokens, output_tokens, reasoning_tokens, \
     line_bytes, compressed, chunks, payload) \
     SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::bigint[], \
     $7::text[], $8::text[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[], \
     $14::bigint[], $15::bigint[], $16::bigint[], $17::boolean[], $18::bigint[], $19::bytea[])";

/// Both keys of a result or a segment in one number, so that rows lie in that order.
pub(super) fn pair(high: i64, low: u64) -> i64 {
    high << 32 | int(low & 0xffff_ffff)
}

/// The lower half of [`pair`].
pub(super) fn low_half(id: i64) -> u64 {
    (id & 0xffff_ffff).unsigned_abs()
}
