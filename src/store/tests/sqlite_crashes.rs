//! Damage to the log's end: whatever was torn off, what is left is a state that was.

use proptest::prelude::*;

use super::place::*;
use crate::store::Store;

/// Batches of one flush per commit, so that the log holds many commits.
async fn fill(store: &Store) -> crate::domain::ids::BatchKey {
    let batch = batch_of(store, 40).await.key;
    for line in 1..=30 {
        record(store, succeeded(batch, [line])).await;
    }
    batch
}

async fn check(place: &Place, batch: crate::domain::ids::BatchKey) -> Result<(), TestCaseError> {
    let store = place.open().await;
    // The log may be torn before the batch itself was made.
    if let Some(read) = store.batch_by_key(batch).await.unwrap() {
        let lines = store.done_lines(batch, 1, 40).await.unwrap();
        let expected: Vec<u32> = (1..=lines.len() as u32).collect();
        prop_assert_eq!(&lines, &expected);
        prop_assert_eq!(read.counts.succeeded, lines.len() as u64);
    }
    store.close().await;
    prop_assert_eq!(place.integrity().await, "ok");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn a_torn_log_recovers_to_a_commit(cut in 1_usize..40_000, flip in any::<Option<prop::sample::Index>>()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let place = Place::new(Dialect::Sqlite);
            let store = place.open().await;
            let batch = fill(&store).await;
            drop(store);
            let path = place.path().with_extension("db-wal");
            let mut log = std::fs::read(&path).unwrap();
            match flip {
                Some(at) => {
                    let at = at.index(log.len());
                    log[at] ^= 0x10;
                }
                None => log.truncate(log.len().saturating_sub(cut)),
            }
            std::fs::write(&path, log).unwrap();
            check(&place, batch).await
        })?;
    }
}
