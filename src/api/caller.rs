//! Who calls.

use axum::extract::FromRequestParts;
use http::request::Parts;

use crate::domain::ids::AppKey;

use super::error::ApiError;

/// The app that a call is made for. Every handler that touches files or batches takes it, so that
/// none can be written that forgets whose they are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller {
    /// The app's row.
    pub(crate) app: AppKey,
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    /// There is one app as long as no keys exist; SDKs always send a key, so any is accepted.
    async fn from_request_parts(_: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self { app: AppKey::DEFAULT })
    }
}
