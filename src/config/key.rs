//! Where a provider's key comes from, and reading it.

use std::fs::Metadata;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, SystemTime};

use super::secret::Secret;

/// Where a provider's key comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// An environment variable; it can't change, so its value was taken at start.
    Variable {
        /// Its name.
        name: String,
        /// Its value.
        key: Secret,
    },
    /// A file, read again when it changes.
    File(PathBuf),
    /// A command for `sh`, whose output is the key.
    Command(Secret),
}

/// Why there is no key. None of these quotes what was read.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file can't be read.
    #[error("the key file {path} can't be read: {error}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The command can't be started or its output can't be read.
    #[error("the key command can't be run: {0}")]
    NotRun(io::Error),
    /// The command failed.
    #[error("the key command ended with {0}")]
    Failed(ExitStatus),
    /// The command did not end in time.
    #[error("the key command did not end within {} s", COMMAND_TIMEOUT.as_secs())]
    TimedOut,
    /// There is nothing in it.
    #[error("the key is empty")]
    Empty,
    /// It can't be sent in a header.
    #[error("the key holds characters that no header can carry: it must be one line of visible ASCII")]
    NotSendable,
}

/// What tells that a file was replaced or rewritten, without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    modified: Option<SystemTime>,
    inode: u64,
    length: u64,
}

const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);
const COMMAND_LOOK: Duration = Duration::from_millis(20);

/// No provider's key comes near it; a file of that size was named by mistake.
const LONGEST_KEY: u64 = 16 << 10;

impl KeySource {
    /// Reads the key. Blocks: on the disk, or up to 30 s on the command.
    ///
    /// # Errors
    /// The source can't be read, or what it gives is no key.
    pub fn read(&self) -> Result<Secret, KeyError> {
        match self {
            Self::Variable { key, .. } => checked(key.expose()),
            Self::File(path) => {
                let text = std::fs::File::open(path).and_then(read_short);
                checked(&text.map_err(|error| KeyError::Unreadable { path: path.clone(), error })?)
            }
            Self::Command(command) => checked(&run(command.expose())?),
        }
    }

    /// Whether both give the same key, as far as that can be told without reading anything.
    pub(super) fn is_same_key(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Variable { key, .. }, Self::Variable { key: other, .. }) => key == other,
            (one, other) => one == other,
        }
    }

    /// The file's present state, to be compared with an earlier one; `None` for what is not a file or is gone.
    pub fn fingerprint(&self) -> Option<Fingerprint> {
        match self {
            Self::File(path) => Fingerprint::of_file(path),
            Self::Variable { .. } | Self::Command(_) => None,
        }
    }

    /// Whether the file differs from what it was. Never for other sources.
    pub fn changed_since(&self, earlier: Option<Fingerprint>) -> bool {
        self.fingerprint() != earlier
    }
}

impl Fingerprint {
    /// A file's present state; `None` if it is gone.
    pub fn of_file(path: &Path) -> Option<Self> {
        std::fs::metadata(path).ok().map(|metadata| Self::of(&metadata))
    }

    fn of(metadata: &Metadata) -> Self {
        #[cfg(unix)]
        let inode = std::os::unix::fs::MetadataExt::ino(metadata);
        #[cfg(not(unix))]
        let inode = 0;
        Self { modified: metadata.modified().ok(), inode, length: metadata.len() }
    }
}

fn read_short(source: impl Read) -> io::Result<String> {
    let mut text = String::new();
    source.take(LONGEST_KEY).read_to_string(&mut text)?;
    Ok(text)
}

fn checked(text: &str) -> Result<Secret, KeyError> {
    let key = text.trim();
    if key.is_empty() {
        Err(KeyError::Empty)
    } else if key.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(Secret::new(key))
    } else {
        Err(KeyError::NotSendable)
    }
}

fn run(command: &str) -> Result<String, KeyError> {
    let mut child = Command::new("sh")
        .args(["-c", command])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(KeyError::NotRun)?;
    let status = wait(&mut child)?;
    if !status.success() {
        return Err(KeyError::Failed(status));
    }
    // A pipe holds more than the longest key, so the command could end without being read from.
    child.stdout.take().map_or(Ok(String::new()), read_short).map_err(KeyError::NotRun)
}

fn wait(child: &mut Child) -> Result<ExitStatus, KeyError> {
    let looks = COMMAND_TIMEOUT.as_millis() / COMMAND_LOOK.as_millis();
    for _ in 0..looks {
        if let Some(status) = child.try_wait().map_err(KeyError::NotRun)? {
            return Ok(status);
        }
        std::thread::sleep(COMMAND_LOOK);
    }
    // Both can only fail for a child that has ended meanwhile.
    let _ = child.kill();
    let _ = child.wait();
    Err(KeyError::TimedOut)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_is_read_and_its_change_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let source = KeySource::File(path.clone());
        let error = source.read().unwrap_err();
        assert!(matches!(error, KeyError::Unreadable { .. }), "{error}");
        let absent = source.fingerprint();

        fs::write(&path, "sk-one\n").unwrap();
        assert_eq!(source.read().unwrap(), Secret::new("sk-one"));
        assert!(source.changed_since(absent));

        let first = source.fingerprint();
        assert!(!source.changed_since(first));
        let beside = folder.path().join("beside");
        fs::write(&beside, "sk-two\n").unwrap();
        fs::rename(&beside, &path).unwrap();
        assert!(source.changed_since(first), "same length, other file");
        assert_eq!(source.read().unwrap(), Secret::new("sk-two"));
    }

    #[test]
    fn a_command_gives_its_output() {
        let read = |command: &str| KeySource::Command(Secret::new(command)).read();
        assert_eq!(read("echo sk-three").unwrap(), Secret::new("sk-three"));
        assert!(matches!(read("exit 3"), Err(KeyError::Failed(_))));
        assert!(matches!(read("true"), Err(KeyError::Empty)));
        assert!(matches!(read("printf 'a\\nb'"), Err(KeyError::NotSendable)));
    }

    #[test]
    fn errors_do_not_quote_the_key() {
        let source = KeySource::Variable { name: "KEY".to_owned(), key: Secret::new("sk-one two") };
        let error = source.read().unwrap_err();
        assert!(!format!("{error} {error:?} {source:?}").contains("sk-one"));
    }
}
