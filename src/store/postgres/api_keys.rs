//! API keys: their rows.

use std::sync::Arc;

use tokio_postgres::Row;

use super::arguments::{Argument, argument, arguments};
use super::columns::{Columns, int, micros};
use super::connections::{Lane, Queries};
use super::fault::{Attempt, damaged};
use super::{Database, apps};
use crate::domain::api_key::{KeyHash, KeyRecord, Scope};
use crate::domain::day::Day;
use crate::domain::ids::{AppKey, KeyId};
use crate::domain::time::Timestamp;
use crate::store::key_columns::select_keys;
use crate::store::{KeyOrigin, KeyQuery, LiveKeys, MOST_LIVE_KEYS, NewKey, NewKeyOutcome, Page, Result};

/// Makes a key.
pub(crate) async fn create(database: &Database, new: &NewKey) -> Result<NewKeyOutcome> {
    let mut transaction = database.begin(Lane::Control).await?;
    let now = transaction.now;
    // One at a time, so that the bounds on their numbers hold.
    transaction.execute("LOCK TABLE app IN SHARE ROW EXCLUSIVE MODE", &[]).await?;
    let sql =
        "SELECT count(*) FROM api_key WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $1)";
    let live = transaction.row(sql, &arguments![now.micros()]).await?;
    if live.map(|row| Columns::of(&row).uint()).transpose()?.unwrap_or(0_u64) >= MOST_LIVE_KEYS {
        return Ok(NewKeyOutcome::TooManyKeys);
    }
    let (app, scope, replaces) = match &new.origin {
        KeyOrigin::App { name, scope } => match apps::find_or_make(&mut transaction, name).await? {
            Some(app) => (app, *scope, None),
            None => return Ok(NewKeyOutcome::TooManyApps),
        },
        KeyOrigin::Replacing { id, overlap } => match by_id(&transaction, id).await? {
            Some(replaced) if replaced.is_live(now) => {
                // It ends at its own time if that is sooner.
                let ends = replaced.expires_at.into_iter().chain([now + *overlap]).min();
                let sql = "UPDATE api_key SET expires_at = $2 WHERE id = $1";
                transaction.execute(sql, &arguments![id.as_str(), micros(ends)]).await?;
                (replaced.app, replaced.scope, Some(id.as_str()))
            }
            _ => return Ok(NewKeyOutcome::NothingToReplace),
        },
    };
    let sql = "INSERT INTO api_key (id, app, name, scope, hash, created_at, expires_at, replaces) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
    let (id, hash, scope) = (new.id.as_str(), &new.hash.0[..], scope.as_str());
    let (now, expires_at) = (now.micros(), micros(new.expires_at));
    let arguments = &arguments![id, app.0, new.name, scope, hash, now, expires_at, replaces];
    transaction.execute(sql, arguments).await?;
    transaction.effects.rows += 1;
    transaction.effects.apps = true;
    let made = by_id(&transaction, &new.id).await?.ok_or_else(|| damaged("a key's row is gone"))?;
    transaction.commit().await?;
    Ok(NewKeyOutcome::Made(made))
}

/// Revokes a key.
pub(crate) async fn revoke(database: &Database, id: &KeyId) -> Result<bool> {
    let mut transaction = database.begin(Lane::Control).await?;
    let sql = "UPDATE api_key SET revoked_at = coalesce(revoked_at, $2) WHERE id = $1";
    let found = transaction.execute(sql, &arguments![id.as_str(), transaction.now.micros()]).await?;
    transaction.effects.rows += found;
    transaction.effects.apps |= found > 0;
    transaction.commit().await?;
    Ok(found == 1)
}

/// Notes the day of a key's use, some time later.
pub(crate) fn note_used(database: &Database, id: KeyId, day: Day) {
    let connections = Arc::clone(&database.connections);
    database.write_unanswered(async move {
        let mut transaction = connections.begin(Lane::Bulk).await?;
        let sql = "UPDATE api_key SET last_used = $2 WHERE id = $1 AND (last_used IS NULL OR last_used < $2)";
        transaction.effects.rows += transaction.execute(sql, &arguments![id.as_str(), day.0]).await?;
        transaction.commit().await
    });
}

async fn by_id(queries: &(impl Queries + Sync), id: &KeyId) -> Attempt<Option<KeyRecord>> {
    let row = queries.row(select_keys!("api_key.id = $1"), &arguments![id.as_str()]).await?;
    row.as_ref().map(read_record).transpose()
}

/// The keys that may be used.
pub(crate) async fn live(database: &Database, now: Timestamp) -> Result<LiveKeys> {
    let snapshot = database.snapshot().await?;
    let sql = select_keys!("revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $1)");
    let rows = snapshot.rows(sql, &arguments![now.micros()]).await?;
    let keys = rows.iter().map(read_record).collect::<Attempt<_>>()?;
    let any = snapshot.row("SELECT 1 FROM api_key LIMIT 1", &[]).await?;
    Ok(LiveKeys { keys, any_ever: any.is_some() })
}

/// A page of keys, in the order of their making.
pub(crate) async fn page(database: &Database, query: &KeyQuery) -> Result<Page<KeyRecord>> {
    let (app, after) = (query.app.as_ref().map(|app| app.as_str()), query.after.as_ref().map(KeyId::as_str));
    let limit = int(query.limit as u64 + 1);
    let mut arguments: Vec<Argument<'_>> = vec![argument(&limit)];
    let mut sql = String::from(select_keys!("TRUE "));
    if let Some(app) = &app {
        arguments.push(argument(app));
        sql.push_str(&format!("AND app.name = ${} ", arguments.len()));
    }
    if let Some(after) = &after {
        arguments.push(argument(after));
        // Null for an unknown id: then nothing lies beyond.
        sql.push_str(&format!(
            "AND api_key.key > (SELECT key FROM api_key WHERE id = ${}) ",
            arguments.len()
        ));
    }
    sql.push_str("ORDER BY api_key.key LIMIT $1");
    let rows = database.rows(&sql, &arguments).await?;
    let found = rows.iter().map(read_record).collect::<Attempt<Vec<_>>>()?;
    Ok(Page::of(found, query.limit))
}

fn read_record(row: &Row) -> Attempt<KeyRecord> {
    let mut columns = Columns::of(row);
    Ok(KeyRecord {
        id: KeyId::new(columns.take::<String>()?),
        app: AppKey(columns.take()?),
        app_name: apps::read_name(&mut columns)?,
        name: columns.take()?,
        scope: columns.word(Scope::from_stored)?,
        hash: KeyHash(columns.take::<&[u8]>()?.try_into().map_err(|_| damaged("a key's hash is cut off"))?),
        created_at: columns.moment()?,
        expires_at: columns.optional_moment()?,
        revoked_at: columns.optional_moment()?,
        last_used: columns.take::<Option<i64>>()?.map(Day),
        replaces: columns.take::<Option<String>>()?.map(KeyId::new),
    })
}
