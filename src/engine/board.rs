//! What the engine lets others see of what it runs: written by the dispatcher, or asked of it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{mpsc, oneshot};

use crate::domain::ids::{AppKey, BatchKey};
use crate::domain::limit_status::LimitStatus;
use crate::domain::progress::{ItemProgress, Progress, WindowQuestion, WouldFit};
use crate::store::Store;

use super::event::Event;
use super::item::LeaseKey;
use super::settings::EngineSettings;

/// The present progress of every running batch, and the limits they run under. Cheap to clone; all clones show the
/// same.
#[derive(Clone, Debug)]
pub struct Board {
    batches: Arc<Mutex<HashMap<BatchKey, Progress>>>,
    events: mpsc::UnboundedSender<Event>,
    store: Store,
}

impl Board {
    pub(super) fn new(events: mpsc::UnboundedSender<Event>, store: Store) -> Self {
        Self { batches: Arc::default(), events, store }
    }

    /// The progress of a batch; nothing is running of one that is not on the board. With the calls that other workers
    /// have in flight, as they told last.
    pub fn progress(&self, batch: BatchKey) -> Progress {
        let batches = self.batches.lock().unwrap_or_else(PoisonError::into_inner);
        let here = batches.get(&batch).cloned().unwrap_or_default();
        Progress { running: here.running.saturating_add(self.store.running_elsewhere(batch)), ..here }
    }

    /// Every limit and its use; of the apps' only `of_app`'s, if that is given. Nothing once the engine has ended.
    pub async fn limits(&self, of_app: Option<AppKey>) -> Vec<LimitStatus> {
        self.ask(|reply| Event::ShowLimits { of_app, reply }).await.unwrap_or_default()
    }

    /// How far an item is that has no result, by its segment and line.
    pub async fn item(&self, batch: BatchKey, segment: u32, line: u32) -> ItemProgress {
        let lease = LeaseKey { batch, segment };
        self.ask(|reply| Event::ShowItem { lease, line, reply }).await.unwrap_or_default()
    }

    /// What a batch could have instead of its window; `None` if it would end within that, as far as is known.
    pub async fn would_fit(&self, question: WindowQuestion) -> Option<WouldFit> {
        self.ask(|reply| Event::Reach { question: Box::new(question), reply }).await?
    }

    /// Pauses the lane of a provider that serves a model, or ends its pause. Tells the state that it is in then;
    /// `None`: there is no such lane.
    pub async fn pause_lane(&self, provider: String, model: String, paused: bool) -> Option<&'static str> {
        self.ask(|reply| Event::PauseLane { provider, model, paused, reply }).await?
    }

    /// Other settings hold once this has returned; not if the engine has ended.
    pub async fn reload(&self, settings: EngineSettings) {
        let settings = Box::new(settings);
        self.ask(|reply| Event::Reload { settings, reply }).await;
    }

    async fn ask<T>(&self, event: impl FnOnce(oneshot::Sender<T>) -> Event) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.events.send(event(reply)).ok()?;
        answer.await.ok()
    }

    pub(super) fn publish(&self, batch: BatchKey, progress: Progress) {
        self.batches.lock().unwrap_or_else(PoisonError::into_inner).insert(batch, progress);
    }

    pub(super) fn remove(&self, batch: BatchKey) {
        self.batches.lock().unwrap_or_else(PoisonError::into_inner).remove(&batch);
    }
}
