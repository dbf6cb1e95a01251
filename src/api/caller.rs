//! Who calls.

use axum::extract::FromRequestParts;
use http::request::Parts;

use crate::domain::api_key::Scope;
use crate::domain::ids::AppKey;

use super::error::ApiError;

/// The app that a call is made for. Every handler that touches files or batches takes it, so that
/// none can be written that forgets whose they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    /// The app's row.
    pub(crate) app: AppKey,
    /// What the caller may do; the route has checked that it is enough.
    pub(crate) scope: Scope,
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    /// Put there by the layer that every route but the open ones has; without it nobody is anybody.
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let caller = parts.extensions.get().copied();
        caller.ok_or_else(|| ApiError::internal("a route that needs a caller is open to everyone"))
    }
}
