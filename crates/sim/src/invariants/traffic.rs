//! The contents of route tables, and that no instance is stopped or suspended while a request uses it.

use std::collections::BTreeSet;

use model::{
    Goal, InstanceId, NodeId, Observed, Pause, Placement, ReplicaId, RouteTable, Service, State,
    Timestamp,
};
use server::control::Snapshot;

use crate::cluster::Cluster;
use crate::gateway::has_backend;
use crate::violation::Violation;

/// A table contains only instances that were ready, must keep running, and are not suspended.
pub(crate) fn routes(
    cluster: &Cluster,
    table: &RouteTable,
    state: &State,
    ever_ready: &BTreeSet<InstanceId>,
) -> Option<Violation> {
    let routes = table.listeners.iter().flat_map(|listener| &listener.routes);
    let mut details = routes.flat_map(|route| &route.backends).filter_map(|backend| {
        let id = &backend.instance;
        if state.placement(id).is_some_and(|placement| !placement.may_serve()) {
            Some(format!("{id} is terminating or paused"))
        } else if is_suspended(cluster, state, id) {
            Some(format!("{id} is suspended"))
        } else if !ever_ready.contains(id) {
            Some(format!("{id} was never ready"))
        } else {
            None
        }
    });
    let detail = details.next_back()?;
    Some(Violation::new("tables contain instances that are ready and stay", detail))
}

fn is_suspended(cluster: &Cluster, state: &State, instance: &InstanceId) -> bool {
    let host = state.placement(instance).and_then(|p| cluster.hosts.get(&p.node));
    let mut runs = host.into_iter().flat_map(|host| host.machine.runs_of(instance));
    runs.any(|(_, run)| run.suspended)
}

/// The goal of an instance becomes `Stop`, or its pause `Suspend`, only when no reachable gateway has it in its table or has
/// a request in flight to it, or when its drain time is over.
pub(crate) fn stops(
    cluster: &Cluster,
    before: &Snapshot,
    after: &State,
    now: Timestamp,
) -> Vec<Violation> {
    let mut violations = Vec::new();
    let observed = &before.observed;
    for service in after.services() {
        let Some(was) = before.state.service(&service.id) else { continue };
        for (replica, placement) in &service.placements {
            let Some(before) = was.placements.get(replica) else { continue };
            let stops = matches!(placement.goal, Goal::Stop { .. })
                && !matches!(before.goal, Goal::Stop { .. });
            let suspends = placement.is_suspended() && !before.is_suspended();
            // Nothing is known of its requests, and they fail in any case.
            let is_lost = suspends && observed.is_lost(&placement.node, now);
            if !(stops || suspends)
                || is_lost
                || drain_is_over(observed, service, *replica, before, now)
            {
                continue;
            }
            let instance = InstanceId { service: service.id.clone(), replica: *replica };
            if let Some(node) = gateway_that_uses(cluster, observed, &instance, now) {
                let how = if stops { "stopped" } else { "suspended" };
                let detail = format!("{instance} is {how} while the gateway on {node} uses it");
                violations.push(Violation::new("no instance is stopped under a request", detail));
            }
        }
    }
    violations
}

fn drain_is_over(
    observed: &Observed,
    service: &Service,
    replica: ReplicaId,
    before: &Placement,
    now: Timestamp,
) -> bool {
    let placement = &service.placements[&replica];
    let status = observed.status(&service.id, replica);
    let over = match (&before.goal, before.pause) {
        (Goal::Drain { until, .. }, _) => *until <= now,
        (_, Some(Pause::Drain { until })) => until <= now,
        _ => service.drain(placement.revision).0 == 0,
    };
    over || status.is_some_and(|status| status.phase.is_over())
}

fn gateway_that_uses(
    cluster: &Cluster,
    observed: &Observed,
    instance: &InstanceId,
    now: Timestamp,
) -> Option<NodeId> {
    let mut users = cluster.hosts.iter().filter(|(node, host)| {
        let gateway = host.gateway.as_ref().and_then(|gateway| gateway.running.as_ref());
        let Some(gateway) = gateway else { return false };
        // The server may ignore a gateway that has been silent for too long.
        let is_reachable = observed.gateways.get(*node).is_some_and(|report| {
            now.since(report.seen_at).0 + 1_000 < model::GATEWAY_SILENCE_MAX.0
        });
        let mut tables = gateway.threads.iter().flatten();
        let mut requests = gateway.requests.values();
        is_reachable
            && (tables.any(|table| has_backend(table, instance))
                || requests.any(|request| request.instance == *instance))
    });
    users.next().map(|(node, _)| node.clone())
}
