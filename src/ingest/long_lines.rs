//! Lines above the cap: kept for the bytes in pieces, faulty, never held whole.

use std::sync::Arc;

use super::open_segments::OpenSegments;
use super::problems::Fault;

/// Most bytes of one piece, which is a segment of its own.
const PIECE: usize = 1024 * 1024;

/// Stores the bytes of a line that is too long; `first` if they are its first.
pub(super) fn store(segments: &mut OpenSegments, line: u32, bytes: &[u8], mut first: bool, max_line: usize) {
    let model: Arc<str> = Arc::from("");
    for piece in bytes.chunks(PIECE) {
        segments.add(&model, piece.len(), |builder| {
            if first {
                builder.push_faulty(line, piece, None, &fault(max_line).message);
            } else {
                builder.push_continuation(line, piece);
            }
        });
        first = false;
    }
}

/// What is listed for such a line.
pub(super) fn fault(max_line: usize) -> Fault {
    let message = format!("This line is longer than {max_line} bytes (batches.max_line).");
    Fault { code: "invalid_request", param: None, message }
}
