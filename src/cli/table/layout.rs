//! How a file is laid out: commas or another character between cells, or JSON lines.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use super::delimiter::{self, Header};
use super::error::TableError;

/// A kind of file, as `--format` and extensions name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// A spreadsheet's text: a header, then a row a line
    Csv,
    /// A JSON object a line
    Jsonl,
}

impl Format {
    /// The one that a name's ending stands for.
    pub(in crate::cli) fn of_name(path: &Path) -> Option<Self> {
        let extension = path.extension()?.to_str()?.to_ascii_lowercase();
        match extension.as_str() {
            "csv" | "tsv" | "tab" => Some(Self::Csv),
            "jsonl" | "ndjson" | "json" => Some(Self::Jsonl),
            _ => None,
        }
    }
}

/// How a file is laid out, as its name and its first bytes tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) struct Layout {
    /// What kind it is.
    pub(in crate::cli) format: Format,
    /// The character between cells; of no meaning for JSON lines.
    pub(in crate::cli) delimiter: u8,
    /// Bytes to skip: a byte order mark.
    pub(super) skip: u64,
    /// Lines to skip after these: Excel's `sep=;`.
    pub(super) skip_lines: u64,
}

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// A header beyond this is taken as far as it goes.
const LOOKED_AT: u64 = 256 * 1024;

impl Layout {
    /// Looks at the start of a file.
    ///
    /// # Errors
    /// It can't be read, is empty, or is no text.
    pub(in crate::cli) fn of(path: &Path) -> Result<Self, TableError> {
        let mut start = Vec::new();
        File::open(path)?.take(LOOKED_AT).read_to_end(&mut start)?;
        Self::of_start(&start, Format::of_name(path))
    }

    /// The layout of a file that starts so.
    pub(super) fn of_start(start: &[u8], named: Option<Format>) -> Result<Self, TableError> {
        if start.starts_with(b"PK\x03\x04") || start.starts_with(b"\xD0\xCF\x11\xE0") {
            return Err(TableError::whole(
                "this is a workbook or an archive, not text: save it as CSV first",
            ));
        }
        // Without its mark it is known by the half of a letter that is zero.
        let zero = start.iter().take(4).any(|byte| *byte == 0);
        if zero || start.starts_with(b"\xFF\xFE") || start.starts_with(b"\xFE\xFF") {
            return Err(TableError::whole("this is UTF-16: save it as UTF-8 (in Excel: \"CSV UTF-8\")"));
        }
        let text = start.strip_prefix(BYTE_ORDER_MARK).unwrap_or(start);
        let skip = (start.len() - text.len()) as u64;
        let Some(first) = text.iter().find(|byte| !byte.is_ascii_whitespace()) else {
            return Err(TableError::whole("there is nothing in it"));
        };
        let format = named.unwrap_or(if *first == b'{' { Format::Jsonl } else { Format::Csv });
        let Header { delimiter, skip_lines } = delimiter::read(text);
        Ok(Self { format, delimiter, skip, skip_lines })
    }

    /// Whether the file starts with a byte order mark, as Excel's do and wants.
    pub(super) const fn has_byte_order_mark(&self) -> bool {
        self.skip > 0
    }
}
