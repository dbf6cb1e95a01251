//! `POST /v1/batches/{batch_id}`

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::HeaderMap;

use crate::domain::ids::BatchId;
use crate::store::{BatchChange, ChangeOutcome};

use super::super::body::{read_short, require_json};
use super::super::caller::Caller;
use super::super::error::{ApiError, Refusal, Result};
use super::super::fields::{Fields, WholeNumber};
use super::super::path::Path;
use super::super::state::Api;
use super::options::{self, MAX_CONCURRENCY, PRIORITY};
use super::show;
use super::view::Views;

/// Most bytes of the body.
const MAX_BODY: usize = 256 << 10;
/// What can be changed while a batch runs.
const CHANGEABLE: [&str; 5] = ["priority", "max_concurrency", "completion_window", "metadata", "paused"];

/// Changes a running batch.
pub(crate) async fn update_batch(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response> {
    require_json(&headers)?;
    let body = read_short(body, MAX_BODY).await?;
    let change = read_change(&body)?;
    match api.store.change_batch(caller.app, &BatchId::new(id.as_str()), change).await? {
        Some(ChangeOutcome::Changed(batch)) => Ok(show(&Views::of(&api), &batch)),
        Some(ChangeOutcome::Refused(status)) => {
            let why = format!("Cannot change a batch with status '{}'.", status.public());
            Err(ApiError::new(Refusal::Conflict, why))
        }
        None => Err(ApiError::no_batch(&id)),
    }
}

fn read_change(body: &[u8]) -> Result<BatchChange> {
    let mut fields = Fields::parse(body)?;
    let priority = fields.take::<WholeNumber>("priority", "a whole number")?;
    let concurrency = fields.nullable::<WholeNumber>("max_concurrency", "a whole number or null")?;
    let change = BatchChange {
        priority: priority.map(|value| options::within("priority", value.0, PRIORITY)).transpose()?,
        max_concurrency: match concurrency {
            None => None,
            Some(None) => Some(None),
            Some(Some(value)) => Some(Some(options::within("max_concurrency", value.0, MAX_CONCURRENCY)?)),
        },
        window: options::completion_window(&mut fields)?,
        metadata: options::metadata(&mut fields)?,
        paused: fields.take("paused", "a boolean")?,
    };
    fields.finish(&CHANGEABLE)?;
    Ok(change)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn null_lifts_the_concurrency_and_absence_leaves_it() {
        let lifted = read_change(br#"{"max_concurrency":null}"#).unwrap();
        assert_eq!(lifted.max_concurrency, Some(None));
        let change = read_change(br#"{"priority":-100,"completion_window":"90s","paused":true}"#).unwrap();
        assert_eq!(change.max_concurrency, None);
        assert_eq!(change.priority, Some(-100));
        assert_eq!(change.window, Some(("90s".to_owned(), Duration::from_secs(90))));
        assert_eq!(change.paused, Some(true));
    }

    #[test]
    fn other_fields_are_refused() {
        let error = read_change(br#"{"endpoint":"/v1/responses"}"#).unwrap_err();
        assert_eq!(error.refusal(), Refusal::UnknownParameter);
        assert_eq!(read_change(br#"{"priority":101}"#).unwrap_err().refusal(), Refusal::InvalidValue);
        assert_eq!(read_change(br#"{"priority":"1"}"#).unwrap_err().refusal(), Refusal::InvalidType);
    }
}
