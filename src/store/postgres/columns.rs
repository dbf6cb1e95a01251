//! A row's columns, read in their order.

use tokio_postgres::Row;
use tokio_postgres::types::FromSql;

use super::fault::{Attempt, Fault, damaged};
use crate::domain::time::Timestamp;

/// Reads a row from its first column to its last.
pub(in crate::store) struct Columns<'r> {
    row: &'r Row,
    next: usize,
}

impl<'r> Columns<'r> {
    pub(in crate::store) fn of(row: &'r Row) -> Self {
        Self { row, next: 0 }
    }

    /// The next column as it is.
    pub(super) fn take<T: FromSql<'r>>(&mut self) -> Attempt<T> {
        let value = self.row.try_get(self.next)?;
        self.next += 1;
        Ok(value)
    }

    /// A count, a size or a number that is never negative.
    pub(super) fn uint<T: TryFrom<i64>>(&mut self) -> Attempt<T> {
        let value: i64 = self.take()?;
        T::try_from(value).map_err(|_| self.unreadable(&value.to_string()))
    }

    /// The same, where it may be null.
    pub(super) fn optional_uint<T: TryFrom<i64>>(&mut self) -> Attempt<Option<T>> {
        let value: Option<i64> = self.take()?;
        let convert = |value: i64| T::try_from(value).map_err(|_| self.unreadable(&value.to_string()));
        value.map(convert).transpose()
    }

    /// A moment.
    pub(super) fn moment(&mut self) -> Attempt<Timestamp> {
        self.take().map(Timestamp::from_micros)
    }

    /// The same, where it may be null.
    pub(super) fn optional_moment(&mut self) -> Attempt<Option<Timestamp>> {
        let micros: Option<i64> = self.take()?;
        Ok(micros.map(Timestamp::from_micros))
    }

    /// A word of a fixed set.
    pub(super) fn word<T>(&mut self, parse: impl Fn(&str) -> Option<T>) -> Attempt<T> {
        let text: &str = self.take()?;
        parse(text).ok_or_else(|| self.unreadable(text))
    }

    /// The same, where it may be null.
    pub(super) fn optional_word<T>(&mut self, parse: impl Fn(&str) -> Option<T>) -> Attempt<Option<T>> {
        let text: Option<&str> = self.take()?;
        text.map(|text| parse(text).ok_or_else(|| self.unreadable(text))).transpose()
    }

    /// The error for the column just read.
    fn unreadable(&self, value: &str) -> Fault {
        let name = self.row.columns().get(self.next - 1).map_or("?", |column| column.name());
        damaged(&format!("column {name} can't hold {value:?}"))
    }
}

/// A number as stored: `PostgreSQL`'s integers are signed.
pub(super) fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// A moment as stored, where there is one.
pub(super) fn micros(moment: Option<Timestamp>) -> Option<i64> {
    moment.map(Timestamp::micros)
}

/// A length of time as stored.
pub(super) fn length(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
