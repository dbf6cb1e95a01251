//! Random histories against a model: each accepted item ends as exactly one row, whatever happens.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::place::*;
use crate::domain::batch::{BatchStatus, Counts};
use crate::domain::day::{Day, DayUsage};
use crate::domain::ids::{AppKey, BatchId, BatchKey};
use crate::domain::output_line::file_line_bytes;
use crate::domain::result::{ItemStatus, NewResult};
use crate::store::{CancelOutcome, DeleteOutcome, Flush, ResultFilter, ResultOrder, ResultQuery, Store};

const BATCHES: usize = 3;
const TOTAL: u32 = 12;

/// One thing that happens to the store.
#[derive(Clone, Debug)]
enum Step {
    /// Flushes that go into one commit or more, as it comes.
    Flush(Vec<Vec<(usize, u32, ItemStatus)>>),
    Cancel(usize),
    FailFast(usize),
    Expire(usize),
    Delete(usize),
    Sweep,
    Crash,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let status = prop_oneof![
        4 => Just(ItemStatus::Succeeded),
        1 => Just(ItemStatus::Failed),
        1 => Just(ItemStatus::Cancelled),
        1 => Just(ItemStatus::Expired),
    ];
    let result = (0..BATCHES, 1..=TOTAL, status);
    let flush = prop::collection::vec(prop::collection::vec(result, 0..8), 1..4);
    let batch = 0..BATCHES;
    let step = prop_oneof![
        8 => flush.prop_map(Step::Flush),
        1 => batch.clone().prop_map(Step::Cancel),
        1 => batch.clone().prop_map(Step::FailFast),
        1 => batch.clone().prop_map(Step::Expire),
        1 => batch.prop_map(Step::Delete),
        1 => Just(Step::Sweep),
        2 => Just(Step::Crash),
    ];
    prop::collection::vec(step, 1..30)
}

/// What the rules say of one batch.
struct Expected {
    key: BatchKey,
    id: BatchId,
    status: BatchStatus,
    /// The rows in order of recording.
    rows: Vec<NewResult>,
    deleted: bool,
}

impl Expected {
    fn record(&mut self, new: NewResult) -> bool {
        let known = self.rows.iter().any(|row| row.line == new.line);
        if known || self.deleted || !self.status.accepts_results() {
            return false;
        }
        self.rows.push(new);
        if self.rows.len() == TOTAL as usize {
            self.status = match self.status {
                BatchStatus::Cancelling => BatchStatus::Cancelled,
                BatchStatus::Expiring => BatchStatus::Expired,
                _ => BatchStatus::Completed,
            };
        }
        true
    }

    fn begin(&mut self, status: BatchStatus) -> bool {
        let begins = self.status == BatchStatus::InProgress && !self.deleted;
        if begins {
            self.status = status;
        }
        begins
    }

    fn counts(&self) -> Counts {
        let mut counts = Counts { total: TOTAL.into(), ..Counts::default() };
        for row in &self.rows {
            *match row.status {
                ItemStatus::Succeeded => &mut counts.succeeded,
                ItemStatus::Failed => &mut counts.failed,
                ItemStatus::Cancelled => &mut counts.cancelled,
                ItemStatus::Expired => &mut counts.expired,
            } += 1;
        }
        counts
    }
}

async fn apply(store: &Store, model: &mut [Expected], step: &Step) -> Result<(), TestCaseError> {
    match step {
        Step::Flush(flushes) => {
            let mut answers = Vec::new();
            for flush in flushes {
                let results: Vec<_> = flush.iter().map(|(b, l, s)| result(model[*b].key, *l, *s)).collect();
                let mut inserted = 0;
                for ((batch, ..), new) in flush.iter().zip(&results) {
                    inserted += u32::from(model[*batch].record(new.clone()));
                }
                answers.push((store.record(Flush { results, ..Flush::default() }), inserted, flush.len()));
            }
            for (answer, inserted, all) in answers {
                let recorded = answer.await.unwrap().unwrap();
                prop_assert_eq!((recorded.inserted, recorded.dropped), (inserted, all as u32 - inserted));
            }
        }
        Step::Cancel(at) => {
            let batch = &mut model[*at];
            batch.begin(BatchStatus::Cancelling);
            match store.cancel_batch(AppKey::DEFAULT, &batch.id).await.unwrap() {
                CancelOutcome::Unknown => prop_assert!(batch.deleted),
                CancelOutcome::Ended(record) | CancelOutcome::Cancelling(record) => {
                    prop_assert_eq!(record.status, batch.status);
                }
            }
        }
        Step::FailFast(at) => {
            let error = crate::domain::file::LineProblem {
                line: None,
                code: "fail_fast".to_owned(),
                message: String::new(),
                param: None,
            };
            let began = store.begin_cancelling(model[*at].key, error).await.unwrap();
            prop_assert_eq!(began, model[*at].begin(BatchStatus::Cancelling));
        }
        Step::Expire(at) => {
            let began = store.begin_expiring(model[*at].key).await.unwrap();
            prop_assert_eq!(began, model[*at].begin(BatchStatus::Expiring));
        }
        Step::Delete(at) => {
            let batch = &mut model[*at];
            let outcome = store.delete_batch(AppKey::DEFAULT, &batch.id).await.unwrap();
            let expected = match (batch.deleted, batch.status.is_terminal()) {
                (true, _) => DeleteOutcome::Unknown,
                (false, false) => DeleteOutcome::Active,
                (false, true) => DeleteOutcome::Deleted,
            };
            prop_assert_eq!(outcome, expected);
            batch.deleted |= expected == DeleteOutcome::Deleted;
        }
        Step::Sweep => {
            store.sweep(at(0)).await.unwrap();
        }
        Step::Crash => {}
    }
    Ok(())
}

async fn check(store: &Store, batch: &Expected) -> Result<(), TestCaseError> {
    let read = store.batch(AppKey::DEFAULT, &batch.id).await.unwrap();
    prop_assert_eq!(read.is_none(), batch.deleted);
    let Some(read) = read else { return Ok(()) };
    prop_assert_eq!((read.status, read.counts), (batch.status, batch.counts()));
    let page = |order| ResultQuery {
        batch: batch.key,
        order,
        after: 0,
        limit: 500,
        filter: ResultFilter::All,
        max_bytes: usize::MAX,
    };
    let by_position = store.results(page(ResultOrder::Completion)).await.unwrap();
    let positions: Vec<u64> = by_position.iter().map(|stored| stored.position).collect();
    prop_assert_eq!(positions, (1..=batch.rows.len() as u64).collect::<Vec<_>>());
    let rows: Vec<_> = by_position.into_iter().map(|stored| stored.result).collect();
    prop_assert_eq!(&rows, &batch.rows);
    let by_line: BTreeMap<u32, &NewResult> = batch.rows.iter().map(|row| (row.line, row)).collect();
    let lines = store.results(page(ResultOrder::Input)).await.unwrap();
    prop_assert!(lines.iter().map(|stored| &stored.result).eq(by_line.into_values()));

    let bytes = |good: bool| -> u64 {
        let rows = rows.iter().filter(|row| (row.status == ItemStatus::Succeeded) == good);
        rows.map(|row| file_line_bytes(&batch.id, row)).sum()
    };
    prop_assert_eq!((read.sums.output_bytes, read.sums.error_bytes), (bytes(true), bytes(false)));
    let ended = read.status.is_terminal();
    prop_assert_eq!(read.output_file_id.is_some(), ended && read.counts.succeeded > 0);
    prop_assert_eq!(read.error_file_id.is_some(), ended && read.counts.succeeded < TOTAL.into());
    for id in read.output_file_id.iter().chain(&read.error_file_id) {
        prop_assert!(store.file(AppKey::DEFAULT, id).await.unwrap().is_some());
    }
    Ok(())
}

/// What the app used is what its results say, also those of batches that are deleted; what it holds is what
/// has none yet.
async fn check_app(store: &Store, model: &[Expected]) -> Result<(), TestCaseError> {
    let mut used = DayUsage::default();
    for row in model.iter().flat_map(|batch| &batch.rows) {
        let failed = row.status == ItemStatus::Failed;
        if failed || row.attempts > 0 {
            used.add(&DayUsage::of(failed, &row.usage));
        }
    }
    let report = store.app_reports(Day(0)).await.unwrap().remove(0);
    let counted = report.usage.iter().fold(DayUsage::default(), |mut sum, (_, day)| {
        sum.add(day);
        sum
    });
    prop_assert_eq!(counted, used);
    let running = model.iter().filter(|batch| !batch.status.is_terminal());
    let waiting: u64 = running.map(|batch| u64::from(TOTAL) - batch.rows.len() as u64).sum();
    prop_assert_eq!(report.holdings.items_queued, waiting);
    Ok(())
}

async fn run(dialect: Dialect, steps: &[Step]) -> Result<(), TestCaseError> {
    let place = Place::new(dialect);
    let mut store = place.open().await;
    let mut model = Vec::new();
    for _ in 0..BATCHES {
        let batch = batch_of(&store, TOTAL).await;
        let (key, id, status) = (batch.key, batch.id, batch.status);
        model.push(Expected { key, id, status, rows: Vec::new(), deleted: false });
    }
    for step in steps {
        apply(&store, &mut model, step).await?;
        if matches!(step, Step::Crash) {
            store = place.crash_and_reopen(store).await;
        }
    }
    for batch in &model {
        check(&store, batch).await?;
    }
    check_app(&store, &model).await?;
    prop_assert_eq!(place.integrity().await, "ok");
    Ok(())
}

fn keeps_the_rules(dialect: Dialect, steps: &[Step]) -> Result<(), TestCaseError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(run(dialect, steps))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn every_history_keeps_the_rules_in_sqlite(steps in steps()) {
        keeps_the_rules(Dialect::Sqlite, &steps)?;
    }

}

proptest! {
    // Fewer: a schema for each is made first, which takes longer than its history.
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn every_history_keeps_the_rules_in_postgres(steps in steps()) {
        keeps_the_rules(Dialect::Postgres, &steps)?;
    }
}
