//! The translation of native events into Marathon's events. Pure.
//!
//! Native events arrive in batches. Each batch comes with the snapshot after its last event. The
//! feed stores only the data that the snapshot may lack when it is needed: the published status of
//! tasks, the plans of deployments in progress, and the state before the batch.

mod deployments;
mod tasks;

use std::collections::BTreeMap;
use std::sync::Arc;

use api::EventView;
use model::{About, DeploymentId, Placement, ReplicaId, Service, ServiceId, State, What};
use serde_json::json;

use self::deployments::Plan;
pub(crate) use self::deployments::{api_post, is_created_or_updated, versioned};
use self::tasks::TaskCursor;
use super::app::Apps;
use super::event::Event;
use server::control::Snapshot;

/// The translator of events.
pub(crate) struct EventTranslator {
    tasks: BTreeMap<ServiceId, BTreeMap<ReplicaId, TaskCursor>>,
    plans: BTreeMap<DeploymentId, Plan>,
    /// The state after the previous batch.
    before: State,
    apps: Apps,
}

impl EventTranslator {
    /// Creates a feed that continues from a snapshot.
    pub(crate) fn new(snapshot: &Snapshot, apps: Apps) -> EventTranslator {
        let (tasks, plans) = (BTreeMap::new(), BTreeMap::new());
        let before = snapshot.state.clone();
        let mut translator = EventTranslator { tasks, plans, before, apps };
        for service in snapshot.state.services() {
            let replicas = service.placements.iter();
            let cursor = |(replica, placement): (&ReplicaId, &Placement)| {
                let status = snapshot.observed.status(&service.id, *replica);
                (*replica, TaskCursor::first(placement, status))
            };
            translator.tasks.insert(service.id.clone(), replicas.map(cursor).collect());
        }
        for deployment in snapshot.state.deployments().filter(|d| !d.stage.is_over()) {
            let plan = translator.plan(deployment, snapshot);
            translator.plans.insert(deployment.id, plan);
        }
        translator
    }

    /// Translates a batch of events.
    pub(crate) fn translate<'a>(
        &mut self,
        events: impl IntoIterator<Item = &'a EventView>,
        snapshot: &Snapshot,
    ) -> Vec<Event> {
        let translated =
            events.into_iter().flat_map(|event| self.translate_one(event, snapshot)).collect();
        self.before = snapshot.state.clone();
        translated
    }

    /// Finds a service, even if it was removed in this batch.
    fn service<'a>(&'a self, id: &ServiceId, snapshot: &'a Snapshot) -> Option<&'a Arc<Service>> {
        snapshot.state.service(id).or_else(|| self.before.service(id))
    }

    fn translate_one(&mut self, event: &EventView, snapshot: &Snapshot) -> Vec<Event> {
        let model::Event { at, about, what, .. } = &event.event;
        match (about, what) {
            (About::Instance(id), what) => self.of_task(what, id, *at, snapshot),
            (About::Deployment(id), what) => self.of_deployment(what, *id, *at, snapshot),
            (About::Service(app), What::Removed) => {
                let terminated = json!({ "appId": app });
                let mut events = vec![Event::new("app_terminated_event", *at, terminated)];
                events.extend(self.steps_done(*at, snapshot));
                events
            }
            (About::Service(_), What::Arrived { .. }) => self.steps_done(*at, snapshot),
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests;
