//! `POST /v1/files`

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use http::HeaderMap;
use tokio::sync::mpsc;

use crate::domain::file::FileSource;

use super::super::body::too_large;
use super::super::caller::Caller;
use super::super::error::{ApiError, Refusal, Result};
use super::super::intake::{Arrival, Origin, Reading};
use super::super::pieces::{self, Piece};
use super::super::state::Api;
use super::FileView;
use super::form::Form;

/// What the form's other parts may add to the file's own size.
const FORM_ALLOWANCE: u64 = 1 << 20;
/// How long a client may want its file kept, in seconds: `OpenAI`'s range.
pub(crate) const LIFETIME_SECONDS: std::ops::RangeInclusive<u64> = 3_600..=2_592_000;

/// Takes a file in while it arrives. What the form says of it may come after it, so nothing is
/// refused for that before its end; what was stored is given up then.
pub(crate) async fn create_file(
    State(api): State<Api>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<FileView>> {
    api.refuse_while_draining()?;
    let mut form = Form::new(&headers, body)?;
    if form.announced().is_some_and(|length| length > api.settings.max_file + FORM_ALLOWANCE) {
        return Err(too_large(api.settings.max_file));
    }
    let arrival = Arrival {
        app: caller.app,
        source: FileSource::Upload,
        filename: form.file().await?,
        origin: Origin::Stream,
        reading: Reading::Exactly,
    };
    let (to_parser, pieces) = pieces::channel();
    let taking = api.intake.take_in(arrival, |lines| pieces::push_all(pieces, |bytes| lines.push(bytes)));
    let (options, draft) = tokio::join!(send_on(form, to_parser), taking);
    // Whoever stopped first tells why: a parser that takes no more leaves the options unread.
    let options = options?;
    let draft = draft.map_err(|error| error.or_param("file"))?;
    let file = draft.finish(options.lifetime).await?;
    Ok(Json(file.into()))
}

/// What the form says of the file.
#[derive(Debug, Default, PartialEq, Eq)]
struct Options {
    lifetime: Option<Duration>,
}

/// Sends the file's content to the parser and reads the form's other parts. The parser learns that
/// the file is whole only after the form was found right.
async fn send_on(mut form: Form, to_parser: mpsc::Sender<Piece>) -> Result<Options> {
    while let Some(piece) = form.piece().await? {
        if to_parser.send(Piece::Bytes(piece)).await.is_err() {
            return Ok(Options::default());
        }
    }
    let options = Options::read(&form.finish().await?)?;
    let _ = to_parser.send(Piece::End).await;
    Ok(options)
}

impl Options {
    fn read(fields: &BTreeMap<String, String>) -> Result<Self> {
        match fields.get("purpose").map(String::as_str) {
            None => return Err(ApiError::missing("purpose")),
            Some("batch") => {}
            Some(other) => {
                let other: String = other.chars().take(100).collect();
                return Err(ApiError::invalid(
                    "purpose",
                    format!("'{other}' is not one of ['batch'] - 'purpose'"),
                ));
            }
        }
        match (fields.get("expires_after[anchor]"), fields.get("expires_after[seconds]")) {
            (None, None) => Ok(Self { lifetime: None }),
            (None, Some(_)) => Err(ApiError::missing("expires_after[anchor]")),
            (Some(_), None) => Err(ApiError::missing("expires_after[seconds]")),
            (Some(anchor), Some(seconds)) => {
                lifetime(anchor, seconds).map(|lifetime| Self { lifetime: Some(lifetime) })
            }
        }
    }
}

fn lifetime(anchor: &str, seconds: &str) -> Result<Duration> {
    if anchor != "created_at" {
        let why = "Invalid value for 'expires_after[anchor]'. Supported values are: 'created_at'.";
        return Err(ApiError::invalid("expires_after[anchor]", why));
    }
    let param = "expires_after[seconds]";
    let Ok(seconds) = seconds.parse::<u64>() else {
        let why = format!("Invalid type for '{param}': expected a whole number.");
        return Err(ApiError::new(Refusal::InvalidType, why).param(param));
    };
    if LIFETIME_SECONDS.contains(&seconds) {
        return Ok(Duration::from_secs(seconds));
    }
    Err(ApiError::invalid(param, format!("Invalid '{param}': it must be from 3600 to 2592000.")))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(&[("purpose", "batch")], Ok(None))]
    #[case(
        &[("purpose", "batch"), ("expires_after[anchor]", "created_at"), ("expires_after[seconds]", "3600")],
        Ok(Some(3_600))
    )]
    #[case(&[], Err(Refusal::MissingParameter))]
    #[case(&[("purpose", "vision")], Err(Refusal::InvalidValue))]
    #[case(&[("purpose", "batch"), ("expires_after[seconds]", "3600")], Err(Refusal::MissingParameter))]
    #[case(
        &[("purpose", "batch"), ("expires_after[anchor]", "created_at"), ("expires_after[seconds]", "1h")],
        Err(Refusal::InvalidType)
    )]
    #[case(
        &[("purpose", "batch"), ("expires_after[anchor]", "created_at"), ("expires_after[seconds]", "3599")],
        Err(Refusal::InvalidValue)
    )]
    #[case(
        &[("purpose", "batch"), ("expires_after[anchor]", "now"), ("expires_after[seconds]", "3600")],
        Err(Refusal::InvalidValue)
    )]
    fn forms(#[case] fields: &[(&str, &str)], #[case] lifetime: std::result::Result<Option<u64>, Refusal>) {
        let fields = fields.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let read = Options::read(&fields).map(|options| options.lifetime.map(|time| time.as_secs()));
        assert_eq!(read.map_err(|error| error.refusal()), lifetime);
    }
}
