//! The data folder: private to its user, and held by one process at a time.

use std::fs::{DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::fault::Fault;
use crate::store::StoreError;

/// The held folder; dropping it lets another process in.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    _lock: File,
}

impl Folder {
    /// Makes the folder of `database` if need be, holds it, and makes the database's file.
    ///
    /// The lock is a file of its own: `SQLite` locks the database itself, and a backup from outside may
    /// read that while this process runs.
    pub(super) fn hold(database: &Path) -> Result<Self, Fault> {
        let path = match database.parent() {
            Some(parent) if parent != Path::new("") => parent.to_path_buf(),
            _ => PathBuf::from("."),
        };
        let unusable =
            |error| StoreError::Unavailable(format!("the data folder {}: {error}", path.display()));
        DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(unusable)?;
        let lock = private_file(&path.join("lock")).map_err(unusable)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(StoreError::InUse(path).into()),
            Err(error) => return Err(unusable(error.into()).into()),
        }
        // SQLite gives its log the database's permissions, so making the file first makes both private.
        private_file(database).map_err(unusable)?;
        Ok(Self { path, _lock: lock })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// Opens a file that only its user may read, making it if need be.
pub(super) fn private_file(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}
