//! Who gets the load.

use std::str::FromStr;

use anyhow::Context as _;

/// Which replicas get how much of it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Shape {
    /// Whether there is a backlog of batches, which every replica claims from.
    pub(crate) has_batches: bool,
    /// Live calls at each replica, as shares of the limit; further replicas get none.
    pub(crate) live: Vec<f64>,
}

impl FromStr for Shape {
    type Err = anyhow::Error;

    /// Reads one such as `batches`, `100/100/10/0` or `batches+100/100/10/0`.
    fn from_str(text: &str) -> anyhow::Result<Self> {
        let (has_batches, live) = match text.strip_prefix("batches") {
            Some("") => return Ok(Self { has_batches: true, live: Vec::new() }),
            Some(rest) => (true, rest.strip_prefix('+').context("`batches` and + before percents")?),
            None => (false, text),
        };
        let percents: Result<Vec<f64>, _> = live.split('/').map(str::parse).collect();
        let live =
            percents.with_context(|| format!("`{live}` is no list of percents such as 100/100/10/0"))?;
        Ok(Self { has_batches, live: live.into_iter().map(|percent: f64| percent / 100.0).collect() })
    }
}
