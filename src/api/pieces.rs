//! The way of a body's bytes from its connection to the thread that parses them.

use bytes::Bytes;
use tokio::sync::mpsc;

use super::intake::Stop;

/// Pieces under way; hyper reads at most 64 KiB at once.
const AHEAD: usize = 8;

/// A piece of content.
#[derive(Clone, Debug)]
pub(crate) enum Piece {
    /// Some of it.
    Bytes(Bytes),
    /// It is whole. A channel that closes without this means that the client or the form failed.
    End,
}

/// A short channel of pieces.
pub(crate) fn channel() -> (mpsc::Sender<Piece>, mpsc::Receiver<Piece>) {
    mpsc::channel(AHEAD)
}

/// Pushes all that comes, on a thread that may block.
///
/// # Errors
/// What `push` stops with; [`Stop::Elsewhere`] if the content did not come to its end.
pub(crate) fn push_all(
    mut pieces: mpsc::Receiver<Piece>,
    mut push: impl FnMut(&[u8]) -> Result<(), Stop>,
) -> Result<(), Stop> {
    loop {
        match pieces.blocking_recv() {
            Some(Piece::Bytes(bytes)) => push(&bytes)?,
            Some(Piece::End) => return Ok(()),
            None => return Err(Stop::Elsewhere),
        }
    }
}
