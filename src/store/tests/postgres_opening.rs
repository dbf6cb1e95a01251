//! The server: what is wrong with it is told in words that help.

use super::place::*;
use super::server;
use crate::config::Secret;
use crate::store::{StoreError, StoreLocation};

/// The place with its URL changed.
fn with_url(place: &Place, change: impl Fn(&str) -> String) -> Place {
    let mut changed = Place::new(Dialect::Postgres);
    let url = Secret::new(change(&server::url()));
    changed.settings.location =
        StoreLocation::Postgres { url, schema: place.schema().to_owned(), url_file: None };
    changed
}

async fn refused(place: &Place) -> String {
    match place.try_open().await {
        Err(StoreError::Unavailable(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn who_is_not_let_in_is_told_why() {
    let place = Place::new(Dialect::Postgres);
    let user = place.schema().to_owned();
    let client = server::client().await;
    // Several tests may make it at once.
    let make =
        "DO $$ BEGIN CREATE ROLE guarded LOGIN PASSWORD 'right'; EXCEPTION WHEN OTHERS THEN NULL; END $$";
    client.batch_execute(make).await.unwrap();
    let wrong = with_url(&place, |url| url.replace("postgres@", "guarded:wrong@"));
    let why = refused(&wrong).await;
    assert!(why.contains("password of user guarded") && !why.contains("wrong"), "{why}");

    let missing = with_url(&place, |url| format!("{}/nowhere", url.strip_suffix("/postgres").unwrap()));
    let why = refused(&missing).await;
    assert!(why.contains("has no database nowhere"), "{why}");

    client.batch_execute(&format!("CREATE ROLE {user} LOGIN")).await.unwrap();
    let poor = with_url(&place, |url| url.replace("postgres@", &format!("{user}@")));
    let why = refused(&poor).await;
    assert!(why.contains(&format!("CREATE SCHEMA {user} AUTHORIZATION {user}")), "{why}");

    client.batch_execute(&format!("CREATE SCHEMA {user} AUTHORIZATION {user}")).await.unwrap();
    poor.open().await.close().await;
}

#[tokio::test]
async fn a_server_that_is_not_there_or_takes_no_writes_is_told() {
    let place = Place::new(Dialect::Postgres);
    let gone = with_url(&place, |_| "postgres://nobody@127.0.0.1:1/none".to_owned());
    let why = refused(&gone).await;
    assert!(why.contains("refused"), "{why}");
    let option = "options=-c%20default_transaction_read_only%3Don";
    let why = refused(&with_url(&place, |url| format!("{url}?{option}"))).await;
    assert!(why.contains("read-only"), "{why}");
}

#[tokio::test]
async fn tls_is_as_strict_as_it_was_asked_to_be() {
    let url = server::url();
    let (socket, port) = url.strip_suffix("/postgres").unwrap().rsplit_once(':').unwrap();
    let folder = socket.strip_prefix("postgres://postgres@").unwrap();
    let place = Place::new(Dialect::Postgres);
    let at = |host: &str, tls: &str| {
        with_url(&place, |_| format!("postgres://postgres@{host}:{port}/postgres?{tls}"))
    };
    let trusted = format!("sslrootcert={folder}%2Fauthority.pem");
    for (host, tls) in [
        ("127.0.0.1", "sslmode=require".to_owned()),
        ("127.0.0.1", format!("sslmode=verify-ca&{trusted}")),
        ("localhost", format!("sslmode=verify-full&{trusted}")),
    ] {
        let place = at(host, &tls);
        let store = place.open().await;
        batch_of(&store, 1).await;
        let sql = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                   WHERE ssl AND application_name = 'sluicegate'";
        let encrypted: i64 = place.client().await.query_one(sql, &[]).await.unwrap().get(0);
        assert!(encrypted > 0, "{tls}");
        store.close().await;
    }
    for (host, tls) in [
        ("127.0.0.1", format!("sslmode=verify-full&{trusted}")),
        ("localhost", "sslmode=verify-full".to_owned()),
        ("localhost", "sslmode=verify-ca".to_owned()),
    ] {
        let why = refused(&at(host, &tls)).await;
        assert!(why.contains("certificate"), "{tls}: {why}");
    }
}

#[tokio::test]
async fn of_several_servers_the_one_that_takes_writes_is_used() {
    let place = Place::new(Dialect::Postgres);
    let port = |url: &str| url.strip_suffix("/postgres").unwrap().rsplit_once(':').unwrap().1.to_owned();
    let both = |url: &str| {
        format!("postgres://postgres@127.0.0.1:1,127.0.0.1:{}/postgres?sslmode=disable", port(url))
    };
    with_url(&place, both).open().await.close().await;
}
