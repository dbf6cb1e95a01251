//! `POST /admin/v1/lanes/pause`, `POST /admin/v1/lanes/resume`

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use http::HeaderMap;
use serde::Serialize;

use super::super::body::{read_short, require_json};
use super::super::error::{ApiError, Refusal, Result};
use super::super::fields::Fields;
use super::super::state::{Api, LanePause};
use super::MAX_BODY;

/// A lane as it is after the change.
#[derive(Debug, Serialize)]
pub(crate) struct LaneView {
    object: &'static str,
    provider: String,
    model: String,
    state: &'static str,
}

/// Lets nothing more through a lane until it is resumed, across restarts too. What is in flight ends as usual.
pub(crate) async fn pause_lane(
    State(api): State<Api>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<LaneView>> {
    change(&api, &headers, body, true).await
}

/// Ends a pause.
pub(crate) async fn resume_lane(
    State(api): State<Api>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<LaneView>> {
    change(&api, &headers, body, false).await
}

async fn change(api: &Api, headers: &HeaderMap, body: Body, paused: bool) -> Result<Json<LaneView>> {
    require_json(headers)?;
    let body = read_short(body, MAX_BODY).await?;
    let mut fields = Fields::parse(&body)?;
    let take = |fields: &mut Fields<'_>, name| -> Result<String> {
        fields.take(name, "a string")?.ok_or_else(|| ApiError::missing(name))
    };
    let (provider, model) = (take(&mut fields, "provider")?, take(&mut fields, "model")?);
    fields.finish(&["provider", "model"])?;
    let asked = LanePause { provider: provider.clone(), model: model.clone(), paused };
    match (api.board.pause_lane)(asked).await {
        Some(state) => Ok(Json(LaneView { object: "sluicegate.lane", provider, model, state })),
        None => {
            let why = format!("No lane of provider '{provider}' serves '{model}'.");
            Err(ApiError::new(Refusal::NotFound, why).param("model"))
        }
    }
}
