//! Calls of clients that wait: through one bounded channel to the dispatcher, and once admitted to the
//! upstream, in the task that waits for the answer.
//!
//! [`Calls`] is the caller's side, [`desk`] the dispatcher's, [`passing`] what is between an admission and
//! the reply's last byte.

mod coming_back;
mod desk;
mod hiding;
mod judging;
mod passing;
mod reply;
mod usage;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::domain::ids::AppKey;
use crate::domain::interactive::{Answer, Call, Interactive, Refusal, Refused, Reply, Room};
use crate::domain::time::Timestamp;

pub(super) use self::desk::Desk;
use self::passing::{HeldBack, Over, Pass, Sent, Unanswered};

use super::attempt::Reporter;
use super::estimate::Measure;
use super::event::Event;
use super::item::LaneId;

/// Calls on their way to the dispatcher; it takes them in at once, so this is only for a burst.
const ON_THE_WAY: usize = 256;
/// The bit that tells the heads of such calls from those of feeds, whose numbers count from 1.
const TAG: u64 = 1 << 63;

/// The number of the call that a head's tag stands for; `None`: a feed's.
pub(super) const fn number_of(tag: u64) -> Option<u64> {
    if tag & TAG == 0 { None } else { Some(tag & !TAG) }
}

/// A call that asks to be let through.
pub(super) struct Asking {
    number: u64,
    app: AppKey,
    model: Arc<str>,
    /// What its tokens are estimated from.
    measure: Measure,
    /// Bytes of its body.
    bytes: u64,
    /// When the client asked.
    asked_at: Timestamp,
    /// When it gives up.
    until: Timestamp,
    /// Whether it was sent before and refused for rate.
    again: bool,
    /// The body's room until the memory level holds it.
    room: Option<Room>,
    reply: oneshot::Sender<Result<Pass, Refusal>>,
}

impl fmt::Debug for Asking {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Asking").field("number", &self.number).finish_non_exhaustive()
    }
}

impl Asking {
    fn refuse(self, refusal: Refusal) {
        // A client that has left needs no answer.
        let _ = self.reply.send(Err(refusal));
    }
}

/// What the dispatcher is told of a call.
#[derive(Debug)]
pub(super) enum Note {
    /// It was refused for rate and asks again: here, so that the refusal is known before.
    Again(Asking),
    /// Its client left while it waited.
    Left { number: u64 },
    /// A stopped lane's probe is being answered.
    Answers { lane: LaneId },
    /// A lane refuses calls that ask for the usage of their stream, and takes them without.
    RefusesUsage { lane: LaneId },
    /// It was sent, and is not sent again after all.
    Unanswered { app: AppKey },
    /// It is over, however.
    Over(Box<Over>),
}

/// Makes calls for clients that wait. Cheap to clone.
#[derive(Clone)]
pub struct Calls {
    asks: mpsc::Sender<Asking>,
    reporter: Reporter,
    last: Arc<AtomicU64>,
}

impl fmt::Debug for Calls {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Calls")
    }
}

impl Interactive for Calls {
    fn call(&self, call: Call) -> Answer {
        Box::pin(self.clone().run(call))
    }
}

impl Calls {
    fn new(asks: mpsc::Sender<Asking>, reporter: Reporter) -> Self {
        Self { asks, reporter, last: Arc::default() }
    }

    async fn run(self, mut call: Call) -> Result<Reply, Refused> {
        let asked_at = self.reporter.clock.now();
        let until = asked_at + call.max_wait;
        let measure = Measure::of(&call.body);
        let (mut waited, mut first_sent, mut held_back) = (Duration::ZERO, None, None);
        // Set once a lane may have refused the call for what was asked for in its client's place.
        let (mut refused_by, mut unanswered) = (None, None);
        loop {
            let began = self.reporter.clock.now();
            let times = (asked_at, until, first_sent.is_some());
            let admitted = self.admission(&mut call, measure, times).await;
            let now = self.reporter.clock.now();
            waited += now.since(began);
            let pass = match (admitted, held_back.take()) {
                (Ok(pass), before) => {
                    before.into_iter().for_each(HeldBack::goes_on);
                    unanswered.take().into_iter().for_each(Unanswered::goes_on);
                    pass
                }
                (Err(_), Some(refused)) => return Ok(Pass::reply_of(refused, waited)),
                (Err(refusal), None) => return Err(Refused { waited, provider: None, refusal }),
            };
            let first_sent = *first_sent.get_or_insert(now);
            let provider = Some(Arc::clone(&pass.provider_name));
            let sent = tokio::select! {
                biased;
                sent = pass.send(&call, first_sent, waited, refused_by) => sent,
                // The drain's time is up: its client hears so while there is still a connection to say it on.
                () = self.reporter.events.closed() => {
                    return Err(Refused { waited, provider, refusal: Refusal::Draining });
                }
            };
            match sent {
                Sent::Reply(reply) => return Ok(reply),
                Sent::Failed(refused) => return Err(refused),
                Sent::HeldBack(refused) if self.reporter.clock.now() >= until => {
                    return Ok(Pass::reply_of(refused, waited));
                }
                Sent::HeldBack(refused) => held_back = Some(refused),
                Sent::RefusedUsage(lane, sent) => (refused_by, unanswered) = (Some(lane), Some(sent)),
            }
        }
    }

    /// Waits until the gate lets the call through.
    async fn admission(
        &self,
        call: &mut Call,
        measure: Measure,
        (asked_at, until, again): (Timestamp, Timestamp, bool),
    ) -> Result<Pass, Refusal> {
        let number = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let (reply, answer) = oneshot::channel();
        let asking = Asking {
            number,
            app: call.app,
            measure,
            model: call.model.as_str().into(),
            bytes: call.body.len() as u64,
            asked_at,
            until,
            again,
            room: call.room.take(),
            reply,
        };
        let sent = if again {
            self.reporter.events.send(Event::Interactive(Box::new(Note::Again(asking)))).is_ok()
        } else {
            self.asks.send(asking).await.is_ok()
        };
        if !sent {
            return Err(Refusal::Draining);
        }
        let mut leaving = Leaving { number, reporter: Some(&self.reporter) };
        let answer = answer.await;
        leaving.reporter = None;
        // A dispatcher that is gone has drained.
        answer.unwrap_or(Err(Refusal::Draining))
    }
}

/// Tells the dispatcher of a client that goes away while its call waits.
struct Leaving<'a> {
    number: u64,
    reporter: Option<&'a Reporter>,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        if let Some(reporter) = self.reporter {
            // A dispatcher that is gone holds nothing for it.
            let _ = reporter.events.send(Event::Interactive(Box::new(Note::Left { number: self.number })));
        }
    }
}
