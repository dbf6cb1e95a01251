//! A provider's key while the service runs: read once, and again when there is a reason.

use std::sync::{Mutex, PoisonError};

use super::key::{Fingerprint, KeyError, KeySource};
use super::secret::Secret;

/// A key and what it was read from. Methods that read block as [`KeySource::read`] does.
#[derive(Debug)]
pub struct Credential {
    source: KeySource,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    key: Option<Secret>,
    fingerprint: Option<Fingerprint>,
}

impl Credential {
    /// Not read yet: a key file may appear after the start.
    pub fn new(source: KeySource) -> Self {
        Self { source, held: Mutex::default() }
    }

    /// The key as last read; `None` if it never could be.
    pub fn current(&self) -> Option<Secret> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).key.clone()
    }

    /// Reads again; whether the key is another one now.
    ///
    /// # Errors
    /// It can't be read; the key held stays.
    pub fn reread(&self) -> Result<bool, KeyError> {
        // Taken before reading: a file replaced in between is then seen as changed once more.
        let fingerprint = self.source.fingerprint();
        let read = self.source.read();
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.fingerprint = fingerprint;
        let key = Some(read?);
        let changed = held.key != key;
        held.key = key;
        Ok(changed)
    }

    /// Reads again if the file changed since the last reading; whether the key is another one now.
    ///
    /// # Errors
    /// It changed and can't be read; the key held stays.
    pub fn reread_if_changed(&self) -> Result<bool, KeyError> {
        let known = self.held.lock().unwrap_or_else(PoisonError::into_inner).fingerprint;
        if self.source.changed_since(known) { self.reread() } else { Ok(false) }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_changed_file_gives_another_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let credential = Credential::new(KeySource::File(path.clone()));
        assert!(credential.reread().is_err());
        assert!(!credential.reread_if_changed().unwrap());
        assert_eq!(credential.current(), None);

        fs::write(&path, "sk-first").unwrap();
        assert!(credential.reread_if_changed().unwrap());
        assert_eq!(credential.current(), Some(Secret::new("sk-first")));
        assert!(!credential.reread_if_changed().unwrap());
        assert!(!credential.reread().unwrap());

        fs::remove_file(&path).unwrap();
        assert!(credential.reread_if_changed().is_err());
        assert_eq!(credential.current(), Some(Secret::new("sk-first")));
    }
}
