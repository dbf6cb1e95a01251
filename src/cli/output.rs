//! Where results are written: beside their file first, then renamed, so that it is never half.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::error::CliError;

/// Where results go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Output {
    /// Standard output.
    Standard,
    /// Something that can only be written into: a pipe, a device.
    Stream(PathBuf),
    /// A file, which appears when it is whole.
    File(PathBuf),
}

impl Output {
    /// The output that `-o` names, checked before anything is done for it: it does not exist yet or may be replaced,
    /// is not the input, and can be written.
    ///
    /// # Errors
    /// What speaks against it.
    pub(super) fn check(path: Option<&Path>, force: bool, input: Option<&Path>) -> Result<Self, CliError> {
        let Some(path) = path.filter(|path| *path != Path::new("-")) else { return Ok(Self::Standard) };
        let local = |error| CliError::Local { path: path.to_owned(), error };
        if is_named_as_workbook(path) {
            return Err(CliError::Use(format!(
                "{}: results are CSV or JSONL, and a spreadsheet program would not open them under this name: \
                 end it with .csv",
                path.display()
            )));
        }
        if let Ok(found) = std::fs::metadata(path) {
            if found.is_dir() {
                return Err(local(io::ErrorKind::IsADirectory.into()));
            }
            if !found.is_file() {
                return Ok(Self::Stream(path.to_owned()));
            }
            let same = |input: &Path| {
                path.canonicalize().is_ok_and(|path| input.canonicalize().is_ok_and(|input| input == path))
            };
            if input.is_some_and(same) {
                return Err(CliError::Use(format!(
                    "{} is the input: name another file for the output",
                    path.display()
                )));
            }
            if !force {
                return Err(CliError::Exists(path.to_owned()));
            }
        }
        // Gone again at once: it can be written there.
        create_beside(path).map_err(local)?;
        Ok(Self::File(path.to_owned()))
    }

    /// The file's name, where it has one.
    pub(super) fn path(&self) -> Option<&Path> {
        match self {
            Self::Standard => None,
            Self::Stream(path) | Self::File(path) => Some(path),
        }
    }

    /// Opens it for writing.
    ///
    /// # Errors
    /// It can't be opened.
    pub(super) fn open(&self) -> Result<Writing, CliError> {
        let local = |path: &Path, error| CliError::Local { path: path.to_owned(), error };
        Ok(match self {
            Self::Standard => Writing::Stream(Box::new(BufWriter::new(io::stdout()))),
            Self::Stream(path) => {
                let file = File::options().write(true).open(path).map_err(|error| local(path, error))?;
                Writing::Stream(Box::new(BufWriter::new(file)))
            }
            Self::File(path) => {
                let (file, beside) = create_beside(path).map_err(|error| local(path, error))?;
                let file = BufWriter::with_capacity(256 * 1024, file);
                Writing::File { file, beside, path: path.clone() }
            }
        })
    }
}

fn is_named_as_workbook(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    let is = |kind: &&str| extension.is_some_and(|extension| extension.eq_ignore_ascii_case(kind));
    ["xlsx", "xlsm", "xls", "ods"].iter().any(is)
}

/// Makes a file beside another one, under a name that nobody has: `answers.csv.part`, or with a number behind. What has
/// such a name is somebody's own, another run's, or what a killed one left.
fn create_beside(path: &Path) -> io::Result<(File, Beside)> {
    const MOST: u32 = 1_000;
    let name = path.file_name().unwrap_or_default();
    for number in 1..=MOST {
        let mut name = name.to_owned();
        name.push(".part");
        if number > 1 {
            name.push(number.to_string());
        }
        let beside = path.with_file_name(name);
        match File::create_new(&beside) {
            Ok(file) => return Ok((file, Beside(beside))),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("{MOST} files beside it end with .part")))
}

/// A file that is taken away again unless it was renamed.
pub(super) struct Beside(PathBuf);

impl Drop for Beside {
    fn drop(&mut self) {
        // After the renaming there is none.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// An output that is being written.
pub(super) enum Writing {
    /// Written as it comes.
    Stream(Box<dyn Write>),
    /// Not there before it is whole.
    File {
        /// What is written.
        file: BufWriter<File>,
        /// Where it lies meanwhile.
        beside: Beside,
        /// What it will be named.
        path: PathBuf,
    },
}

impl Writing {
    /// Makes it last and gives it its name.
    ///
    /// # Errors
    /// It can't be written or renamed.
    pub(super) fn finish(self) -> io::Result<()> {
        match self {
            Self::Stream(mut stream) => stream.flush(),
            Self::File { file, beside, path } => {
                let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
                file.sync_all()?;
                std::fs::rename(&beside.0, path)
            }
        }
    }
}

impl Write for Writing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stream(stream) => stream.write(bytes),
            Self::File { file, .. } => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stream(stream) => stream.flush(),
            Self::File { file, .. } => file.flush(),
        }
    }
}
