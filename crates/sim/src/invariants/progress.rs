//! Numbers and phases that only advance, over restarts of every process.

use std::collections::{BTreeMap, BTreeSet};

use agent::core::Memory;
use model::{InstanceId, NodeId, Phase, State};

use crate::cluster::Host;
use crate::violation::Violation;

/// The last values that were seen.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    assignments: u64,
    table: u64,
    event: u64,
    epoch: u64,
    /// The instances that are placed, and those that were.
    placed: BTreeSet<InstanceId>,
    removed: BTreeSet<InstanceId>,
    /// The run and phase of each instance that an agent knows.
    phases: BTreeMap<(NodeId, InstanceId), (u32, Phase)>,
    /// Instances that were ready at some time, judged by their machine instead of their agent.
    pub(crate) ever_ready: BTreeSet<InstanceId>,
}

/// The order of phases within a run: only the next run may be `Starting` again.
fn rank(phase: Phase) -> u8 {
    match phase {
        Phase::Pending | Phase::Placed => 0,
        Phase::Starting => 1,
        Phase::Running => 2,
        Phase::Stopping => 3,
        Phase::Stopped | Phase::Completed | Phase::Failed | Phase::Lost => 4,
    }
}

/// Checks that a number rises, and remembers it.
fn rises(name: &str, last: &mut u64, number: u64) -> Option<Violation> {
    let violation = (number <= *last).then(|| {
        let detail = format!("{name} {number} after {last}");
        Violation::new("generations, epochs and event numbers rise", detail)
    });
    *last = number;
    violation
}

impl Progress {
    pub(crate) fn assignments(&mut self, generation: u64) -> Option<Violation> {
        rises("assignments", &mut self.assignments, generation)
    }

    pub(crate) fn table(&mut self, generation: u64) -> Option<Violation> {
        rises("route table", &mut self.table, generation)
    }

    pub(crate) fn event(&mut self, number: u64) -> Option<Violation> {
        rises("event", &mut self.event, number)
    }

    /// Checks the epoch that a server loads: each server stores the next one before it does
    /// anything else, but one that dies at once may leave the same epoch to the next.
    pub(crate) fn epoch(&mut self, epoch: u64) -> Option<Violation> {
        let last = std::mem::replace(&mut self.epoch, epoch);
        let detail = || format!("a server loads epoch {epoch} after {last}");
        (epoch < last).then(|| Violation::new("no acknowledged write is lost", detail()))
    }

    /// The id of an instance is never used again.
    pub(crate) fn placed(&mut self, state: &State) -> Option<Violation> {
        let placed = state.node_usages().flat_map(|node| node.instances.iter().cloned());
        let placed: BTreeSet<_> = placed.collect();
        self.removed.extend(self.placed.difference(&placed).cloned());
        let reused = placed.intersection(&self.removed).next().cloned();
        self.placed = placed;
        let reused = reused?;
        Some(Violation::new("no instance id is used twice", format!("{reused} is placed again")))
    }

    /// An agent that starts continues from its memory.
    pub(crate) fn agent_started(&mut self, node: &NodeId, memory: &Memory) {
        self.phases.retain(|(of, _), _| of != node);
        for (instance, status) in &memory.statuses {
            let key = (node.clone(), instance.clone());
            self.phases.insert(key, (status.run, status.phase));
        }
    }

    /// Within a run phases only advance, and run numbers only rise, unless the agent loses its
    /// memory.
    pub(crate) fn agent_stepped(&mut self, node: &NodeId, host: &Host) -> Option<Violation> {
        let agent = host.agent.running.as_ref()?;
        let mut violation = None;
        let mut known = BTreeSet::new();
        for (instance, status) in agent.core.statuses() {
            let key = (node.clone(), instance.clone());
            let now = (status.run, status.phase);
            if let Some((run, phase)) = self.phases.insert(key, now)
                && (now.0 < run || (now.0 == run && rank(now.1) < rank(phase)))
            {
                let detail = format!("{instance} on {node}: {run} {phase:?}, then {now:?}");
                violation = Some(Violation::new("phases only advance", detail));
            }
            known.insert(instance.clone());
            if status.ready && host.machine.may_be_ready(instance, status) {
                self.ever_ready.insert(instance.clone());
            }
        }
        self.phases.retain(|(of, instance), _| of != node || known.contains(instance));
        violation
    }
}
