//! A reader that notices what a CSV parser lets pass: a quote that nobody closes, and a row without end; and that ends
//! every row with one line feed, so that lines can be counted.

use std::io::{self, Read};

use super::error::TableError;

/// Most bytes of one row. A row is held whole, so without a bound one missing quote would take the memory of the
/// file.
pub(super) const LONGEST_ROW: u64 = 16 << 20;

/// Passes bytes on and follows whether they are within quotes. Outside of them, a carriage return with or without a line
/// feed becomes a line feed, and the last row gets one if it has none.
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
    /// Whether a carriage return came just now, whose line feed is dropped.
    returned: bool,
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
        Self { inner, delimiter, place: Place::Start, line, opened: line, in_row: 0, returned: false }
    }

    /// Follows one byte; what is passed on in its place.
    fn take(&mut self, byte: u8) -> Option<u8> {
        let quoted = self.place == Place::Quoted;
        let after_return = std::mem::replace(&mut self.returned, byte == b'\r' && !quoted);
        if after_return && byte == b'\n' {
            return None;
        }
        let byte = if byte == b'\r' && !quoted { b'\n' } else { byte };
        self.in_row += 1;
        if byte == b'\n' {
            self.line += 1;
        }
        let ends = byte == self.delimiter || byte == b'\n';
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
        Some(byte)
    }

    /// What is wrong, if anything is.
    fn check(&self, at_end: bool) -> Result<(), TableError> {
        let quoted = self.place == Place::Quoted;
        let too_long = self.in_row > LONGEST_ROW;
        let never_closed = "the quote that a cell opens with is never closed";
        let longest = || format!("a row of more than {} MiB", LONGEST_ROW >> 20);
        if quoted && at_end {
            return Err(TableError::line(self.opened, never_closed));
        }
        if quoted && too_long {
            // Which of the two it is would only be known at the end of the file.
            return Err(TableError::line(self.opened, format!("{}, or {never_closed}", longest())));
        }
        if too_long {
            return Err(TableError::line(self.line, longest()));
        }
        Ok(())
    }
}

impl<R: Read> Read for Quotes<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.inner.read(buffer)?;
            let mut kept = 0;
            for index in 0..read {
                if let Some(byte) = self.take(buffer[index]) {
                    buffer[kept] = byte;
                    kept += 1;
                }
            }
            let at_end = read == 0;
            self.check(at_end && !buffer.is_empty())?;
            if at_end && self.in_row > 0 && !buffer.is_empty() {
                buffer[0] = b'\n';
                self.take(b'\n');
                return Ok(1);
            }
            if kept > 0 || at_end {
                return Ok(kept);
            }
        }
    }
}
