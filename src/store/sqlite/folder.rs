//! The data folder: private to its user, and held by one process at a time.

use std::fs::{DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::fault::Fault;
use crate::store::StoreError;

/// Where a database's header says how it is written, two bytes: 1, by a rollback journal; 2, by a write-ahead log.
pub(super) const WRITTEN_BY: u64 = 18;

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
        let path = folder_of(database);
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
        let file = private_file(database).map_err(unusable)?;
        discard_foreign_log(database, &file).map_err(unusable)?;
        Ok(Self { path, _lock: lock })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// The folder of a file.
pub(super) fn folder_of(file: &Path) -> PathBuf {
    match file.parent() {
        Some(parent) if parent != Path::new("") => parent.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

/// Whether a process holds the folder of `database`, as a service does. What can't be asked counts as held.
pub(super) fn is_held(database: &Path) -> bool {
    match File::open(folder_of(database).join("lock")) {
        Ok(lock) => flock(&lock, FlockOperation::NonBlockingLockShared).is_err(),
        Err(error) => error.kind() != std::io::ErrorKind::NotFound,
    }
}

/// A backup was put in place of a database that did not end in order: the log that lies there is the other one's, and
/// `SQLite` would write its pages over the backup's.
///
/// A service's database is always written by a log, from its first page on; only a backup is marked as having none.
fn discard_foreign_log(database: &Path, file: &File) -> std::io::Result<()> {
    if !is_marked_as_backup(file) {
        return Ok(());
    }
    for end in ["-wal", "-shm", "-journal"] {
        let name = beside(database, end);
        match std::fs::remove_file(&name) {
            Ok(()) if end != "-shm" => tracing::warn!(
                file = %name.display(),
                "the database is a backup that was put in place of another one: removed the other one's log"
            ),
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Whether a database that nobody holds has another one's log beside it, which a service that starts on it removes.
///
/// Of one that a process holds it is not asked: closing a file gives up every lock that this process has on it.
pub(super) fn has_foreign_log(database: &Path) -> bool {
    !is_held(database)
        && std::fs::metadata(beside(database, "-wal")).is_ok_and(|log| log.len() > 0)
        && File::open(database).is_ok_and(|file| is_marked_as_backup(&file))
}

/// What is said of such a database.
pub(super) fn foreign_log() -> StoreError {
    StoreError::Damaged(
        "another database's log lies beside it; start the service on it once, which removes that".to_owned(),
    )
}

fn is_marked_as_backup(file: &File) -> bool {
    let mut written_by = [0; 2];
    // An empty file is no database yet.
    file.read_exact_at(&mut written_by, WRITTEN_BY).is_ok() && written_by == [1, 1]
}

fn beside(database: &Path, end: &str) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(end);
    name.into()
}

/// Opens a file that only its user may read, making it if need be.
pub(super) fn private_file(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}
