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
pub(crate) use self::deployments::{api_post, posts, versioned};
use self::tasks::Told;
use super::app::Apps;
use super::event::Event;
use server::control::Snapshot;

/// The translator of events.
pub(crate) struct Feed {
    tasks: BTreeMap<ServiceId, BTreeMap<ReplicaId, Told>>,
    plans: BTreeMap<DeploymentId, Plan>,
    /// The state after the previous batch.
    before: State,
    apps: Apps,
}

impl Feed {
    /// Creates a feed that continues from a snapshot.
    pub(crate) fn new(snapshot: &Snapshot, apps: Apps) -> Feed {
        let (tasks, plans) = (BTreeMap::new(), BTreeMap::new());
        let before = snapshot.state.clone();
        let mut feed = Feed { tasks, plans, before, apps };
        for service in snapshot.state.services() {
            let replicas = service.placements.iter();
            let told = |(replica, placement): (&ReplicaId, &Placement)| {
                let status = snapshot.observed.status(&service.id, *replica);
                (*replica, Told::first(placement, status))
            };
            feed.tasks.insert(service.id.clone(), replicas.map(told).collect());
        }
        for deployment in snapshot.state.deployments().filter(|d| !d.stage.is_over()) {
            let plan = feed.plan(deployment, snapshot);
            feed.plans.insert(deployment.id, plan);
        }
        feed
    }

    /// Translates a batch of events.
    pub(crate) fn take<'a>(
        &mut self,
        events: impl IntoIterator<Item = &'a EventView>,
        snapshot: &Snapshot,
    ) -> Vec<Event> {
        let told = events.into_iter().flat_map(|event| self.take_one(event, snapshot)).collect();
        self.before = snapshot.state.clone();
        told
    }

    /// Finds a service, even if it was removed in this batch.
    fn service<'a>(&'a self, id: &ServiceId, snapshot: &'a Snapshot) -> Option<&'a Arc<Service>> {
        snapshot.state.service(id).or_else(|| self.before.service(id))
    }

    fn take_one(&mut self, event: &EventView, snapshot: &Snapshot) -> Vec<Event> {
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
