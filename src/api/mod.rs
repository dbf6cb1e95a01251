//! The HTTP API: `OpenAI`'s Files and Batches, and what goes beyond them.
//!
//! A handler takes what it needs, parses it into domain words, calls the store once and shows a
//! view. It never talks to the engine: batches meet it in the store, what only the engine knows
//! (pace, waiting reasons, lanes) comes through the closures of [`ApiParts`], and clients' own calls go
//! through a trait of the domain.

mod admin;
mod batches;
mod body;
mod budget;
mod caller;
mod error;
mod fields;
mod files;
mod followers;
mod input;
mod intake;
mod interactive;
mod keyring;
mod layers;
mod list;
mod ops;
mod page;
mod path;
mod pieces;
mod places;
mod query;
mod quota;
mod result_lines;
mod routes;
mod server;
mod state;
#[cfg(test)]
mod tests;

pub use keyring::{Keyring, KeyringSettings};
pub use routes::{Surface, routes};
pub use server::{ServerSettings, serve};
pub use state::{
    Api, ApiParts, ApiSettings, Ask, Board, FindModel, ItemPlace, LanePause, ModelEntry, ReloadRefused,
    Reloaded,
};
