//! What to say when no answer comes.

use std::error::Error;

/// Why a server could not be spoken to, with what to do about it.
#[derive(Debug, thiserror::Error)]
#[error("{url} can't be reached: {reason}{hint}")]
pub struct Trouble {
    /// Where it was looked for.
    url: String,
    /// What the system or the library says.
    reason: String,
    /// What to do.
    hint: String,
}

impl Trouble {
    /// Of a failed call.
    pub(super) fn of(error: &reqwest::Error, url: &str, proxy: Option<&str>) -> Self {
        let reason = innermost(error);
        let refused = reason.to_lowercase().contains("refused");
        let hint = match proxy {
            Some(variable) => format!(
                "\n  {variable} is set, so a proxy stands between; if it is not meant for this, add the host to NO_PROXY"
            ),
            None if error.is_connect() && refused => {
                "\n  nothing listens there. Is the service running? `sluicegate serve` starts one; --url or SLUICEGATE_URL names another"
                    .to_owned()
            }
            None if error.is_connect() => "\n  is the URL right? It comes from --url or SLUICEGATE_URL".to_owned(),
            None => String::new(),
        };
        Self { url: url.to_owned(), reason, hint }
    }

    /// Of a local server that answered with something else than it should.
    pub(in crate::cli) fn other(url: &str, reason: impl Into<String>) -> Self {
        Self { url: url.to_owned(), reason: reason.into(), hint: String::new() }
    }
}

/// The cause at the bottom: what wraps it only says that there was one.
fn innermost(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".to_owned();
    }
    let mut cause: &dyn Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
