//! Erasing what was deleted, abandoned or kept long enough.

use crate::domain::time::Timestamp;

use super::{Result, Store, StoreError};

/// What one sweep did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Rows erased.
    pub rows: u64,
    /// Whether more is left to do at once.
    pub more: bool,
}

impl Store {
    /// Expires what retention says and erases a bounded amount, in commands of at most 5 ms each.
    ///
    /// # Errors
    /// What every write may answer.
    pub async fn sweep(&self, now: Timestamp) -> Result<Swept> {
        let _ = now;
        Err(StoreError::Closed)
    }
}
