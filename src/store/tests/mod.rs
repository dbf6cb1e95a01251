//! What every store must do, whatever database is behind it.
//!
//! A test opens a store through [`Place`] alone, so that another database runs the same suite by another
//! `Place`.

mod apps;
mod batches;
mod boots;
mod crashes;
mod files;
mod large;
mod model;
mod opening;
mod place;
mod recording;
mod refusing;
mod results;
mod retention;
mod work;
