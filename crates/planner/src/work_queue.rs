//! Plans only the services whose plan can have changed.
//!
//! A service needs planning when it was changed or observed, when its deadline has passed, or when
//! it waits for anything: any change may end the wait. The plan of every other service is still
//! empty. A property test compares this with planning all services.

use std::collections::{BTreeMap, BTreeSet};

use model::{NodeId, Observed, ServiceId, State, Timestamp, Wait};

use crate::instance::ServiceView;
use crate::view::View;
use crate::{Plan, plan_for};

/// The services that need planning.
#[derive(Debug, Clone, Default)]
pub struct WorkQueue {
    /// Changed or observed since they were last planned.
    dirty: BTreeSet<ServiceId>,
    /// The waits of the last plan of each service. A service in here is planned every time.
    waiting: BTreeMap<ServiceId, Vec<Wait>>,
    /// When services must be planned again, at the latest.
    deadlines: BTreeMap<ServiceId, Timestamp>,
    /// Whether all services are planned next: then `dirty` is ignored.
    everything: bool,
    /// The nodes that were lost when last planned.
    lost: BTreeSet<NodeId>,
    /// The services planned since the last `take_planned`.
    planned: BTreeSet<ServiceId>,
}

impl WorkQueue {
    /// A queue with all services.
    pub fn everything() -> WorkQueue {
        WorkQueue { everything: true, ..WorkQueue::default() }
    }

    /// Adds a service that was changed or observed.
    pub fn touch(&mut self, service: &ServiceId) {
        if !self.dirty.contains(service) {
            self.dirty.insert(service.clone());
        }
    }

    /// Adds the services with instances on a node that was changed or observed.
    pub fn touch_node(&mut self, state: &State, node: &NodeId) {
        if let Some(node) = state.node(node) {
            node.instances.iter().for_each(|instance| self.touch(&instance.service));
        }
    }

    /// Adds all services.
    pub fn touch_all(&mut self) {
        self.everything = true;
    }

    /// The nodes that were lost when services were last planned.
    pub fn lost(&self) -> &BTreeSet<NodeId> {
        &self.lost
    }

    /// The reasons why services wait, from their last plans.
    pub fn waits(&self) -> &BTreeMap<ServiceId, Vec<Wait>> {
        &self.waiting
    }

    /// Takes the services that were planned since the last call. Values derived from the state, the
    /// observations or the time can have changed only for these.
    pub fn take_planned(&mut self) -> BTreeSet<ServiceId> {
        std::mem::take(&mut self.planned)
    }

    /// Plans for the services in the queue and removes those that wait for nothing.
    pub fn plan(&mut self, state: &State, observed: &Observed, now: Timestamp) -> Plan {
        let view = View::new(state, observed, now);
        if view.awaited_until.is_some() {
            self.everything = true;
            return plan_for(&view, std::iter::empty(), |_, _| {});
        }
        self.touch_lost(&view);
        let mut queued = std::mem::take(&mut self.dirty);
        let everything = std::mem::take(&mut self.everything);
        if everything {
            queued = state.services().map(|service| service.id.clone()).collect();
            self.waiting.clear();
            self.deadlines.clear();
        } else {
            let due = self.deadlines.iter().filter(|(_, at)| **at <= now).map(|(id, _)| id.clone());
            queued.extend(due);
            queued.extend(self.waiting.keys().cloned());
        }
        for id in &queued {
            self.waiting.remove(id);
            self.deadlines.remove(id);
        }
        let services = queued.iter().filter_map(|id| {
            let statuses = observed.instances.get(id).map(AsRef::as_ref);
            Some(ServiceView { service: state.service(id)?, statuses })
        });
        let mut plan = plan_for(&view, services, |service, at| {
            self.deadlines.insert(service.id.clone(), at);
        });
        for (id, wait) in &plan.waits {
            self.waiting.entry(id.clone()).or_default().push(wait.clone());
        }
        self.planned.append(&mut queued);
        plan.wake_at = self.deadlines.values().copied().chain(plan.wake_at).min();
        plan
    }

    /// Adds the services of nodes that became lost or are no longer lost. No event announces that:
    /// it depends on the time.
    fn touch_lost(&mut self, view: &View<'_>) {
        if view.lost == self.lost {
            return;
        }
        let known = std::mem::replace(&mut self.lost, view.lost.clone());
        for node in known.symmetric_difference(&view.lost) {
            self.touch_node(view.state, node);
        }
    }
}
