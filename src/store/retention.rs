//! Erasing what was deleted, abandoned or kept long enough.

use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

use crate::domain::time::Timestamp;

use super::sqlite::{self, Lane, Writing, retention};
use super::{Database, Result, Store, StoreError, StoreLocation, StoreSettings, postgres};

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

/// What of one app's retention would erase. What was deleted by its client and is not erased yet is part of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DueOfApp {
    /// The app's name.
    pub app: String,
    /// Ended batches.
    pub batches: u64,
    /// Their results.
    pub results: u64,
    /// Bytes of their output and error files.
    pub result_bytes: u64,
    /// Files that were put in, inline ones among them.
    pub files: u64,
    /// Bytes of these, as they were sent.
    pub file_bytes: u64,
}

/// Why it can't be told what is due.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DueError {
    /// There is no database.
    #[error("there is no database {} that this user can see", .0.display())]
    Missing(PathBuf),
    /// The database can't be read.
    #[error("the store: {0}")]
    Store(#[from] StoreError),
}

/// What retention would erase now, by app; only apps that have something. Nothing is changed, and a service may run.
///
/// # Errors
/// See [`DueError`].
pub async fn due(settings: &StoreSettings, now: Timestamp) -> std::result::Result<Vec<DueOfApp>, DueError> {
    let sql = due_sql(horizon(settings.files_retention, settings.results_retention, now));
    match settings.location.clone() {
        StoreLocation::Sqlite(path) if !path.is_file() => Err(DueError::Missing(path)),
        StoreLocation::Sqlite(path) => {
            let read = move || sqlite::retention::due(&path, &sql);
            Ok(tokio::task::spawn_blocking(read).await.map_err(|_| StoreError::Closed)??)
        }
        StoreLocation::Postgres { url, schema, .. } => {
            Ok(postgres::retention::due(&url, &schema, &sql).await?)
        }
    }
}

/// Selects [`DueOfApp`], the same in both databases.
fn due_sql(Horizon { files, results, now }: Horizon) -> String {
    // Before the first moment nothing was made.
    let moment = |moment: Option<Timestamp>| moment.map_or(i64::MIN + 1, Timestamp::micros);
    let (files, results, now) = (moment(files), moment(results), now.micros());
    format!(
        "WITH due AS (SELECT key, app, file, succeeded + failed + expired + cancelled AS results, \
             output_bytes + error_bytes AS bytes FROM batch WHERE deleted_at IS NOT NULL OR ended_at <= {results}), \
         input AS (SELECT app, bytes FROM file WHERE source IN ('upload', 'inline') AND ( \
             deleted_at IS NOT NULL \
             OR status = 'processed' AND (expires_at <= {now} OR source = 'upload' AND created_at <= {files}) \
             OR source = 'inline' AND EXISTS (SELECT 1 FROM due WHERE due.file = file.key) \
                AND NOT EXISTS (SELECT 1 FROM batch WHERE batch.file = file.key \
                    AND NOT EXISTS (SELECT 1 FROM due WHERE due.key = batch.key))) \
             AND NOT EXISTS (SELECT 1 FROM batch WHERE batch.file = file.key AND batch.ended_at IS NULL)), \
         told AS (SELECT app, 1 AS batches, results, bytes AS result_bytes, 0 AS files, 0 AS file_bytes FROM due \
             UNION ALL SELECT app, 0, 0, 0, 1, bytes FROM input) \
         SELECT app.name, CAST(sum(batches) AS bigint), CAST(sum(results) AS bigint), \
             CAST(sum(result_bytes) AS bigint), CAST(sum(files) AS bigint), CAST(sum(file_bytes) AS bigint) \
         FROM told JOIN app ON app.key = told.app GROUP BY app.key, app.name ORDER BY app.name"
    )
}

fn horizon(files: Option<Duration>, results: Option<Duration>, now: Timestamp) -> Horizon {
    let before = |kept: Option<Duration>| kept.map(|kept| now - kept);
    Horizon { files: before(files), results: before(results), now }
}

impl Store {
    /// Expires what retention says and erases a bounded amount, in short commands.
    ///
    /// # Errors
    /// What every write may answer.
    pub async fn sweep(&self, now: Timestamp) -> Result<Swept> {
        let horizon = horizon(self.files_retention, self.results_retention, now);
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
