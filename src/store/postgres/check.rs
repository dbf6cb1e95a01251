//! A schema, looked at: what its rows say of each other. Whether the server's files are whole is the server's affair.

use super::server::Server;
use super::{schema, unfinished_copy};
use crate::config::Secret;
use crate::store::StoreError;
use crate::store::check::{CheckError, CheckReport, invariants};

use super::arguments::arguments;
use super::fault::{Attempt, Fault};

/// Checks the schema as it is now, in one snapshot.
pub(in crate::store) async fn check(
    url: &Secret,
    schema: &str,
    mut tell: impl FnMut(&'static str) + Send,
) -> Result<CheckReport, CheckError> {
    let mut server = Server::of(url.expose())?;
    server.check().await?;
    unfinished_copy::refuse(&server, schema).await?;
    let alone = server.connect().await?;
    let client = &alone.client;
    let begin = async {
        let exists = "SELECT EXISTS (SELECT 1 FROM pg_namespace WHERE nspname = $1)";
        let exists: bool = client.query_typed_one(exists, &arguments![schema]).await?.try_get(0)?;
        // No limit to a statement: it looks at every row.
        let begin = format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL statement_timeout = 0; \
             SET LOCAL search_path = \"{schema}\""
        );
        client.batch_execute(&begin).await?;
        let version = if exists { schema::marked(client, schema).await?.0 } else { 0 };
        Ok(version)
    };
    let version: Attempt<i64> = begin.await;
    let narrow = |version: i64| u32::try_from(version).unwrap_or(u32::MAX);
    match version.map_err(StoreError::from)? {
        0 => return Err(StoreError::Unavailable(format!("the schema {schema} holds no store")).into()),
        version => CheckError::unless_current(narrow(version), narrow(schema::SUPPORTED))?,
    }
    let mut report = CheckReport {
        left_out: vec![
            "the server's files and the insides of segments and payloads: only rows were compared",
        ],
        ..CheckReport::default()
    };
    tell("the rows");
    let found: Attempt<()> = async {
        for invariant in invariants() {
            for row in client.query_typed(&invariant.sql, &[]).await? {
                report.add(invariant.kind, [row.try_get::<_, String>(0)?]);
            }
        }
        let counted = "SELECT (SELECT count(*) FROM batch), (SELECT count(*) FROM result)";
        let row = client.query_typed_one(counted, &[]).await?;
        for (index, name) in ["batches", "results"].into_iter().enumerate() {
            report.looked_at.push((name, row.try_get::<_, i64>(index)?.unsigned_abs()));
        }
        Ok(())
    }
    .await;
    found.map_err(|fault: Fault| StoreError::from(fault))?;
    Ok(report)
}
