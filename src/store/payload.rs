//! Payloads as stored: as they are where small, compressed where that pays, in pieces where large.

use std::borrow::Cow;

use bytes::Bytes;

use super::error::{StoreError, damaged};

/// The longest value of one row. A transaction that writes one such piece holds the writer for a few
/// milliseconds.
pub(super) const MAX_PIECE: usize = 1024 * 1024;
/// Below it a payload shares a page with others anyway, and compressing costs more than the bytes.
const WORTH_COMPRESSING: usize = 2 * 1024;
/// zstd level: 1 halves JSON at several hundred MB/s; more would make the writer the bottleneck.
const LEVEL: i32 = 1;

/// Compresses payloads, with one context for all: a new one costs more than a small payload.
pub(super) struct Packer {
    compressor: Option<zstd::bulk::Compressor<'static>>,
    buffer: Vec<u8>,
}

impl Packer {
    pub(super) fn new() -> Self {
        let compressor = || {
            let mut compressor = zstd::bulk::Compressor::new(LEVEL)?;
            compressor.include_checksum(true)?;
            std::io::Result::Ok(compressor)
        };
        // Without a context everything is stored as it is.
        Self { compressor: compressor().ok(), buffer: Vec::new() }
    }

    /// The value to store, and whether it is a zstd frame.
    pub(super) fn pack<'a>(&'a mut self, payload: &'a [u8]) -> (&'a [u8], bool) {
        if payload.len() < WORTH_COMPRESSING {
            return (payload, false);
        }
        let Some(compressor) = &mut self.compressor else { return (payload, false) };
        self.buffer.clear();
        self.buffer.reserve(zstd::zstd_safe::compress_bound(payload.len()));
        match compressor.compress_to_buffer(payload, &mut self.buffer) {
            // Less than an eighth saved is not worth a decompression at each read.
            Ok(length) if length < payload.len() - payload.len() / 8 => (&self.buffer, true),
            _ => (payload, false),
        }
    }
}

/// What [`Packer::pack`] was given.
pub(super) fn unpack(stored: &[u8], compressed: bool) -> Result<Cow<'_, [u8]>, StoreError> {
    if !compressed {
        return Ok(Cow::Borrowed(stored));
    }
    let size = zstd::zstd_safe::get_frame_content_size(stored).ok().flatten();
    let size = size.and_then(|size| usize::try_from(size).ok()).filter(|size| *size <= MAX_PIECE);
    let size = size.ok_or_else(|| damaged("a payload's frame has no usable size"))?;
    let payload =
        zstd::bulk::decompress(stored, size).map_err(|_| damaged("a payload's frame is damaged"))?;
    Ok(Cow::Owned(payload))
}

/// How many rows a value of so many bytes takes beside its own; 0: it fits into that.
pub(super) fn pieces_of(length: usize) -> u32 {
    if length <= MAX_PIECE { 0 } else { u32::try_from(length.div_ceil(MAX_PIECE)).unwrap_or(u32::MAX) }
}

/// Piece `no` of a value.
pub(super) fn piece(value: &Bytes, no: u32) -> Bytes {
    let start = (no as usize).saturating_mul(MAX_PIECE).min(value.len());
    let end = start.saturating_add(MAX_PIECE).min(value.len());
    value.slice(start..end)
}

/// The pieces that go before a value's own row, with their numbers; none where it fits into that.
pub(super) fn pieces(value: &Bytes) -> impl Iterator<Item = (u32, Bytes)> + use<> {
    let value = value.clone();
    (0..pieces_of(value.len())).map(move |no| (no, piece(&value, no)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_payload_comes_back(text in "[a-c]{0,9000}", noise in proptest::collection::vec(any::<u8>(), 0..4_000)) {
            let mut packer = Packer::new();
            for payload in [text.as_bytes(), &noise] {
                let (stored, compressed) = packer.pack(payload);
                prop_assert!(stored.len() <= payload.len());
                prop_assert_eq!(&*unpack(stored, compressed).unwrap(), payload);
            }
        }
    }

    #[test]
    fn what_repeats_is_stored_shorter_and_what_is_short_as_it_is() {
        let mut packer = Packer::new();
        let (stored, compressed) = packer.pack(&[b'x'; 5_000]);
        assert!(compressed && stored.len() < 100);
        assert_eq!(packer.pack(b"{}"), (&b"{}"[..], false));
    }

    #[test]
    fn pieces_cover_a_value() {
        for length in [0, 1, MAX_PIECE, MAX_PIECE + 1, 3 * MAX_PIECE, 3 * MAX_PIECE + 5] {
            let value = Bytes::from(vec![7; length]);
            let pieces = pieces_of(length);
            assert_eq!(pieces == 0, length <= MAX_PIECE);
            let rejoined: usize = (0..pieces).map(|no| piece(&value, no).len()).sum();
            assert_eq!(rejoined, if pieces == 0 { 0 } else { length });
        }
    }
}
