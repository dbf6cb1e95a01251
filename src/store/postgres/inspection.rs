//! A server and a schema, looked at as a start would, without changing anything.

use std::time::Instant;

use tokio_postgres::Client;
use tokio_postgres::config::Host;

use super::arguments::arguments;
use super::columns::Columns;
use super::connections::in_time;
use super::facts::Facts;
use super::fault::Attempt;
use super::server::Server;
use super::{schema, unfinished_copy};
use crate::config::Secret;
use crate::store::StoreError;
use crate::store::inspection::{Encrypted, Inspection, SchemaState, Seen};

/// Connects, and asks what a start would ask and what it would trip over.
pub(in crate::store) async fn inspect(url: &Secret, schema: &str) -> Inspection {
    match Server::of(url.expose()) {
        Ok(server) => Inspection { place: place(&server), seen: look(&server, schema).await },
        Err(error) => Inspection { place: "a server".to_owned(), seen: Err(error) },
    }
}

/// Where the server is, which database of it is meant, and as whom.
fn place(server: &Server) -> String {
    let config = server.config();
    let ports = config.get_ports();
    let host = |(index, host): (usize, &Host)| {
        let port = ports.get(index).or_else(|| ports.first()).copied().unwrap_or(5432);
        match host {
            Host::Tcp(name) => format!("{name}:{port}"),
            Host::Unix(folder) => format!("{} (port {port})", folder.display()),
        }
    };
    let hosts: Vec<String> = config.get_hosts().iter().enumerate().map(host).collect();
    format!("{}, database {}, user {}", hosts.join(", "), server.database(), server.user())
}

async fn look(server: &Server, schema: &str) -> Result<Seen, StoreError> {
    let started = Instant::now();
    let alone = server.connect().await?;
    let took = started.elapsed();
    let facts = Facts::ask(&alone.client).await?;
    let schema = match facts.judge() {
        Ok(()) => look_at_schema(server, &alone.client, schema).await,
        Err(error) => Err(error),
    };
    let tls = server.tls();
    let tls = tls.agreed().map(|version| Encrypted { version, server: tls.certified() });
    let version = facts.shown.split_whitespace().next().unwrap_or_default().to_owned();
    Ok(Seen { version, took, is_local: server.is_local(), tls, syncs: facts.syncs(), schema })
}

/// In the order of a start, so that what is told first is what would stop it first.
async fn look_at_schema(server: &Server, client: &Client, schema: &str) -> Result<SchemaState, StoreError> {
    unfinished_copy::refuse(server, schema).await?;
    let rights = Rights::ask(client, schema).await?;
    if !rights.exists {
        return if rights.makes {
            Ok(SchemaState::Missing)
        } else {
            Err(schema::not_allowed(server, schema))
        };
    }
    if !rights.uses {
        return Err(no_access(server, schema, "use"));
    }
    let (found, min_compatible) = marked(client, schema).await?;
    schema::refuse_newer(min_compatible)?;
    let supported = schema::SUPPORTED;
    if found < supported {
        if !rights.changes || rights.others_tables > 0 {
            return Err(schema::not_allowed(server, schema));
        }
        // One that somebody has made for it is as good as none.
        return Ok(if found == 0 { SchemaState::Missing } else { SchemaState::Older { found, supported } });
    }
    if rights.closed_tables > 0 {
        return Err(no_access(server, schema, "read and write the tables of"));
    }
    Ok(if found > supported { SchemaState::Newer { found, supported } } else { SchemaState::Current(found) })
}

async fn marked(client: &Client, schema: &str) -> Attempt<(i64, i64)> {
    let begin = format!("BEGIN READ ONLY; SET LOCAL search_path = \"{schema}\"");
    in_time(client.batch_execute(&begin)).await?;
    let marked = schema::marked(client, schema).await?;
    in_time(client.batch_execute("COMMIT")).await?;
    Ok(marked)
}

fn no_access(server: &Server, schema: &str, what: &str) -> StoreError {
    let user = server.user();
    StoreError::Unavailable(format!(
        "user {user} may not {what} the schema {schema}; allow it with GRANT USAGE ON SCHEMA {schema} TO {user}; \
         GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {user}"
    ))
}

/// What the user may do.
struct Rights {
    /// Whether the schema is there.
    exists: bool,
    /// Whether schemas may be made in the database.
    makes: bool,
    /// Whether what is in the schema may be named.
    uses: bool,
    /// Whether tables may be made in it.
    changes: bool,
    /// Tables of it that belong to somebody else.
    others_tables: i64,
    /// Tables of it that may not be read and written.
    closed_tables: i64,
}

/// A right of several that are named together is enough for the server: each is asked for by itself.
const RIGHTS: &str = "SELECT space.oid IS NOT NULL, has_database_privilege(current_database(), 'CREATE'), \
        coalesce(has_schema_privilege(space.oid, 'USAGE'), FALSE), \
        coalesce(has_schema_privilege(space.oid, 'CREATE'), FALSE), \
        (SELECT count(*) FROM pg_class AS it WHERE it.relnamespace = space.oid AND it.relkind = 'r' \
            AND NOT pg_has_role(it.relowner, 'USAGE')), \
        (SELECT count(*) FROM pg_class AS it WHERE it.relnamespace = space.oid AND it.relkind = 'r' \
            AND it.relname <> 'schema' \
            AND NOT (has_table_privilege(it.oid, 'SELECT') AND has_table_privilege(it.oid, 'INSERT') \
                AND has_table_privilege(it.oid, 'UPDATE') AND has_table_privilege(it.oid, 'DELETE'))) \
     FROM (VALUES (1)) AS one LEFT JOIN pg_namespace AS space ON space.nspname = $1";

impl Rights {
    async fn ask(client: &Client, schema: &str) -> Attempt<Self> {
        let rows = in_time(client.query_typed(RIGHTS, &arguments![schema])).await?;
        let row = rows.first().ok_or(StoreError::Closed)?;
        let mut columns = Columns::of(row);
        Ok(Self {
            exists: columns.take()?,
            makes: columns.take()?,
            uses: columns.take()?,
            changes: columns.take()?,
            others_tables: columns.take()?,
            closed_tables: columns.take()?,
        })
    }
}
