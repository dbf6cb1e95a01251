//! How many calls of a level the other levels of their paths let go.

use std::collections::HashMap;

use super::Gate;
use super::path::{LevelList, Path};
use crate::domain::time::Timestamp;

impl Gate {
    /// By level: how many of its calls the other levels let go until the next exchange, where those are scarce.
    ///
    /// Slots that wait for those of another level grow too old, so no more are worth asking for. Only levels that all of a
    /// level's calls go through count: a provider's slots are for whichever of its lanes has some.
    pub(super) fn rooms(&self, now: Timestamp) -> HashMap<u32, u32> {
        let mut common: HashMap<u32, LevelList> = HashMap::new();
        let is_active = |path: &&Path| path.members > 0 || path.grants > 0;
        for path in self.paths.indices().map(|index| &self.paths[index]).filter(is_active) {
            for level in path.levels.as_slice() {
                let levels = common.get(level).map_or(path.levels, |held| held.common(path.levels));
                common.insert(*level, levels);
            }
        }
        let room = |index: u32| self.levels[index].room(now).map(|room| (index, room));
        let scarce: HashMap<u32, u32> = common.keys().filter_map(|index| room(*index)).collect();
        let least = |(level, levels): (u32, LevelList)| {
            let others = levels.as_slice().iter().filter(|other| **other != level);
            Some((level, others.filter_map(|other| scarce.get(other).copied()).min()?))
        };
        common.into_iter().filter_map(least).collect()
    }

    /// Slots that others' calls may need go back where no call here can leave for long enough: at levels all of whose
    /// waiting heads lack units of some limit on their paths.
    pub(super) fn give_back_in_vain(&mut self, now: Timestamp) {
        let mut levels: HashMap<u32, Timestamp> = HashMap::new();
        for path in self.paths.indices().map(|index| &self.paths[index]).filter(|path| path.members > 0) {
            let shut = path.levels.as_slice().iter().filter_map(|level| self.levels[*level].shut_until());
            let shut = shut.max().unwrap_or(Timestamp::ZERO);
            for level in path.levels.as_slice() {
                levels.entry(*level).and_modify(|until| *until = shut.min(*until)).or_insert(shut);
            }
        }
        for (index, until) in levels {
            self.levels[index].shut(until, now);
        }
    }

    /// Heads wait on a path where none did: whether its levels have units for them is to be seen.
    pub(super) fn reopen(&mut self, path: u32) {
        for index in self.paths[path].levels.as_slice() {
            if let Some(lease) = &mut self.levels[*index].lease {
                lease.reopen();
            }
        }
    }
}
