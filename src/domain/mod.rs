//! The words of the design as types: pure values, no async, no I/O.

pub mod api_key;
pub mod app;
pub mod batch;
pub mod day;
pub mod endpoint;
pub mod exchange;
pub mod file;
pub mod ids;
pub mod interactive;
pub mod limit_status;
pub mod limits;
pub mod model_field;
pub mod output_line;
pub mod progress;
pub mod quantity;
pub mod quota;
pub mod result;
pub mod segment;
pub mod shared_ledger;
pub mod stream_usage;
pub mod time;
pub mod worker;
