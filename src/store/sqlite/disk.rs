//! The disk: how much is free, whether new work is taken, and the ballast that pays for a clean stop.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate, statvfs};

use super::folder::private_file;

/// What is given up on a full disk, so that results in flight and the log's checkpoint still fit.
const BALLAST_BYTES: u64 = 64 * 1024 * 1024;
/// Left free beside a new ballast: making it must not be what fills the disk.
const BALLAST_MARGIN: u64 = 16 * 1024 * 1024;

/// Whether new work is taken, decided by what was measured.
#[derive(Debug)]
pub(super) struct Disk {
    folder: PathBuf,
    min_free: u64,
    free: u64,
    ballast: Ballast,
    failing: bool,
    refusing: bool,
}

/// The ballast file's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ballast {
    /// There was never room for it.
    Missing,
    /// In place.
    Held,
    /// Given up on a full disk. Until it is back nothing new is taken: the room it left is for results.
    Released,
}

impl Disk {
    /// Measures the disk of `folder` and puts the ballast in place if it fits.
    pub(super) fn new(folder: &Path, min_free: u64) -> Self {
        let mut disk = Self {
            folder: folder.to_path_buf(),
            min_free,
            free: 0,
            ballast: Ballast::Missing,
            failing: false,
            refusing: false,
        };
        if std::fs::metadata(disk.ballast_path()).is_ok_and(|file| file.len() >= BALLAST_BYTES) {
            disk.ballast = Ballast::Held;
        }
        disk.measure();
        disk
    }

    /// Bytes free at the last measurement.
    pub(super) fn free_bytes(&self) -> u64 {
        self.free
    }

    /// Whether nothing new is taken.
    pub(super) fn is_refusing(&self) -> bool {
        self.refusing
    }

    /// Whether the last write failed.
    pub(super) fn is_failing(&self) -> bool {
        self.failing
    }

    /// Asks how much is free, and puts the ballast back when there is room.
    pub(super) fn measure(&mut self) {
        self.free = free_bytes(&self.folder);
        let room = self.low_water().saturating_add(BALLAST_BYTES + BALLAST_MARGIN);
        if self.ballast != Ballast::Held && !self.failing && self.free >= room {
            match self.make_ballast() {
                Ok(()) => {
                    self.ballast = Ballast::Held;
                    self.free = free_bytes(&self.folder);
                }
                Err(error) => {
                    tracing::warn!(
                        %error,
                        "the ballast file could not be made: a full disk can't be recorded on to its end; make room"
                    );
                    // What was made of it may be what fills the disk.
                    let _ = std::fs::remove_file(self.ballast_path());
                }
            }
        }
        self.decide();
    }

    /// A write failed for lack of a disk: gives up the ballast.
    pub(super) fn write_failed(&mut self) {
        self.failing = true;
        if self.ballast == Ballast::Held && std::fs::remove_file(self.ballast_path()).is_ok() {
            tracing::warn!("the disk is full: the ballast file was released to record what is in flight");
            self.ballast = Ballast::Released;
        }
        self.free = free_bytes(&self.folder);
        self.decide();
    }

    /// A write went through.
    pub(super) fn write_succeeded(&mut self) {
        if self.failing {
            self.failing = false;
            self.measure();
        }
    }

    fn decide(&mut self) {
        self.refusing = self.failing || self.ballast == Ballast::Released || self.free < self.low_water();
    }

    /// Under it nothing new is taken. A little higher once under it, so that one upload's worth of space
    /// doesn't switch dispatch on and off.
    fn low_water(&self) -> u64 {
        if self.refusing { self.min_free.saturating_add(self.min_free / 16) } else { self.min_free }
    }

    fn ballast_path(&self) -> PathBuf {
        self.folder.join("ballast")
    }

    fn make_ballast(&self) -> std::io::Result<()> {
        let file = private_file(&self.ballast_path())?;
        match fallocate(&file, FallocateFlags::empty(), 0, BALLAST_BYTES) {
            Err(rustix::io::Errno::OPNOTSUPP) => fill(file),
            other => other.map_err(Into::into),
        }
    }
}

/// Takes the room by writing, where the file system can't reserve it.
fn fill(mut file: File) -> std::io::Result<()> {
    let zeros = vec![0; 1024 * 1024];
    for _ in 0..BALLAST_BYTES / zeros.len() as u64 {
        file.write_all(&zeros)?;
    }
    file.sync_all()
}

/// Bytes free to this user; as many as can be where the disk can't say.
pub(super) fn free_bytes(folder: &Path) -> u64 {
    statvfs(folder).map_or(u64::MAX, |disk| disk.f_bavail.saturating_mul(disk.f_frsize))
}
