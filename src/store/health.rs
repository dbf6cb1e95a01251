//! How the store is, read from atomics.

/// A glance at the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreHealth {
    /// The disk takes nothing new: full, under `store.min_free`, or refusing writes.
    pub disk_full: bool,
    /// Bytes free on the disk, measured within the last second or so.
    pub free_bytes: u64,
    /// Bytes in the write-ahead log that are not in the database yet.
    pub wal_bytes: u64,
    /// Bytes of the database file.
    pub size_bytes: u64,
    /// Commands that wait for the writer.
    pub writer_queue: u64,
}
