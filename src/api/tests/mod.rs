//! The API over a real store; results are recorded by hand, since no engine runs here.

mod batches;
mod creates;
mod files;
mod page;
mod refusals;
mod results;
mod server;
mod service;
mod spec;
