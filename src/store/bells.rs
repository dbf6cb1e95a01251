//! Which bells a commit rings, and what of it other workers are yet to be told.

use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

/// A set of bells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Bells {
    /// There is something else to run, or to stop.
    pub(super) work: bool,
    /// Results were recorded or a status changed.
    pub(super) progress: bool,
    /// Apps or keys changed.
    pub(super) apps: bool,
    /// Levels of the gate were saved.
    pub(super) levels: bool,
}

/// The letters that bells have on their way to other workers.
const LETTERS: [char; 4] = ['w', 'p', 'a', 'l'];

impl Bells {
    /// All of them: something may have been missed.
    pub(super) const ALL: Self = Self { work: true, progress: true, apps: true, levels: true };

    /// Whether there is none.
    pub(super) fn is_empty(self) -> bool {
        self == Self::default()
    }

    /// These and others.
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            work: self.work || other.work,
            progress: self.progress || other.progress,
            apps: self.apps || other.apps,
            levels: self.levels || other.levels,
        }
    }

    /// As it is sent.
    pub(super) fn to_text(self) -> String {
        let Self { work, progress, apps, levels } = self;
        let rung = LETTERS.into_iter().zip([work, progress, apps, levels]).filter(|(_, rings)| *rings);
        rung.map(|(letter, _)| letter).collect()
    }

    /// As it arrives. A letter that a newer program may send means nothing here.
    pub(super) fn from_text(text: &str) -> Self {
        let [work, progress, apps, levels] = LETTERS.map(|letter| text.contains(letter));
        Self { work, progress, apps, levels }
    }
}

/// Bells that other workers are yet to hear.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    bells: Mutex<Bells>,
    added: Notify,
}

impl Outgoing {
    /// Adds some.
    pub(super) fn add(&self, bells: Bells) {
        if bells.is_empty() {
            return;
        }
        let mut waiting = self.bells.lock().unwrap_or_else(PoisonError::into_inner);
        let more = waiting.and(bells);
        if more != std::mem::replace(&mut waiting, more) {
            self.added.notify_one();
        }
    }

    /// Those that wait.
    pub(super) fn waiting(&self) -> Bells {
        *self.bells.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes those that wait, of the ones in `which`.
    pub(super) fn take(&self, which: Bells) -> Bells {
        let mut waiting = self.bells.lock().unwrap_or_else(PoisonError::into_inner);
        let (all, mut taken) = (*waiting, which);
        taken.work &= all.work;
        taken.progress &= all.progress;
        taken.apps &= all.apps;
        taken.levels &= all.levels;
        waiting.work &= !taken.work;
        waiting.progress &= !taken.progress;
        waiting.apps &= !taken.apps;
        waiting.levels &= !taken.levels;
        taken
    }

    /// Returns when some were added since the last time, at once if that was before.
    pub(super) async fn added(&self) {
        self.added.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bells_arrive_as_they_were_sent() {
        for number in 0..16_u8 {
            let bit = |bit: u8| number & (1 << bit) != 0;
            let bells = Bells { work: bit(0), progress: bit(1), apps: bit(2), levels: bit(3) };
            assert_eq!(Bells::from_text(&bells.to_text()), bells);
        }
        assert_eq!(Bells::from_text("xyz"), Bells::default());
    }

    #[test]
    fn bells_wait_until_they_are_taken() {
        let outgoing = Outgoing::default();
        let (work, progress) =
            (Bells { work: true, ..Bells::default() }, Bells { progress: true, ..Bells::default() });
        outgoing.add(work);
        outgoing.add(progress);
        outgoing.add(work);
        assert_eq!(outgoing.take(work), work);
        assert_eq!(outgoing.take(work), Bells::default());
        assert_eq!(outgoing.waiting(), progress);
        assert_eq!(outgoing.take(Bells::ALL), progress);
        assert!(outgoing.waiting().is_empty());
    }
}
