//! What apps use, by day: one small row moved per app and day and commit.

use super::Database;
use super::arguments::{Statement, arguments};
use super::columns::{Columns, int};
use super::connections::Queries;
use super::fault::Attempt;
use crate::domain::day::{Day, DayUsage};
use crate::domain::ids::AppKey;
use crate::store::Result;
use crate::store::shared::Effects;
use crate::store::usage_sums::UsageSums;

/// The statement that moves the rows, if there is anything to move.
pub(super) fn moving(usage: &mut UsageSums, effects: &mut Effects) -> Option<Statement> {
    let used: Vec<_> = usage.take().collect();
    if used.is_empty() {
        return None;
    }
    effects.rows += used.len() as u64;
    let column = |of: fn(&AppKey, &Day, &DayUsage) -> i64| -> Vec<i64> {
        used.iter().map(|((app, day), used)| of(app, day, used)).collect()
    };
    let sql = "INSERT INTO app_usage SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], \
               $5::bigint[], $6::bigint[], $7::bigint[]) ON CONFLICT (app, day) DO UPDATE SET \
               requests = app_usage.requests + excluded.requests, failures = app_usage.failures + excluded.failures, \
               input_tokens = app_usage.input_tokens + excluded.input_tokens, \
               cached_tokens = app_usage.cached_tokens + excluded.cached_tokens, \
               output_tokens = app_usage.output_tokens + excluded.output_tokens";
    let statement = Statement::new(sql)
        .with(column(|app, _, _| app.0))
        .with(column(|_, day, _| day.0))
        .with(column(|_, _, used| int(used.requests)))
        .with(column(|_, _, used| int(used.failures)))
        .with(column(|_, _, used| int(used.input_tokens)))
        .with(column(|_, _, used| int(used.cached_tokens)))
        .with(column(|_, _, used| int(used.output_tokens)));
    Some(statement)
}

/// What an app used on one day.
pub(crate) async fn of_day(database: &Database, app: AppKey, day: Day) -> Result<DayUsage> {
    let sql = "SELECT requests, failures, input_tokens, cached_tokens, output_tokens FROM app_usage \
               WHERE app = $1 AND day = $2";
    let row = database.row(sql, &arguments![app.0, day.0]).await?;
    Ok(row.map(|row| read(&mut Columns::of(&row))).transpose()?.unwrap_or_default())
}

/// What every app used since that day, the latest first.
pub(super) async fn since(queries: &impl Queries, day: Day) -> Attempt<Vec<(AppKey, Day, DayUsage)>> {
    let sql = "SELECT app, day, requests, failures, input_tokens, cached_tokens, output_tokens FROM app_usage \
               WHERE day >= $1 ORDER BY app, day DESC";
    let rows = queries.rows(sql, &arguments![day.0]).await?;
    let read = |row| {
        let mut columns = Columns::of(row);
        Ok((AppKey(columns.take()?), Day(columns.take()?), read(&mut columns)?))
    };
    rows.iter().map(read).collect()
}

fn read(columns: &mut Columns<'_>) -> Attempt<DayUsage> {
    Ok(DayUsage {
        requests: columns.uint()?,
        failures: columns.uint()?,
        input_tokens: columns.uint()?,
        cached_tokens: columns.uint()?,
        output_tokens: columns.uint()?,
    })
}
