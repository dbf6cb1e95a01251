//! Stub: see docs/architecture.md.
pub mod backoff;
pub mod judge;
pub mod retry_budget;
