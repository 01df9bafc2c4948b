//! Becoming leader, and the correction of timestamps that goes with it.
//!
//! The clock of the previous leader stamped the stored objects. If that clock was ahead, waits and
//! deadlines end later than intended; the new leader limits them.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::changeset::Changeset;
use crate::event::{About, What};
use crate::id::InstanceId;
use crate::object::Key;
use crate::service::{Goal, Placement, Service};
use crate::state::State;
use crate::unit::Timestamp;

impl State {
    pub(crate) fn become_leader(&mut self, at: Timestamp) -> Changeset {
        self.meta.epoch += 1;
        let objects_ahead = self.objects_ahead(at);
        objects_ahead.iter().for_each(|key| self.bring_back(key, at));
        let mut applied = Changeset { changed: objects_ahead, ..Changeset::default() };
        applied.changed.insert(Key::Meta);
        applied.event(at, About::Server, What::ServerStarted { epoch: self.meta.epoch });
        applied
    }

    /// The objects with timestamps that are too far ahead.
    fn objects_ahead(&self, at: Timestamp) -> BTreeSet<Key> {
        let mut objects_ahead = BTreeSet::new();
        for service in self.services.values() {
            let id = &service.id;
            if service.slots.iter().any(|slot| slot.failed_at > at) {
                objects_ahead.insert(Key::Service(id.clone()));
            }
            for (replica, placement) in &service.placements {
                let latest = latest_stop(service, placement, at);
                let drains = matches!(placement.goal, Goal::Drain { until, .. } if until > latest);
                if drains || placement.placed_at > at {
                    objects_ahead.insert(Key::Instance(InstanceId {
                        service: id.clone(),
                        replica: *replica,
                    }));
                }
            }
        }
        for deployment in self.deployments.values() {
            if deployment.moves.iter().any(|m| m.progressed_at.is_some_and(|since| since > at)) {
                objects_ahead.insert(Key::Deployment(deployment.id));
            }
        }
        objects_ahead
    }

    /// Limits the timestamps of the object at `key`.
    fn bring_back(&mut self, key: &Key, at: Timestamp) {
        match key {
            Key::Service(id) => {
                let Some(service) = self.services.get_mut(id).map(Arc::make_mut) else { return };
                for slot in &mut service.slots {
                    slot.failed_at = slot.failed_at.min(at);
                }
            }
            Key::Instance(InstanceId { service, replica }) => {
                let Some(service) = self.services.get_mut(service) else { return };
                let latest = service.placements.get(replica).map(|p| latest_stop(service, p, at));
                let placement = Arc::make_mut(service).placements.get_mut(replica);
                let Some((placement, latest)) = placement.zip(latest) else { return };
                placement.placed_at = placement.placed_at.min(at);
                if let Goal::Drain { until, .. } = &mut placement.goal {
                    *until = latest.min(*until);
                }
            }
            Key::Deployment(id) => {
                let Some(deployment) = self.deployments.get_mut(id) else { return };
                for m in &mut Arc::make_mut(deployment).moves {
                    m.progressed_at = m.progressed_at.map(|since| since.min(at));
                }
            }
            _ => {}
        }
    }
}

/// The stop time of an instance whose drain begins at `at`.
fn latest_stop(service: &Service, placement: &Placement, at: Timestamp) -> Timestamp {
    at.after(service.drain(placement.revision))
}
