//! The assignments of a node, and the documents that keep its agent up to date.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::{Assigned, Assignment, Assignments};
use model::{
    Facts, Goal, InstanceId, Node, NodeId, Observed, ResourceId, Rollout, ScaleDown, Service, Spec,
    State, Timestamp, Value,
};

/// The stream of assignments to one agent, with the assignments that were last sent.
#[derive(Debug)]
pub struct Stream {
    node: NodeId,
    last_sent: Option<LastSent>,
    /// The instances that are not placed on the node and that the agent was ordered to stop.
    stopped: BTreeSet<InstanceId>,
}

impl Stream {
    /// Creates a stream to the agent on `node`, to which nothing has been sent.
    pub fn new(node: NodeId) -> Self {
        Self { node, last_sent: None, stopped: BTreeSet::new() }
    }

    /// Returns the next document to send, if any: first a complete one, then incremental ones with
    /// the changes. The returned document counts as sent.
    pub fn next(
        &mut self,
        state: &State,
        observed: &Observed,
        generation: u64,
    ) -> Option<Assignments> {
        let now = assigned(state, &self.node);
        let node = state.node(&self.node);
        let to_stop: BTreeSet<_> =
            node.iter().flat_map(|node| observed.to_stop(&node.node)).cloned().collect();
        let new = to_stop.difference(&self.stopped).cloned().collect();
        let line = difference(self.last_sent.as_ref(), &now, new, generation)?;
        self.last_sent = Some(LastSent::of(&now));
        self.stopped = to_stop;
        Some(line)
    }

    /// The node of the agent.
    pub fn node(&self) -> &NodeId {
        &self.node
    }
}

/// The assignments of `node`.
pub(crate) fn assigned(state: &State, node: &NodeId) -> BTreeMap<InstanceId, Assignment> {
    let summary = state.node(node);
    let instances = summary.iter().flat_map(|summary| &summary.instances);
    let first = summary.map(|summary| &summary.node).filter(|node| node.software.is_unknown());
    let assigned = instances.filter_map(|id| {
        let service = state.service(&id.service)?;
        let mut assignment = assignment(state, service, id)?;
        if let Some(node) = first {
            make_for_first_version(&mut assignment, node);
        }
        Some((id.clone(), assignment))
    });
    assigned.collect()
}

fn assignment(state: &State, service: &Service, id: &InstanceId) -> Option<Assignment> {
    let placement = service.placements.get(&id.replica)?;
    Some(Assignment {
        instance: id.clone(),
        revision: placement.revision,
        revision_created_at: service
            .revisions
            .get(&placement.revision)
            .map_or(Timestamp(0), |revision| revision.created_at),
        goal: match placement.goal {
            Goal::Run | Goal::Drain { .. } => Assigned::Run,
            Goal::Stop { .. } => Assigned::Stop,
        },
        frozen: state.is_frozen(service),
        frozen_resources: service.frozen_resources.clone(),
        paused: placement.is_suspended(),
        given: placement.given.clone(),
        retries: service.retries,
        env: BTreeMap::new(),
        spec: service.running_spec(placement.revision).clone(),
    })
}

/// Rewrites an assignment for an agent of the first version. It rejects unknown keys, such as those
/// that have been renamed since: all of them configure how a server rolls out and scales a service,
/// which no agent needs. It knows no references, so the variables that have some are resolved.
fn make_for_first_version(assignment: &mut Assignment, node: &Node) {
    let (rollout, scale_down) = (Rollout::default(), ScaleDown::default());
    let whole = Arc::clone(&assignment.spec);
    let has_references = whole.env.values().any(Value::has_references);
    if has_references || whole.rollout != rollout || whole.scale_down != scale_down {
        let spec = Arc::make_mut(&mut assignment.spec);
        (spec.rollout, spec.scale_down) = (rollout, scale_down);
        assignment.env = spec.take_references(&Facts {
            node: &node.id,
            address: &node.address,
            instance: &assignment.instance,
            resource: &ResourceId::main(),
            revision: assignment.revision,
            revision_created_at: assignment.revision_created_at,
            run: None,
            dir: None,
            spec: &whole,
            given: &assignment.given,
        });
    }
    assignment.revision_created_at = Timestamp(0);
    (assignment.frozen, assignment.paused) = (false, false);
    assignment.frozen_resources.clear();
}

/// The assignments last sent to an agent. Only the fields that can change while an instance is
/// placed are kept, since there is an entry for every instance of every connected agent.
#[derive(Debug)]
struct LastSent(Vec<(InstanceId, Changing)>);

#[derive(Debug)]
struct Changing {
    goal: Assigned,
    frozen: bool,
    frozen_resources: BTreeSet<ResourceId>,
    paused: bool,
    retries: u32,
    spec: Arc<Spec>,
}

impl LastSent {
    /// Records assignments that were sent completely.
    fn of(now: &BTreeMap<InstanceId, Assignment>) -> LastSent {
        let changing = |assignment: &Assignment| Changing {
            goal: assignment.goal,
            frozen: assignment.frozen,
            frozen_resources: assignment.frozen_resources.clone(),
            paused: assignment.paused,
            retries: assignment.retries,
            spec: Arc::clone(&assignment.spec),
        };
        LastSent(now.iter().map(|(id, assignment)| (id.clone(), changing(assignment))).collect())
    }

    fn is_unchanged(&self, assignment: &Assignment) -> bool {
        let Assignment { instance, goal, frozen, frozen_resources, .. } = assignment;
        let Assignment { paused, retries, spec, .. } = assignment;
        let found = self.0.binary_search_by(|(id, _)| id.cmp(instance)).ok();
        found.is_some_and(|at| {
            let known = &self.0[at].1;
            let is_same = Arc::ptr_eq(&known.spec, spec) || known.spec == *spec;
            is_same
                && known.goal == *goal
                && known.frozen == *frozen
                && known.frozen_resources == *frozen_resources
                && known.paused == *paused
                && known.retries == *retries
        })
    }
}

/// Returns the document that updates an agent from `last_sent` to `now` and stops the instances
/// `removed`, or `None` if nothing has changed.
fn difference(
    last_sent: Option<&LastSent>,
    now: &BTreeMap<InstanceId, Assignment>,
    mut removed: Vec<InstanceId>,
    generation: u64,
) -> Option<Assignments> {
    let Some(last_sent) = last_sent else {
        let set = now.values().cloned().collect();
        return Some(Assignments {
            generation,
            whole: true,
            set,
            removed,
            explicit: true,
            unreadable: Vec::new(),
        });
    };
    let set: Vec<_> = now.values().filter(|now| !last_sent.is_unchanged(now)).cloned().collect();
    let gone = last_sent.0.iter().filter(|(id, _)| !now.contains_key(id));
    removed.extend(gone.map(|(id, _)| id.clone()));
    let changed = !set.is_empty() || !removed.is_empty();
    changed.then_some(Assignments {
        generation,
        whole: false,
        set,
        removed,
        explicit: true,
        unreadable: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use model::{Agent, Command, Document, Observed, Proposal, Registration};
    use serde_json::json;

    use super::*;

    /// Two instances of `/web` on `n1`.
    fn placed() -> State {
        let registration: Registration = serde_json::from_value(json!({
            "node": "n1", "address": "10.0.0.1",
            "agent": {
                "port": 1, "capacity": { "cpu": 4, "memory": "4GiB" }, "labels": {},
                "capabilities": [], "ports": [20000, 20999],
            },
        }))
        .unwrap();
        let spec = json!({
            "service": "/web", "instances": 2, "process": { "command": ["serve"] }, "ports": [{}],
        });
        let spec = serde_json::from_value(spec).unwrap();
        let mut state = State::new();
        state.apply(Proposal::registration(registration), Timestamp(1)).unwrap();
        state
            .apply(Proposal::operator(Command::Apply(vec![Document::service(spec)])), Timestamp(1))
            .unwrap();
        let mut observed = Observed { lost_after: model::Millis::secs(30), ..Observed::default() };
        let agent = Agent { seen_at: Timestamp(1), synced: true };
        observed.agents.insert("n1".parse().unwrap(), agent);
        for step in planner::plan(&state, &observed, Timestamp(1)).steps {
            state.apply(Proposal::step(step), Timestamp(1)).unwrap();
        }
        state
    }

    #[test]
    fn only_changed_assignments_are_sent_again() {
        let mut state = placed();
        let observed = Observed::default();
        let mut stream = Stream::new("n1".parse().unwrap());
        let first = stream.next(&state, &observed, 1).unwrap();
        assert_eq!((first.whole, first.set.len()), (true, 2));
        assert_eq!(stream.next(&state, &observed, 2), None);

        let instance: InstanceId = "/web~0.1".parse().unwrap();
        let stop =
            model::Step::Stop { instance: instance.clone(), why: model::StopReason::Requested };
        state.apply(Proposal::step(stop), Timestamp(2)).unwrap();
        let second = stream.next(&state, &observed, 3).unwrap();
        assert_eq!((second.whole, second.set.len()), (false, 1));
        assert_eq!((&second.set[0].instance, second.set[0].goal), (&instance, Assigned::Stop));

        let forget =
            model::Step::Forget { instance: instance.clone(), why: model::StopReason::Requested };
        state.apply(Proposal::step(forget), Timestamp(3)).unwrap();
        let third = stream.next(&state, &observed, 4).unwrap();
        assert_eq!((third.set.len(), third.removed), (0, vec![instance]));
        assert_eq!(stream.next(&state, &observed, 5), None);
    }
}
