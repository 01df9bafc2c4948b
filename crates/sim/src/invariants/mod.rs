//! The invariants of a cluster. Safety is checked after every step, from the observations of the
//! shells; liveness ([`convergence`]) once the fault phase is over.
//!
//! `durability`: acknowledged writes. `budget`: limits of one batch. `traffic`: contents of route
//! tables, and when an instance may be stopped. `placement`: where and when instances are placed.
//! `progress`: numbers and phases that only advance. `requests`: outcomes of repeated requests.
//! `stack`: the order in which the resources of an instance start and stop. `surplus`: which
//! instances leave a service that has too many. `failures`: what failed deployments leave behind.

mod budget;
pub(crate) mod convergence;
mod durability;
mod failures;
mod placement;
mod progress;
mod requests;
mod stack;
mod surplus;
mod traffic;

use crate::cluster::Cluster;
use crate::invariants::failures::History;
use crate::invariants::progress::Progress;
use crate::invariants::requests::Outcomes;
use crate::invariants::stack::Stacks;
use crate::observation::Observation;
use crate::queue::Moment;
use crate::violation::Violation;

/// The state that the invariants keep between steps.
#[derive(Default)]
pub(crate) struct Checkers {
    progress: Progress,
    outcomes: Outcomes,
    stacks: Stacks,
    history: History,
    healed_at: Option<Moment>,
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
            Observation::Decided { before, after, now, at } => {
                let mut violations = budget::decision(&before, &after, now);
                violations.extend(surplus::leave(&before, &after, now));
                violations.extend(self.history.undone(&before.state, &after));
                violations.extend(placement::dependencies(&before.state, &after));
                violations.extend(placement::removals(&before.state, &after));
                violations.extend(placement::unreported_nodes(cluster, &before.state, &after));
                if self.healed_at.is_some_and(|since| at > since + placement::LOST_WITHIN_MS) {
                    violations.extend(placement::lost_nodes(cluster, &before.state, &after));
                }
                violations.extend(traffic::stops(cluster, &before, &after, now));
                violations
            }
            Observation::Assignments(generation) => {
                self.progress.assignments(generation).into_iter().collect()
            }
            Observation::Routes { table, state } => {
                let mut violations: Vec<_> =
                    traffic::routes(cluster, &table, &state, &self.progress.ever_ready)
                        .into_iter()
                        .collect();
                violations.extend(self.progress.table(table.generation));
                violations
            }
            Observation::Published { state, stored } => {
                let mut violations = durability::promises(promised, &state);
                violations.extend(failures::blocked(&state));
                self.history.published(&state);
                violations.extend(stored.and_then(|stored| durability::published(&state, &stored)));
                violations.extend(self.progress.placed(&state));
                self.stacks.placed(&state);
                violations
            }
            Observation::Healed { at } => {
                self.healed_at = Some(at);
                Vec::new()
            }
            Observation::Answered { key, outcome } => {
                self.outcomes.answered(key, outcome).into_iter().collect()
            }
            Observation::EventPublished { number, is_durable } => {
                let violation = durability::event(number, is_durable);
                violation.into_iter().chain(self.progress.event(number)).collect()
            }
            Observation::AgentStarted(node) => {
                self.progress.agent_started(&node, &cluster.hosts[&node].agent.memory);
                Vec::new()
            }
            Observation::AgentStepped(node) => {
                let host = &cluster.hosts[&node];
                let violation = self.progress.agent_stepped(&node, host);
                violation.into_iter().chain(self.stacks.agent_stepped(&node, host)).collect()
            }
            Observation::RunStarted(node, piece) => {
                let machine = &cluster.hosts[&node].machine;
                let capacity = budget::capacity(&node, machine);
                capacity.into_iter().chain(self.stacks.starts(&node, machine, &piece)).collect()
            }
            Observation::RunStopped(node, piece) => {
                self.stacks.stops(cluster, &node, &piece).into_iter().collect()
            }
            Observation::RequestServed => {
                self.requests += 1;
                Vec::new()
            }
            Observation::Violated { invariant, detail } => vec![Violation { invariant, detail }],
        }
    }
}
