//! What every call passes, outermost first.
//!
//! 1. [`observe()`]: gives the call its id, counts it by its route and logs a 5xx; outermost, so that
//!    nothing escapes it, a panic's answer included.
//! 2. catch-panic: a defect in one handler is a 500 for one call.
//! 3. [`refuse_foreign_pages`]: a browser's page of another site can't use a service on its
//!    visitor's own machine.
//! 4. [`read_refused_bodies`]: within it is whatever refuses by what the call says of its body, since it must see what
//!    was left of that.
//! 5. [`refuse_packed_bodies`]: what no handler could read.
//! 6. [`require_scope`]: around each route but the open ones, which know what they ask of their callers; what it
//!    refuses has a body that is read like any other refused one.
//! 7. [`pack()`]: around routes that only read, where `server.compress` is on.
//!
//! Caps on bodies are not a layer: each route has its own, and the readers in `body` take no body
//! without one.

mod access;
mod leftover;
mod observe;
mod origin;
mod pack;
mod packed;

use axum::response::{IntoResponse, Response};
use std::any::Any;

use super::error::ApiError;

pub(super) use access::{Access, require_scope};
pub(super) use leftover::read_refused_bodies;
pub(super) use observe::{ERROR_SOURCE, observe};
pub(super) use origin::{Visitors, refuse_foreign_pages};
pub(super) use pack::pack;
pub(super) use packed::refuse_packed_bodies;

/// The answer to a call whose handler panicked: fixed text, the panic's goes to the log.
pub(super) fn answer_panic(panic: Box<dyn Any + Send + 'static>) -> Response {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
    ApiError::internal(format!("panic: {text}")).into_response()
}
