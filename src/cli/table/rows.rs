//! A table row by row, whether its file holds cells or JSON objects.

use std::borrow::Cow;
use std::fmt;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use csv::{ByteRecord, StringRecord};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::error::TableError;
use super::layout::{Format, Layout};
use super::lines::Lines;
use super::quotes::Quotes;

/// Columns of one table; more are a file that is no table.
const MOST_COLUMNS: usize = 16_384;

/// One row.
#[derive(Clone, Debug)]
pub(in crate::cli) struct Row {
    /// The line that it begins on, from 1.
    pub(in crate::cli) line: u64,
    /// What is in it.
    pub(super) cells: Cells,
}

/// What a row holds.
#[derive(Clone, Debug)]
pub(super) enum Cells {
    /// Cells under the names of a header; fewer than that if the last ones are missing.
    Record(Arc<Vec<String>>, StringRecord),
    /// The fields of an object, as written.
    Fields(Vec<(String, Box<RawValue>)>),
}

impl Row {
    /// The text of a column: a JSON string's text, other JSON as it is written; `None` if the row has no such cell.
    pub(super) fn cell(&self, column: &str) -> Option<Cow<'_, str>> {
        match &self.cells {
            Cells::Record(header, record) => {
                let index = header.iter().position(|name| name.trim() == column)?;
                record.get(index).map(Cow::Borrowed)
            }
            Cells::Fields(fields) => {
                let (_, value) = fields.iter().find(|(name, _)| name == column)?;
                match value.get() {
                    "null" => None,
                    text if text.starts_with('"') => serde_json::from_str(text).ok().map(Cow::Owned),
                    other => Some(Cow::Borrowed(other)),
                }
            }
        }
    }

    /// Adds the names of an object's fields to those that are known.
    pub(super) fn add_columns(&self, known: &mut Vec<String>) {
        let Cells::Fields(fields) = &self.cells else { return };
        for (name, _) in fields {
            if known.len() < MOST_COLUMNS && !known.contains(name) {
                known.push(name.clone());
            }
        }
    }

    /// Cells that are missing at its end.
    pub(super) fn missing(&self) -> usize {
        match &self.cells {
            Cells::Record(header, record) => header.len() - record.len(),
            Cells::Fields(_) => 0,
        }
    }
}

/// The rows of a file, in its order.
pub(in crate::cli) struct Rows {
    reader: Reader,
}

enum Reader {
    Cells { header: Arc<Vec<String>>, records: Box<csv::Reader<Quotes<BufReader<File>>>>, lines_before: u64 },
    Objects(Lines),
}

impl Rows {
    /// Opens a file of this layout.
    ///
    /// # Errors
    /// It can't be read, or its header is no text.
    pub(in crate::cli) fn open(path: &Path, layout: &Layout) -> Result<Self, TableError> {
        if layout.format == Format::Jsonl {
            return Ok(Self { reader: Reader::Objects(Lines::open(path, layout)?) });
        }
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(layout.skip))?;
        let mut file = BufReader::with_capacity(256 * 1024, file);
        for _ in 0..layout.skip_lines {
            file.read_until(b'\n', &mut Vec::new())?;
        }
        let quotes = Quotes::new(file, layout.delimiter, layout.skip_lines + 1);
        let mut builder = csv::ReaderBuilder::new();
        builder.delimiter(layout.delimiter).flexible(true).has_headers(false);
        let mut records = Box::new(builder.from_reader(quotes));
        let mut first = ByteRecord::new();
        let read = records.read_byte_record(&mut first).map_err(csv_error)?;
        if !read {
            return Err(TableError::whole("there is nothing in it"));
        }
        let first = text_of(first, layout.skip_lines + 1)?;
        let header = Arc::new(first.iter().map(str::to_owned).collect());
        Ok(Self { reader: Reader::Cells { header, records, lines_before: layout.skip_lines } })
    }

    /// All columns of a file, in the order of their first appearance: the header's, or every object's.
    ///
    /// # Errors
    /// The file can't be read or is no table.
    pub(in crate::cli) fn columns_of(path: &Path, layout: &Layout) -> Result<Vec<String>, TableError> {
        let rows = Self::open(path, layout)?;
        if let Some(header) = rows.header() {
            return Ok(header.to_vec());
        }
        let mut columns = Vec::new();
        for row in rows {
            row?.add_columns(&mut columns);
        }
        Ok(columns)
    }

    /// The names of the columns, where the file has a header.
    pub(super) fn header(&self) -> Option<&[String]> {
        match &self.reader {
            Reader::Cells { header, .. } => Some(header),
            Reader::Objects(_) => None,
        }
    }

    fn read(&mut self) -> Result<Option<Row>, TableError> {
        match &mut self.reader {
            Reader::Cells { header, records, lines_before } => {
                let mut record = ByteRecord::new();
                if !records.read_byte_record(&mut record).map_err(csv_error)? {
                    return Ok(None);
                }
                let line = line_of(&record, records.position(), *lines_before);
                if record.len() > header.len() {
                    let message = format!(
                        "{} cells, but the header has {} columns; is a cell with a delimiter in it not in quotes?",
                        record.len(),
                        header.len()
                    );
                    return Err(TableError::line(line, message));
                }
                let record = text_of(record, line)?;
                Ok(Some(Row { line, cells: Cells::Record(Arc::clone(header), record) }))
            }
            Reader::Objects(lines) => {
                let Some(read) = lines.next() else { return Ok(None) };
                let (line, bytes) = read?;
                let fields: Fields = serde_json::from_slice(&bytes)
                    .map_err(|error| TableError::line(line, format!("not a JSON object: {error}")))?;
                Ok(Some(Row { line, cells: Cells::Fields(fields.0) }))
            }
        }
    }
}

impl Iterator for Rows {
    type Item = Result<Row, TableError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

/// The line that a record begins on, when the reader stands behind its line feed. Its own position is before the blank
/// lines that were skipped to reach it.
fn line_of(record: &ByteRecord, behind: &csv::Position, lines_before: u64) -> u64 {
    let within = memchr::memchr_iter(b'\n', record.as_slice()).count() as u64;
    (behind.line() + lines_before).saturating_sub(1 + within)
}

fn text_of(record: ByteRecord, line: u64) -> Result<StringRecord, TableError> {
    let message = "not UTF-8: save the file as UTF-8 (in Excel: \"CSV UTF-8\")";
    StringRecord::from_byte_record(record).map_err(|_| TableError::line(line, message))
}

fn csv_error(error: csv::Error) -> TableError {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => TableError::from_read(error),
        kind => TableError::whole(format!("not CSV: {kind:?}")),
    }
}

/// An object's fields in their order.
struct Fields(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Fields;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}
