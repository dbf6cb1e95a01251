//! The form of an upload: its parts come in any order.

use std::collections::BTreeMap;

use axum::body::Body;
use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_TYPE;

use super::super::body::{Incoming, media_type};
use super::super::error::{ApiError, Refusal, Result};
use super::multipart::{Event, Multipart, MultipartError, parameters};

/// Most bytes of a part that is no file.
const MAX_FIELD: usize = 64 << 10;
/// Characters kept of a file's name, as file systems have them: a list holds thousands.
const LONGEST_NAME: usize = 255;
/// The name of a file that came without one.
const NAMELESS: &str = "upload";

/// A form being read.
#[derive(Debug)]
pub(crate) struct Form {
    body: Incoming,
    parts: Multipart,
    fields: BTreeMap<String, String>,
}

impl Form {
    /// Begins to read a call's form.
    ///
    /// # Errors
    /// 415 if it sends none.
    pub(crate) fn new(headers: &HeaderMap, body: Body) -> Result<Self> {
        let given = media_type(headers);
        if given != "multipart/form-data" {
            let why = format!("Unsupported content type: '{given}'. Send the file as 'multipart/form-data'.");
            return Err(ApiError::new(Refusal::UnsupportedMediaType, why));
        }
        let whole = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let boundary = parameters(whole).into_iter().find(|(key, _)| key.eq_ignore_ascii_case("boundary"));
        match boundary {
            Some((_, boundary)) if (1..=70).contains(&boundary.len()) => {
                let parts = Multipart::new(&boundary);
                Ok(Self { body: Incoming::new(body), parts, fields: BTreeMap::new() })
            }
            _ => {
                Err(ApiError::new(Refusal::InvalidValue, "The form's content type names no usable boundary."))
            }
        }
    }

    /// The length the client announced, if it did.
    pub(crate) fn announced(&self) -> Option<u64> {
        self.body.announced()
    }

    /// Reads up to the file's content and tells the file's name.
    ///
    /// # Errors
    /// 400 if the form ends without a file, and those of reading.
    pub(crate) async fn file(&mut self) -> Result<String> {
        match self.fields_until_file().await? {
            Some(filename) => Ok(filename),
            None => Err(ApiError::missing("file")),
        }
    }

    /// The next piece of the file's content; `None` at its end.
    ///
    /// # Errors
    /// Those of reading.
    pub(crate) async fn piece(&mut self) -> Result<Option<Bytes>> {
        match self.event().await? {
            Some(Event::Data(data)) => Ok(Some(data)),
            _ => Ok(None),
        }
    }

    /// Reads what follows the file and gives the fields.
    ///
    /// # Errors
    /// 400 for a second file, and those of reading.
    pub(crate) async fn finish(mut self) -> Result<BTreeMap<String, String>> {
        match self.fields_until_file().await? {
            None => Ok(self.fields),
            Some(_) => Err(ApiError::invalid("file", "Only one file can be uploaded at a time.")),
        }
    }

    /// Collects fields until a file begins, whose name it gives, or the form ends.
    async fn fields_until_file(&mut self) -> Result<Option<String>> {
        let mut field: Option<(String, Vec<u8>)> = None;
        while let Some(event) = self.event().await? {
            match (event, &mut field) {
                (Event::Part { name, filename }, _) if name == "file" => {
                    let named = filename.filter(|name| !name.is_empty());
                    let named = named.map(|name| name.chars().take(LONGEST_NAME).collect());
                    return Ok(Some(named.unwrap_or_else(|| NAMELESS.to_owned())));
                }
                (Event::Part { name, .. }, _) => field = Some((name, Vec::new())),
                (Event::Data(data), Some((name, value))) => {
                    if value.len() + data.len() > MAX_FIELD {
                        return Err(ApiError::new(Refusal::TooLarge, "A form field is too long.")
                            .param(name.as_str()));
                    }
                    value.extend_from_slice(&data);
                }
                (Event::Data(_), None) => {}
                (Event::PartEnd, _) => {
                    if let Some((name, value)) = field.take() {
                        self.fields.insert(name, String::from_utf8_lossy(&value).into_owned());
                    }
                }
            }
        }
        Ok(None)
    }

    async fn event(&mut self) -> Result<Option<Event>> {
        loop {
            if let Some(event) = self.parts.next().map_err(malformed)? {
                return Ok(Some(event));
            }
            match self.body.next().await? {
                Some(piece) => self.parts.push(piece),
                None => {
                    self.parts.finish().map_err(malformed)?;
                    return Ok(None);
                }
            }
        }
    }
}

fn malformed(error: MultipartError) -> ApiError {
    ApiError::new(Refusal::InvalidValue, format!("The multipart form is malformed: {error}."))
}
