//! What every store must do, whatever database is behind it.
//!
//! A test opens a store through [`Place`] alone and says in which databases it runs: in all of them, unless it looks at
//! what only one has. Those are in files that begin with that one's name.

mod apps;
mod batches;
mod boots;
mod check;
mod files;
mod large;
mod model;
mod opening;
mod place;
mod postgres_ledger;
mod postgres_opening;
mod postgres_outages;
mod postgres_workers;
mod recording;
mod results;
mod retention;
#[path = "../../../tests/it/harness/postgres.rs"]
mod server;
mod sqlite_backups;
mod sqlite_crashes;
mod sqlite_opening;
mod sqlite_refusing;
mod work;
