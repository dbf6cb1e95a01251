//! Limits as one list, whether a configuration or a running service names them.

use std::time::Duration;

use serde::Deserialize;

use super::super::client::Client;
use super::super::error::CliError;
use crate::config::{Config, Pattern};
use crate::domain::limits::Rate;
use crate::domain::limits::{Dimension, Limits};
use crate::domain::quantity::display_rate;

/// One limit in time.
#[derive(Clone, Debug)]
pub(in crate::cli) struct LimitRow {
    /// Whose it is, for a person.
    pub(in crate::cli) name: String,
    /// What it counts.
    pub(in crate::cli) dimension: Dimension,
    /// How much of it in what time.
    pub(in crate::cli) rate: Rate,
    /// The models that it holds for; `None`: all.
    pub(in crate::cli) models: Option<Pattern>,
}

impl LimitRow {
    /// As `requests 500/min of the service`.
    pub(super) fn described(&self) -> String {
        format!("{} {} of {}", self.dimension.as_str(), display_rate(self.rate), self.name)
    }

    /// Whether calls to this model count.
    pub(super) fn holds_for(&self, model: &str) -> bool {
        self.models.as_ref().is_none_or(|models| models.matches(model))
    }
}

/// What a configuration limits for these models.
pub(in crate::cli) fn configured<'a>(
    config: &Config,
    models: impl Iterator<Item = &'a str>,
) -> Vec<LimitRow> {
    let mut rows = of_limits("the service", &config.limits, None);
    for model in models {
        // The preferred lane: where others take over, it only gets faster.
        let Some(candidate) = config.route(model).into_iter().next() else { continue };
        let exactly = || Some(Pattern::new(model));
        rows.extend(of_limits(&candidate.provider.name, &candidate.provider.limits, exactly()));
        rows.extend(of_limits(
            &format!("{}/{model}", candidate.provider.name),
            &candidate.lane.limits,
            exactly(),
        ));
    }
    rows
}

fn of_limits(name: &str, limits: &Limits, models: Option<Pattern>) -> Vec<LimitRow> {
    let rates = |dimension| match dimension {
        Dimension::Requests => &limits.requests,
        Dimension::Tokens => &limits.tokens,
        Dimension::InputTokens => &limits.input_tokens,
        Dimension::OutputTokens => &limits.output_tokens,
    };
    let row = |dimension, rate: &Rate| LimitRow {
        name: name.to_owned(),
        dimension,
        rate: *rate,
        models: models.clone(),
    };
    let of_dimension = |dimension: Dimension| rates(dimension).iter().map(move |rate| row(dimension, rate));
    Dimension::ALL.into_iter().flat_map(of_dimension).collect()
}

#[derive(Deserialize)]
struct Budget {
    data: Vec<Told>,
}

#[derive(Deserialize)]
struct Told {
    level: String,
    name: String,
    model: Option<String>,
    dimension: String,
    limit: Option<u64>,
    period_seconds: Option<f64>,
}

/// What a running service says it limits.
pub(in crate::cli) async fn told(client: &Client) -> Result<Vec<LimitRow>, CliError> {
    let budget: Budget = client.get("/v1/budget").await?;
    let row = |told: Told| {
        let dimension = Dimension::ALL.into_iter().find(|it| it.as_str() == told.dimension)?;
        let rate =
            Rate { amount: told.limit?, period: Duration::try_from_secs_f64(told.period_seconds?).ok()? };
        let (name, models) = match told.level.as_str() {
            "service" => ("the service".to_owned(), None),
            "lane" => (told.name, Some(Pattern::new(told.model.as_deref().unwrap_or("*")))),
            level => (format!("{level} {}", told.name), None),
        };
        Some(LimitRow { name, dimension, rate, models })
    };
    Ok(budget.data.into_iter().filter_map(row).collect())
}
