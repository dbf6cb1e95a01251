//! The mark of a copy that has not ended: a table that is there from its first row until it was checked.

use super::arguments::arguments;
use super::connections::in_time;
use super::fault::Attempt;
use super::server::Server;
use crate::store::StoreError;

/// Whether the schema has the mark.
pub(super) const IS_MARKED: &str =
    "SELECT EXISTS (SELECT 1 FROM pg_tables WHERE schemaname = $1 AND tablename = 'copying')";

/// Lets no service start on half a store: what has not arrived yet would be missing, and new rows would take its keys.
///
/// # Errors
/// [`StoreError::UnfinishedCopy`] if a copy into the schema has not ended.
pub(super) async fn refuse(server: &Server, schema: &str) -> Result<(), StoreError> {
    let alone = server.connect().await?;
    let asked: Attempt<bool> = async {
        Ok(in_time(alone.client.query_typed_one(IS_MARKED, &arguments![schema])).await?.try_get(0)?)
    }
    .await;
    if asked? { Err(StoreError::UnfinishedCopy(schema.to_owned())) } else { Ok(()) }
}
