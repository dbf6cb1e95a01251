//! What apps use, by day: one small row moved per app and day and commit.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::fault::Fault;
use super::values::{int, uint};
use super::writing::Writing;
use crate::domain::day::{Day, DayUsage};
use crate::domain::ids::AppKey;

/// Moves the rows.
pub(super) fn save(writing: &mut Writing<'_>) -> Result<(), Fault> {
    for ((app, day), used) in writing.usage.take() {
        let DayUsage { requests, failures, input_tokens, cached_tokens, output_tokens } = used;
        let sql = "INSERT INTO app_usage VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (app, day) DO UPDATE SET \
                   requests = requests + excluded.requests, failures = failures + excluded.failures, \
                   input_tokens = input_tokens + excluded.input_tokens, \
                   cached_tokens = cached_tokens + excluded.cached_tokens, \
                   output_tokens = output_tokens + excluded.output_tokens";
        writing.connection.prepare_cached(sql)?.execute(params![
            app.0,
            day.0,
            int(requests),
            int(failures),
            int(input_tokens),
            int(cached_tokens),
            int(output_tokens)
        ])?;
        writing.effects.rows += 1;
    }
    Ok(())
}

/// What an app used on one day.
pub(crate) fn of_day(connection: &Connection, app: AppKey, day: Day) -> Result<DayUsage, Fault> {
    let sql = "SELECT requests, failures, input_tokens, cached_tokens, output_tokens FROM app_usage \
               WHERE app = ?1 AND day = ?2";
    let used = connection.prepare_cached(sql)?.query_row([app.0, day.0], |row| read(row, 0)).optional()?;
    Ok(used.unwrap_or_default())
}

/// What every app used since that day, the latest first.
pub(super) fn since(connection: &Connection, day: Day) -> Result<Vec<(AppKey, Day, DayUsage)>, Fault> {
    let sql = "SELECT app, day, requests, failures, input_tokens, cached_tokens, output_tokens FROM app_usage \
               WHERE day >= ?1 ORDER BY app, day DESC";
    let mut statement = connection.prepare_cached(sql)?;
    let rows =
        statement.query_map([day.0], |row| Ok((AppKey(row.get(0)?), Day(row.get(1)?), read(row, 2)?)))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

fn read(row: &Row<'_>, first: usize) -> rusqlite::Result<DayUsage> {
    Ok(DayUsage {
        requests: uint(row, first)?,
        failures: uint(row, first + 1)?,
        input_tokens: uint(row, first + 2)?,
        cached_tokens: uint(row, first + 3)?,
        output_tokens: uint(row, first + 4)?,
    })
}
