//! Limits of one batch: budgets are kept, goals only advance, no node exceeds its capacity.

use std::collections::BTreeSet;

use model::{Goal, NodeId, Observed, ReplicaId, Service, Share, State, StopReason, Timestamp};
use server::control::Snapshot;

use crate::documents::{MAX_SURGE, MIN_HEALTHY};
use crate::machine::Machine;
use crate::violation::Violation;

/// A share that the user asked for. It is read from a label, so that nothing that computes with the
/// budget itself is trusted.
fn requested_share(service: &Service, label: &str) -> Option<Share> {
    service.spec().labels.get(label)?.parse().ok()
}

/// The number of instances that must stay healthy.
fn floor(service: &Service) -> u32 {
    let wanted = service.spec().instances;
    match requested_share(service, MIN_HEALTHY) {
        Some(Share::Count(count)) => count.min(wanted),
        Some(Share::Millionths(part)) => (f64::from(wanted) * f64::from(part) / 1e6).ceil() as u32,
        None => 0,
    }
}

/// The number of instances that may be live.
fn ceiling(service: &Service) -> u32 {
    let wanted = service.spec().instances;
    let most = match requested_share(service, MAX_SURGE) {
        Some(Share::Count(count)) => wanted + count,
        Some(Share::Millionths(part)) => {
            wanted + (f64::from(wanted) * f64::from(part) / 1e6).floor() as u32
        }
        None => return u32::MAX,
    };
    // A budget that would forbid every step allows one additional instance.
    if most == floor(service) { most + 1 } else { most }
}

/// Whether an instance serves, as far as the server can observe.
fn serves(observed: &Observed, now: Timestamp, service: &Service, replica: ReplicaId) -> bool {
    let placement = &service.placements[&replica];
    let status = observed.status(&service.id, replica);
    let spec = service.running_spec(placement.revision);
    placement.is_wanted()
        && !observed.is_lost(&placement.node, now)
        && match service.is_current(placement.revision) {
            true => status.and_then(|s| s.ready_at(spec)).is_some_and(|at| at <= now),
            false => status.is_some_and(|status| status.is_healthy(spec)),
        }
}

fn live(observed: &Observed, now: Timestamp, service: &Service) -> u32 {
    let live = service.placements.iter().filter(|(replica, placement)| {
        let status = observed.status(&service.id, **replica);
        !observed.is_lost(&placement.node, now)
            && !status.is_some_and(|status| status.phase.is_over())
    });
    live.count() as u32
}

fn rank(goal: &Goal) -> u8 {
    match goal {
        Goal::Run => 0,
        Goal::Drain { .. } => 1,
        Goal::Stop { .. } => 2,
    }
}

/// Checks a decision of the server against its observations. `now` is the server's time.
pub(crate) fn decision(before: &Snapshot, after: &State, now: Timestamp) -> Vec<Violation> {
    let mut violations = Vec::new();
    let broken = after.violations();
    if !broken.is_empty() {
        violations.push(Violation::new("the state is consistent", format!("{broken:?}")));
    }
    for service in after.services() {
        let Some(was) = before.state.service(&service.id) else { continue };
        if std::sync::Arc::ptr_eq(was, service) {
            continue;
        }
        violations.extend(goals(was, service));
        violations.extend(budget(&before.observed, was, service, now));
    }
    for deployment in before.state.deployments().filter(|d| d.stage.is_over()) {
        let now = after.deployment(deployment.id);
        if now.is_some_and(|now| now.stage != deployment.stage) {
            let detail = format!("{} was {:?}", deployment.id, deployment.stage);
            violations.push(Violation::new("the outcome of a deployment is final", detail));
        }
    }
    violations
}

fn goals(was: &Service, service: &Service) -> Option<Violation> {
    service.placements.iter().find_map(|(replica, placement)| {
        let was = was.placements.get(replica)?;
        if rank(&was.goal) <= rank(&placement.goal) && was.node == placement.node {
            return None;
        }
        let id = format!("{}~{}.{}", service.id, replica.slot, replica.attempt);
        let detail = format!("{id}: {was:?}, then {placement:?}");
        Some(Violation::new("goals only advance, and instances never change their node", detail))
    })
}

/// A batch neither takes a service below the healthy instances of its budget nor places more
/// instances than the budget allows to be live.
fn budget(observed: &Observed, was: &Service, service: &Service, now: Timestamp) -> Vec<Violation> {
    // A plan for another target, or for a service that is removed, has another budget. One that is
    // stopped or paused serves nothing.
    if was.target != service.target || service.run != model::Run::Started || service.removing {
        return Vec::new();
    }
    let mut violations = Vec::new();
    let id = &service.id;
    let serving = |service: &Service| -> BTreeSet<ReplicaId> {
        let replicas = service.placements.keys().copied();
        replicas.filter(|replica| serves(observed, now, service, *replica)).collect()
    };
    let (had, has) = (serving(was), serving(service));
    let by_user = |replica: &&ReplicaId| {
        let goal = service.placements.get(*replica).map(|placement| &placement.goal);
        let why = match goal {
            Some(Goal::Drain { why, .. } | Goal::Stop { why }) => Some(*why),
            _ => None,
        };
        why == Some(StopReason::Requested)
    };
    let stopped = had.difference(&has).filter(|replica| !by_user(replica)).count();
    let floor = floor(service);
    if stopped > 0 && (has.len() as u32) < floor {
        let has = has.len();
        let detail = format!("{id}: {stopped} stopped, {has} of at least {floor} serve");
        violations.push(Violation::new("never fewer healthy than the budget says", detail));
    }
    let placed = service.placements.keys().any(|replica| !was.placements.contains_key(replica));
    let (live, ceiling) = (live(observed, now, service), ceiling(service));
    if placed && live > ceiling {
        let detail = format!("{id}: {live} live of at most {ceiling}");
        violations.push(Violation::new("never more live than the budget says", detail));
    }
    violations
}

/// The runs on a machine fit its capacity.
pub(crate) fn capacity(node: &NodeId, machine: &Machine) -> Option<Violation> {
    let (used, capacity) = (machine.used(), machine.capacity);
    if used.cpu <= capacity.cpu && used.memory <= capacity.memory {
        return None;
    }
    let runs = machine.runs.iter().filter(|(_, run)| run.is_alive());
    let runs = runs.map(|(of, run)| format!("{of} {}", run.spec.resources.cpu));
    let runs = runs.collect::<Vec<_>>().join(", ");
    let detail = format!("{node} has {} CPUs, {} are used: {runs}", capacity.cpu, used.cpu);
    Some(Violation::new("no node over capacity", detail))
}
