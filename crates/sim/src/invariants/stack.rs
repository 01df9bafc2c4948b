//! The resources of an instance: they start in the order of the stack and stop in reverse, only the
//! one that exited is started again, and an instance that has ended has none left.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use agent::drivers::Kind;
use model::{Goal, InstanceId, InstanceResource, NodeId, Phase, Piece, ResourceRef, Spec, State};

use crate::cluster::{Cluster, Host};
use crate::machine::{Machine, Run};
use crate::violation::Violation;

/// The stacks of the instances, as the server stores them, and their completed tasks.
#[derive(Debug, Default)]
pub(crate) struct Stacks {
    /// The specs of placed instances with a stack. Agents can have other versions of them, if an
    /// injected bug says so.
    specs: BTreeMap<InstanceId, Arc<Spec>>,
    /// Tasks that have completed on a node. Their agents remember that when the machine loses
    /// power.
    completed: BTreeSet<(NodeId, InstanceResource)>,
}

fn resource(instance: &InstanceId, resource: &ResourceRef<'_>) -> InstanceResource {
    InstanceResource { instance: instance.clone(), resource: resource.name.clone() }
}

/// The place of the resource at `index`: it alone, or the consecutive members of its subset.
fn location(stack: &[ResourceRef<'_>], index: usize) -> Range<usize> {
    let Some(subset) = stack[index].subset else { return index..index + 1 };
    let is_other = |resource: &ResourceRef<'_>| resource.subset != Some(subset);
    let first = stack[..index].iter().rposition(is_other).map_or(0, |before| before + 1);
    let length = stack[index..].iter().position(is_other);
    first..length.map_or(stack.len(), |length| index + length)
}

impl Stacks {
    /// Remembers the stacks of the instances that are placed.
    pub(crate) fn placed(&mut self, state: &State) {
        for service in state.services() {
            for (replica, placement) in &service.placements {
                let Some(revision) = service.revisions.get(&placement.revision) else { continue };
                if !revision.spec.stack.is_empty() {
                    let instance = InstanceId { service: service.id.clone(), replica: *replica };
                    self.specs.entry(instance).or_insert_with(|| Arc::clone(&revision.spec));
                }
            }
        }
    }

    /// The first run of a resource starts once those before it are up.
    pub(crate) fn starts(
        &self,
        node: &NodeId,
        machine: &Machine,
        piece: &Piece,
    ) -> Option<Violation> {
        let spec = self.specs.get(&piece.instance)?;
        if machine.has_run_before(piece) {
            return None;
        }
        let stack: Vec<_> = spec.resources().collect();
        let index = stack.iter().position(|resource| resource.name == piece.resource)?;
        let before = &stack[..location(&stack, index).start];
        let missing = before.iter().find(|before| {
            let of = resource(&piece.instance, before);
            let run = machine.runs.get(&of);
            let is_up = match before.is_task {
                true => {
                    run.is_some_and(Run::has_completed)
                        || self.completed.contains(&(node.clone(), of))
                }
                false => run.is_some_and(|run| {
                    // An agent learns of the end of a container once Docker responds.
                    let is_unseen = run.driver() == Kind::Docker && machine.docker_unavailable;
                    is_unseen || (run.is_up() && (before.readiness.is_none() || run.has_passed))
                }),
            };
            !before.optional && !is_up
        })?;
        let detail = format!("{node}: {piece} starts before {} is up", missing.name);
        Some(Violation::new("the resources of a stack start in order", detail))
    }

    /// A resource is stopped only with its instance, and once those after it have ended.
    pub(crate) fn stops(
        &self,
        cluster: &Cluster,
        node: &NodeId,
        piece: &Piece,
    ) -> Option<Violation> {
        let spec = self.specs.get(&piece.instance)?;
        let Host { machine, agent, .. } = &cluster.hosts[node];
        let running = agent.running.as_ref()?;
        if !running.assigned.contains(&piece.instance) {
            return None;
        }
        let stack: Vec<_> = spec.resources().collect();
        let index = stack.iter().position(|resource| resource.name == piece.resource)?;
        let after = &stack[location(&stack, index).end..];
        let above = after.iter().find(|after| {
            let run = machine.runs.get(&resource(&piece.instance, after));
            run.is_some_and(Run::is_alive)
        });
        if let Some(above) = above {
            let detail = format!("{node}: {piece} is stopped while {} runs", above.name);
            return Some(Violation::new("the resources of a stack stop in reverse", detail));
        }
        let placement = cluster.wanted()?.placement(&piece.instance)?;
        let mut statuses = running.core.statuses();
        let status = statuses.find(|(id, _)| **id == piece.instance).map(|(_, status)| status);
        let has_failed = status.is_some_and(|status| {
            status.resources.iter().any(|resource| resource.phase == Phase::Failed)
        });
        if placement.goal != Goal::Run || placement.node != *node || has_failed {
            return None;
        }
        let detail = format!("{node}: {piece} is stopped, and its instance must run");
        Some(Violation::new("a resource stops only with its instance", detail))
    }

    /// An instance that has ended has no runs: the server gives their ports and capacity to others.
    pub(crate) fn agent_stepped(&mut self, node: &NodeId, host: &Host) -> Option<Violation> {
        let completed = host.machine.runs.iter().filter(|(_, run)| run.has_completed());
        self.completed.extend(completed.map(|(of, _)| (node.clone(), of.clone())));
        let agent = host.agent.running.as_ref()?;
        let mut over = agent.core.statuses().filter(|(_, status)| status.phase.is_over());
        let (of, status) = over.find_map(|(instance, status)| {
            let mut runs = host.machine.runs_of(instance);
            runs.find(|(_, run)| run.is_alive()).map(|(of, _)| (of, status))
        })?;
        let detail = format!("{node}: {of} runs, and its instance is {}", status.phase.word());
        Some(Violation::new("an instance that has ended has no runs", detail))
    }
}
