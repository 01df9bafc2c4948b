//! What is reported. Nothing here is stored: agents and gateways tell it all again to a server
//! that asks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::exit::Exit;
use crate::id::{InstanceId, NodeId, ReplicaId, ResourceId, ServiceId};
use crate::node_index::NodeSummary;
use crate::spec::Spec;
use crate::state::State;
use crate::unit::{Millis, Timestamp};

/// How far an instance is, as its agent tells. Within a run, phases only go forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Wanted, with no place yet.
    Pending,
    /// It has a place; its agent has not said anything of it yet.
    Placed,
    /// Being prepared, or waiting to be started again.
    Starting,
    /// Started and not ended.
    Running,
    /// Told to stop.
    Stopping,
    /// Ended because it was told to.
    Stopped,
    /// Ended by itself as it should: a task with exit code 0. Only resources have this phase.
    Completed,
    /// Ended for good by itself.
    Failed,
    /// Its node has not been heard of for too long.
    Lost,
}

impl Phase {
    /// Whether it has ended and holds nothing any more.
    pub fn is_over(self) -> bool {
        matches!(self, Phase::Stopped | Phase::Completed | Phase::Failed)
    }

    /// One word for it.
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

/// What an agent tells of one instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// How far it is.
    pub phase: Phase,
    /// Its nth start in place, from 1; 0 before the first.
    pub run: u32,
    /// Runs that ended by themselves in a row.
    #[serde(default)]
    pub failures: u32,
    /// When the present phase began.
    pub since: Timestamp,
    /// When this run began, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// The verdict of the health checks: `None` until the first one counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthy: Option<bool>,
    /// Whether it passed its readiness check in this run (true at once if it has none).
    #[serde(default)]
    pub ready: bool,
    /// The results of its health checks, in the order of the spec.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<CheckResult>,
    /// How the run before ended. Apart, as few have one and very many are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_exit: Option<Box<Exit>>,
    /// Why it is in this phase, when that is not plain: an image that cannot be pulled, a wait
    /// before the next start. While it runs: why it is not ready, or a check that cannot run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The resources, in the order of the stack: what the fields above are merged from. Empty for
    /// a service without a `stack`, whose only resource they describe.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<ResourceStatus>,
}

/// What an agent reports of one resource of an instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResourceStatus {
    /// Its name in the stack.
    pub name: ResourceId,
    /// How far it is.
    pub phase: Phase,
    /// Its nth start in place, from 1; 0 before the first.
    pub run: u32,
    /// Consecutive runs that ended by themselves.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub failures: u32,
    /// The verdict of its health checks: `None` until the first one counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthy: Option<bool>,
    /// Whether it passed its readiness check in this run, or runs without one.
    #[serde(default)]
    pub ready: bool,
    /// The results of its health checks, in the order of the spec.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<CheckResult>,
    /// How its previous run ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_exit: Option<Exit>,
    /// Why it is in this phase, or not ready, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

fn is_zero(count: &u32) -> bool {
    *count == 0
}

impl ResourceStatus {
    /// A resource of which only the phase is known.
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
    /// An instance of which only the phase is known.
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

/// What a health check has seen.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CheckResult {
    /// Failures in a row, up to now.
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
    /// What the last failure was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure_cause: Option<String>,
}

/// A daemon that was silent for this long is taken for silent: three reports are missing.
pub const SILENT_AFTER: Millis = Millis::secs(10);

/// All that is reported.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// When observing began: the start of the server, or of its leadership.
    pub since: Timestamp,
    /// Since when it has gone on without a break. What nobody could see in a break was not missing.
    pub unbroken_since: Timestamp,
    /// The agents.
    pub agents: BTreeMap<NodeId, Agent>,
    /// The gateways.
    pub gateways: BTreeMap<NodeId, GatewayStatus>,
    /// The instances. Shared by service, so that a copy for readers costs little.
    pub instances: BTreeMap<ServiceId, Arc<BTreeMap<ReplicaId, Status>>>,
    /// How long an agent may be silent before its instances count as lost.
    pub lost_after: Millis,
    /// What has been published to gateways since observing began.
    pub published: Published,
}

/// Which instances are in the routes, which have left them, and when.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// The generation of the first table since observing began; 0 before it.
    pub first: u64,
    /// The generation of the newest table.
    pub last: u64,
    /// The instances in the newest table.
    pub present: BTreeSet<InstanceId>,
    /// The generation that an instance was first missing in, for those that were in a table.
    pub left: BTreeMap<InstanceId, u64>,
}

impl Published {
    /// The generation from which no table has the instance; `None` while none is known to.
    pub fn without(&self, instance: &InstanceId) -> Option<u64> {
        if self.present.contains(instance) {
            return None;
        }
        self.left.get(instance).copied().or((self.first > 0).then_some(self.first))
    }
}

/// What is known of an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agent {
    /// When it was last heard of.
    pub seen_at: Timestamp,
    /// Whether it has told the whole truth since observing began.
    #[serde(alias = "told_all")]
    pub synced: bool,
}

/// What is known of a gateway.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct GatewayStatus {
    /// When it was last heard of.
    pub seen_at: Timestamp,
    /// The generation of the table it follows.
    pub generation: u64,
    /// The instances that left its table and still have requests under way.
    pub busy: BTreeSet<InstanceId>,
}

impl Observed {
    /// What is reported of an instance.
    pub fn status(&self, service: &ServiceId, replica: ReplicaId) -> Option<&Status> {
        self.instances.get(service)?.get(&replica)
    }

    /// All instances that something is reported of, with what that is.
    pub fn statuses(&self) -> impl Iterator<Item = (InstanceId, &Status)> {
        self.instances.iter().flat_map(|(service, statuses)| {
            let instance = |replica| InstanceId { service: service.clone(), replica };
            statuses.iter().map(move |(replica, status)| (instance(*replica), status))
        })
    }

    /// Takes in what is reported of an instance.
    pub fn set_status(&mut self, instance: &InstanceId, mut status: Status) {
        // What was read from the wire has room for more checks than there are; it stays for long.
        status.checks.shrink_to_fit();
        let service = self.instances.entry(instance.service.clone()).or_default();
        Arc::make_mut(service).insert(instance.replica, status);
    }

    /// Drops what was reported of an instance.
    pub fn remove_status(&mut self, instance: &InstanceId) {
        let Some(service) = self.instances.get_mut(&instance.service) else { return };
        Arc::make_mut(service).remove(&instance.replica);
        if service.is_empty() {
            self.instances.remove(&instance.service);
        }
    }

    /// Takes everybody's silence for so much shorter: whoever observes was away for that long.
    pub fn forgive(&mut self, span: Millis, now: Timestamp) {
        self.unbroken_since = now;
        let later = |at: &mut Timestamp| *at = at.after(span).min(now);
        later(&mut self.since);
        self.agents.values_mut().for_each(|agent| later(&mut agent.seen_at));
        self.gateways.values_mut().for_each(|gateway| later(&mut gateway.seen_at));
    }

    /// From when something would have been seen that did not happen since `at`.
    pub fn seen_from(&self, at: Timestamp) -> Timestamp {
        at.max(self.unbroken_since)
    }

    /// Whether nothing has been heard of the node's agent for too long.
    pub fn is_lost(&self, node: &NodeId, now: Timestamp) -> bool {
        self.lost_at(self.agents.get(node)) <= now
    }

    /// When an agent counts as lost if it is not heard of until then.
    #[inline]
    pub fn lost_at(&self, agent: Option<&Agent>) -> Timestamp {
        agent.map_or(self.since, |agent| agent.seen_at).after(self.lost_after)
    }

    /// Whether a gateway's word is worth waiting for: it has spoken lately, or may still do so
    /// since observing began.
    pub fn gateway_answers(&self, node: &NodeId, now: Timestamp) -> bool {
        let seen_at = self.gateways.get(node).map_or(self.since, |gateway| gateway.seen_at);
        now.since(seen_at) < crate::gateway::GATEWAY_SILENCE_MAX
    }

    /// Whether no gateway of `gateways` sends requests to the instance, or has any under way.
    pub fn is_drained(&self, instance: &InstanceId, gateways: &[NodeId]) -> bool {
        let Some(generation) = self.published.without(instance) else { return false };
        gateways.iter().all(|node| {
            // A generation that was never published here is another past's, which says nothing.
            let known = generation..=self.published.last;
            self.gateways.get(node).is_some_and(|gateway| {
                known.contains(&gateway.generation) && !gateway.busy.contains(instance)
            })
        })
    }

    /// Whether enough is known to act: every agent with instances and every gateway has spoken
    /// since observing began, or has been silent for too long.
    pub fn is_settled(&self, state: &State, now: Timestamp) -> bool {
        state.node_index().iter().all(|member| {
            let agent = self.agents.get(&member.id);
            self.awaited_until(state, member, agent).is_none_or(|at| at <= now)
        })
    }

    /// Until when a node's word is waited for before anything is done; `None` once it has told
    /// all. `agent` is what is known of its agent.
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
    /// The results of its health checks, and of those of its resources.
    pub fn all_checks(&self) -> impl Iterator<Item = &CheckResult> {
        self.checks.iter().chain(self.resources.iter().flat_map(|resource| &resource.checks))
    }

    /// This without what changes with every probe that passes.
    pub fn essence(&self) -> Status {
        let without = |checks: &[CheckResult]| {
            checks.iter().map(|check| CheckResult { last_success: None, ..check.clone() }).collect()
        };
        let resources = self.resources.iter();
        let resources =
            resources.map(|one| ResourceStatus { checks: without(&one.checks), ..one.clone() });
        Status { checks: without(&self.checks), resources: resources.collect(), ..self.clone() }
    }

    /// Whether it counts as healthy: it runs, and its health checks, if it has any, say so.
    #[inline]
    pub fn is_healthy(&self, spec: &Spec) -> bool {
        self.phase == Phase::Running && (!spec.has_health_checks() || self.healthy == Some(true))
    }

    /// Whether it counts as unhealthy: it runs, and its health checks, if it has any, say so. One
    /// that no check has judged yet is neither healthy nor unhealthy.
    #[inline]
    pub fn is_unhealthy(&self, spec: &Spec) -> bool {
        self.phase == Phase::Running && spec.has_health_checks() && self.healthy == Some(false)
    }

    /// When it counts, or will count, as ready for traffic and for the rollout to go on.
    /// `None`: not before something else is reported.
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
