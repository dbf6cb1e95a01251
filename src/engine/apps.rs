//! Apps in the gate: each is a level with its own limits and its share among those that wait.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use rustc_hash::FxHashMap;

use crate::complaint::Complaint;
use crate::domain::app::AppRecord;
use crate::domain::ids::AppKey;
use crate::domain::time::Timestamp;
use crate::gate::{Gate, LevelId, LevelKind, LevelSpec};

/// Every app that has been met.
#[derive(Debug, Default)]
pub(super) struct Apps {
    levels: FxHashMap<AppKey, LevelId>,
    /// As the store told them.
    weights: HashMap<AppKey, u32>,
    /// Of asking the store, which is done beside.
    pub(super) complaint: Arc<Mutex<Complaint>>,
}

impl Apps {
    /// The app's level. One that is not known yet, since its row was written a moment ago, has no limits until the
    /// store has told of it.
    pub(super) fn level(&mut self, app: AppKey, gate: &mut Gate, now: Timestamp) -> LevelId {
        let make = || {
            // By its key until the name is known: the ledger's entry of a name is that app's own.
            let name = format!("#{}", app.0);
            gate.add_level(LevelSpec { kind: LevelKind::App, name, weight: 1, ..LevelSpec::default() }, now)
        };
        *self.levels.entry(app).or_insert_with(make)
    }

    /// What the store says of all apps.
    pub(super) fn refresh(&mut self, apps: Vec<AppRecord>, gate: &mut Gate, now: Timestamp) {
        for app in apps {
            let (limits, weight) = (app.settings.limits, app.settings.weight);
            self.weights.insert(app.key, weight);
            match self.levels.get(&app.key) {
                Some(level) => {
                    gate.name_level(*level, app.name.as_str());
                    gate.set_limits(*level, &limits, now);
                    gate.set_weight(*level, weight);
                }
                None => {
                    let name = app.name.as_str().to_owned();
                    let spec =
                        LevelSpec { kind: LevelKind::App, name, limits, weight, ..LevelSpec::default() };
                    self.levels.insert(app.key, gate.add_level(spec, now));
                }
            }
        }
    }

    /// The app's share among those that wait.
    pub(super) fn weight(&self, app: AppKey) -> u32 {
        self.weights.get(&app).copied().unwrap_or(1).max(1)
    }

    /// The app of a level.
    pub(super) fn app_of(&self, level: LevelId) -> Option<AppKey> {
        self.levels.iter().find(|(_, known)| **known == level).map(|(app, _)| *app)
    }
}
