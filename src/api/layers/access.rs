//! Letting only those in who may.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::domain::api_key::Scope;

use super::super::error::ApiError;
use super::super::keyring::Keyring;

/// What one route asks of its callers.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    pub(crate) keyring: Keyring,
    pub(crate) scope: Scope,
}

/// Finds out who calls and tells the handler, unless they may not do this.
pub(crate) async fn require_scope(
    State(Access { keyring, scope }): State<Access>,
    mut request: Request,
    next: Next,
) -> Response {
    match keyring.caller(request.headers()).await {
        None => ApiError::no_key().into_response(),
        Some(caller) if caller.scope < scope => {
            ApiError::insufficient_scope(caller.scope, scope).into_response()
        }
        Some(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
    }
}
