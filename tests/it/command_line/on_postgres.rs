//! `doctor` where the store is on PostgreSQL: whether the server, the way to it and the schema will do.

use sluicegate::demo::upstream::Running;
use tokio_postgres::NoTls;

use super::{Ended, Shell};
use crate::harness::{postgres, upstream};

/// The server as the tests know it: its socket's folder and its port.
fn place() -> (String, String) {
    let url = postgres::url();
    let (folder, port) = url.strip_suffix("/postgres").unwrap().rsplit_once(':').unwrap();
    (folder.strip_prefix("postgres://postgres@").unwrap().replace("%2F", "/"), port.to_owned())
}

async fn doctor(base_url: &str, url: &str, schema: &str) -> Ended {
    let store = [("SLUICEGATE__STORE__URL", url), ("SLUICEGATE__STORE__SCHEMA", schema)];
    Shell::new(&[&[("OPENAI_BASE_URL", base_url)][..], &store].concat()).run(&["doctor"]).await
}

/// A schema of a test's own and a user that is named after it; in texts they are `SCHEMA_` and `USER_`.
struct Database {
    upstream: Running,
    client: tokio_postgres::Client,
    schema: String,
    port: String,
}

impl Database {
    async fn open() -> Self {
        let (client, connection) = tokio_postgres::connect(&postgres::url(), NoTls).await.unwrap();
        tokio::spawn(connection);
        let (_, port) = place();
        Self { upstream: upstream("").await, client, schema: postgres::new_schema(), port }
    }

    fn named(&self, text: &str) -> String {
        text.replace("SCHEMA_", &self.schema).replace("USER_", &format!("{}_user", self.schema))
    }

    async fn execute(&self, sql: &str) {
        self.client.batch_execute(&self.named(sql)).await.unwrap();
    }

    async fn migrate(&self) {
        let store =
            [("SLUICEGATE__STORE__URL", &*postgres::url()), ("SLUICEGATE__STORE__SCHEMA", &self.schema)];
        Shell::new(&store).prints(&["migrate"]).await;
    }

    /// What the doctor says of it to a user, and how it ends.
    async fn looked_at(&self, user: &str, code: i32, says: &[&str]) {
        let url = self.named(&format!("postgres://{user}@127.0.0.1:{}/postgres", self.port));
        let ended = doctor(&self.upstream.base_url(), &url, &self.schema).await;
        assert_eq!(ended.code, Some(code), "{ended:?}");
        for text in says.iter().map(|text| self.named(text)) {
            assert!(ended.out.contains(&text), "{text:?} is not in {}", ended.out);
        }
    }

    async fn has_schema(&self) -> bool {
        let sql = "SELECT 1 FROM pg_namespace WHERE nspname = $1";
        !self.client.query(sql, &[&self.schema]).await.unwrap().is_empty()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_knows_which_schema_a_start_would_meet() {
    let database = Database::open().await;
    let missing = "ok    schema SCHEMA_: not there yet; the first start makes it";
    database.looked_at("postgres", 0, &["ok    database: PostgreSQL ", missing]).await;
    assert!(!database.has_schema().await, "it changes nothing");
    database.migrate().await;
    database.looked_at("postgres", 0, &["ok    schema SCHEMA_: version "]).await;
    database.execute("UPDATE SCHEMA_.schema SET version = version - 1").await;
    database.looked_at("postgres", 0, &["warn  schema SCHEMA_: version ", "the next start"]).await;
    database.execute("UPDATE SCHEMA_.schema SET version = 90, min_compatible = 3").await;
    database.looked_at("postgres", 0, &["warn  schema SCHEMA_: version 90, later than"]).await;
    database.execute("UPDATE SCHEMA_.schema SET min_compatible = 90").await;
    let newer = ["FAIL  schema SCHEMA_: the database has schema 90", "run a newer version"];
    database.looked_at("postgres", 1, &newer).await;
    database.execute("CREATE TABLE SCHEMA_.copying (source BYTEA)").await;
    database.looked_at("postgres", 1, &["FAIL  schema SCHEMA_: ", "unfinished copy"]).await;
    database.execute("DROP SCHEMA SCHEMA_ CASCADE").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_knows_which_rights_are_missing() {
    let database = Database::open().await;
    database.execute("CREATE ROLE USER_ LOGIN").await;
    database
        .looked_at("USER_", 4, &["FAIL  schema SCHEMA_: ", "CREATE SCHEMA SCHEMA_ AUTHORIZATION USER_"])
        .await;
    database.migrate().await;
    database
        .looked_at(
            "USER_",
            4,
            &["user USER_ may not use the schema", "GRANT USAGE ON SCHEMA SCHEMA_ TO USER_"],
        )
        .await;
    let reads =
        "GRANT USAGE ON SCHEMA SCHEMA_ TO USER_; GRANT SELECT ON ALL TABLES IN SCHEMA SCHEMA_ TO USER_";
    database.execute(reads).await;
    database
        .looked_at("USER_", 4, &["may not read and write the tables", "GRANT SELECT, INSERT, UPDATE"])
        .await;
    database.execute("GRANT INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA SCHEMA_ TO USER_").await;
    database.looked_at("USER_", 0, &["ok    schema SCHEMA_: version "]).await;
    database.execute("UPDATE SCHEMA_.schema SET version = version - 1").await;
    database
        .looked_at("USER_", 4, &["may not make or change the schema SCHEMA_", "AUTHORIZATION USER_"])
        .await;
    database.execute("DROP SCHEMA SCHEMA_ CASCADE; DROP ROLE USER_").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_looks_at_the_way_to_the_server() {
    let upstream = upstream("").await;
    let (base_url, schema) = (upstream.base_url(), postgres::new_schema());
    let (folder, port) = place();
    let (client, connection) = tokio_postgres::connect(&postgres::url(), NoTls).await.unwrap();
    tokio::spawn(connection);
    // Who is called so is asked for a password; several tests may make it at once.
    let make =
        "DO $$ BEGIN CREATE ROLE guarded LOGIN PASSWORD 'right'; EXCEPTION WHEN OTHERS THEN NULL; END $$";
    client.batch_execute(make).await.unwrap();
    let trusted = format!("sslrootcert={folder}/authority.pem");
    let at =
        |user: &str, host: &str, query: &str| format!("postgres://{user}@{host}:{port}/postgres?{query}");
    let verified = format!("sslmode=verify-full&{trusted}");
    // Another way to write this machine, one that is not known to be this.
    let cases = [
        (at("postgres", "0.0.0.0", ""), 0, "warn  database's TLS: TLS 1.3, but any server's certificate"),
        (
            at("postgres", "0.0.0.0", "sslmode=disable"),
            0,
            "warn  database's TLS: none: whoever is on the way can read",
        ),
        (
            at("postgres", "127.0.0.1", "sslmode=require"),
            0,
            "ok    database's TLS: TLS 1.3; the certificate is not checked",
        ),
        (
            at("postgres", "127.0.0.1", &format!("sslmode=verify-ca&{trusted}")),
            0,
            "authority is checked, its name is not",
        ),
        (
            at("postgres", "localhost", &verified),
            0,
            "ok    database's TLS: TLS 1.3; the server's certificate and name",
        ),
        (at("postgres", "127.0.0.1", &verified), 4, "certificate"),
        (at("postgres", "127.0.0.1", "sslmode=disable"), 0, "ok    database's TLS: none, and none is needed"),
        (at("postgres", "127.0.0.1", "sslmode=sometimes"), 4, "unknown sslmode"),
        (at("guarded:hunter2", "127.0.0.1", ""), 4, "refuses the password of user guarded"),
        (
            at("postgres", "127.0.0.1", "options=-c%20default_transaction_read_only%3Don"),
            4,
            "the server is a standby or read-only; store.url must name the primary",
        ),
        (
            "postgres://nobody:hunter2@127.0.0.1:1/none".to_owned(),
            4,
            "127.0.0.1:1, database none, user nobody: ",
        ),
        (at("postgres", "127.0.0.1", "").replace("/postgres?", "/nowhere?"), 4, "has no database nowhere"),
    ];
    for (url, code, says) in cases {
        let ended = doctor(&base_url, &url, &schema).await;
        assert_eq!(ended.code, Some(code), "{url}: {ended:?}");
        assert!(ended.out.contains(says), "{url}: {says:?} is not in {}", ended.out);
        assert!(!ended.out.contains("hunter2") && !ended.err.contains("hunter2"), "{ended:?}");
    }
}
