//! The observed state, from the reports of agents and gateways. It is never stored: agents and
//! gateways report it again to every new leader.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::cluster::{Daemon, Mismatch};
use crate::gateway::GATEWAY_SILENCE_MAX;
use crate::id::{InstanceId, NodeId, ReplicaId, ServiceId};
use crate::node::NodeSummary;
use crate::state::State;
use crate::status::Status;
use crate::unit::{Millis, Timestamp};

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
    /// Instances that agents report and that this history did not place on their nodes. They keep
    /// running until an operator decides.
    pub unknown: BTreeMap<NodeId, BTreeSet<InstanceId>>,
    /// Instances that agents report although they were removed. They are stopped.
    pub removed: BTreeMap<NodeId, BTreeSet<InstanceId>>,
    /// The daemons that do not follow this server, with the reason.
    pub refused: BTreeMap<(NodeId, Daemon), Mismatch>,
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
    /// Its threads that are stuck, by number, with what each is doing.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub stuck: BTreeMap<u32, String>,
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

    /// The number of instances on a node that this history did not place.
    pub fn unknown_on(&self, node: &NodeId) -> usize {
        self.unknown.get(node).map_or(0, BTreeSet::len)
    }

    /// The instances that the agent of a node reports, that are not placed there, and that must
    /// stop: those that were removed, and the unknown ones that an operator ordered to stop.
    pub fn to_stop<'a>(
        &'a self,
        node: &'a crate::node::Node,
    ) -> impl Iterator<Item = &'a InstanceId> + 'a {
        let unknown = self.unknown.get(&node.id).into_iter().flatten();
        let removed = self.removed.get(&node.id).into_iter().flatten();
        removed.chain(unknown.filter(|instance| node.stop_unknown.contains(instance)))
    }

    /// Extends all heartbeat deadlines by `span`, during which this observer was stalled.
    pub fn extend_deadlines(&mut self, span: Millis, now: Timestamp) {
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
    pub fn gateway_responds(&self, node: &NodeId, now: Timestamp) -> bool {
        let seen_at = self.gateways.get(node).map_or(self.since, |gateway| gateway.seen_at);
        now.since(seen_at) < GATEWAY_SILENCE_MAX
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
        let synced = agent.is_some_and(|agent| agent.synced);
        let of_agent = member.agent && !synced && state.is_used(&member.id);
        let of_gateway = member.gateway && !self.gateways.contains_key(&member.id);
        let agent = of_agent.then(|| self.lost_at(agent));
        agent.max(of_gateway.then(|| self.since.after(self.lost_after)))
    }
}
