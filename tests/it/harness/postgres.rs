//! The PostgreSQL server that tests use: the one that was started for them all, else one for this process.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

/// Names the server that `tests/run` started.
const VARIABLE: &str = "SLUICEGATE_TEST_POSTGRES";

/// A server of this process. It ends when its standard input does, so even a process that is killed leaves none.
pub(crate) struct Own {
    pub(crate) url: String,
    _process: Child,
}

impl Own {
    /// Starts a script that prints a URL once it answers there.
    pub(crate) fn start(script: &mut Command) -> Self {
        let mut process = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut url = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut url).unwrap();
        assert!(!url.is_empty(), "a server that the tests need did not start; what is missing is told above");
        Self { url: url.trim().to_owned(), _process: process }
    }
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
    Own::start(Command::new("bash").arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/postgres")))
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
