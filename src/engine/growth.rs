//! Long replies asking for memory: granted to the oldest calls first, and always to one, so that a full
//! level can't lock up.

use std::collections::BTreeMap;

use tokio::sync::oneshot;

use crate::domain::time::Timestamp;
use crate::gate::{Gate, LevelId};

/// A reply that waits for its next piece of memory.
#[derive(Debug)]
struct Asking {
    bytes: u64,
    reply: oneshot::Sender<u64>,
}

#[derive(Debug, Default)]
pub(super) struct Growth {
    /// By the number of the call: the oldest first.
    waiting: BTreeMap<u64, Asking>,
    /// The one call that reads on although the level is full, until what it read is durable.
    favoured: Option<u64>,
}

impl Growth {
    /// A call's reply wants more bytes; told how many of them were charged.
    pub(super) fn ask(&mut self, call: u64, bytes: u64, reply: oneshot::Sender<u64>) {
        self.waiting.insert(call, Asking { bytes, reply });
    }

    /// A call's reply is gone: recorded, or of no use.
    pub(super) fn ended(&mut self, call: u64) {
        self.waiting.remove(&call);
        self.favoured = self.favoured.filter(|favoured| *favoured != call);
    }

    /// Answers as many as fit. Beyond the level, one call gets its pieces uncharged until they are recorded: it is
    /// what must end for anything to be given back. One at a time, or all would grow together, a piece each in turn,
    /// or one after the other where they are read faster than recorded.
    pub(super) fn settle(&mut self, gate: &mut Gate, memory: LevelId, now: Timestamp) {
        let mut full = false;
        for (call, asking) in std::mem::take(&mut self.waiting) {
            if asking.reply.is_closed() {
                continue;
            }
            if !full && gate.try_hold(memory, asking.bytes) {
                if let Err(bytes) = asking.reply.send(asking.bytes) {
                    gate.release_held(memory, bytes, now);
                }
                continue;
            }
            full = true;
            if *self.favoured.get_or_insert(call) == call {
                // A call that is gone needs no answer.
                let _ = asking.reply.send(0);
            } else {
                self.waiting.insert(call, asking);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::{GateOptions, LevelKind, LevelSpec};

    const PIECE: u64 = 64;

    fn full_level() -> (Gate, LevelId) {
        let mut gate = Gate::new(GateOptions::default(), Timestamp::ZERO);
        let spec = LevelSpec {
            kind: LevelKind::Memory,
            name: "memory".to_owned(),
            memory: Some(PIECE),
            ..LevelSpec::default()
        };
        let memory = gate.add_level(spec, Timestamp::ZERO);
        assert!(gate.try_hold(memory, PIECE));
        (gate, memory)
    }

    fn asks(growth: &mut Growth, call: u64) -> oneshot::Receiver<u64> {
        let (reply, answer) = oneshot::channel();
        growth.ask(call, PIECE, reply);
        answer
    }

    #[test]
    fn one_call_alone_grows_beyond_a_full_level() {
        let (mut gate, memory) = full_level();
        let mut growth = Growth::default();
        let (mut first, mut second) = (asks(&mut growth, 1), asks(&mut growth, 2));
        growth.settle(&mut gate, memory, Timestamp::ZERO);
        assert_eq!(first.try_recv(), Ok(0));
        for _ in 0..3 {
            let mut again = asks(&mut growth, 1);
            growth.settle(&mut gate, memory, Timestamp::ZERO);
            assert_eq!(again.try_recv(), Ok(0));
        }
        assert!(second.try_recv().is_err());
        growth.ended(1);
        growth.settle(&mut gate, memory, Timestamp::ZERO);
        assert_eq!(second.try_recv(), Ok(0));
    }

    #[test]
    fn the_oldest_gets_what_is_given_back() {
        let (mut gate, memory) = full_level();
        let mut growth = Growth::default();
        let mut favoured = asks(&mut growth, 3);
        growth.settle(&mut gate, memory, Timestamp::ZERO);
        assert_eq!(favoured.try_recv(), Ok(0));
        let (mut young, mut old) = (asks(&mut growth, 5), asks(&mut growth, 4));
        gate.release_held(memory, PIECE, Timestamp::ZERO);
        growth.settle(&mut gate, memory, Timestamp::ZERO);
        assert_eq!(old.try_recv(), Ok(PIECE));
        assert!(young.try_recv().is_err());
    }
}
