//! Long replies asking for memory: granted in order, and always to one, so that a full level can't lock up.

use std::collections::VecDeque;

use tokio::sync::oneshot;

use crate::gate::{Gate, LevelId};

#[derive(Debug, Default)]
pub(super) struct Growth {
    waiting: VecDeque<(u64, oneshot::Sender<u64>)>,
}

impl Growth {
    pub(super) fn ask(&mut self, bytes: u64, reply: oneshot::Sender<u64>) {
        self.waiting.push_back((bytes, reply));
    }

    /// Answers as many as fit. The longest waiting gets its piece even beyond the level, uncharged: it is
    /// what must end for anything to be given back.
    pub(super) fn settle(&mut self, gate: &mut Gate, memory: LevelId) {
        let mut uncharged = true;
        while let Some((bytes, reply)) = self.waiting.pop_front() {
            if reply.is_closed() {
                continue;
            }
            if gate.try_hold(memory, bytes) {
                if let Err(bytes) = reply.send(bytes) {
                    gate.release_held(memory, bytes, crate::domain::time::Timestamp::ZERO);
                }
            } else if std::mem::take(&mut uncharged) {
                let _ = reply.send(0);
            } else {
                self.waiting.push_front((bytes, reply));
                return;
            }
        }
    }
}
