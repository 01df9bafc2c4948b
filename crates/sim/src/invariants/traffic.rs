//! The contents of route tables, and that no instance is stopped while a request uses it.

use std::collections::BTreeSet;

use model::{Goal, InstanceId, NodeId, Observed, ReplicaId, RouteTable, Service, State, Timestamp};
use server::control::Snapshot;

use crate::cluster::Cluster;
use crate::gateway::has_backend;
use crate::violation::Violation;

/// A table contains only instances that were ready and must keep running.
pub(crate) fn routes(
    table: &RouteTable,
    state: &State,
    ever_ready: &BTreeSet<InstanceId>,
) -> Option<Violation> {
    let routes = table.listeners.iter().flat_map(|listener| &listener.routes);
    let mut details = routes.flat_map(|route| &route.backends).filter_map(|backend| {
        let id = &backend.instance;
        // A placement that is durable but not published yet is missing here.
        if state.placement(id).is_some_and(|placement| !placement.is_wanted()) {
            Some(format!("{id} is terminating"))
        } else if !ever_ready.contains(id) {
            Some(format!("{id} was never ready"))
        } else {
            None
        }
    });
    let detail = details.next_back()?;
    Some(Violation::new("tables contain instances that are ready and stay", detail))
}

/// The goal of an instance becomes `Stop` only when no reachable gateway has it in its table or has
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
            let goal = was.placements.get(replica).map(|placement| &placement.goal);
            let stops = matches!(placement.goal, Goal::Stop { .. })
                && goal.is_some_and(|goal| !matches!(goal, Goal::Stop { .. }));
            if !stops || drain_is_over(observed, service, *replica, goal, now) {
                continue;
            }
            let instance = InstanceId { service: service.id.clone(), replica: *replica };
            if let Some(node) = gateway_that_uses(cluster, observed, &instance, now) {
                let detail = format!("{instance} is stopped while the gateway on {node} uses it");
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
    before: Option<&Goal>,
    now: Timestamp,
) -> bool {
    let placement = &service.placements[&replica];
    let status = observed.status(&service.id, replica);
    let over = match before {
        Some(Goal::Drain { until, .. }) => *until <= now,
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
