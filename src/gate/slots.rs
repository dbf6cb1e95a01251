//! Reused places with a generation, so that an id kept too long finds nothing instead of a stranger.

use std::ops::{Index, IndexMut};

/// Where a value lives, and which of the place's tenants it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    /// The place.
    pub(super) index: u32,
    generation: u32,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    live: bool,
    value: T,
}

/// Values by place. A free place holds a default value, so that indexing needs no unwrapping.
#[derive(Debug)]
pub(super) struct Slots<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self { slots: Vec::new(), free: Vec::new() }
    }
}

impl<T: Default> Slots<T> {
    /// Puts a value into a free place.
    pub(super) fn insert(&mut self, value: T) -> Key {
        if let Some(index) = self.free.pop() {
            let slot = &mut self.slots[index as usize];
            slot.live = true;
            slot.value = value;
            return Key { index, generation: slot.generation };
        }
        let index = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
        self.slots.push(Slot { generation: 0, live: true, value });
        Key { index, generation: 0 }
    }

    /// Frees a place; its ids find nothing from now on.
    pub(super) fn remove(&mut self, index: u32) -> T {
        let slot = &mut self.slots[index as usize];
        slot.live = false;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(index);
        std::mem::take(&mut slot.value)
    }

    /// The place of an id, if its value is still there.
    pub(super) fn find(&self, key: Key) -> Option<u32> {
        let slot = self.slots.get(key.index as usize)?;
        (slot.live && slot.generation == key.generation).then_some(key.index)
    }

    /// The id of a place.
    pub(super) fn key(&self, index: u32) -> Key {
        Key { index, generation: self.slots[index as usize].generation }
    }

    /// Every place in use.
    pub(super) fn indices(&self) -> impl Iterator<Item = u32> + '_ {
        self.slots.iter().zip(0_u32..).filter(|(slot, _)| slot.live).map(|(_, index)| index)
    }
}

impl<T> Index<u32> for Slots<T> {
    type Output = T;

    fn index(&self, index: u32) -> &T {
        &self.slots[index as usize].value
    }
}

impl<T> IndexMut<u32> for Slots<T> {
    fn index_mut(&mut self, index: u32) -> &mut T {
        &mut self.slots[index as usize].value
    }
}
