//! The desk every call passes: it is noted, held against the laws, and told what it will meet.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use tokio::time::Instant;

use super::answer::Texts;
use super::call_log::{Arrival, CallLog, Ending, Logged};
use super::chance::{Purpose, Throw, subject_of};
use super::marker::Act;
use super::occupancy::Occupancy;
use super::oracle::{Book, Call, LawReport};
use super::prompt::Prompt;
use super::refusal::Refusal;
use super::script::{Script, Unit};
use crate::domain::endpoint::Endpoint;

/// What every connection of one upstream shares.
#[derive(Debug)]
pub(super) struct Desk {
    started: Instant,
    started_unix: Duration,
    texts: Texts,
    books: Mutex<Books>,
}

#[derive(Debug)]
struct Books {
    script: Arc<Script>,
    laws: Vec<Book>,
    slots: Occupancy,
    log: CallLog,
    /// When the laws' clock last restarted, in µs since the upstream's start.
    opened: u64,
}

/// What the oracle has seen.
#[derive(Clone, Debug, Serialize)]
pub struct OracleReport {
    /// Seconds since the start or the last reset.
    pub clock_seconds: f64,
    /// Calls in flight now.
    pub in_flight: u32,
    /// The most calls ever in flight at once.
    pub max_in_flight: u32,
    /// Calls in flight, summed over time: divided by slots and seconds it is the share in use.
    pub busy_slot_seconds: f64,
    /// One report per law, in the script's order.
    pub laws: Vec<LawReport>,
}

/// A call as it arrives.
#[derive(Debug)]
pub(super) struct Incoming<'a> {
    pub(super) endpoint: Endpoint,
    pub(super) key: Option<&'a str>,
    pub(super) caller: Option<&'a str>,
    /// The body as read; `None` if it could not be.
    pub(super) prompt: Option<&'a Prompt>,
    pub(super) body: &'a [u8],
}

/// What a call will meet.
#[derive(Debug)]
pub(super) enum Plan {
    /// An error, at once.
    Refuse(Refusal),
    /// Something unusual, after a time.
    Act(Act, Duration),
    /// The usual answer, after a time.
    Answer(Duration),
}

/// A call inside; leaving is noted even if the connection's task is dropped.
#[derive(Debug)]
pub(super) struct Visit {
    pub(super) plan: Plan,
    pub(super) script: Arc<Script>,
    /// Its number in order of arrival.
    pub(super) number: u64,
    /// What `x-request-id` says.
    pub(super) request_id: String,
    /// Limit, what remains and µs until all is back, per unit.
    pub(super) ratelimits: Vec<(Unit, u64, u64, u64)>,
    /// Unix seconds at its arrival.
    pub(super) created: u64,
    desk: Arc<Desk>,
    logged: Logged,
    holds_slot: bool,
    ending: Ending,
}

impl Visit {
    /// Notes how the call ended; without it the client is taken to have left.
    pub(super) fn end(mut self, ending: Ending) {
        self.ending = ending;
    }

    /// Notes the tokens that its answer reports, as it leaves.
    pub(super) fn spend(&self, tokens: u64) {
        self.desk.spend(tokens);
    }

    /// The texts that answers are made of.
    pub(super) fn texts(&self) -> &Texts {
        &self.desk.texts
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let now = self.desk.now();
        let mut books = self.desk.books();
        let at = self.desk.started_unix + Duration::from_micros(now);
        books.log.end(self.logged, self.ending, at);
        if self.holds_slot {
            books.slots.leave(now);
        }
    }
}

impl Desk {
    /// A desk with empty books.
    pub(super) fn open(script: Script) -> Self {
        let script = Arc::new(script);
        let laws = script.limits.iter().map(Book::open).collect();
        Self {
            started: Instant::now(),
            started_unix: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
            texts: Texts::new(),
            books: Mutex::new(Books {
                script,
                laws,
                slots: Occupancy::default(),
                log: CallLog::default(),
                opened: 0,
            }),
        }
    }

    /// Lets a call in: everything is decided here, at its arrival.
    pub(super) fn arrive(self: &Arc<Self>, incoming: &Incoming<'_>) -> Visit {
        let now = self.now();
        let at = self.started_unix + Duration::from_micros(now);
        let mut books = self.books();
        let script = Arc::clone(&books.script);
        let logged = books.note(&script, incoming, at);
        let refusal = books.refusal(&script, incoming, now);
        let ratelimits = if script.ratelimit_headers { books.remaining(now) } else { Vec::new() };
        let holds_slot = refusal.is_none();
        if holds_slot {
            books.slots.enter(now);
        }
        drop(books);
        let throw = throw_for(&script, incoming, logged);
        let plan = match refusal {
            Some(refusal) => Plan::Refuse(refusal),
            None => plan(&script, incoming, logged, throw),
        };
        let number = logged.number;
        Visit {
            plan,
            number,
            request_id: format!("req_{:016x}{number:016x}", throw.bits(Purpose::RequestId)),
            ratelimits,
            created: at.as_secs(),
            script,
            desk: Arc::clone(self),
            logged,
            holds_slot,
            ending: Ending::Gone,
        }
    }

    /// Charges what an answer used to the laws that count it.
    fn spend(&self, tokens: u64) {
        let now = self.now();
        let mut books = self.books();
        let now = now - books.opened.min(now);
        for book in books.laws.iter_mut().filter(|book| book.law().unit == Unit::UsedTokens) {
            let over = book.wait(now, tokens) > 0;
            book.record(now, tokens, Call { over, refused: false });
        }
    }

    /// Whether a call with this key is let in.
    pub(super) fn lets_in(&self, key: Option<&str>) -> bool {
        let script = self.script();
        script
            .keys
            .as_ref()
            .is_none_or(|keys| key.is_some_and(|key| keys.iter().any(|allowed| allowed == key)))
    }

    /// The script in force.
    pub(super) fn script(&self) -> Arc<Script> {
        Arc::clone(&self.books().script)
    }

    /// Changes the script; the laws' books are opened anew if the laws changed.
    pub(super) fn set_script(&self, script: Script) {
        let now = self.now();
        let mut books = self.books();
        let laws_changed = books.script.limits != script.limits;
        books.script = Arc::new(script);
        if laws_changed {
            books.open_laws(now);
        }
    }

    /// Empties the log and the laws' books.
    pub(super) fn reset(&self) {
        let now = self.now();
        let mut books = self.books();
        books.log = CallLog::default();
        books.slots.reset(now);
        books.open_laws(now);
    }

    /// Reads the log under its lock.
    pub(super) fn read_log<T>(&self, read: impl FnOnce(&CallLog) -> T) -> T {
        read(&self.books().log)
    }

    /// What the oracle has seen up to now.
    pub(super) fn oracle(&self) -> OracleReport {
        let now = self.now();
        let mut books = self.books();
        OracleReport {
            clock_seconds: now.saturating_sub(books.opened) as f64 / 1e6,
            in_flight: books.slots.in_flight(),
            max_in_flight: books.slots.most(),
            busy_slot_seconds: books.slots.busy_seconds(now),
            laws: books.laws.iter().map(|book| book.report().clone()).collect(),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        // Nothing inside leaves the books half written, so a panic elsewhere spoils nothing.
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Books {
    fn open_laws(&mut self, now: u64) {
        self.laws = self.script.limits.iter().map(Book::open).collect();
        self.opened = now;
    }

    fn note(&mut self, script: &Script, incoming: &Incoming<'_>, at: Duration) -> Logged {
        let markers = incoming.prompt.map(|prompt| &prompt.markers);
        let counted = script.faults.is_some() || markers.is_some_and(|markers| markers.has_acts());
        let id = markers.and_then(|markers| markers.id.as_deref());
        let subject = counted.then(|| id.map_or_else(|| subject_of(incoming.body), |_| 0));
        let (path, caller) = (incoming.endpoint.path(), incoming.caller);
        self.log.arrive(script.log, &Arrival { at, path, caller, id, subject })
    }

    /// Whether the call is turned away, in the order in which providers look.
    fn refusal(&mut self, script: &Script, incoming: &Incoming<'_>, now: u64) -> Option<Refusal> {
        if let Some(keys) = &script.keys
            && !incoming.key.is_some_and(|key| keys.iter().any(|allowed| allowed == key))
        {
            return Some(Refusal::Key);
        }
        let storm = script.storm.as_ref().and_then(|storm| Some((storm.status, storm.remaining(now)?)));
        let first = match storm {
            Some((status, left)) => {
                let seconds = u32::try_from(left.div_ceil(1_000_000)).unwrap_or(u32::MAX);
                Some(Refusal::Scripted(status, Some(seconds)))
            }
            None if script.slots.is_some_and(|slots| self.slots.in_flight() >= slots) => {
                Some(Refusal::Slots(script.slots_status))
            }
            None => None,
        };
        let refusal = self.hold_against_laws(script, incoming, now - self.opened.min(now), first);
        refusal.or_else(|| incoming.prompt.is_none().then_some(Refusal::Body))
    }

    /// Probes every law, then books the call in all of them.
    fn hold_against_laws(
        &mut self,
        script: &Script,
        incoming: &Incoming<'_>,
        now: u64,
        mut refusal: Option<Refusal>,
    ) -> Option<Refusal> {
        let tokens = incoming.prompt.map_or(0, Prompt::charge);
        let cost = |unit| if unit == Unit::Tokens { tokens } else { 1 };
        let charged = |unit| if unit == Unit::UsedTokens { 0 } else { cost(unit) };
        let mut over = Vec::with_capacity(self.laws.len());
        for book in &mut self.laws {
            let (unit, limit) = (book.law().unit, book.law().limit);
            let requested = cost(unit);
            let wait = book.wait(now, requested);
            over.push(wait > 0);
            if wait > 0 && book.law().enforce && refusal.is_none() {
                refusal = Some(if requested > book.law().burst.unwrap_or(limit) {
                    Refusal::TooLarge { unit, limit, requested }
                } else {
                    Refusal::Rate { unit, limit, requested, wait, retry_after: script.retry_after }
                });
            }
        }
        for (book, over) in self.laws.iter_mut().zip(over) {
            let charged = charged(book.law().unit);
            book.record(now, charged, Call { over, refused: refusal.is_some() });
        }
        refusal
    }

    fn remaining(&mut self, now: u64) -> Vec<(Unit, u64, u64, u64)> {
        let now = now - self.opened.min(now);
        let mut remaining = Vec::new();
        for unit in [Unit::Requests, Unit::Tokens] {
            let speaks = |book: &&mut Book| book.law().unit.word() == unit.word();
            if let Some(book) = self.laws.iter_mut().find(speaks) {
                let (left, full_again) = book.remaining(now);
                remaining.push((unit, book.law().limit, left, full_again));
            }
        }
        remaining
    }
}

fn throw_for(script: &Script, incoming: &Incoming<'_>, logged: Logged) -> Throw {
    let id = incoming.prompt.and_then(|prompt| prompt.markers.id.as_deref());
    let (subject, attempt) = match id {
        Some(id) => (subject_of(id.as_bytes()), u64::from(logged.attempt)),
        None if script.faults.is_some() => (subject_of(incoming.body), u64::from(logged.attempt)),
        // Nothing tells such calls apart but their order.
        None => (logged.number, 0),
    };
    Throw::new(script.seed, subject, attempt)
}

fn plan(script: &Script, incoming: &Incoming<'_>, logged: Logged, throw: Throw) -> Plan {
    let markers = incoming.prompt.map(|prompt| &prompt.markers);
    let own = markers.and_then(|markers| markers.slow);
    let latency = own.map_or_else(|| script.latency.draw(throw), |own| own.0);
    if let Some(act) = markers.and_then(|markers| markers.act(logged.attempt)) {
        return Plan::Act(act.clone(), latency);
    }
    let fault = script.faults.as_ref().filter(|faults| throw.fraction(Purpose::Fault) < faults.probability);
    let kind = fault.and_then(|faults| {
        let pick = (throw.bits(Purpose::FaultKind) as usize).checked_rem(faults.kinds.len())?;
        faults.kinds.get(pick)
    });
    kind.map_or(Plan::Answer(latency), |act| Plan::Act(act.clone(), latency))
}
