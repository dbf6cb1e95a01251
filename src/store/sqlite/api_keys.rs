//! API keys: their rows.

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};

use super::apps;
use super::fault::{Fault, damaged};
use super::values::{int, micros, moment, optional_moment, uint, word};
use super::writing::Writing;
use crate::domain::api_key::{KeyHash, KeyRecord, Scope};
use crate::domain::day::Day;
use crate::domain::ids::{AppKey, KeyId};
use crate::domain::time::Timestamp;
use crate::store::key_columns::select_keys;
use crate::store::{KeyOrigin, KeyQuery, LiveKeys, MOST_LIVE_KEYS, NewKey, NewKeyOutcome, Page};

/// Makes a key.
pub(crate) fn create(writing: &mut Writing<'_>, new: &NewKey) -> Result<NewKeyOutcome, Fault> {
    let now = writing.now;
    let sql = "SELECT count(*) FROM api_key \
               WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > ?1)";
    let live = writing.connection.query_row(sql, [now.micros()], |row| uint(row, 0))?;
    if live >= MOST_LIVE_KEYS {
        return Ok(NewKeyOutcome::TooManyKeys);
    }
    let (app, scope, replaces) = match &new.origin {
        KeyOrigin::App { name, scope } => match apps::find_or_make(writing, name)? {
            Some(app) => (app, *scope, None),
            None => return Ok(NewKeyOutcome::TooManyApps),
        },
        KeyOrigin::Replacing { id, overlap } => match by_id(writing.connection, id)? {
            Some(replaced) if replaced.is_live(now) => {
                // It ends at its own time if that is sooner.
                let ends = replaced.expires_at.into_iter().chain([now + *overlap]).min();
                end_at(writing.connection, id, ends)?;
                (replaced.app, replaced.scope, Some(id.as_str()))
            }
            _ => return Ok(NewKeyOutcome::NothingToReplace),
        },
    };
    writing.connection.execute(
        "INSERT INTO api_key (id, app, name, scope, hash, created_at, expires_at, replaces) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        params![
            new.id.as_str(),
            app.0,
            new.name,
            scope.as_str(),
            new.hash.0,
            now.micros(),
            micros(new.expires_at),
            replaces
        ],
    )?;
    writing.effects.rows += 1;
    let made = by_id(writing.connection, &new.id)?;
    made.map(NewKeyOutcome::Made).ok_or_else(|| damaged("a key's row is gone"))
}

fn end_at(connection: &Connection, id: &KeyId, moment: Option<Timestamp>) -> Result<(), Fault> {
    connection
        .execute("UPDATE api_key SET expires_at = ?2 WHERE id = ?1", params![id.as_str(), micros(moment)])?;
    Ok(())
}

/// Revokes a key.
pub(crate) fn revoke(writing: &mut Writing<'_>, id: &KeyId) -> Result<bool, Fault> {
    let found = writing.connection.execute(
        "UPDATE api_key SET revoked_at = coalesce(revoked_at, ?2) WHERE id = ?1",
        params![id.as_str(), writing.now.micros()],
    )?;
    writing.effects.rows += found as u64;
    Ok(found == 1)
}

/// Notes the day of a key's use.
pub(crate) fn note_used(writing: &mut Writing<'_>, id: &KeyId, day: Day) -> Result<(), Fault> {
    writing
        .connection
        .prepare_cached(
            "UPDATE api_key SET last_used = ?2 WHERE id = ?1 AND (last_used IS NULL OR last_used < ?2)",
        )?
        .execute(params![id.as_str(), day.0])?;
    writing.effects.rows += 1;
    Ok(())
}

fn by_id(connection: &Connection, id: &KeyId) -> Result<Option<KeyRecord>, Fault> {
    let mut statement = connection.prepare_cached(select_keys!("api_key.id = ?1"))?;
    Ok(statement.query_row([id.as_str()], read_record).optional()?)
}

/// The keys that may be used.
pub(crate) fn live(connection: &Connection, now: Timestamp) -> Result<LiveKeys, Fault> {
    let sql = select_keys!("revoked_at IS NULL AND (expires_at IS NULL OR expires_at > ?1)");
    let mut statement = connection.prepare_cached(sql)?;
    let keys = statement.query_map([now.micros()], read_record)?.collect::<rusqlite::Result<_>>()?;
    let any_ever = connection.query_row("SELECT EXISTS (SELECT 1 FROM api_key)", [], |row| row.get(0))?;
    Ok(LiveKeys { keys, any_ever })
}

/// A page of keys, in the order of their making.
pub(crate) fn page(connection: &Connection, query: &KeyQuery) -> Result<Page<KeyRecord>, Fault> {
    let mut sql = String::from(select_keys!("TRUE "));
    let mut values = Vec::new();
    if let Some(app) = &query.app {
        sql.push_str("AND app.name = ? ");
        values.push(Value::from(app.as_str().to_owned()));
    }
    if let Some(after) = &query.after {
        // NULL for an unknown id: then nothing lies beyond.
        sql.push_str("AND api_key.key > (SELECT key FROM api_key WHERE id = ?) ");
        values.push(Value::from(after.as_str().to_owned()));
    }
    sql.push_str("ORDER BY api_key.key LIMIT ?");
    values.push(int(query.limit as u64 + 1).into());
    let mut statement = connection.prepare(&sql)?;
    let rows = statement.query_map(params_from_iter(values), read_record)?;
    let found = rows.collect::<rusqlite::Result<_>>()?;
    Ok(Page::of(found, query.limit))
}

fn read_record(row: &Row<'_>) -> rusqlite::Result<KeyRecord> {
    Ok(KeyRecord {
        id: KeyId::new(row.get::<_, String>(0)?),
        app: AppKey(row.get(1)?),
        app_name: apps::read_name(row, 2)?,
        name: row.get(3)?,
        scope: word(row, 4, Scope::from_stored)?,
        hash: KeyHash(row.get(5)?),
        created_at: moment(row, 6)?,
        expires_at: optional_moment(row, 7)?,
        revoked_at: optional_moment(row, 8)?,
        last_used: row.get::<_, Option<i64>>(9)?.map(Day),
        replaces: row.get::<_, Option<String>>(10)?.map(KeyId::new),
    })
}
