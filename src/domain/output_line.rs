//! The line that a result is in an output or error file, as `OpenAI` writes it.

use serde::Serialize;

use super::ids::BatchId;
use super::result::{NewResult, Payload};

/// What `GET …/results` adds to a line; files have `OpenAI`'s keys only.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct LineExtras {
    /// Place in completion order.
    pub position: u64,
    /// The input line.
    pub line: u32,
    /// Charged attempts.
    pub attempts: u32,
    /// From first send to result; null if it was never sent.
    pub seconds: Option<f64>,
}

/// Bytes of a formatted file line, its line feed included, without formatting it twice.
pub fn file_line_bytes(batch: &BatchId, result: &NewResult) -> u64 {
    let mut line = Vec::with_capacity(256);
    let body = match &result.payload {
        // The body goes in as it stands, so its length is added instead of copying it.
        Payload::Response { body, .. } => {
            write_line(&mut line, batch, result, None, false);
            body.len() as u64
        }
        Payload::Error { .. } => {
            write_line(&mut line, batch, result, None, true);
            0
        }
    };
    line.len() as u64 + body
}

/// Appends a result as one line with its line feed.
pub fn append_line(line: &mut Vec<u8>, batch: &BatchId, result: &NewResult, extras: Option<LineExtras>) {
    write_line(line, batch, result, extras, true);
}

fn write_line(
    out: &mut Vec<u8>,
    batch: &BatchId,
    result: &NewResult,
    extras: Option<LineExtras>,
    body: bool,
) {
    out.extend_from_slice(b"{\"id\":\"");
    out.extend_from_slice(request_id(batch, result.line).as_bytes());
    out.extend_from_slice(b"\",\"custom_id\":");
    append_json(out, &result.custom_id);
    match &result.payload {
        Payload::Response { status, request_id, body: bytes } => {
            out.extend_from_slice(b",\"response\":{\"status_code\":");
            append_json(out, status);
            out.extend_from_slice(b",\"request_id\":");
            append_json(out, request_id);
            out.extend_from_slice(b",\"body\":");
            if body {
                out.extend_from_slice(bytes);
            }
            out.extend_from_slice(b"},\"error\":null");
        }
        Payload::Error { code, message } => {
            out.extend_from_slice(b",\"response\":null,\"error\":{\"code\":");
            append_json(out, &code.as_str());
            out.extend_from_slice(b",\"message\":");
            append_json(out, message);
            out.push(b'}');
        }
    }
    if let Some(extras) = extras {
        out.extend_from_slice(b",\"sluicegate\":");
        append_json(out, &extras);
    }
    out.extend_from_slice(b"}\n");
}

/// The line's `id`: made from the batch's, so that it needs no column and is the same in every view.
fn request_id(batch: &BatchId, line: u32) -> String {
    let suffix = batch.as_str().strip_prefix(BatchId::PREFIX).unwrap_or(batch.as_str());
    format!("batch_req_{suffix}{line:08x}")
}

fn append_json(out: &mut Vec<u8>, value: &impl Serialize) {
    // Strings and numbers into memory: nothing here can fail.
    let written = serde_json::to_writer(out, value);
    debug_assert!(written.is_ok());
}

/// Puts a JSON text on one line: outside of strings a line break is white space, inside it can't stand.
pub fn to_one_line(json: &mut [u8]) {
    for byte in json {
        if matches!(*byte, b'\n' | b'\r') {
            *byte = b' ';
        }
    }
}
