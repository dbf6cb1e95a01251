//! Blocks of item keys as stored: the same bytes in every database.

use super::error::{StoreError, damaged};
use crate::domain::file::ItemKey;

/// Bytes of a key: hash, line and segment, little-endian.
const KEY_BYTES: usize = 16;

/// A hash so that the signed order of what is stored is its own.
pub(super) const fn ordered(hash: u64) -> i64 {
    (hash ^ (1 << 63)).cast_signed()
}

/// Keys as their column holds them.
pub(super) fn pack(keys: &[ItemKey]) -> Vec<u8> {
    let mut packed = Vec::with_capacity(keys.len() * KEY_BYTES);
    for key in keys {
        packed.extend_from_slice(&key.hash.to_le_bytes());
        packed.extend_from_slice(&key.line.to_le_bytes());
        packed.extend_from_slice(&key.segment.to_le_bytes());
    }
    packed
}

/// A column's keys.
pub(super) fn unpack(packed: &[u8]) -> Result<Vec<ItemKey>, StoreError> {
    let (keys, rest) = packed.as_chunks::<KEY_BYTES>();
    if !rest.is_empty() {
        return Err(damaged("a block of item keys is cut off"));
    }
    Ok(keys.iter().map(read_key).collect())
}

fn read_key(packed: &[u8; KEY_BYTES]) -> ItemKey {
    // Little-endian throughout, so that one number holds all three.
    let all = u128::from_le_bytes(*packed);
    ItemKey { hash: all as u64, line: (all >> 64) as u32, segment: (all >> 96) as u32 }
}
