//! Sluicegate: one gate in front of an organisation's LLM providers.

pub mod clock;
pub mod complaint;
pub mod domain;
pub mod logs;
pub mod shutdown;
pub mod traces;
pub mod wakeup;

pub mod config;
pub mod metrics;

pub mod gate;
pub mod ingest;
pub mod store;
pub mod upstream;

pub mod api;
pub mod engine;

pub mod app;
pub mod cli;
pub mod demo;
