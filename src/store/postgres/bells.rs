//! Bells between processes: what one commits, the others hear of.
//!
//! One connection of its own listens and tells. Behind a proxy that gives each transaction another session nothing
//! arrives on it but what it tells itself, if the proxy happens to give it the session that listens; as long as that
//! is so, this process looks for itself now and then.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::Instant;
use tokio_postgres::Notification;

use super::arguments::arguments;
use super::connections::{Connections, in_time};
use super::fault::{Attempt, Fault};
use super::server::{Alone, Server};
use crate::complaint::Complaint;
use crate::store::bells::Bells as Rung;
use crate::store::shared::Shared;

/// What others may have to wait for hearing of something.
const SOON: Duration = Duration::from_millis(10);
/// The same for progress, which there is all the time.
const PROGRESS: Duration = Duration::from_millis(250);
/// How long its own call may take to come back.
const ECHO: Duration = Duration::from_secs(2);
/// A silence after which it calls itself: a connection that went dead says nothing either.
const SILENCE: Duration = Duration::from_secs(20);
/// How long the first connection that hears nothing is kept for telling, and how long any is at most.
const DEAF: Duration = Duration::from_secs(30);
const DEAF_AT_MOST: Duration = Duration::from_hours(1);
/// How long it waits before it connects again.
const AGAIN: Duration = Duration::from_secs(1);

const NOTIFY: &str = "SELECT pg_notify($1, $2)";

/// The task's belongings.
pub(super) struct Bells {
    server: Server,
    connections: Arc<Connections>,
    channel: String,
    /// Tells this process's own calls from others'.
    token: String,
    shared: Arc<Shared>,
    pace: Pace,
    looking: Looking,
    deafness: Deafness,
    /// Of nothing being heard.
    complaint: Complaint,
}

/// A connection that tells, and maybe hears.
struct Line {
    alone: Alone,
    heard: UnboundedReceiver<Notification>,
}

impl Bells {
    pub(super) fn new(server: Server, schema: &str, connections: Arc<Connections>) -> Self {
        let shared = Arc::clone(&connections.shared);
        // Names of channels are as long as those of schemas, and nothing else goes by them.
        let (channel, token) = (schema.to_owned(), format!("{:016x}", rand::random::<u64>()));
        let (pace, looking) = (Pace::default(), Looking::new());
        shared.tell_hears_others(false);
        let (deafness, complaint) = (Deafness::default(), Complaint::default());
        Self { server, connections, channel, token, shared, pace, looking, deafness, complaint }
    }

    /// Its life.
    pub(super) async fn run(mut self) {
        loop {
            let began = Instant::now();
            let why = match self.connect().await {
                Ok((line, true)) => {
                    self.tell_hears(true);
                    // Whatever was rung before it listened.
                    self.shared.ring_here(Rung::ALL);
                    let ended = self.serve(line, None).await;
                    self.deafness.heard(began, Instant::now());
                    ended
                }
                Ok((line, false)) => {
                    self.complain("notifications do not arrive, as behind a proxy that shares sessions");
                    let until = self.deafness.until(began);
                    self.serve(line, Some(until)).await
                }
                Err(fault) => Err(fault),
            };
            if let Err(fault) = why {
                self.complain(&fault.answer().to_string());
                self.look_for(AGAIN).await;
            }
        }
    }

    /// Connects and listens; whether its own call came back.
    async fn connect(&self) -> Attempt<(Line, bool)> {
        let (alone, heard) = self.server.connect_hearing().await?;
        let mut line = Line { alone, heard };
        in_time(line.alone.client.batch_execute(&format!("LISTEN \"{}\"", self.channel))).await?;
        let hears = self.echoes(&mut line).await?;
        Ok((line, hears))
    }

    /// Calls itself by another connection, as others would; whether that is heard in time. What others ring meanwhile is
    /// passed on.
    async fn echoes(&self, line: &mut Line) -> Attempt<bool> {
        let payload = self.payload("");
        self.connections.read_plain(NOTIFY, &arguments![self.channel, payload]).await?;
        let heard = async {
            while let Some(notification) = line.heard.recv().await {
                if self.take(&notification) {
                    return true;
                }
            }
            false
        };
        Ok(tokio::time::timeout(ECHO, heard).await.unwrap_or(false))
    }

    /// Tells and hears until the connection breaks, or, on one that hears nothing, until then.
    async fn serve(&mut self, mut line: Line, deaf_until: Option<Instant>) -> Attempt<()> {
        let mut silent_since = Instant::now();
        loop {
            let due = self.pace.due(self.shared.outgoing.waiting());
            let check = deaf_until.unwrap_or(silent_since + SILENCE);
            tokio::select! {
                notification = line.heard.recv() => {
                    let notification = notification.ok_or_else(broken)?;
                    self.take(&notification);
                    silent_since = Instant::now();
                }
                () = self.shared.outgoing.added() => {}
                () = at(due) => self.send(&line.alone).await?,
                () = self.looking.next(), if deaf_until.is_some() => self.looking.look(&self.shared),
                () = tokio::time::sleep_until(check) => {
                    if deaf_until.is_some() {
                        return Ok(());
                    }
                    if !self.echoes(&mut line).await? {
                        return Err(Fault::Away("notifications do not arrive any more".to_owned()));
                    }
                    silent_since = Instant::now();
                }
            }
        }
    }

    /// Passes on what others ring; whether it was this process's own.
    fn take(&self, notification: &Notification) -> bool {
        let Some((token, bells)) = notification.payload().split_once(' ') else { return false };
        let is_own = token == self.token;
        if !is_own {
            self.shared.ring_here(Rung::from_text(bells));
        }
        is_own
    }

    /// Tells others what is due.
    async fn send(&mut self, alone: &Alone) -> Attempt<()> {
        let bells = self.shared.outgoing.take(self.pace.take(self.shared.outgoing.waiting()));
        if bells.is_empty() {
            return Ok(());
        }
        let told = self.tell(alone, &bells.to_text()).await;
        if told.is_err() {
            self.shared.outgoing.add(bells);
        }
        told
    }

    async fn tell(&self, alone: &Alone, bells: &str) -> Attempt<()> {
        let payload = self.payload(bells);
        in_time(alone.client.query_typed(NOTIFY, &arguments![self.channel, payload])).await.map(|_| ())
    }

    fn payload(&self, bells: &str) -> String {
        format!("{} {bells}", self.token)
    }

    /// Looks now and then, for so long.
    async fn look_for(&mut self, time: Duration) {
        let until = Instant::now() + time;
        loop {
            tokio::select! {
                () = self.looking.next() => self.looking.look(&self.shared),
                () = tokio::time::sleep_until(until) => return,
            }
        }
    }

    fn complain(&mut self, why: &str) {
        self.tell_hears(false);
        if self.complaint.begin() {
            tracing::warn!(
                why,
                "what other workers do is not heard at once; looking every second or two instead"
            );
        }
    }

    fn tell_hears(&mut self, hears: bool) {
        self.shared.tell_hears_others(hears);
        if hears && self.complaint.end() {
            tracing::info!("what other workers do is heard at once again");
        }
    }
}

fn broken() -> Fault {
    Fault::Away("the connection that listens broke".to_owned())
}

/// Returns then, or never.
async fn at(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// How long connections that hear nothing are kept: each twice as long as the one before. Behind a proxy that shares
/// sessions the next one hears nothing either, and each leaves a session there that goes on listening.
#[derive(Default)]
struct Deafness {
    /// How long the last one was kept; zero: it was heard since.
    kept: Duration,
}

impl Deafness {
    /// Until when one is kept that was made now.
    fn until(&mut self, now: Instant) -> Instant {
        self.kept = self.next();
        now + self.kept
    }

    /// One was heard on from `since` until `now`. It may have got the session that listens by chance, so only what lasts
    /// longer than the pause that is due begins anew.
    fn heard(&mut self, since: Instant, now: Instant) {
        if now - since >= self.next() {
            *self = Self::default();
        }
    }

    fn next(&self) -> Duration {
        (self.kept * 2).clamp(DEAF, DEAF_AT_MOST)
    }
}

/// When bells may be sent: those of one kind that come in quick succession go as one.
#[derive(Default)]
struct Pace {
    soon: Option<Instant>,
    progress: Option<Instant>,
}

impl Pace {
    /// When the first of these is due; at once if nothing was sent lately.
    fn due(&self, waiting: Rung) -> Option<Instant> {
        let now = Instant::now();
        let others = Rung { progress: false, ..waiting };
        let soon = (!others.is_empty()).then(|| self.soon.map_or(now, |last| last + SOON));
        let progress = waiting.progress.then(|| self.progress.map_or(now, |last| last + PROGRESS));
        soon.into_iter().chain(progress).min()
    }

    /// Of these, the ones that are due; they count as sent.
    fn take(&mut self, waiting: Rung) -> Rung {
        let now = Instant::now();
        let is_due = |last: Option<Instant>, pace| last.is_none_or(|last| now >= last + pace);
        let (soon, progress) = (is_due(self.soon, SOON), is_due(self.progress, PROGRESS));
        let others = Rung { progress: false, ..waiting };
        let mut due = if soon { others } else { Rung::default() };
        due.progress = waiting.progress && progress;
        if soon && !others.is_empty() {
            self.soon = Some(now);
        }
        if due.progress {
            self.progress = Some(now);
        }
        due
    }
}

/// Looking for oneself, while nothing is heard.
struct Looking {
    next: Instant,
    looks: u32,
}

impl Looking {
    fn new() -> Self {
        Self { next: Instant::now(), looks: 0 }
    }

    async fn next(&self) {
        tokio::time::sleep_until(self.next).await;
    }

    /// Rings for what may have changed: sooner while there is something to do, and never in step with others.
    fn look(&mut self, shared: &Shared) {
        let (running, leases) = shared.told.load();
        let pause = if running > 0 || leases > 0 { 1.0 } else { 2.0 };
        self.next = Instant::now() + Duration::from_secs_f64(pause * rand::random_range(0.75..1.25));
        self.looks = self.looks.wrapping_add(1);
        // Apps and keys change rarely. Those who follow progress look for themselves.
        let apps = self.looks.is_multiple_of(5);
        shared.ring_here(Rung { work: true, progress: false, apps, levels: true });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn who_hears_nothing_tries_again_ever_later() {
        let (mut deafness, mut now) = (Deafness::default(), Instant::now());
        for pause in [30, 60, 120, 240, 480, 960, 1_920, 3_600, 3_600, 3_600] {
            let until = deafness.until(now);
            assert_eq!(until - now, seconds(pause));
            now = until;
        }
    }

    #[test]
    fn only_what_is_heard_for_long_begins_anew() {
        let (mut deafness, now) = (Deafness::default(), Instant::now());
        deafness.until(now);
        deafness.until(now);
        deafness.heard(now, now + seconds(119));
        assert_eq!(deafness.until(now) - now, seconds(120), "a proxy gave it the right session by chance");
        deafness.heard(now, now + seconds(240));
        assert_eq!(deafness.until(now) - now, seconds(30));
    }
}
