//! The invariants of a cluster. Safety is checked after every step, from what the shells observed;
//! liveness ([`convergence`]) once the fault phase is over.
//!
//! `durability`: acknowledged writes. `budget`: what one batch may change. `traffic`: what gateways
//! are sent, and when an instance may be stopped. `progress`: numbers and phases that only advance.

mod budget;
pub(crate) mod convergence;
mod durability;
mod progress;
mod traffic;

use crate::cluster::Cluster;
use crate::invariants::progress::Progress;
use crate::observation::Observation;
use crate::violation::Violation;

/// What the invariants remember.
#[derive(Default)]
pub(crate) struct Checkers {
    progress: Progress,
    /// Number of requests that gateways served.
    pub(crate) requests: u64,
}

impl Checkers {
    /// Checks every invariant that an observation concerns.
    pub(crate) fn check(&mut self, cluster: &Cluster, observation: Observation) -> Vec<Violation> {
        let promised = &cluster.users.promised;
        match observation {
            Observation::Loaded(state) => {
                let mut violations = durability::loaded(promised, &state);
                violations.extend(self.progress.epoch(state.meta().epoch));
                violations
            }
            Observation::Decided { before, after, now } => {
                let mut violations = budget::decision(&before, &after, now);
                violations.extend(traffic::stops(cluster, &before, &after, now));
                violations
            }
            Observation::Assignments(generation) => {
                self.progress.assignments(generation).into_iter().collect()
            }
            Observation::Routes { table, state } => {
                let mut violations: Vec<_> =
                    traffic::routes(&table, &state, &self.progress.ever_ready)
                        .into_iter()
                        .collect();
                violations.extend(self.progress.table(table.generation));
                violations
            }
            Observation::Published(state) => durability::promises(promised, &state),
            Observation::EventPublished(number) => {
                self.progress.event(number).into_iter().collect()
            }
            Observation::AgentStarted(node) => {
                self.progress.agent_started(&node, &cluster.hosts[&node].agent.memory);
                Vec::new()
            }
            Observation::AgentStepped(node) => {
                self.progress.agent_stepped(&node, &cluster.hosts[&node]).into_iter().collect()
            }
            Observation::RunStarted(node) => {
                budget::capacity(&node, &cluster.hosts[&node].machine).into_iter().collect()
            }
            Observation::RequestServed => {
                self.requests += 1;
                Vec::new()
            }
            Observation::Violated { invariant, detail } => vec![Violation { invariant, detail }],
        }
    }
}
