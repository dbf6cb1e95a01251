//! The PostgreSQL server that tests use: the one that was started for them all, else one for this process.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

/// Names the server that `tests/run` started.
const VARIABLE: &str = "SLUICEGATE_TEST_POSTGRES";

/// A server of this process. It ends when its standard input does, so even a process that is killed leaves none.
struct Own {
    url: String,
    _process: Child,
}

/// The URL of the server's database.
///
/// Panics, saying what to install, where there is none and none can be started: a suite that passes without
/// having looked at this database would be worse.
pub(crate) fn url() -> String {
    static OWN: OnceLock<Own> = OnceLock::new();
    match std::env::var(VARIABLE) {
        Ok(url) => url,
        Err(_) => OWN.get_or_init(start).url.clone(),
    }
}

fn start() -> Own {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/postgres");
    let mut process =
        Command::new("bash").arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut url = String::new();
    BufReader::new(process.stdout.take().unwrap()).read_line(&mut url).unwrap();
    assert!(
        !url.is_empty(),
        "no PostgreSQL server for the tests: see above; `apt-get install postgresql` brings one"
    );
    Own { url: url.trim().to_owned(), _process: process }
}

/// A connection of the server's superuser.
pub(crate) async fn client() -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(&url(), tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// A schema that no other test uses.
pub(crate) fn new_schema() -> String {
    format!("test_{:016x}", rand::random::<u64>())
}
