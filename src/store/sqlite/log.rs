//! The write-ahead log: folded into the database by the writer, between commits.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rusqlite::Connection;

use super::connection::PAGE_BYTES;
use super::fault::Fault;

/// Pages that the log may hold before it is folded: 32 MiB. Less folds hot pages more often, more makes
/// each fold hold the writer longer.
const FOLD_AT: u32 = 8_192;
/// Pages after which a fold that a reader kept from its end is tried again.
const AGAIN_AFTER: u32 = 1_024;
/// Bytes of a page in the log.
const FRAME_BYTES: u64 = PAGE_BYTES as u64 + 24;

/// How far the log has come.
pub(super) struct Log {
    /// Pages in the log as of the last commit.
    pages: Arc<AtomicU32>,
    /// Of these, the ones that are in the database too.
    folded: u32,
    fold_at: u32,
}

impl Log {
    /// Listens to the writer's commits.
    pub(super) fn watch(connection: &mut Connection) -> Result<Self, Fault> {
        let pages = Arc::new(AtomicU32::new(0));
        let told = Arc::clone(&pages);
        connection.wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, count: std::ffi::c_int| {
            told.store(u32::try_from(count).unwrap_or(0), Ordering::Relaxed);
            Ok(())
        }))?;
        Ok(Self { pages, folded: 0, fold_at: FOLD_AT })
    }

    /// Bytes that are not in the database yet.
    pub(super) fn bytes(&self) -> u64 {
        let pages = self.pages.load(Ordering::Relaxed);
        u64::from(pages.saturating_sub(self.folded.min(pages))) * FRAME_BYTES
    }

    /// Folds a log that has grown, without waiting for readers.
    pub(super) fn fold_if_grown(&mut self, connection: &Connection) -> Result<(), Fault> {
        let pages = self.pages.load(Ordering::Relaxed);
        if pages < self.folded {
            // Everything was folded, so the last commit began the log anew.
            self.folded = 0;
            self.fold_at = FOLD_AT;
        }
        if pages >= self.fold_at {
            self.fold(connection, "PRAGMA wal_checkpoint(PASSIVE)")?;
            self.fold_at = pages + if self.folded >= pages { FOLD_AT } else { AGAIN_AFTER };
        }
        Ok(())
    }

    /// Folds everything and gives the log's room back; called when nothing waits.
    pub(super) fn empty(&mut self, connection: &Connection) -> Result<(), Fault> {
        if self.pages.load(Ordering::Relaxed) == 0 {
            return Ok(());
        }
        // A reader in the middle of a page makes it fail at once, not wait: the next idle moment will do.
        connection.busy_timeout(Duration::ZERO)?;
        let folded = self.fold(connection, "PRAGMA wal_checkpoint(TRUNCATE)");
        connection.busy_timeout(super::connection::PATIENCE)?;
        if folded? {
            self.pages.store(0, Ordering::Relaxed);
            self.folded = 0;
            self.fold_at = FOLD_AT;
        }
        Ok(())
    }

    /// Runs one checkpoint; `true` if it got to its end.
    fn fold(&mut self, connection: &Connection, sql: &str) -> Result<bool, Fault> {
        let (busy, pages, folded): (i64, i64, i64) =
            connection.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        self.folded = u32::try_from(folded).unwrap_or(0);
        Ok(busy == 0 && pages == folded)
    }
}
