//! What a node should run, and what tells its agent the difference to what it was told before.

use std::collections::BTreeMap;

use api::{Assigned, Assignment, Assignments};
use model::{Goal, InstanceId, NodeId, Service, State};

use crate::marathon::app::Apps;
use crate::marathon::environment::environment;

/// One agent's stream of assignments: what it has been told so far.
#[derive(Debug)]
pub struct Stream {
    node: NodeId,
    told: Option<BTreeMap<InstanceId, Assignment>>,
}

impl Stream {
    /// A stream to the agent on `node`, which has been told nothing.
    pub fn new(node: NodeId) -> Self {
        Self { node, told: None }
    }

    /// What the agent is to be told next, if anything: the first time everything, then what has
    /// changed. From then on it counts as told.
    pub fn next(&mut self, state: &State, generation: u64, apps: &Apps) -> Option<Assignments> {
        let now = assigned(state, &self.node, apps);
        let line = difference(self.told.as_ref(), &now, generation)?;
        self.told = Some(now);
        Some(line)
    }

    /// The node of the agent.
    pub fn node(&self) -> &NodeId {
        &self.node
    }
}

/// What `node` should run.
pub(crate) fn assigned(
    state: &State,
    node: &NodeId,
    apps: &Apps,
) -> BTreeMap<InstanceId, Assignment> {
    let node = state.node(node);
    let instances = node.iter().flat_map(|node| &node.instances);
    let assigned = instances.filter_map(|id| {
        let service = state.service(&id.service)?;
        Some((id.clone(), assignment(service, id, apps)?))
    });
    assigned.collect()
}

fn assignment(service: &Service, id: &InstanceId, apps: &Apps) -> Option<Assignment> {
    let placement = service.placements.get(&id.seat)?;
    Some(Assignment {
        instance: id.clone(),
        revision: placement.revision,
        goal: match placement.goal {
            Goal::Run | Goal::Drain { .. } => Assigned::Run,
            Goal::Stop { .. } => Assigned::Stop,
        },
        ports: placement.ports.clone(),
        retries: service.retries,
        env: environment(apps, service, id, placement),
        spec: service.running_spec(placement.revision).clone(),
    })
}

/// The line that brings an agent from what it was told to what it should be told; `None` if that
/// is the same.
fn difference(
    told: Option<&BTreeMap<InstanceId, Assignment>>,
    now: &BTreeMap<InstanceId, Assignment>,
    generation: u64,
) -> Option<Assignments> {
    let Some(told) = told else {
        let set = now.values().cloned().collect();
        return Some(Assignments { generation, whole: true, set, removed: Vec::new() });
    };
    let set: Vec<_> = now
        .iter()
        .filter(|(id, assignment)| told.get(*id) != Some(*assignment))
        .map(|(_, assignment)| assignment.clone())
        .collect();
    let removed: Vec<_> = told.keys().filter(|id| !now.contains_key(*id)).cloned().collect();
    let changed = !set.is_empty() || !removed.is_empty();
    changed.then_some(Assignments { generation, whole: false, set, removed })
}
