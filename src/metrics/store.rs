//! The metrics of the store.

use std::time::Duration;

use prometheus::{Histogram, IntGauge, Registry};

use super::declare::{LOCAL_SECONDS, ROWS, metrics};

metrics! {
    /// What the store does.
    pub struct StoreMetrics {
        /// Seconds of one commit of the writer, sync included.
        commit_seconds: Histogram = "store_commit_seconds" [] LOCAL_SECONDS;
        /// Rows written by one commit.
        commit_rows: Histogram = "store_commit_rows" [] ROWS;
        /// Bytes in the write-ahead log.
        wal_bytes: IntGauge = "store_wal_bytes" [];
        /// Bytes of the database, its log apart.
        size_bytes: IntGauge = "store_size_bytes" [];
        /// Bytes that are free where the store lies.
        disk_free_bytes: IntGauge = "disk_free_bytes" [];
        /// Bytes that have to stay free there, or nothing new is taken: `store.min_free`; 0 with PostgreSQL.
        min_free_bytes: IntGauge = "store_min_free_bytes" [];
        /// 1 while new work is taken, 0 while the disk is full or refuses writes or the database is away or not reached.
        takes_work: IntGauge = "store_takes_work" [];
        /// Commands that wait for the writer.
        writer_queue: IntGauge = "writer_queue" [];
    }
}

impl StoreMetrics {
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self::register(registry)?;
        metrics.takes_work.set(1);
        Ok(metrics)
    }

    /// A commit of so many rows became durable.
    pub fn committed(&self, rows: u64, took: Duration) {
        self.commit_seconds.observe(took.as_secs_f64());
        self.commit_rows.observe(rows as f64);
    }

    /// Bytes in the write-ahead log.
    pub fn set_wal_bytes(&self, bytes: u64) {
        self.wal_bytes.set(saturating(bytes));
    }

    /// Bytes of the database, its log apart.
    pub fn set_size_bytes(&self, bytes: u64) {
        self.size_bytes.set(saturating(bytes));
    }

    /// Bytes that are free where the store lies.
    pub fn set_disk_free_bytes(&self, bytes: u64) {
        self.disk_free_bytes.set(saturating(bytes));
    }

    /// Bytes that have to stay free where the store lies.
    pub fn set_min_free_bytes(&self, bytes: u64) {
        self.min_free_bytes.set(saturating(bytes));
    }

    /// Whether new work is taken.
    pub fn set_takes_work(&self, takes: bool) {
        self.takes_work.set(i64::from(takes));
    }

    /// Commands that wait for the writer.
    pub fn writer_queue(&self) -> &IntGauge {
        &self.writer_queue
    }
}

fn saturating(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
