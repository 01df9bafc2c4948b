//! What only goes forward: numbers, phases, outcomes.

use model::{NodeId, Phase};

use crate::world::World;

/// How far a run is: `Starting` again only with the next run.
fn rank(phase: Phase) -> u8 {
    match phase {
        Phase::Pending | Phase::Placed => 0,
        Phase::Starting => 1,
        Phase::Running => 2,
        Phase::Stopping => 3,
        Phase::Stopped | Phase::Failed | Phase::Lost => 4,
    }
}

impl World {
    /// Generations of assignments rise, over restarts of the server too.
    pub(crate) fn law_of_generations(&mut self, generation: u64) {
        if generation <= self.laws.generation {
            let last = self.laws.generation;
            self.breach("generations rise", format!("assignments {generation} after {last}"));
        }
        self.laws.generation = generation;
    }

    pub(crate) fn law_of_tables(&mut self, generation: u64) {
        if generation <= self.laws.table {
            let last = self.laws.table;
            self.breach("generations rise", format!("table {generation} after {last}"));
        }
        self.laws.table = generation;
    }

    pub(crate) fn law_of_events(&mut self, number: u64) {
        if number <= self.laws.event {
            let last = self.laws.event;
            self.breach("events rise", format!("event {number} after {last}"));
        }
        self.laws.event = number;
    }

    /// Within a run phases go forward, and runs are numbered upwards, as long as the agent has its
    /// memory.
    pub(crate) fn law_of_phases(&mut self, node: &NodeId) {
        let host = &self.hosts[node];
        let Some(agent) = &host.agent else { return };
        let mut broken = Vec::new();
        let mut present = std::collections::BTreeSet::new();
        for (instance, status) in agent.core.statuses() {
            let key = (node.clone(), instance.clone());
            let now = (status.run, status.phase);
            if let Some((run, phase)) = self.laws.phases.get(&key)
                && (now.0 < *run || (now.0 == *run && rank(now.1) < rank(*phase)))
            {
                broken.push(format!("{instance} on {node}: {run} {phase:?}, then {now:?}"));
            }
            self.laws.phases.insert(key.clone(), now);
            present.insert(key);
            let run = host.machine.runs.get(instance).filter(|run| run.number == status.run);
            let well = run.is_some_and(|run| run.is_up() && run.sickness() != "never-healthy");
            let unchecked =
                run.is_some_and(|run| run.spec.health.is_empty() && run.spec.readiness.is_none());
            if status.ready && (well || unchecked) {
                self.laws.ever_ready.insert(instance.clone());
            }
        }
        self.laws.phases.retain(|key, _| key.0 != *node || present.contains(key));
        if let Some(broken) = broken.pop() {
            self.breach("phases go forward", broken);
        }
    }

    /// An agent that starts goes on from what it has written down.
    pub(crate) fn phases_begin_anew(&mut self, node: &NodeId) {
        self.laws.phases.retain(|key, _| key.0 != *node);
        for (instance, status) in &self.hosts[node].memory.statuses {
            let key = (node.clone(), instance.clone());
            self.laws.phases.insert(key, (status.run, status.phase));
        }
    }
}
