//! What stands in a call's path.

use axum::extract::FromRequestParts;
use http::request::Parts;
use serde::de::DeserializeOwned;

use super::error::{ApiError, Refusal, Result};

/// The parts of a path that its route leaves open, as axum has them, but for the answer to those that are no text.
#[derive(Debug)]
pub(crate) struct Path<T>(pub(crate) T);

impl<T, S> FromRequestParts<S> for Path<T>
where
    T: DeserializeOwned + Send,
    S: Send + Sync,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        let read = axum::extract::Path::from_request_parts(parts, state).await;
        let read =
            read.map_err(|_| ApiError::new(Refusal::InvalidValue, "The path is not percent-encoded UTF-8."))?;
        Ok(Self(read.0))
    }
}
