//! Planning only what can have changed.
//!
//! A service needs planning again when something of it was applied or observed, when its time has
//! come, or when it waits for something, which any change may have brought. Everything else would
//! get the plan it got before: nothing. A property test holds this against planning everything.

use std::collections::{BTreeMap, BTreeSet};

use model::{NodeId, Observed, ServiceId, State, Timestamp, Wait};

use crate::instance::Subject;
use crate::view::View;
use crate::{Plan, plan_for};

/// The services that need planning.
#[derive(Debug, Clone, Default)]
pub struct WorkQueue {
    dirty: BTreeSet<ServiceId>,
    waiting: BTreeMap<ServiceId, Vec<Wait>>,
    /// When services asked to be planned again.
    due: BTreeMap<ServiceId, Timestamp>,
    everything: bool,
    /// The nodes that were lost when last planned.
    lost: BTreeSet<NodeId>,
    /// Planned for since last asked.
    planned: BTreeSet<ServiceId>,
}

impl WorkQueue {
    /// A work queue with everything on it.
    pub fn everything() -> WorkQueue {
        WorkQueue { everything: true, ..WorkQueue::default() }
    }

    /// Something of the service was applied or observed.
    pub fn touch(&mut self, service: &ServiceId) {
        if !self.dirty.contains(service) {
            self.dirty.insert(service.clone());
        }
    }

    /// Something of the node was applied or observed, other than its instances.
    pub fn touch_node(&mut self, state: &State, node: &NodeId) {
        if let Some(node) = state.node(node) {
            node.instances.iter().for_each(|instance| self.touch(&instance.service));
        }
    }

    /// Anything may have changed.
    pub fn touch_all(&mut self) {
        self.everything = true;
    }

    /// What services wait for, as of their last plans.
    pub fn waits(&self) -> &BTreeMap<ServiceId, Vec<Wait>> {
        &self.waiting
    }

    /// The services that were planned for since this was last asked: only of these can anything
    /// that follows from the state, from what is observed or from the time have changed.
    pub fn take_planned(&mut self) -> BTreeSet<ServiceId> {
        std::mem::take(&mut self.planned)
    }

    /// Plans for the services on the work queue and takes off it what waits for nothing.
    pub fn plan(&mut self, state: &State, observed: &Observed, now: Timestamp) -> Plan {
        let view = View::new(state, observed, now);
        if view.awaited_until.is_some() {
            self.everything = true;
            return plan_for(&view, std::iter::empty(), |_, _| {});
        }
        self.touch_lost(&view);
        let mut subjects = std::mem::take(&mut self.dirty);
        let everything = std::mem::take(&mut self.everything);
        if everything {
            subjects = state.services().map(|service| service.id.clone()).collect();
            self.waiting.clear();
            self.due.clear();
        } else {
            let due = self.due.iter().filter(|(_, at)| **at <= now).map(|(id, _)| id.clone());
            subjects.extend(due);
            subjects.extend(self.waiting.keys().cloned());
        }
        for id in &subjects {
            self.waiting.remove(id);
            self.due.remove(id);
        }
        let services = subjects.iter().filter_map(|id| {
            let statuses = observed.instances.get(id).map(AsRef::as_ref);
            Some(Subject { service: state.service(id)?, statuses })
        });
        let mut plan = plan_for(&view, services, |service, at| {
            self.due.insert(service.id.clone(), at);
        });
        for (id, wait) in &plan.waits {
            self.waiting.entry(id.clone()).or_default().push(wait.clone());
        }
        self.planned.append(&mut subjects);
        plan.wake_at = self.due.values().copied().chain(plan.wake_at).min();
        plan
    }

    /// Silence is not an event: nodes that have become lost, or are lost no more, are seen here.
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
