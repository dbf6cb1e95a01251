//! Who connects, by what the file that holds the URL says at the time: a password that is changed at the server and in the
//! file holds without a new start.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use tokio_postgres::config::Config;

use super::server::parse;
use crate::complaint::Complaint;

/// A file with a URL, of which the user and the password count.
pub(super) struct Credentials {
    file: PathBuf,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// What the file held last that could be used.
    text: String,
    /// What that means; `None`: nothing was read yet.
    config: Option<Config>,
    complaint: Complaint,
}

impl Credentials {
    pub(super) fn new(file: PathBuf) -> Self {
        Self { file, known: Mutex::default() }
    }

    /// Sets the user and the password that the file has now; those that it had last where it can't be used.
    pub(super) async fn lay_over(&self, config: &mut Config) {
        let read = tokio::fs::read_to_string(&self.file).await;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match read.map_err(|error| error.to_string()).and_then(|text| known.take(text.trim())) {
            Ok(()) => drop(known.complaint.end()),
            Err(reason) if known.complaint.begin() => {
                let file = self.file.display();
                tracing::warn!(%file, reason, "store.url_file can't be used any more; its last user and password go on");
            }
            Err(_) => {}
        }
        let Some(newer) = &known.config else { return };
        if let Some(user) = newer.get_user() {
            config.user(user);
        }
        if let Some(password) = newer.get_password() {
            config.password(password);
        }
    }
}

impl Known {
    /// Takes what was read, if it is new; why not, without what it holds.
    fn take(&mut self, text: &str) -> Result<(), String> {
        if self.config.is_some() && self.text == text {
            return Ok(());
        }
        let newer = parse(text)?.0;
        if newer.get_user().is_none() && newer.get_password().is_none() {
            return Err("it names no user".to_owned());
        }
        if self.config.replace(newer).is_some() {
            tracing::info!(
                "store.url_file holds something else: its user and password count for new connections"
            );
        }
        text.clone_into(&mut self.text);
        Ok(())
    }
}
