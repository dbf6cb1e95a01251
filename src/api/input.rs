//! A file's lines, read back from its segments.

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures_util::stream;
use tokio::task::spawn_blocking;

use crate::domain::ids::FileKey;
use crate::domain::segment::OpenSegment;
use crate::ingest::{ContentMerge, Step};
use crate::store::{Store, StoreError};

/// Heads read at once.
const HEADS: usize = 256;
/// Bytes sent on at once: single lines would cost a write each.
const PIECE: usize = 64 << 10;
/// Above this, opening a segment would keep the runtime's thread from others for too long.
const OPENED_IN_PLACE: u32 = 1 << 20;

/// Reads and decompresses one segment.
///
/// # Errors
/// [`StoreError::Damaged`] if it is not there or can't be opened.
pub(crate) async fn open_segment(store: &Store, file: FileKey, no: u32) -> Result<OpenSegment, StoreError> {
    let damaged = |what: String| StoreError::Damaged(format!("segment {no} of file {}: {what}", file.0));
    let segment = store.segment(file, no).await?.ok_or_else(|| damaged("it is not there".to_owned()))?;
    let opened = if segment.head.raw_bytes <= OPENED_IN_PLACE {
        segment.open()
    } else {
        let opening = spawn_blocking(move || segment.open()).await;
        opening.map_err(|error| StoreError::Unavailable(error.to_string()))?
    };
    opened.map_err(|error| damaged(error.to_string()))
}

/// A file's exact bytes, as a body that reads a segment only when the client has taken the last.
pub(crate) fn exact_bytes(store: Store, file: FileKey) -> Body {
    let start = Some(Reader { store, file, merge: ContentMerge::new() });
    Body::from_stream(stream::try_unfold(start, |reader| async move {
        let Some(mut reader) = reader else { return Ok(None) };
        let piece = reader.piece().await?;
        Ok::<_, StoreError>((!piece.is_empty()).then_some((piece, Some(reader))))
    }))
}

struct Reader {
    store: Store,
    file: FileKey,
    merge: ContentMerge,
}

impl Reader {
    /// The next piece; empty at the end.
    async fn piece(&mut self) -> Result<Bytes, StoreError> {
        let mut piece = BytesMut::new();
        loop {
            match self.merge.step() {
                Step::Heads { from_no } => {
                    let heads = self.store.segment_heads(self.file, None, from_no, HEADS).await?;
                    self.merge.add_heads(heads);
                }
                Step::Segment(no) => {
                    let segment = open_segment(&self.store, self.file, no).await?;
                    self.merge.add_segment(no, segment);
                }
                Step::Bytes(bytes) if piece.is_empty() && bytes.len() >= PIECE => return Ok(bytes),
                Step::Bytes(bytes) => {
                    piece.extend_from_slice(&bytes);
                    if piece.len() >= PIECE {
                        return Ok(piece.freeze());
                    }
                }
                Step::End => return Ok(piece.freeze()),
            }
        }
    }
}
