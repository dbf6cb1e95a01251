//! A copy of the database file, page by page, as it is at one moment.
//!
//! It reads on a connection of its own, from one state that it holds until the end, so the writer never waits for it;
//! what is written meanwhile stays in the log that long. Where a service runs, the copy takes a small part of the time
//! and rests in between: the backup takes longer, and the service goes on as before.

use std::fs::File;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};
use rustix::fs::{FlockOperation, flock};

use super::Database;
use super::connection::{PAGE_BYTES, open_reader, open_writer};
use super::disk::free_bytes;
use super::fault::{Fault, Severity, fatal};
use super::folder::{WRITTEN_BY, folder_of, foreign_log, has_foreign_log, is_held, private_file};
use super::schema;
use crate::domain::day::Day;
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::backup::{BackupError, BackupProgress, BackupReport, FOLDER};

/// Pages of one step: 1 MiB.
const STEP: i32 = 256;
/// Steps between two syncs of the copy. A disk that has to take gigabytes at once makes every commit wait for them.
const STEPS_UNSYNCED: u32 = 16;
/// How long it rests after a step, as a multiple of what the step took, while a service runs.
const REST: u32 = 9;
/// The longest rest.
const LONGEST_REST: Duration = Duration::from_secs(1);
/// How often the log says how far it is.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// Makes the backup.
pub(in crate::store) fn backup(
    database: &Path,
    to: &Path,
    min_free: u64,
    tell: &mut dyn FnMut(BackupProgress) -> bool,
) -> Result<BackupReport, BackupError> {
    let began = Instant::now();
    if !database.is_file() {
        return Err(BackupError::Missing(database.to_owned()));
    }
    if has_foreign_log(database) {
        return Err(BackupError::Store(foreign_log()));
    }
    if to.symlink_metadata().is_ok() {
        return Err(BackupError::Exists(to.to_owned()));
    }
    let partial = Partial::begin(to)?;
    let disks = Disks::of(database, to, min_free)?;
    let rests = is_held(database);
    copy(database, &partial, &disks, rests, tell)?;
    let bytes = partial.finish(to)?;
    Ok(BackupReport { path: to.to_owned(), bytes, took: began.elapsed() })
}

fn copy(
    database: &Path,
    partial: &Partial,
    disks: &Disks,
    rests: bool,
    tell: &mut dyn FnMut(BackupProgress) -> bool,
) -> Result<(), BackupError> {
    let of_store = |fault: Fault| BackupError::Store(fault.into());
    let source = snapshot(database).map_err(of_store)?;
    let pages: u64 = pages(&source).map_err(of_store)?;
    let total = pages * u64::from(PAGE_BYTES);
    disks.require(total)?;
    let mut target = partial.database()?;
    let running = Backup::new(&source, &mut target).map_err(|error| of_store(error.into()))?;
    let mut steps = 0_u32;
    loop {
        let at = Instant::now();
        let stepped = running.step(STEP).map_err(|error| partial.failed(error))?;
        if stepped == StepResult::Done {
            return Ok(());
        }
        steps += 1;
        if steps.is_multiple_of(STEPS_UNSYNCED) {
            partial.file.sync_data().map_err(|error| partial.refused(error))?;
            disks.require(0)?;
        }
        let left = u64::try_from(running.progress().remaining).unwrap_or(0) * u64::from(PAGE_BYTES);
        if !tell(BackupProgress { copied: total.saturating_sub(left), total }) {
            return Err(BackupError::Interrupted);
        }
        if rests {
            std::thread::sleep((at.elapsed() * REST).min(LONGEST_REST));
        }
    }
}

/// A connection that sees one state of the database from now on.
fn snapshot(database: &Path) -> Result<Connection, Fault> {
    let connection = open_reader(database)?;
    connection.execute_batch("BEGIN")?;
    match schema::marked(&connection)? {
        (0, _) => Err(StoreError::Damaged("it is no store of this program".to_owned()).into()),
        _ => Ok(connection),
    }
}

fn pages(connection: &Connection) -> Result<u64, Fault> {
    let pages: i64 = connection.query_row("PRAGMA page_count", [], |row| row.get(0))?;
    Ok(u64::try_from(pages).unwrap_or(0))
}

/// The file that becomes the backup; removed unless it does.
struct Partial {
    path: PathBuf,
    file: File,
    complete: bool,
}

impl Partial {
    fn begin(to: &Path) -> Result<Self, BackupError> {
        let mut name = to.file_name().unwrap_or_default().to_owned();
        name.push(".partial");
        let path = to.with_file_name(name);
        let refused = |error| BackupError::File { path: path.clone(), error };
        let file = private_file(&path).map_err(refused)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(BackupError::Running),
            Err(error) => return Err(refused(error.into())),
        }
        // What one that was killed left behind.
        file.set_len(0).map_err(refused)?;
        Ok(Self { path, file, complete: false })
    }

    /// It as a database. Nothing but the whole of it counts, so it needs no journal and no syncs of its own.
    fn database(&self) -> Result<Connection, BackupError> {
        let open = || -> rusqlite::Result<Connection> {
            let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let connection = Connection::open_with_flags(&self.path, flags)?;
            connection.pragma_update_and_check(None, "journal_mode", "OFF", |_| Ok(()))?;
            connection.pragma_update(None, "synchronous", "OFF")?;
            connection.pragma_update(None, "cache_size", -4_096)?;
            Ok(connection)
        };
        open().map_err(|error| self.failed(error))
    }

    /// Makes it what it is to be, all of it on the disk before it has its name.
    fn finish(mut self, to: &Path) -> Result<u64, BackupError> {
        let finished = || {
            // It has no log. Marked so, a log that lies beside it can't be taken for its own where it is put.
            self.file.write_all_at(&[1, 1], WRITTEN_BY)?;
            self.file.sync_all()?;
            std::fs::rename(&self.path, to)?;
            File::open(folder_of(to))?.sync_all()?;
            Ok(self.file.metadata()?.len())
        };
        let bytes = finished().map_err(|error| self.refused(error))?;
        self.complete = true;
        Ok(bytes)
    }

    fn refused(&self, error: std::io::Error) -> BackupError {
        BackupError::File { path: self.path.clone(), error }
    }

    /// What went wrong in the middle, on whichever side.
    fn failed(&self, error: rusqlite::Error) -> BackupError {
        match Fault::from(error).answer() {
            StoreError::Full => self.refused(rustix::io::Errno::NOSPC.into()),
            error => BackupError::Store(error),
        }
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.complete {
            // Its name says what it is if this fails.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Where the database and its backup lie, and what must stay free.
struct Disks {
    of_database: PathBuf,
    of_backup: PathBuf,
    same: bool,
    min_free: u64,
}

impl Disks {
    fn of(database: &Path, to: &Path, min_free: u64) -> Result<Self, BackupError> {
        let (of_database, of_backup) = (folder_of(database), folder_of(to));
        let device = |path: &Path| {
            let refused = |error| BackupError::File { path: path.to_owned(), error };
            Ok(std::fs::metadata(path).map_err(refused)?.dev())
        };
        let same = device(&of_database)? == device(&of_backup)?;
        Ok(Self { of_database, of_backup, same, min_free })
    }

    /// That so many bytes more leave enough free. What a service writes beside a backup stays in its log, so that the
    /// database's disk fills faster than without.
    fn require(&self, bytes: u64) -> Result<(), BackupError> {
        let spared = |folder: &Path, reserve: u64| free_bytes(folder).saturating_sub(reserve);
        let (needed, free) = if self.same || bytes == 0 {
            // At least one byte: without it a disk below its reserve would do.
            (bytes.max(1), spared(&self.of_database, self.min_free))
        } else {
            (bytes, spared(&self.of_backup, 0))
        };
        if free < needed { Err(BackupError::NoRoom { needed, free }) } else { Ok(()) }
    }
}

/// A name that sorts by time, such as `store-2026-11-21-174501.db`, in UTC.
fn name(now: Timestamp) -> String {
    let (day, second) = (Day::of(now), now.seconds().rem_euclid(86_400));
    let (hours, minutes, seconds) = (second / 3_600, second / 60 % 60, second % 60);
    format!("store-{day}-{hours:02}{minutes:02}{seconds:02}.db")
}

/// Removes what backups left behind that were killed. One that somebody still writes is held.
fn remove_left_over(folder: &Path) {
    let partial = |path: &Path| path.extension().is_some_and(|extension| extension == "partial");
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for path in entries.flatten().map(|entry| entry.path()).filter(|path| partial(path)) {
        let held = File::open(&path).map(|file| flock(&file, FlockOperation::NonBlockingLockExclusive));
        if matches!(held, Ok(Ok(()))) {
            // It takes room and does no other harm.
            let _ = std::fs::remove_file(&path);
        }
    }
}

/// Folds what piled up in the log while one state was held. The writer would do so, but so much of it at once would hold
/// it up; from beside it does not.
fn fold_what_piled_up(database: &Path) {
    let fold = || -> Result<(), Fault> {
        let connection = open_writer(database)?;
        Ok(connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?)
    };
    match fold() {
        Err(fault) if fault.severity() == Severity::Fatal => fatal(&fault),
        // The writer meets the same, and knows what to do.
        _ => {}
    }
}

impl Database {
    /// Makes a backup beside the database, one at a time, and says so in the log.
    pub(in crate::store) fn back_up(
        &self,
        now: Timestamp,
        is_ending: &dyn Fn() -> bool,
    ) -> Result<BackupReport, BackupError> {
        let _alone = self.backing_up.try_lock().or_else(|error| match error {
            std::sync::TryLockError::Poisoned(poisoned) => Ok(PoisonError::into_inner(poisoned)),
            std::sync::TryLockError::WouldBlock => Err(BackupError::Running),
        })?;
        let folder = folder_of(&self.path).join(FOLDER);
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder);
        made.map_err(|error| BackupError::File { path: folder.clone(), error })?;
        remove_left_over(&folder);
        let to = folder.join(name(now));
        tracing::info!(file = %to.display(), "a backup begins");
        let mut told = Instant::now();
        let mut tell = |progress: BackupProgress| {
            if told.elapsed() >= TOLD_EVERY {
                told = Instant::now();
                tracing::info!(copied = progress.copied, total = progress.total, "the backup goes on");
            }
            !is_ending()
        };
        let backup = backup(&self.path, &to, self.min_free, &mut tell);
        fold_what_piled_up(&self.path);
        match &backup {
            Ok(BackupReport { bytes, took, .. }) => {
                let seconds = took.as_secs_f64();
                tracing::info!(file = %to.display(), bytes, seconds, "the backup is complete");
            }
            Err(error) => tracing::warn!(%error, "no backup was made; nothing is left of it"),
        }
        backup
    }
}
