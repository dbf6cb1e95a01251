//! Refusing a batch that would not end within its window, where its client asks for that.

use crate::domain::file::FileSummary;
use crate::domain::progress::{WindowQuestion, WouldFit};
use crate::domain::quantity::display_duration;

use super::super::caller::Caller;
use super::super::error::{ApiError, Refusal, Result};
use super::super::state::Api;
use super::options::Asked;

/// Refuses a batch that asks for it, before it is stored.
///
/// # Errors
/// 400 `window_unreachable`, saying what would fit.
pub(crate) async fn refuse_unreachable(
    api: &Api,
    caller: Caller,
    asked: &Asked,
    summary: &FileSummary,
) -> Result<()> {
    // One that fails for its lines, or starts nothing yet, has no pace to be told by.
    if !asked.options.require_on_time || asked.options.paused || !summary.problems.is_empty() {
        return Ok(());
    }
    let default = asked.defaults_model.as_deref().unwrap_or_default();
    let models = summary.models.iter().map(|shape| {
        let model = if shape.model.is_empty() { default } else { &shape.model };
        (model.to_owned(), shape.items)
    });
    let question = WindowQuestion {
        app: caller.app,
        models: models.collect(),
        priority: asked.options.priority,
        max_concurrency: asked.options.max_concurrency,
        window: asked.window,
    };
    let Some(instead) = (api.board.would_fit)(question).await else {
        return Ok(());
    };
    let why = explain(summary.items, &asked.completion_window, instead);
    Err(ApiError::new(Refusal::WindowUnreachable, why).param("completion_window"))
}

fn explain(items: u64, window: &str, instead: WouldFit) -> String {
    let WouldFit { window: enough, items: fits } = instead;
    let longer = enough.map_or_else(
        || "no window is long enough".to_owned(),
        |enough| format!("a completion_window of {} would do", display_duration(enough)),
    );
    let fewer = match fits {
        0 => "nothing fits".to_owned(),
        fits => format!("{fits} of its items fit"),
    };
    format!(
        "The batch's {items} items can't be expected to end within {window}, by the pace of their lanes and what is \
         queued before them: {longer}, and within {window} {fewer}."
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn says_what_would_fit() {
        let window = Some(Duration::from_secs(4_260));
        insta::assert_snapshot!(explain(9_000, "20m", WouldFit { window, items: 2_400 }), @"The batch's 9000 items can't be expected to end within 20m, by the pace of their lanes and what is queued before them: a completion_window of 1h11m would do, and within 20m 2400 of its items fit.");
        insta::assert_snapshot!(explain(9, "1s", WouldFit { window: None, items: 0 }), @"The batch's 9 items can't be expected to end within 1s, by the pace of their lanes and what is queued before them: no window is long enough, and within 1s nothing fits.");
    }
}
