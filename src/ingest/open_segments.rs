//! The segments being filled, one a model, and the shapes of the models met.

use std::collections::HashMap;
use std::sync::Arc;

use crate::domain::endpoint::Endpoint;
use crate::domain::file::ModelShape;
use crate::domain::segment::{MAX_RAW_BYTES, Segment, SegmentBuilder};

/// Raw bytes of all open segments together.
const MAX_OPEN_BYTES: usize = 8 * 1024 * 1024;
/// Models of one file: names come from strangers and each costs an open segment and a cursor.
pub(super) const MAX_MODELS: usize = 256;

/// A segment that takes no more lines; compressing it is left to another thread.
#[derive(Debug)]
pub struct ClosedSegment {
    /// Its number in the file.
    pub no: u32,
    /// Its model.
    pub model: Arc<str>,
    builder: SegmentBuilder,
}

impl ClosedSegment {
    /// Compresses it.
    pub fn compress(self) -> Segment {
        self.builder.finish(self.no, self.model)
    }
}

#[derive(Debug, Default)]
struct Open {
    no: u32,
    builder: SegmentBuilder,
}

#[derive(Debug, Default)]
pub(super) struct OpenSegments {
    open: HashMap<Arc<str>, Open>,
    open_bytes: usize,
    closed: Vec<ClosedSegment>,
    pub(super) models: Vec<ModelShape>,
    places: HashMap<Arc<str>, usize>,
    pub(super) next_no: u32,
    last: Option<Arc<str>>,
}

impl OpenSegments {
    /// The model's shared name; `None` if it would be one model too many.
    pub(super) fn name(&mut self, model: &str, line: u32) -> Option<Arc<str>> {
        if let Some((name, _)) = self.places.get_key_value(model) {
            return Some(Arc::clone(name));
        }
        if self.models.len() >= MAX_MODELS && !model.is_empty() {
            return None;
        }
        let name: Arc<str> = Arc::from(model);
        self.places.insert(Arc::clone(&name), self.models.len());
        self.models.push(ModelShape { model: model.to_owned(), items: 0, endpoints: 0, first_line: line });
        Some(name)
    }

    /// Counts a runnable item of a named model.
    pub(super) fn count(&mut self, model: &str, endpoint: Endpoint) {
        if let Some(shape) = self.places.get(model).and_then(|place| self.models.get_mut(*place)) {
            shape.items += 1;
            shape.endpoints |= endpoint.bit();
        }
    }

    /// Adds a line of `length` bytes to its model's segment; the segment's number.
    pub(super) fn add(
        &mut self,
        model: &Arc<str>,
        length: usize,
        add: impl FnOnce(&mut SegmentBuilder),
    ) -> u32 {
        if self.open.get(model).is_some_and(|open| open.builder.is_full_for(length)) {
            self.close(model);
        }
        let next_no = &mut self.next_no;
        let open = self.open.entry(Arc::clone(model)).or_insert_with(|| {
            *next_no += 1;
            Open { no: *next_no - 1, builder: SegmentBuilder::default() }
        });
        add(&mut open.builder);
        let (no, full) = (open.no, open.builder.raw_bytes() >= MAX_RAW_BYTES);
        self.open_bytes += length;
        self.last = Some(Arc::clone(model));
        if full {
            self.close(model);
        } else if self.open_bytes > MAX_OPEN_BYTES {
            self.close_largest();
        }
        no
    }

    /// Where blank lines go: with the line before them, so that they open no segment of their own.
    pub(super) fn last(&self) -> Arc<str> {
        self.last.clone().unwrap_or_else(|| Arc::from(""))
    }

    fn close_largest(&mut self) {
        let largest = self.open.iter().max_by_key(|(_, open)| open.builder.raw_bytes());
        if let Some(model) = largest.map(|(model, _)| Arc::clone(model)) {
            self.close(&model);
        }
    }

    fn close(&mut self, model: &Arc<str>) {
        if let Some(Open { no, builder }) = self.open.remove(model) {
            self.open_bytes = self.open_bytes.saturating_sub(builder.raw_bytes());
            self.closed.push(ClosedSegment { no, model: Arc::clone(model), builder });
        }
    }

    pub(super) fn close_all(&mut self) {
        let mut open: Vec<_> = self.open.iter().map(|(model, open)| (open.no, Arc::clone(model))).collect();
        open.sort();
        for (_, model) in open {
            self.close(&model);
        }
    }

    pub(super) fn take_closed(&mut self) -> Vec<ClosedSegment> {
        std::mem::take(&mut self.closed)
    }
}
