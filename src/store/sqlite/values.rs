//! Columns to values and back, where the two differ.

use std::time::Duration;

use rusqlite::Row;
use rusqlite::types::Type;

use crate::domain::time::Timestamp;

type Read<T> = rusqlite::Result<T>;

/// An unsigned number as stored: `SQLite`'s integers are signed.
pub(super) fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// A count or size of a row.
pub(super) fn uint(row: &Row<'_>, column: usize) -> Read<u64> {
    let value: i64 = row.get(column)?;
    u64::try_from(value).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, value))
}

/// The same, where it may be null.
pub(super) fn optional_uint(row: &Row<'_>, column: usize) -> Read<Option<u64>> {
    let value: Option<i64> = row.get(column)?;
    Ok(value.and_then(|value| u64::try_from(value).ok()))
}

/// A moment of a row.
pub(super) fn moment(row: &Row<'_>, column: usize) -> Read<Timestamp> {
    row.get(column).map(Timestamp::from_micros)
}

/// The same, where it may be null.
pub(super) fn optional_moment(row: &Row<'_>, column: usize) -> Read<Option<Timestamp>> {
    let micros: Option<i64> = row.get(column)?;
    Ok(micros.map(Timestamp::from_micros))
}

/// A moment as stored, where there is one.
pub(super) fn micros(moment: Option<Timestamp>) -> Option<i64> {
    moment.map(Timestamp::micros)
}

/// A length of time as stored.
pub(super) fn length(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// A word of a fixed set.
pub(super) fn word<T>(row: &Row<'_>, column: usize, parse: impl Fn(&str) -> Option<T>) -> Read<T> {
    let text = row.get_ref(column)?.as_str()?;
    parse(text).ok_or_else(|| unreadable(column, format!("unknown word {text:?}")))
}

/// The same, where it may be null.
pub(super) fn optional_word<T>(
    row: &Row<'_>,
    column: usize,
    parse: impl Fn(&str) -> Option<T>,
) -> Read<Option<T>> {
    match row.get_ref(column)?.as_str_or_null()? {
        None => Ok(None),
        Some(_) => word(row, column, parse).map(Some),
    }
}

/// The error for a text column that does not hold what it should.
pub(super) fn unreadable(column: usize, reason: String) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, reason.into())
}

/// The one row of a segment or result: both keys in one integer, so that rows lie in that order.
pub(super) fn pair(high: i64, low: u64) -> i64 {
    high << 32 | int(low & 0xffff_ffff)
}

/// The lower half of [`pair`].
pub(super) fn low_half(id: i64) -> u64 {
    (id & 0xffff_ffff).unsigned_abs()
}
