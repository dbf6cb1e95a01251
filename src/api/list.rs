//! `OpenAI`'s list object.

use serde::Serialize;

/// One page. `has_more` is always told: the Python SDK asks on for ever without it.
#[derive(Debug, Serialize)]
pub(crate) struct List<T> {
    object: &'static str,
    data: Vec<T>,
    first_id: Option<String>,
    last_id: Option<String>,
    has_more: bool,
}

impl<T> List<T> {
    /// A page of things whose ids `id` tells; the SDKs' next page starts after the last one's.
    pub(crate) fn new(data: Vec<T>, has_more: bool, id: impl Fn(&T) -> &str) -> Self {
        let first_id = data.first().map(|entry| id(entry).to_owned());
        let last_id = data.last().map(|entry| id(entry).to_owned());
        // An empty page that promises more would make both SDKs ask for ever.
        let has_more = has_more && !data.is_empty();
        Self { object: "list", data, first_id, last_id, has_more }
    }
}
