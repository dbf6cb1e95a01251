//! Erasing what was deleted, abandoned or kept long enough.

use std::time::Duration;

use crate::domain::time::Timestamp;

use super::sqlite::retention::{self, Horizon};
use super::sqlite::{Lane, Writing};
use super::{Result, Store};

/// Commands of one sweep; others run between them.
const COMMANDS: u32 = 16;

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
        let before = |kept: Option<Duration>| kept.map(|kept| now - kept);
        let horizon =
            Horizon { files: before(self.files_retention), results: before(self.results_retention), now };
        let mut swept = Swept { rows: 0, more: true };
        for _ in 0..COMMANDS {
            let command = move |writing: &mut Writing<'_>| retention::sweep(writing, horizon);
            let step = self.database.write(Lane::Bulk, command).await?;
            swept = Swept { rows: swept.rows + step.rows, more: step.more };
            if !step.more {
                break;
            }
        }
        Ok(swept)
    }
}
