//! A server that goes away in the middle: nothing is lost, doubled or answered wrongly.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::place::*;
use super::server;
use crate::config::Secret;
use crate::domain::batch::{BatchStatus, Usage};
use crate::domain::day::Day;
use crate::domain::file::FileSource;
use crate::domain::ids::AppKey;
use crate::store::{CreateOutcome, Flush, Store, StoreError, StoreLocation};

/// A way to the server on which the answer to one commit can be lost.
pub(super) struct Relay {
    pub(super) place: Place,
    /// The next commit gets to the server, and its answer to nobody.
    swallows: Arc<AtomicBool>,
    /// Nobody gets through.
    is_cut: Arc<AtomicBool>,
    /// Who listens is told so and hears nothing.
    pub(super) deafens: Arc<AtomicBool>,
}

impl Relay {
    pub(super) async fn start() -> Self {
        let url = server::url();
        let (_, server_port) = url.strip_suffix("/postgres").unwrap().rsplit_once(':').unwrap();
        let server = format!("127.0.0.1:{server_port}");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let [swallows, is_cut, deafens] = [(); 3].map(|()| Arc::new(AtomicBool::new(false)));
        let shared = [&swallows, &is_cut, &deafens].map(Arc::clone);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (server, shared) = (server.clone(), shared.clone());
                tokio::spawn(async move { relay(client, &server, &shared).await });
            }
        });
        let mut place = Place::new(Dialect::Postgres);
        let url = Secret::new(format!("postgres://postgres@127.0.0.1:{port}/postgres?sslmode=disable"));
        place.settings.location =
            StoreLocation::Postgres { url, schema: place.schema().to_owned(), url_file: None };
        Self { place, swallows, is_cut, deafens }
    }

    pub(super) async fn open(&self) -> Store {
        self.place.open().await
    }
}

/// Carries bytes both ways until either side ends, or a commit's answer is to be lost.
async fn relay(mut client: TcpStream, server: &str, [swallows, is_cut, deafens]: &[Arc<AtomicBool>; 3]) {
    if is_cut.load(Ordering::Relaxed) {
        return;
    }
    let mut server = TcpStream::connect(server).await.unwrap();
    let (mut asked, mut answered) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        tokio::select! {
            read = client.read(&mut asked) => {
                let Ok(length @ 1..) = read else { return };
                let asked = &mut asked[..length];
                let listens = asked.windows(8).position(|word| word == b"LISTEN \"");
                if let Some(place) = listens.filter(|_| deafens.load(Ordering::Relaxed)) {
                    asked[place..place + 6].copy_from_slice(b"NOTIFY");
                }
                let commits = asked.windows(6).any(|word| word == b"COMMIT");
                if server.write_all(asked).await.is_err() {
                    return;
                }
                if commits && swallows.swap(false, Ordering::Relaxed) {
                    // Its answer: the commit is done when this is read.
                    let _ = server.read(&mut answered).await;
                    return;
                }
            }
            read = server.read(&mut answered) => {
                let Ok(length @ 1..) = read else { return };
                if is_cut.load(Ordering::Relaxed) || client.write_all(&answered[..length]).await.is_err() {
                    return;
                }
            }
        }
    }
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_neither_repeated_nor_denied() {
    let relay = Relay::start().await;
    let store = relay.open().await;
    let (file, _) = items(&store, FileSource::Upload, 2).await;

    relay.swallows.store(true, Ordering::Relaxed);
    let made = store.create_batch(new_batch(file, 2)).await.unwrap();
    let CreateOutcome::Created(batch) = made else { panic!("{made:?}") };
    assert!(!relay.swallows.load(Ordering::Relaxed));
    assert_eq!(relay.place.rows("batch").await, 1);

    relay.swallows.store(true, Ordering::Relaxed);
    let recorded = record(&store, succeeded(batch.key, 1..=2)).await;
    assert!(!relay.swallows.load(Ordering::Relaxed));
    assert_eq!((recorded.inserted, recorded.dropped), (2, 0));
    assert_eq!(recorded.ended, [(batch.key, BatchStatus::Completed)]);
    store.count_call(AppKey::DEFAULT, at(20), false, &Usage::default());
    store.close().await;
    let store = relay.open().await;
    assert_eq!(store.day_usage(AppKey::DEFAULT, Day::of(at(20))).await.unwrap().requests, 3);
    assert_eq!(relay.place.integrity().await, "ok");
}

#[tokio::test]
async fn results_wait_for_a_server_that_is_away() {
    let relay = Relay::start().await;
    let store = relay.open().await;
    let batch = batch_of(&store, 3).await.key;
    let mut bell = store.disk_wakeup().listen();
    relay.is_cut.store(true, Ordering::Relaxed);
    let waiting = store.record(Flush { results: succeeded(batch, 1..=2), ..Flush::default() });
    while store.health().takes_work() {
        bell.heard().await;
    }
    assert!(matches!(store.begin_expiring(batch).await, Err(StoreError::Unavailable(_))));
    assert!(matches!(store.batch_by_key(batch).await, Err(StoreError::Unavailable(_))));

    relay.is_cut.store(false, Ordering::Relaxed);
    assert_eq!(waiting.await.unwrap().unwrap().inserted, 2);
    while !store.health().takes_work() {
        bell.heard().await;
    }
    assert!(store.begin_expiring(batch).await.unwrap());
}
