//! Who is next: heaps ordered by turn, from which any entry can be taken out.
//!
//! `BTreeSet` would do, but allocates while the gate works; `BinaryHeap` can't take out the middle.

/// A place in an order: the lower goes first, among equals the earlier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Turn {
    /// The app's virtual counter where apps are compared, the round among those about to try, else 0.
    pub(super) served: u64,
    /// The head's own place, or a moment in microseconds where the order is by time.
    pub(super) key: u64,
    /// Counts up with every entry ever queued.
    pub(super) sequence: u64,
}

const ABSENT: u32 = u32::MAX;

/// Where each id stands in the one heap that holds it.
#[derive(Debug, Default)]
pub(super) struct Places(Vec<u32>);

impl Places {
    /// The place of an id, if some heap holds it.
    pub(super) fn of(&self, id: u32) -> Option<u32> {
        self.0.get(id as usize).copied().filter(|place| *place != ABSENT)
    }

    fn set(&mut self, id: u32, place: u32) {
        let id = id as usize;
        if id >= self.0.len() {
            self.0.resize(id + 1, ABSENT);
        }
        self.0[id] = place;
    }
}

/// A binary heap by turn. Every call is given the places of the kind of id that it holds.
#[derive(Debug, Default)]
pub(super) struct TurnHeap {
    entries: Vec<(Turn, u32)>,
}

impl TurnHeap {
    /// Whether nobody is here.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many are here.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Who is next.
    pub(super) fn first(&self) -> Option<(Turn, u32)> {
        self.entries.first().copied()
    }

    /// The turn of an id; `None` if this heap does not hold it.
    pub(super) fn turn_of(&self, id: u32, places: &Places) -> Option<Turn> {
        let (turn, held) = self.entries.get(places.of(id)? as usize)?;
        (*held == id).then_some(*turn)
    }

    /// All ids, in no order.
    pub(super) fn ids(&self) -> impl Iterator<Item = u32> + '_ {
        self.entries.iter().map(|(_, id)| *id)
    }

    /// Queues an id that no heap holds.
    pub(super) fn push(&mut self, turn: Turn, id: u32, places: &mut Places) {
        self.entries.push((turn, id));
        self.rise(self.entries.len() - 1, places);
    }

    /// Takes out who is next.
    pub(super) fn pop(&mut self, places: &mut Places) -> Option<(Turn, u32)> {
        let first = self.first()?;
        self.take(0, places);
        Some(first)
    }

    /// Takes an id out; nothing happens if this heap does not hold it.
    pub(super) fn remove(&mut self, id: u32, places: &mut Places) {
        let Some(place) = places.of(id) else { return };
        if self.entries.get(place as usize).is_some_and(|(_, held)| *held == id) {
            self.take(place as usize, places);
        }
    }

    fn take(&mut self, at: usize, places: &mut Places) {
        let (_, id) = self.entries.swap_remove(at);
        places.set(id, ABSENT);
        if at < self.entries.len() {
            self.sink(at, places);
            self.rise(at, places);
        }
    }

    fn rise(&mut self, mut at: usize, places: &mut Places) {
        while at > 0 {
            let above = (at - 1) / 2;
            if self.entries[above].0 <= self.entries[at].0 {
                break;
            }
            self.swap(at, above, places);
            at = above;
        }
        self.note(at, places);
    }

    fn sink(&mut self, mut at: usize, places: &mut Places) {
        loop {
            let left = 2 * at + 1;
            let Some(mut least) = self.entries.get(left).map(|_| left) else { break };
            if self.entries.get(left + 1).is_some_and(|right| right.0 < self.entries[left].0) {
                least = left + 1;
            }
            if self.entries[at].0 <= self.entries[least].0 {
                break;
            }
            self.swap(at, least, places);
            at = least;
        }
        self.note(at, places);
    }

    fn swap(&mut self, one: usize, other: usize, places: &mut Places) {
        self.entries.swap(one, other);
        self.note(one, places);
    }

    fn note(&self, at: usize, places: &mut Places) {
        places.set(self.entries[at].1, u32::try_from(at).unwrap_or(ABSENT));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The heap against a sorted set, with entries taken out of the middle.
        #[test]
        fn takes_out_in_order(steps in proptest::collection::vec((0_u8..3, 0_u32..40, 0_u64..20), 1..200)) {
            let mut heap = TurnHeap::default();
            let mut places = Places::default();
            let mut model: BTreeSet<(Turn, u32)> = BTreeSet::new();
            for (sequence, (step, id, key)) in (0_u64..).zip(steps) {
                let held = model.iter().find(|entry| entry.1 == id).copied();
                match (step, held) {
                    (0, None) => {
                        let turn = Turn { served: 0, key, sequence };
                        heap.push(turn, id, &mut places);
                        model.insert((turn, id));
                    }
                    (1, _) => {
                        heap.remove(id, &mut places);
                        if let Some(entry) = held {
                            model.remove(&entry);
                        }
                    }
                    _ => prop_assert_eq!(heap.pop(&mut places), model.pop_first()),
                }
                prop_assert_eq!(heap.first(), model.first().copied());
                prop_assert_eq!(heap.len(), model.len());
            }
        }
    }
}
