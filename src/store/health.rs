//! How the store is, read from atomics.

use super::error::StoreError;

/// A glance at the store. On `PostgreSQL` there is no log or disk to tell of: as many bytes as can be are free.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreHealth {
    /// The disk takes nothing new: full, under `store.min_free`, or refusing writes.
    pub disk_full: bool,
    /// The database's server was not reached lately.
    pub is_away: bool,
    /// This worker's beats have not arrived for so long that no call starts until one does, whatever else is taken.
    pub is_unheard: bool,
    /// Bytes free on the disk, measured within the last second or so.
    pub free_bytes: u64,
    /// Bytes in the write-ahead log that are not in the database yet.
    pub wal_bytes: u64,
    /// Bytes of the database file.
    pub size_bytes: u64,
    /// Commands that wait for the writer.
    pub writer_queue: u64,
}

impl StoreHealth {
    /// Whether anything new may be begun: what it leads to could be recorded.
    pub fn takes_work(&self) -> bool {
        !self.disk_full && !self.is_away
    }

    /// What to tell who asks for something new, if it can't be begun.
    pub fn refusal(&self) -> Option<StoreError> {
        match self {
            Self { is_away: true, .. } | Self { is_unheard: true, .. } => {
                Some(StoreError::Unavailable("it was not reached lately".to_owned()))
            }
            Self { disk_full: true, .. } => Some(StoreError::Full),
            _ => None,
        }
    }
}
