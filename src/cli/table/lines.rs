//! Lines of a file, each bounded, with their numbers.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use super::error::TableError;
use super::layout::Layout;

/// Most bytes of one line: more than a service takes, so that it is the service that refuses one.
const LONGEST_LINE: u64 = 64 << 20;

/// The lines of a file that are not blank, without their ends, with their numbers from 1.
#[derive(Debug)]
pub(in crate::cli) struct Lines {
    reader: BufReader<File>,
    line: u64,
}

impl Lines {
    /// Opens a file of this layout.
    ///
    /// # Errors
    /// It can't be read.
    pub(in crate::cli) fn open(path: &Path, layout: &Layout) -> Result<Self, TableError> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(layout.skip))?;
        Ok(Self { reader: BufReader::with_capacity(256 * 1024, file), line: 0 })
    }

    fn read(&mut self) -> Result<Option<(u64, Vec<u8>)>, TableError> {
        loop {
            let mut bytes = Vec::new();
            let read = self.reader.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut bytes)?;
            if read == 0 {
                return Ok(None);
            }
            self.line += 1;
            if read as u64 == LONGEST_LINE && !bytes.ends_with(b"\n") {
                let message = format!("longer than {} MiB", LONGEST_LINE >> 20);
                return Err(TableError::line(self.line, message));
            }
            bytes.truncate(bytes.trim_ascii_end().len());
            if !bytes.trim_ascii_start().is_empty() {
                return Ok(Some((self.line, bytes)));
            }
        }
    }
}

impl Iterator for Lines {
    type Item = Result<(u64, Vec<u8>), TableError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}
