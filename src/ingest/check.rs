//! What a batch asks of its lines beyond what the upload could know: endpoint, model, lane.

use super::problems::Fault;
use crate::domain::endpoint::Endpoint;
use crate::domain::file::{FileSummary, LineProblem};
use crate::domain::segment::{EntryKind, OpenSegment, SegmentHead};

/// One batch's demands on the lines of its file.
#[derive(Clone, Copy)]
pub struct LineCheck<'a> {
    /// The endpoint every line must name; `None`: lines differ.
    pub endpoint: Option<Endpoint>,
    /// The model of lines that name none.
    pub defaults_model: Option<&'a str>,
    /// Whether some lane serves a model.
    pub has_lane: &'a (dyn Fn(&str) -> bool + Sync),
}

impl std::fmt::Debug for LineCheck<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("LineCheck").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

impl LineCheck<'_> {
    /// Why a line of this model and endpoint can't be run in the batch.
    pub fn fault(&self, model: &str, endpoint: Endpoint) -> Option<Fault> {
        if let Some(demanded) = self.endpoint.filter(|demanded| *demanded != endpoint) {
            let message = format!(
                "The URL provided for this request, '{}', does not match the batch endpoint '{}'.",
                endpoint.path(),
                demanded.path()
            );
            return Some(Fault::new("invalid_url", "url", message));
        }
        let model = if model.is_empty() { self.defaults_model.unwrap_or("") } else { model };
        if model.is_empty() && !endpoint.model_is_optional() {
            return Some(Fault::new("invalid_request", "body.model", "Model parameter is required."));
        }
        if !(self.has_lane)(model) {
            let message =
                format!("No provider serves the model '{model}'; GET /v1/models lists what is configured.");
            return Some(Fault::new("model_not_found", "body.model", message));
        }
        None
    }

    /// The models that have lines which can't run; empty: nothing needs to be read.
    pub fn suspects(&self, summary: &FileSummary) -> Vec<String> {
        let shapes = summary.models.iter().filter(|shape| self.any_fault(&shape.model, shape.endpoints));
        shapes.map(|shape| shape.model.clone()).collect()
    }

    /// Whether a segment holds such lines.
    pub fn concerns(&self, head: &SegmentHead) -> bool {
        self.any_fault(&head.model, head.endpoints)
    }

    fn any_fault(&self, model: &str, endpoints: u8) -> bool {
        let named = Endpoint::ALL.into_iter().filter(|endpoint| endpoints & endpoint.bit() != 0);
        named.into_iter().any(|endpoint| self.fault(model, endpoint).is_some())
    }

    /// The problems of a segment's lines.
    pub fn scan(&self, model: &str, open: &OpenSegment) -> Vec<LineProblem> {
        let runnable = open.entries().iter().filter(|entry| entry.kind == EntryKind::Item);
        runnable.filter_map(|entry| Some(self.fault(model, entry.endpoint?)?.at(entry.line))).collect()
    }
}
