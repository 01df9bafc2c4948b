//! The observed state, from the reports of agents and gateways. It is never stored: agents and
//! gateways report it again to every new leader.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::exit::Exit;
use crate::id::{InstanceId, NodeId, ReplicaId, ResourceId, ServiceId};
use crate::node_index::NodeSummary;
use crate::spec::Spec;
use crate::state::State;
use crate::unit::{Millis, Timestamp};

/// The phase of an instance, as its agent reports it. Within a run, phases only go forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// The instance is wanted and not placed yet.
    Pending,
    /// It is placed; its agent has not reported it yet.
    Placed,
    /// It is being prepared, or waits for its next start.
    Starting,
    /// It has started and has not ended.
    Running,
    /// It was signalled to stop.
    Stopping,
    /// It ended after a stop request.
    Stopped,
    /// A task that exited by itself with code 0. Only resources have this phase.
    Completed,
    /// It ended by itself and is not started again.
    Failed,
    /// Its node is unreachable.
    Lost,
}

impl Phase {
    /// Whether it has ended and holds no resources.
    pub fn is_over(self) -> bool {
        matches!(self, Phase::Stopped | Phase::Completed | Phase::Failed)
    }

    /// The phase in one word.
    pub fn word(self) -> &'static str {
        match self {
            Phase::Pending => "pending",
            Phase::Placed => "placed",
            Phase::Starting => "starting",
            Phase::Running => "running",
            Phase::Stopping => "stopping",
            Phase::Stopped => "stopped",
            Phase::Completed => "completed",
            Phase::Failed => "failed",
            Phase::Lost => "lost",
        }
    }
}

/// The report of an agent on one instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The phase.
    pub phase: Phase,
    /// The number of starts in place, from 1; 0 before the first.
    pub run: u32,
    /// Consecutive runs that ended by themselves.
    #[serde(default)]
    pub failures: u32,
    /// When the current phase began.
    pub since: Timestamp,
    /// When the current run started, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// The result of the health checks; `None` until the first one counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthy: Option<bool>,
    /// Whether the readiness check has passed in this run; true from the start if there is none.
    #[serde(default)]
    pub ready: bool,
    /// The results of the health checks, in the order of the spec.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<CheckResult>,
    /// How the previous run ended. Boxed, because few of the many statuses have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_exit: Option<Box<Exit>>,
    /// Why it is in this phase, if the phase alone does not explain it: an image that cannot be
    /// pulled, a wait before the next start. While it runs: why it is not ready, or a check that
    /// cannot run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The resources, in the order of the stack. The fields above are merged from them. Empty for a
    /// service without a `stack`, whose only resource the fields above describe.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<ResourceStatus>,
}

/// The report of an agent on one resource of an instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResourceStatus {
    /// Its name in the stack.
    pub name: ResourceId,
    /// The phase.
    pub phase: Phase,
    /// The number of starts in place, from 1; 0 before the first.
    pub run: u32,
    /// Consecutive runs that ended by themselves.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub failures: u32,
    /// The result of the health checks; `None` until the first one counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthy: Option<bool>,
    /// Whether the readiness check has passed in this run; true while it runs without one.
    #[serde(default)]
    pub ready: bool,
    /// The results of the health checks, in the order of the spec.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<CheckResult>,
    /// How the previous run ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_exit: Option<Exit>,
    /// Why it is in this phase or not ready, as a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

fn is_zero(count: &u32) -> bool {
    *count == 0
}

impl ResourceStatus {
    /// The status of a resource of which only the phase is known.
    pub fn new(name: ResourceId, phase: Phase) -> Self {
        Self {
            name,
            phase,
            run: 0,
            failures: 0,
            healthy: None,
            ready: false,
            checks: Vec::new(),
            last_exit: None,
            message: None,
        }
    }
}

impl Status {
    /// The status of an instance of which only the phase is known.
    pub fn new(phase: Phase, since: Timestamp) -> Self {
        Self {
            phase,
            run: 0,
            failures: 0,
            since,
            started_at: None,
            healthy: None,
            ready: false,
            checks: Vec::new(),
            last_exit: None,
            message: None,
            resources: Vec::new(),
        }
    }
}

/// The results of a health check.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CheckResult {
    /// Consecutive failures up to now.
    pub consecutive_failures: u32,
    /// The first pass of this run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_success: Option<Timestamp>,
    /// The last pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_success: Option<Timestamp>,
    /// The last failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<Timestamp>,
    /// The message of the last failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure_cause: Option<String>,
}

/// The timeout for heartbeats: after this time without one, three reports are missing, and the
/// daemon counts as silent.
pub const SILENT_AFTER: Millis = Millis::secs(10);

/// The observed state of the cluster.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// When observation began: at the start of the server, or when it became leader.
    pub since: Timestamp,
    /// Since when observation has been continuous. A report that could not be seen during an
    /// interruption does not count as missing.
    pub unbroken_since: Timestamp,
    /// The agents.
    pub agents: BTreeMap<NodeId, Agent>,
    /// The gateways.
    pub gateways: BTreeMap<NodeId, GatewayStatus>,
    /// The instances, shared by service so that copies for readers are cheap.
    pub instances: BTreeMap<ServiceId, Arc<BTreeMap<ReplicaId, Status>>>,
    /// The timeout after which the instances of a silent agent count as lost.
    pub lost_after: Millis,
    /// The routing tables published since observation began.
    pub published: Published,
}

/// The instances that are in the routes, and those that have left them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// The generation of the first table since observation began; 0 before it.
    pub first: u64,
    /// The generation of the newest table.
    pub last: u64,
    /// The instances in the newest table.
    pub present: BTreeSet<InstanceId>,
    /// For each instance that was in a table: the generation of the first table without it.
    pub left: BTreeMap<InstanceId, u64>,
}

impl Published {
    /// The generation from which no table has the instance; `None` while a table may have it.
    pub fn without(&self, instance: &InstanceId) -> Option<u64> {
        if self.present.contains(instance) {
            return None;
        }
        self.left.get(instance).copied().or((self.first > 0).then_some(self.first))
    }
}

/// The state of an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agent {
    /// When its last heartbeat arrived.
    pub seen_at: Timestamp,
    /// Whether it has reported all its instances since observation began.
    #[serde(alias = "told_all")]
    pub synced: bool,
}

/// The state of a gateway.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct GatewayStatus {
    /// When its last heartbeat arrived.
    pub seen_at: Timestamp,
    /// The generation of its routing table.
    pub generation: u64,
    /// The instances that left its table and still have requests in flight.
    pub busy: BTreeSet<InstanceId>,
}

impl Observed {
    /// The last report on an instance.
    pub fn status(&self, service: &ServiceId, replica: ReplicaId) -> Option<&Status> {
        self.instances.get(service)?.get(&replica)
    }

    /// All reported instances, with their last reports.
    pub fn statuses(&self) -> impl Iterator<Item = (InstanceId, &Status)> {
        self.instances.iter().flat_map(|(service, statuses)| {
            let instance = |replica| InstanceId { service: service.clone(), replica };
            statuses.iter().map(move |(replica, status)| (instance(*replica), status))
        })
    }

    /// Stores the report on an instance.
    pub fn set_status(&mut self, instance: &InstanceId, mut status: Status) {
        // The decoder may have reserved room for more checks; the status is kept for a long time.
        status.checks.shrink_to_fit();
        let service = self.instances.entry(instance.service.clone()).or_default();
        Arc::make_mut(service).insert(instance.replica, status);
    }

    /// Removes the report on an instance.
    pub fn remove_status(&mut self, instance: &InstanceId) {
        let Some(service) = self.instances.get_mut(&instance.service) else { return };
        Arc::make_mut(service).remove(&instance.replica);
        if service.is_empty() {
            self.instances.remove(&instance.service);
        }
    }

    /// Extends all heartbeat deadlines by `span`, during which this observer was stalled.
    pub fn forgive(&mut self, span: Millis, now: Timestamp) {
        self.unbroken_since = now;
        let later = |at: &mut Timestamp| *at = at.after(span).min(now);
        later(&mut self.since);
        self.agents.values_mut().for_each(|agent| later(&mut agent.seen_at));
        self.gateways.values_mut().for_each(|gateway| later(&mut gateway.seen_at));
    }

    /// The start of the time in which an observer would have noticed a report after `at`.
    pub fn seen_from(&self, at: Timestamp) -> Timestamp {
        at.max(self.unbroken_since)
    }

    /// Whether the node's agent is unreachable: its timeout has passed.
    pub fn is_lost(&self, node: &NodeId, now: Timestamp) -> bool {
        self.lost_at(self.agents.get(node)) <= now
    }

    /// When an agent counts as lost, unless a heartbeat arrives before.
    #[inline]
    pub fn lost_at(&self, agent: Option<&Agent>) -> Timestamp {
        agent.map_or(self.since, |agent| agent.seen_at).after(self.lost_after)
    }

    /// Whether to wait for reports of a gateway: its last heartbeat, or the start of observation if
    /// there was none, is within the timeout.
    pub fn gateway_answers(&self, node: &NodeId, now: Timestamp) -> bool {
        let seen_at = self.gateways.get(node).map_or(self.since, |gateway| gateway.seen_at);
        now.since(seen_at) < crate::gateway::GATEWAY_SILENCE_MAX
    }

    /// Whether none of `gateways` sends requests to the instance or has any in flight.
    pub fn is_drained(&self, instance: &InstanceId, gateways: &[NodeId]) -> bool {
        let Some(generation) = self.published.without(instance) else { return false };
        gateways.iter().all(|node| {
            // A generation that was never published here belongs to another history and proves
            // nothing.
            let known = generation..=self.published.last;
            self.gateways.get(node).is_some_and(|gateway| {
                known.contains(&gateway.generation) && !gateway.busy.contains(instance)
            })
        })
    }

    /// Whether enough is known to act: every agent with instances and every gateway has reported
    /// since observation began, or its timeout has passed.
    pub fn is_settled(&self, state: &State, now: Timestamp) -> bool {
        state.node_index().iter().all(|member| {
            let agent = self.agents.get(&member.id);
            self.awaited_until(state, member, agent).is_none_or(|at| at <= now)
        })
    }

    /// The time until which planning waits for reports from a node; `None` once they are complete.
    /// `agent` is the state of the node's agent.
    pub fn awaited_until(
        &self,
        state: &State,
        member: &NodeSummary,
        agent: Option<&Agent>,
    ) -> Option<Timestamp> {
        let told = agent.is_some_and(|agent| agent.synced);
        let of_agent = member.agent && !told && state.is_used(&member.id);
        let of_gateway = member.gateway && !self.gateways.contains_key(&member.id);
        let agent = of_agent.then(|| self.lost_at(agent));
        agent.max(of_gateway.then(|| self.since.after(self.lost_after)))
    }
}

impl Status {
    /// The results of all health checks, including those of the resources.
    pub fn all_checks(&self) -> impl Iterator<Item = &CheckResult> {
        self.checks.iter().chain(self.resources.iter().flat_map(|resource| &resource.checks))
    }

    /// This status without the times that change with every successful probe.
    pub fn essence(&self) -> Status {
        let without = |checks: &[CheckResult]| {
            checks.iter().map(|check| CheckResult { last_success: None, ..check.clone() }).collect()
        };
        let resources = self.resources.iter();
        let resources =
            resources.map(|one| ResourceStatus { checks: without(&one.checks), ..one.clone() });
        Status { checks: without(&self.checks), resources: resources.collect(), ..self.clone() }
    }

    /// Whether it counts as healthy: it runs, and its health checks, if any, pass.
    #[inline]
    pub fn is_healthy(&self, spec: &Spec) -> bool {
        self.phase == Phase::Running && (!spec.has_health_checks() || self.healthy == Some(true))
    }

    /// Whether it counts as unhealthy: it runs, and its health checks fail. An instance without a
    /// result yet is neither healthy nor unhealthy.
    #[inline]
    pub fn is_unhealthy(&self, spec: &Spec) -> bool {
        self.phase == Phase::Running && spec.has_health_checks() && self.healthy == Some(false)
    }

    /// The time at which it counts as ready, for traffic and for the rollout; may lie ahead. `None`
    /// if that needs another report.
    #[inline]
    pub fn ready_at(&self, spec: &Spec) -> Option<Timestamp> {
        if !self.is_healthy(spec) || !self.ready {
            return None;
        }
        match spec.has_checks() {
            true => Some(Timestamp(0)),
            false => {
                Some(self.started_at.map_or(Timestamp(0), |at| at.after(spec.rollout.min_ready)))
            }
        }
    }
}
