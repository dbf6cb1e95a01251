//! Lanes under other settings: those that stay keep all that is known of them, those that were taken away take no more
//! calls, and come back as they were if they come back.

use std::collections::HashSet;
use std::sync::Arc;

use crate::domain::time::Timestamp;
use crate::engine::item::LaneId;
use crate::engine::settings::{ProviderSetup, RouteModel};
use crate::gate::{Gate, LevelKind, LevelSpec};

use super::{Lanes, Provider};

/// What other settings changed.
#[derive(Debug, Default)]
pub(in crate::engine) struct Renewed {
    /// Lanes whose limits, or their provider's, are others: what waits there may weigh otherwise now.
    pub(in crate::engine) limited: HashSet<LaneId>,
    /// Lanes whose calls go to another place or with another key.
    pub(in crate::engine) moved: Vec<LaneId>,
    /// Providers whose clients are new.
    pub(in crate::engine) clients: Vec<Arc<ProviderSetup>>,
}

impl Lanes {
    /// Takes over the settings that hold from now on. Limits that stay the same are not touched; of others, what was
    /// charged stays charged.
    pub(in crate::engine) fn renew(
        &mut self,
        providers: Vec<Arc<ProviderSetup>>,
        (route, ceiling): (RouteModel, u32),
        gate: &mut Gate,
        now: Timestamp,
    ) -> Renewed {
        let upstreams: Vec<_> = self.lanes.iter().map(|lane| Arc::clone(&lane.provider)).collect();
        let clients = providers.iter().filter(|setup| !self.has_client_of(setup)).cloned().collect();
        self.generation += 1;
        (self.served_by, self.ceiling) = (route, ceiling);
        self.changed.clear();
        self.renew_providers(providers, gate, now);
        // In the order in which they were met: those beyond the cap stay beyond it.
        let mut models: Vec<Arc<str>> = self.lanes.iter().map(|lane| Arc::clone(&lane.model)).collect();
        models.extend(self.by_model.drain().map(|(model, _)| model));
        for model in models {
            self.resolve(&model, gate, now);
        }
        let limited = self.ids().filter(|id| {
            let lane = self.get(*id);
            self.changed.contains(&lane.level) || self.changed.contains(&lane.provider_level)
        });
        let limited = limited.collect();
        let moved = upstreams.iter().zip(self.ids());
        let moved = moved.filter(|(before, id)| !self.get(*id).provider.has_upstream_of(before));
        Renewed { limited, moved: moved.map(|(_, id)| id).collect(), clients }
    }

    fn has_client_of(&self, setup: &ProviderSetup) -> bool {
        self.providers.iter().any(|provider| provider.setup.has_upstream_of(setup))
    }

    fn renew_providers(&mut self, providers: Vec<Arc<ProviderSetup>>, gate: &mut Gate, now: Timestamp) {
        self.providers.clear();
        for setup in providers {
            let name = setup.budget_name().to_owned();
            let level = *self.budgets.entry(name.clone()).or_insert_with(|| {
                let (limits, accounting) = (setup.limits.clone(), setup.accounting);
                let kind = LevelKind::Provider;
                gate.add_level(LevelSpec { kind, name, limits, accounting, ..LevelSpec::default() }, now)
            });
            // Of several providers of one budget, the first says its limits.
            if !self.providers.iter().any(|provider| provider.level == level) {
                let limited = gate.set_limits(level, &setup.limits, now);
                if gate.set_accounting(level, setup.accounting) || limited {
                    self.changed.insert(level);
                }
            }
            self.providers.push(Provider { setup, level });
        }
    }
}
