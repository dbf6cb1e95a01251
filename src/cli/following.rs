//! Following a batch to its end by its events, also over a server that goes away meanwhile.

use std::time::Duration;

use reqwest::{Method, Response};
use serde_json::Value;
use tokio::time::{Instant, timeout};

use super::arguments::Global;
use super::client::{Batch, Client, escaped};
use super::error::CliError;
use super::progress::Progress;
use super::show::seconds;

/// Between the end of one stream of events and the next try, at first; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// The longest such pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A server says something every 15 seconds; one that doesn't is gone.
const SILENCE: Duration = Duration::from_secs(50);

/// How a batch is followed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// How long a server may be away.
    pub(super) away: Duration,
    /// Whether to give up when the provider refuses its key, which only the one who follows can mend.
    pub(super) ends_without_key: bool,
}

/// Waits until each of batches that belong together has ended, one after the other, showing how they move as one.
///
/// # Errors
/// The server is away for too long, or refuses; the provider refuses its key.
pub(super) async fn follow(
    client: &Client,
    batches: impl IntoIterator<Item = &mut Batch>,
    global: &Global,
    patience: Patience,
) -> Result<(), CliError> {
    let batches: Vec<&mut Batch> = batches.into_iter().collect();
    let total = batches.iter().map(|batch| batch.request_counts.total).sum();
    let mut progress = Progress::of(total, global);
    for batch in batches {
        follow_one(client, batch, &mut progress, patience).await?;
        progress.passed(batch);
    }
    Ok(())
}

async fn follow_one(
    client: &Client,
    batch: &mut Batch,
    progress: &mut Progress,
    patience: Patience,
) -> Result<(), CliError> {
    let (mut away_since, mut pause) = (None, FIRST_PAUSE);
    while !batch.has_ended() {
        let (mut heard, mut events, began) = (None, 0_u32, Instant::now());
        let listened = listen(client, &batch.id, patience, &mut |event| {
            progress.show(&event);
            events += 1;
            // One that drains still tells how things stand before it ends the stream: that is not back.
            if (events > 1 || event.has_ended()) && away_since.take().is_some() {
                progress.note(&format!("{} is back", client.base()));
            }
            heard = Some(event);
        })
        .await;
        if let Some(heard) = heard {
            *batch = heard;
            if events > 1 || began.elapsed() > LONGEST_PAUSE {
                (away_since, pause) = (None, FIRST_PAUSE);
            }
        }
        let Err(error) = listened else { continue };
        if !error.may_pass() || patience.away.is_zero() {
            return Err(error);
        }
        let since = *away_since.get_or_insert_with(|| {
            let longest = seconds(patience.away.as_secs_f64());
            progress.note(&format!("{} is away; trying again for {longest}", client.base()));
            Instant::now()
        });
        if since.elapsed() > patience.away {
            return Err(error);
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    progress.show(batch);
    Ok(())
}

/// Reads one stream of events and tells of each, until the batch has ended.
async fn listen(
    client: &Client,
    id: &str,
    patience: Patience,
    tell: &mut dyn FnMut(Batch),
) -> Result<(), CliError> {
    let path = format!("/v1/batches/{}/events", escaped(id));
    let reply = client.send(client.request(Method::GET, &path)).await?;
    let mut events = Events { reply, begun: Vec::new() };
    while let Some(batch) = events.next(client).await? {
        let refused = batch.sluicegate.waiting.iter().find(|waiting| waiting.reason == "credential");
        let refused = refused.filter(|_| patience.ends_without_key).map(|waiting| waiting.lane.clone());
        let ended = batch.has_ended();
        tell(batch);
        if ended {
            return Ok(());
        }
        if let Some(lane) = refused {
            return Err(CliError::ProviderKey(lane.unwrap_or_else(|| "the provider".to_owned())));
        }
    }
    // A server that drains ends its streams.
    Err(CliError::StreamEnded)
}

/// The batches that a stream of events tells of.
struct Events {
    reply: Response,
    begun: Vec<u8>,
}

impl Events {
    async fn next(&mut self, client: &Client) -> Result<Option<Batch>, CliError> {
        loop {
            while let Some(end) = memchr::memchr(b'\n', &self.begun) {
                let line: Vec<u8> = self.begun.drain(..=end).collect();
                let Some(data) = line.strip_prefix(b"data:") else { continue };
                let value: Value = serde_json::from_slice(data).unwrap_or_default();
                if let Ok(batch) = serde_json::from_value(value) {
                    return Ok(Some(batch));
                }
            }
            let Ok(piece) = timeout(SILENCE, self.reply.chunk()).await else { return Ok(None) };
            match piece.map_err(|error| client.trouble(&error))? {
                Some(piece) => self.begun.extend_from_slice(&piece),
                None => return Ok(None),
            }
        }
    }
}
