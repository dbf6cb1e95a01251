//! The words of the design as types: pure values, no async, no I/O.

pub mod endpoint;
pub mod ids;
pub mod limits;
pub mod quantity;
pub mod time;
