//! `POST /admin/v1/backup`

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use serde::Serialize;

use super::super::body::read_short;
use super::super::error::{ApiError, Refusal, Result};
use super::super::fields::Fields;
use super::super::state::Api;
use super::MAX_BODY;
use crate::store::backup::{BackupError, BackupReport, FOLDER};

/// A backup that was made.
#[derive(Debug, Serialize)]
pub(crate) struct BackupView {
    object: &'static str,
    /// From the data folder on: where that is, is nobody's business but the machine's.
    file: String,
    bytes: u64,
    seconds: f64,
    created_at: i64,
}

/// Makes a backup in the data folder, under a name of the service's own, and answers when it is complete. Callers
/// choose no path: who has an admin key may not write all over the machine.
pub(crate) async fn create_backup(State(api): State<Api>, body: Body) -> Result<Json<BackupView>> {
    api.refuse_while_draining()?;
    let body = read_short(body, MAX_BODY).await?;
    if !body.is_empty() {
        Fields::parse(&body)?.finish(&[])?;
    }
    let (now, shutdown) = (api.clock.now(), api.shutdown.clone());
    let BackupReport { path, bytes, took } = api.store.backup(now, move || shutdown.has_begun()).await?;
    Ok(Json(BackupView {
        object: "sluicegate.backup",
        file: format!("{FOLDER}/{}", path.file_name().unwrap_or_default().to_string_lossy()),
        bytes,
        seconds: took.as_secs_f64(),
        created_at: now.seconds(),
    }))
}

impl From<BackupError> for ApiError {
    fn from(error: BackupError) -> Self {
        match error {
            BackupError::OnServer => Self::new(
                Refusal::Conflict,
                "The store is on a PostgreSQL server: back it up with that server's own tools, pg_dump or pg_basebackup.",
            ),
            BackupError::Running => Self::new(Refusal::Conflict, "Another backup is being made."),
            BackupError::Exists(_) => Self::new(Refusal::Conflict, "A backup was made within this second."),
            BackupError::NoRoom { needed, free } => Self::new(
                Refusal::StorageFull,
                format!(
                    "A backup needs {needed} bytes on the data folder's disk beside what must stay free; {free} are \
                     free. Nothing was stored."
                ),
            ),
            BackupError::File { error, .. } if error.kind() == std::io::ErrorKind::StorageFull => Self::new(
                Refusal::StorageFull,
                "The server's disk is full. Nothing was stored; try again when space has been made.",
            ),
            BackupError::Interrupted => Self::new(
                Refusal::Draining,
                "The server is shutting down and made no backup. Try again in a few seconds.",
            ),
            BackupError::Store(error) => error.into(),
            BackupError::Missing(_) | BackupError::File { .. } => Self::internal(error.to_string()),
        }
    }
}
