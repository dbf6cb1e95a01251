//! Tables: rows of a spreadsheet or of JSON lines in, a request for each, and a row with its answer out.
//!
//! Nothing here knows of a server. A file is read row by row each time it is needed, never held.

mod answer;
mod answer_text;
mod answers;
mod delimiter;
mod error;
mod layout;
mod lines;
mod quotes;
mod recipe;
mod rows;
mod survey;
mod template;
#[cfg(test)]
mod tests;

pub(super) use self::answers::{Answers, Awaiting, Tally};
pub use self::error::TableError;
pub use self::layout::Format;
pub(super) use self::layout::Layout;
pub(super) use self::recipe::{Recipe, RecipeParts};
pub(super) use self::rows::Rows;
pub(super) use self::survey::{Job, Part, PartLimits, Survey};
pub(super) use self::template::Template;
