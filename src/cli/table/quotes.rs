//! A reader that notices what a CSV parser lets pass: a quote that nobody closes, and a row without end.

use std::io::{self, Read};

use super::error::TableError;

/// Most bytes of one row. A row is held whole, so without a bound one missing quote would take the memory of the
/// file.
pub(super) const LONGEST_ROW: u64 = 16 << 20;

/// Passes bytes on and follows whether they are within quotes.
#[derive(Debug)]
pub(super) struct Quotes<R> {
    inner: R,
    delimiter: u8,
    place: Place,
    /// The line that is read, from 1.
    line: u64,
    /// The line on which the present quote was opened.
    opened: u64,
    /// Bytes since the row began, as far as that can be told here.
    in_row: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Where a cell starts: only here a quote opens.
    Start,
    /// In a cell without quotes.
    Plain,
    /// Within quotes.
    Quoted,
    /// After a quote within quotes: the end, or the first half of a quote that is meant.
    Closing,
}

impl<R> Quotes<R> {
    /// Follows a reader whose first byte is on this line.
    pub(super) fn new(inner: R, delimiter: u8, line: u64) -> Self {
        Self { inner, delimiter, place: Place::Start, line, opened: line, in_row: 0 }
    }

    fn take(&mut self, byte: u8) {
        self.in_row += 1;
        if byte == b'\n' {
            self.line += 1;
        }
        let ends = byte == self.delimiter || byte == b'\n' || byte == b'\r';
        self.place = match (self.place, byte) {
            (Place::Start, b'"') => {
                self.opened = self.line;
                Place::Quoted
            }
            (Place::Quoted, b'"') => Place::Closing,
            (Place::Quoted, _) | (Place::Closing, b'"') => Place::Quoted,
            _ if ends => Place::Start,
            _ => Place::Plain,
        };
        if byte == b'\n' && self.place == Place::Start {
            self.in_row = 0;
        }
    }

    /// What is wrong, if anything is.
    fn check(&self, at_end: bool) -> Result<(), TableError> {
        let quoted = self.place == Place::Quoted;
        if quoted && (at_end || self.in_row > LONGEST_ROW) {
            return Err(TableError::line(self.opened, "the quote that a cell opens with is never closed"));
        }
        if self.in_row > LONGEST_ROW {
            return Err(TableError::line(self.line, format!("a row of more than {} MiB", LONGEST_ROW >> 20)));
        }
        Ok(())
    }
}

impl<R: Read> Read for Quotes<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        for byte in &buffer[..read] {
            self.take(*byte);
        }
        self.check(read == 0 && !buffer.is_empty())?;
        Ok(read)
    }
}
