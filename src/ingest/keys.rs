//! Item keys: each `custom_id` as a hash keyed by its file, gathered into sorted chunks.

use std::hash::Hasher as _;

use siphasher::sip::SipHasher13;

use crate::domain::file::{ItemKey, KeyBlock};

/// Keys sorted at once: 1.5 MB.
const CHUNK: usize = 65_536;

/// The hash of a `custom_id`; keyed, so that nobody can make ids that collide in a file they upload.
pub fn hash_custom_id(salt: u64, custom_id: &str) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(salt, 0x736c_7569_6365_6761);
    hasher.write(custom_id.as_bytes());
    hasher.finish()
}

/// Collects keys and gives them out as sorted chunks, cut into blocks.
#[derive(Debug, Default)]
pub(super) struct Keys {
    gathered: Vec<ItemKey>,
    blocks: Vec<KeyBlock>,
    pub(super) chunks: u32,
}

impl Keys {
    pub(super) fn push(&mut self, key: ItemKey) {
        self.gathered.push(key);
        if self.gathered.len() >= CHUNK {
            self.sort();
        }
    }

    pub(super) fn sort(&mut self) {
        if self.gathered.is_empty() {
            return;
        }
        self.gathered.sort_unstable();
        for (no, keys) in (0..).zip(self.gathered.chunks(KeyBlock::MAX_KEYS)) {
            self.blocks.push(KeyBlock { chunk: self.chunks, no, keys: keys.to_vec() });
        }
        self.chunks += 1;
        self.gathered.clear();
    }

    pub(super) fn take(&mut self) -> Vec<KeyBlock> {
        std::mem::take(&mut self.blocks)
    }
}
