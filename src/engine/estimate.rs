//! What a request will cost in tokens, before anybody knows.

mod measure;
mod output;
mod ratio;

use std::collections::HashMap;
use std::sync::Arc;

use crate::domain::batch::Usage;
use crate::domain::ids::BatchKey;

pub(super) use measure::Measure;
use output::Outputs;
use ratio::InputRatio;

/// Output tokens of a model of which nothing is known, where the request sets no limit.
const UNKNOWN_OUTPUT: u64 = 1_000;
/// Names come from clients: what is remembered of them is bounded.
const MOST_MODELS: usize = 4_096;

/// Tokens to reserve for one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Expected {
    /// Input, at the upper side where it is charged on admission.
    pub(super) input: u64,
    /// Output: nine of ten stay below; the request's own limit where that is what is charged.
    pub(super) output: u64,
}

/// What a model's requests have come to.
#[derive(Debug, Default)]
struct Model {
    input: InputRatio,
    outputs: Outputs,
}

/// What is known of every model, and of every batch's use of each.
#[derive(Debug, Default)]
pub(super) struct Estimates {
    models: HashMap<Arc<str>, Model>,
    /// A batch's requests are alike: its own answers tell more than its model's.
    batches: HashMap<BatchKey, HashMap<Arc<str>, Outputs>>,
}

impl Estimates {
    /// What to reserve. `on_admission`: the provider charges its own estimate when it admits the call, which is the
    /// input and the request's own limit of output, whatever comes of it.
    pub(super) fn expect(
        &self,
        batch: Option<BatchKey>,
        model: &str,
        measure: &Measure,
        on_admission: bool,
    ) -> Expected {
        let known = self.models.get(model);
        let input = known.map_or_else(InputRatio::default, |known| known.input);
        let input = input.tokens(measure.text_bytes, measure.payloads, on_admission);
        let of_batch = batch.and_then(|batch| self.batches.get(&batch)?.get(model)?.p90());
        let likely = of_batch.or_else(|| known?.outputs.p90());
        let output = match (measure.max_output, likely) {
            (Some(max), _) if on_admission => max,
            (Some(max), likely) => likely.unwrap_or(UNKNOWN_OUTPUT).min(max),
            (None, likely) => likely.unwrap_or(UNKNOWN_OUTPUT),
        };
        Expected { input, output }
    }

    /// What a request takes at least: what no estimate can be wrong about.
    pub(super) const fn certain(measure: &Measure) -> Expected {
        let output = match measure.max_output {
            Some(max) => max,
            None => 0,
        };
        Expected { input: ratio::at_least(measure.text_bytes), output }
    }

    /// A request was answered, and its provider reported what it used.
    pub(super) fn learn(
        &mut self,
        batch: Option<BatchKey>,
        model: &Arc<str>,
        measure: Option<&Measure>,
        usage: &Usage,
    ) {
        if self.models.len() >= MOST_MODELS && !self.models.contains_key(model) {
            self.models.clear();
        }
        let known = self.models.entry(Arc::clone(model)).or_default();
        if let Some(measure) = measure {
            known.input.learn(measure.text_bytes, measure.payloads, usage.input_tokens);
        }
        known.outputs.learn(usage.output_tokens);
        if let Some(batch) = batch {
            self.batches
                .entry(batch)
                .or_default()
                .entry(Arc::clone(model))
                .or_default()
                .learn(usage.output_tokens);
        }
    }

    /// A batch is over.
    pub(super) fn forget(&mut self, batch: BatchKey) {
        self.batches.remove(&batch);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEASURE: Measure = Measure { text_bytes: 4_000, payloads: 0, max_output: Some(500) };

    fn usage(input_tokens: u64, output_tokens: u64) -> Usage {
        Usage { input_tokens, output_tokens, ..Usage::default() }
    }

    #[test]
    fn where_admission_is_charged_the_request_s_own_limit_is_reserved() {
        let mut estimates = Estimates::default();
        let model: Arc<str> = "m".into();
        for _ in 0..50 {
            estimates.learn(None, &model, Some(&MEASURE), &usage(1_000, 20));
        }
        assert_eq!(estimates.expect(None, "m", &MEASURE, true), Expected { input: 1_000, output: 500 });
        assert_eq!(estimates.expect(None, "m", &MEASURE, false), Expected { input: 1_000, output: 20 });
    }

    #[test]
    fn a_batch_s_own_answers_tell_more_than_its_model_s() {
        let mut estimates = Estimates::default();
        let (model, one, other): (Arc<str>, _, _) = ("m".into(), BatchKey(1), BatchKey(2));
        for _ in 0..50 {
            estimates.learn(Some(one), &model, None, &usage(1_000, 300));
        }
        for _ in 0..200 {
            estimates.learn(Some(other), &model, None, &usage(1_000, 10));
        }
        let output = |batch| estimates.expect(batch, "m", &MEASURE, false).output;
        assert_eq!((output(Some(one)), output(Some(other)), output(None)), (300, 10, 10));
        estimates.forget(one);
        assert_eq!(estimates.expect(Some(one), "m", &MEASURE, false).output, 10);
    }

    #[test]
    fn the_unknown_is_bounded_by_the_request_s_own_limit() {
        let estimates = Estimates::default();
        let small = Measure { max_output: Some(5), ..MEASURE };
        let open = Measure { max_output: None, ..MEASURE };
        assert_eq!(estimates.expect(None, "m", &small, false).output, 5);
        assert_eq!(estimates.expect(None, "m", &open, true).output, UNKNOWN_OUTPUT);
        assert_eq!(Estimates::certain(&open), Expected { input: 31, output: 0 });
    }
}
