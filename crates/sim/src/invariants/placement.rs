//! Where and when instances are placed.

use model::{Goal, InstanceId, Placement, Service, ServiceId, State, StopReason};

use crate::cluster::Cluster;
use crate::documents::DEPENDS_ON;
use crate::queue::Moment;
use crate::violation::Violation;

/// The server must have noticed the loss of a node after this time.
pub(crate) const LOST_WITHIN_MS: Moment = 90_000;

/// The placements of a service that a batch adds.
fn added<'a>(
    was: Option<&'a Service>,
    service: &'a Service,
) -> impl Iterator<Item = (InstanceId, &'a Placement)> {
    let placements = service.placements.iter();
    let added = placements
        .filter(move |(replica, _)| was.is_none_or(|was| !was.placements.contains_key(*replica)));
    added.map(|(replica, placement)| {
        (InstanceId { service: service.id.clone(), replica: *replica }, placement)
    })
}

/// A service that is deploying places nothing while a service that it depends on is deploying.
pub(crate) fn dependencies(before: &State, after: &State) -> Option<Violation> {
    after.services().filter(|service| service.deployment.is_some()).find_map(|service| {
        // The dependency that the user asked for, see `documents`.
        let dependency: ServiceId = service.spec().labels.get(DEPENDS_ON)?.parse().ok()?;
        let is_deploying = |state: &State| {
            let dependency = state.service(&dependency);
            dependency.is_some_and(|service| service.deployment.is_some() && !service.removing)
        };
        let was = before.service(&service.id).filter(|was| was.target == service.target)?;
        let was_deploying = was.deployment == service.deployment;
        if !was_deploying || !is_deploying(before) || !is_deploying(after) {
            return None;
        }
        let (instance, _) = added(Some(was), service).next()?;
        let detail = format!("{instance} is placed while {dependency} is deploying");
        Some(Violation::new("a service waits for the services it depends on", detail))
    })
}

/// A service that is removed keeps its instances until the services that are removed and depend on
/// it are gone.
pub(crate) fn removals(before: &State, after: &State) -> Option<Violation> {
    let removing = || after.services().filter(|service| service.removing);
    removing().find_map(|dependent| {
        let id: ServiceId = dependent.spec().labels.get(DEPENDS_ON)?.parse().ok()?;
        let dependency = after.service(&id).filter(|service| service.removing)?;
        let was = before.service(&id)?;
        let mut placements = dependency.placements.iter();
        let (replica, _) = placements.find(|(replica, placement)| {
            let leaves = matches!(
                placement.goal,
                Goal::Drain { why: StopReason::Removed, .. }
                    | Goal::Stop { why: StopReason::Removed }
            );
            leaves && was.placements.get(*replica).is_some_and(|was| was.goal == Goal::Run)
        })?;
        let detail = format!(
            "{} leaves before {}",
            InstanceId { service: id, replica: *replica },
            dependent.id
        );
        Some(Violation::new("a service is removed after those that depend on it", detail))
    })
}

/// Nothing is placed on a node whose agent has not reported to this server.
pub(crate) fn unreported_nodes(
    cluster: &Cluster,
    before: &State,
    after: &State,
) -> Option<Violation> {
    let heard = &cluster.server.running.as_ref()?.heard;
    after.services().find_map(|service| {
        let was = before.service(&service.id).map(|was| &**was);
        let mut added = added(was, service);
        let (instance, placement) =
            added.find(|(_, placement)| !heard.contains(&placement.node))?;
        let detail = format!("{instance} is placed on {}", placement.node);
        Some(Violation::new("nothing is placed on a node that has not reported", detail))
    })
}

/// Nothing is placed on a node with an outage that the server must have noticed.
pub(crate) fn lost_nodes(cluster: &Cluster, before: &State, after: &State) -> Option<Violation> {
    after.services().find_map(|service| {
        let was = before.service(&service.id).map(|was| &**was);
        let mut lost = added(was, service).filter(|(_, placement)| {
            cluster.hosts.get(&placement.node).is_some_and(|host| host.outage.is_some())
        });
        let (instance, placement) = lost.next()?;
        let detail = format!("{instance} is placed on {}", placement.node);
        Some(Violation::new("nothing is placed on a lost node", detail))
    })
}
