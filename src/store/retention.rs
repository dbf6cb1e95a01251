//! Erasing what was deleted, abandoned or kept long enough.

use std::time::Duration;

use crate::domain::time::Timestamp;

use super::sqlite::{Lane, Writing, retention};
use super::{Database, Result, Store, postgres};

/// Commands of one sweep; others run between them.
const COMMANDS: u32 = 16;

/// Since when kept things are too old; `None`: never.
#[derive(Clone, Copy, Debug)]
pub(super) struct Horizon {
    /// Files uploaded before.
    pub(super) files: Option<Timestamp>,
    /// Batches ended before.
    pub(super) results: Option<Timestamp>,
    /// Files whose own time came.
    pub(super) now: Timestamp,
}

/// What one sweep did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Rows erased.
    pub rows: u64,
    /// Whether more is left to do at once.
    pub more: bool,
}

impl Store {
    /// Expires what retention says and erases a bounded amount, in short commands.
    ///
    /// # Errors
    /// What every write may answer.
    pub async fn sweep(&self, now: Timestamp) -> Result<Swept> {
        let before = |kept: Option<Duration>| kept.map(|kept| now - kept);
        let horizon =
            Horizon { files: before(self.files_retention), results: before(self.results_retention), now };
        let mut swept = Swept { rows: 0, more: true };
        for _ in 0..COMMANDS {
            let step = match &self.database {
                Database::Sqlite(database) => {
                    let command = move |writing: &mut Writing<'_>| retention::sweep(writing, horizon);
                    database.write(Lane::Bulk, command).await?
                }
                Database::Postgres(database) => postgres::retention::sweep(database, horizon).await?,
            };
            swept = Swept { rows: swept.rows + step.rows, more: step.more };
            if !step.more {
                break;
            }
        }
        Ok(swept)
    }
}
