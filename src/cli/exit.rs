//! Exit codes, on which scripts rely.

use std::process::ExitCode;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0: it was done; every item of a batch succeeded.
    Success,
    /// 1: some items failed. Of `serve`: it ended other than by a drain.
    SomeFailed,
    /// 2: wrong use or configuration.
    Usage,
    /// 3: the batch failed, expired or was cancelled.
    BatchNotCompleted,
    /// 4: the server or the provider can't be reached.
    Unreachable,
    /// 5: the key was refused.
    KeyRefused,
    /// 6: a local file or the disk.
    Local,
    /// 130: interrupted, as shells count Ctrl-C.
    Interrupted,
}

impl Exit {
    /// The code itself.
    pub const fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::SomeFailed => 1,
            Self::Usage => 2,
            Self::BatchNotCompleted => 3,
            Self::Unreachable => 4,
            Self::KeyRefused => 5,
            Self::Local => 6,
            Self::Interrupted => 130,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
