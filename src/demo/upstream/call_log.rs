//! The request log: how many calls arrived, for which ids, and how each ended.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use serde::{Serialize, Serializer};

use super::script::LogMode;

/// Rows that a full log keeps; later ones are only counted.
const ENTRIES_KEPT: usize = 2_000_000;

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Answered to the last byte, with this status.
    Status(u16),
    /// Cut short on purpose.
    Cut,
    /// The client left before the answer was whole.
    Gone,
}

impl Ending {
    /// Its word in reports: the status, `cut` or `gone`.
    pub fn word(self) -> String {
        match self {
            Self::Status(status) => status.to_string(),
            Self::Cut => "cut".to_owned(),
            Self::Gone => "gone".to_owned(),
        }
    }
}

impl Serialize for Ending {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.word())
    }
}

/// Totals over all calls since the start or the last reset.
#[derive(Clone, Debug, Serialize)]
pub struct LogReport {
    /// Calls that arrived, whatever became of them.
    pub arrived: u64,
    /// Those answered to the last byte, by status.
    pub answered: BTreeMap<u16, u64>,
    /// Those cut short on purpose.
    pub cut: u64,
    /// Those whose client left before the answer was whole.
    pub gone: u64,
    /// Ids that were seen.
    pub ids: usize,
    /// Calls beyond the first one of their id.
    pub repeats: u64,
    /// When the first call arrived, unix seconds; `None` before.
    pub first_at: Option<f64>,
    /// When the last call arrived, unix seconds.
    pub last_at: Option<f64>,
    /// Rows in the full log.
    pub entries: usize,
}

/// One id that was called more than once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Repeated {
    /// The id.
    pub id: Box<str>,
    /// Its calls.
    pub calls: u32,
}

/// One call in a full log.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    /// Its number in order of arrival, from 0.
    pub number: u64,
    /// When it arrived, unix seconds.
    pub at: f64,
    /// What its header `x-caller` says.
    pub caller: Option<Box<str>>,
    /// Its `[[id=…]]`.
    pub id: Option<Box<str>>,
    /// The how-many-eth call of its id it is, from 1; 0 without an id.
    pub attempt: u32,
    /// The path it was made to.
    pub path: &'static str,
    /// How it ended; `None` while it runs.
    pub ending: Option<Ending>,
    /// When it ended, unix seconds; `None` while it runs.
    pub ended_at: Option<f64>,
}

/// The log itself.
#[derive(Debug, Default)]
pub(super) struct CallLog {
    arrived: u64,
    answered: BTreeMap<u16, u64>,
    cut: u64,
    gone: u64,
    repeats: u64,
    first_at: Option<Duration>,
    last_at: Option<Duration>,
    calls: HashMap<Box<str>, u32>,
    /// Counts behind `xN` for prompts without an id, by what their body hashes to.
    nameless: HashMap<u64, u32>,
    entries: Vec<Entry>,
}

/// A call as it arrives.
#[derive(Debug)]
pub(super) struct Arrival<'a> {
    /// Since the unix epoch.
    pub(super) at: Duration,
    /// The path it was made to.
    pub(super) path: &'static str,
    /// Who made it.
    pub(super) caller: Option<&'a str>,
    /// Its id.
    pub(super) id: Option<&'a str>,
    /// Stands for the body; set if calls without an id need counting.
    pub(super) subject: Option<u64>,
}

/// Where a call stands in the log.
#[derive(Clone, Copy, Debug)]
pub(super) struct Logged {
    /// Its number in order of arrival, from 0.
    pub(super) number: u64,
    /// The how-many-eth call of its id or body it is, from 1.
    pub(super) attempt: u32,
    entry: Option<usize>,
}

impl CallLog {
    /// Notes that a call arrived.
    pub(super) fn arrive(&mut self, mode: LogMode, arrival: &Arrival<'_>) -> Logged {
        let number = self.arrived;
        self.arrived += 1;
        self.first_at.get_or_insert(arrival.at);
        self.last_at = Some(arrival.at);
        let counted = mode != LogMode::Off || arrival.subject.is_some();
        let attempt = match (arrival.id, arrival.subject) {
            (Some(id), _) if counted => self.count(id),
            (None, Some(subject)) => {
                let calls = self.nameless.entry(subject).or_default();
                *calls += 1;
                *calls
            }
            _ => 1,
        };
        let entry = (mode == LogMode::Full && self.entries.len() < ENTRIES_KEPT).then(|| {
            self.entries.push(Entry {
                number,
                at: arrival.at.as_secs_f64(),
                caller: arrival.caller.map(Into::into),
                id: arrival.id.map(Into::into),
                attempt: if arrival.id.is_some() { attempt } else { 0 },
                path: arrival.path,
                ending: None,
                ended_at: None,
            });
            self.entries.len() - 1
        });
        Logged { number, attempt, entry }
    }

    /// Notes how it ended, and when since the unix epoch.
    pub(super) fn end(&mut self, logged: Logged, ending: Ending, at: Duration) {
        let total = match ending {
            Ending::Status(status) => self.answered.entry(status).or_default(),
            Ending::Cut => &mut self.cut,
            Ending::Gone => &mut self.gone,
        };
        *total += 1;
        // After a reset the row may be another call's, or gone.
        let row = logged.entry.and_then(|entry| self.entries.get_mut(entry));
        if let Some(row) = row.filter(|row| row.number == logged.number) {
            row.ending = Some(ending);
            row.ended_at = Some(at.as_secs_f64());
        }
    }

    /// Calls that arrived for an id.
    pub(super) fn calls(&self, id: &str) -> u32 {
        self.calls.get(id).copied().unwrap_or(0)
    }

    /// Totals.
    pub(super) fn report(&self) -> LogReport {
        LogReport {
            arrived: self.arrived,
            answered: self.answered.clone(),
            cut: self.cut,
            gone: self.gone,
            ids: self.calls.len(),
            repeats: self.repeats,
            first_at: self.first_at.map(|at| at.as_secs_f64()),
            last_at: self.last_at.map(|at| at.as_secs_f64()),
            entries: self.entries.len(),
        }
    }

    /// Ids that were called more than once, the most called first.
    pub(super) fn repeated(&self, limit: usize) -> Vec<Repeated> {
        let more_than_once = self.calls.iter().filter(|(_, calls)| **calls > 1);
        let mut repeated: Vec<Repeated> =
            more_than_once.map(|(id, calls)| Repeated { id: id.clone(), calls: *calls }).collect();
        repeated.sort_by(|a, b| b.calls.cmp(&a.calls).then_with(|| a.id.cmp(&b.id)));
        repeated.truncate(limit);
        repeated
    }

    /// Rows of the full log, from a call's number on.
    pub(super) fn entries(&self, from: u64, limit: usize) -> Vec<Entry> {
        let start = self.entries.partition_point(|entry| entry.number < from);
        self.entries[start..].iter().take(limit).cloned().collect()
    }

    fn count(&mut self, id: &str) -> u32 {
        if let Some(calls) = self.calls.get_mut(id) {
            *calls += 1;
            self.repeats += 1;
            return *calls;
        }
        self.calls.insert(id.into(), 1);
        1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrival(id: Option<&str>, seconds: u64) -> Arrival<'_> {
        let at = Duration::from_secs(seconds);
        Arrival { at, path: "/v1/embeddings", caller: Some("c"), id, subject: None }
    }

    #[test]
    fn calls_are_counted_per_id() {
        let mut log = CallLog::default();
        for (id, at) in [(Some("a"), 1), (Some("b"), 2), (Some("a"), 3), (None, 4), (Some("a"), 5)] {
            log.arrive(LogMode::Counts, &arrival(id, at));
        }
        assert_eq!([log.calls("a"), log.calls("b"), log.calls("c")], [3, 1, 0]);
        assert_eq!(log.repeated(9), [Repeated { id: "a".into(), calls: 3 }]);
        let report = log.report();
        assert_eq!((report.arrived, report.ids, report.repeats, report.entries), (5, 2, 2, 0));
        assert_eq!((report.first_at, report.last_at), (Some(1.0), Some(5.0)));
    }

    #[test]
    fn a_full_log_has_a_row_per_call() {
        let mut log = CallLog::default();
        let first = log.arrive(LogMode::Full, &arrival(Some("a"), 1));
        let second = log.arrive(LogMode::Full, &arrival(Some("a"), 2));
        assert_eq!((first.attempt, second.attempt), (1, 2));
        log.end(second, Ending::Status(200), Duration::from_secs(3));
        let rows = log.entries(1, 10);
        assert_eq!((rows.len(), rows[0].attempt, rows[0].ending), (1, 2, Some(Ending::Status(200))));
        assert_eq!((rows[0].ended_at, rows[0].caller.as_deref()), (Some(3.0), Some("c")));
        assert_eq!(log.entries(0, 1)[0].ending, None);
        assert_eq!(log.report().answered, [(200, 1)].into());
    }

    #[test]
    fn an_end_after_a_reset_touches_no_other_row() {
        let mut log = CallLog::default();
        log.arrive(LogMode::Full, &arrival(None, 1));
        let before = log.arrive(LogMode::Full, &arrival(None, 1));
        log = CallLog::default();
        log.arrive(LogMode::Full, &arrival(None, 2));
        log.end(before, Ending::Gone, Duration::from_secs(3));
        assert_eq!(log.entries(0, 9)[0].ending, None);
    }

    #[test]
    fn calls_without_an_id_are_told_apart_by_their_body() {
        let mut log = CallLog::default();
        let mut attempt = |subject| {
            let arrival = Arrival { subject: Some(subject), ..arrival(None, 1) };
            log.arrive(LogMode::Off, &arrival).attempt
        };
        assert_eq!([attempt(1), attempt(2), attempt(1)], [1, 1, 2]);
    }
}
