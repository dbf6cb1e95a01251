//! The configuration in force, one immutable value at a time.

use std::sync::{Arc, PoisonError, RwLock};

use crate::config::Config;

/// The configuration in force. Clones show the same.
#[derive(Clone, Debug)]
pub(super) struct Current(Arc<RwLock<Arc<Config>>>);

impl Current {
    /// The first one.
    pub(super) fn new(config: Arc<Config>) -> Self {
        Self(Arc::new(RwLock::new(config)))
    }

    /// As it is now; it stays so for whoever holds it.
    pub(super) fn get(&self) -> Arc<Config> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Another one holds from now on.
    pub(super) fn set(&self, config: Arc<Config>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = config;
    }
}
