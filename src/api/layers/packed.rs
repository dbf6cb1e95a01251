//! Bodies that the client packed.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::header::CONTENT_ENCODING;

use super::super::error::{ApiError, Refusal};

/// What nothing here unpacks: limits are on bytes as they come, and a live call's bytes are passed on untouched.
const PACKED: [&str; 6] = ["gzip", "x-gzip", "deflate", "br", "zstd", "compress"];

/// Refuses a call whose body says that it is compressed: read as it is, it would only be no JSON.
pub(crate) async fn refuse_packed_bodies(request: Request, next: Next) -> Response {
    let encodings =
        request.headers().get_all(CONTENT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let mut encodings = encodings.flat_map(|value| value.split(',')).map(str::trim);
    let packed = encodings.find_map(|given| PACKED.into_iter().find(|it| it.eq_ignore_ascii_case(given)));
    let Some(packed) = packed else { return next.run(request).await };
    let why =
        format!("Unsupported content encoding: '{packed}'. Send the body as it is, without compressing it.");
    ApiError::new(Refusal::UnsupportedMediaType, why).into_response()
}
