//! Bodies that the client packed.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::header::CONTENT_ENCODING;

use super::super::error::{ApiError, Refusal};

/// Bytes of an encoding's name that are said again: known ones are far shorter.
const LONGEST_NAME: usize = 32;

/// Refuses a call whose body says that it is encoded, however: nothing here unpacks, since limits are on bytes as they
/// come and a live call's are passed on untouched. Read as it is, it would only be no JSON.
pub(crate) async fn refuse_packed_bodies(request: Request, next: Next) -> Response {
    let values = request.headers().get_all(CONTENT_ENCODING).iter();
    let mut encodings =
        values.flat_map(|value| value.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
    let packed = encodings.find(|given| !given.is_empty() && !given.eq_ignore_ascii_case(b"identity"));
    let Some(packed) = packed else { return next.run(request).await };
    let named = &packed[..packed.len().min(LONGEST_NAME)];
    let why = format!(
        "Unsupported content encoding: '{}'. Send the body as it is, without compressing it, and leave the header \
         'content-encoding' out.",
        named.to_ascii_lowercase().escape_ascii()
    );
    ApiError::new(Refusal::UnsupportedMediaType, why).into_response()
}
