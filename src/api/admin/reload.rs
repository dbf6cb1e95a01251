//! `POST /admin/v1/reload`

use axum::Json;
use axum::extract::State;
use serde::Serialize;

use super::super::error::{ApiError, Refusal, Result};
use super::super::state::{Board, ReloadRefused, Reloaded};
use crate::config::{Change, ConfigError, Problem};

/// What was taken over.
#[derive(Debug, Serialize)]
pub(crate) struct ReloadView {
    object: &'static str,
    /// What holds now.
    changed: Vec<Change>,
    /// What was not taken over: it holds from the next start on.
    needs_restart: Vec<Change>,
}

/// Reads the configuration again, and takes it over whole or not at all.
pub(crate) async fn reload_configuration(State(board): State<Board>) -> Result<Json<ReloadView>> {
    let Reloaded { changes } = (board.reload)(()).await.map_err(refused)?;
    let (needs_restart, changed) = changes.into_iter().partition(|change| change.needs_restart);
    Ok(Json(ReloadView { object: "sluicegate.reload", changed, needs_restart }))
}

fn refused(refused: ReloadRefused) -> ApiError {
    match refused {
        ReloadRefused::Problems(problems) => unusable(problems),
        ReloadRefused::NoSource => {
            let why = "This service was started with a configuration that can't be read again.";
            ApiError::new(Refusal::Conflict, why)
        }
        ReloadRefused::Ending => {
            ApiError::new(Refusal::Draining, "The server is shutting down and takes no configuration.")
        }
    }
}

/// Everything that is wrong, each with its place; the first one's key is the parameter.
fn unusable(problems: Vec<Problem>) -> ApiError {
    let first = problems.first().map(|problem| problem.key.clone()).filter(|key| !key.is_empty());
    let why = format!("Nothing was changed. {}", ConfigError::Problems(problems));
    let error = ApiError::new(Refusal::InvalidValue, why);
    first.into_iter().fold(error, ApiError::param)
}
