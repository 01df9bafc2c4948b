//! What may change from one batch to the next: budgets are kept, goals go forward, nothing holds
//! more than there is.

use std::collections::BTreeSet;

use model::{Goal, NodeId, Observed, ReplicaId, Service, Share, State, StopReason, Timestamp};
use server::control::Snapshot;

use crate::user::{MAX_OVER, MIN_HEALTHY};
use crate::world::World;

/// What a user has asked of a rollout. It is repeated in labels, so that nothing that reads the
/// budget itself is believed.
fn asked(service: &Service, label: &str) -> Option<Share> {
    service.spec().labels.get(label)?.parse().ok()
}

fn floor(service: &Service) -> u32 {
    let wanted = service.spec().instances;
    match asked(service, MIN_HEALTHY) {
        Some(Share::Count(count)) => count.min(wanted),
        Some(Share::Millionths(part)) => (f64::from(wanted) * f64::from(part) / 1e6).ceil() as u32,
        None => 0,
    }
}

fn ceiling(service: &Service) -> u32 {
    let wanted = service.spec().instances;
    let most = match asked(service, MAX_OVER) {
        Some(Share::Count(count)) => wanted + count,
        Some(Share::Millionths(part)) => {
            wanted + (f64::from(wanted) * f64::from(part) / 1e6).floor() as u32
        }
        None => return u32::MAX,
    };
    // Where the shares leave no room at all, one more may come.
    if most == floor(service) { most + 1 } else { most }
}

/// Whether an instance serves, as far as the server can know.
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

impl World {
    /// Something has been decided, by what is known now, and is about to be made durable.
    pub(crate) fn laws_of_decision(&mut self, before: &Snapshot, after: &State, now: Timestamp) {
        let violations = after.violations();
        if !violations.is_empty() {
            self.breach("invariants", format!("{violations:?}"));
        }
        for service in after.services() {
            let Some(was) = before.state.service(&service.id) else { continue };
            if std::sync::Arc::ptr_eq(was, service) {
                continue;
            }
            self.law_of_goals(was, service);
            self.law_of_budget(&before.observed, was, service, now);
            self.law_of_stopping(&before.observed, was, service, now);
        }
        for deployment in before.state.deployments().filter(|d| d.stage.is_over()) {
            let now = after.deployment(deployment.id);
            if now.is_some_and(|now| now.stage != deployment.stage) {
                let (id, stage) = (deployment.id, &deployment.stage);
                self.breach("outcomes stay", format!("{id} was {stage:?}"));
            }
        }
    }

    fn law_of_goals(&mut self, was: &Service, service: &Service) {
        for (replica, placement) in &service.placements {
            let Some(was) = was.placements.get(replica) else { continue };
            if rank(&was.goal) > rank(&placement.goal) || was.node != placement.node {
                let id = format!("{}~{}.{}", service.id, replica.slot, replica.attempt);
                let how = format!("{id}: {was:?}, then {placement:?}");
                self.breach("goals go forward, instances stay where they are", how);
            }
        }
    }

    /// A service has no fewer healthy instances than its budget says by what is decided, and no
    /// more live ones.
    fn law_of_budget(
        &mut self,
        observed: &Observed,
        was: &Service,
        service: &Service,
        now: Timestamp,
    ) {
        // A plan for another target, or for a service that goes, is held to another budget.
        if was.target != service.target || service.removing {
            return;
        }
        let id = &service.id;
        let serving = |service: &Service| -> BTreeSet<ReplicaId> {
            let replicas = service.placements.keys().copied();
            replicas.filter(|replica| serves(observed, now, service, *replica)).collect()
        };
        let (had, has) = (serving(was), serving(service));
        let by_user = |replica: &&ReplicaId| {
            let goal = service.placements.get(*replica).map(|placement| &placement.goal);
            matches!(goal, Some(Goal::Drain { why, .. } | Goal::Stop { why }) if *why == StopReason::Requested)
        };
        let let_go = had.difference(&has).filter(|replica| !by_user(replica)).count();
        let floor = floor(service);
        if let_go > 0 && (has.len() as u32) < floor {
            let has = has.len();
            let how = format!("{id}: {let_go} let go, {has} of at least {floor} serve");
            self.breach("never fewer healthy than the budget says", how);
        }
        let came = service.placements.keys().any(|replica| !was.placements.contains_key(replica));
        let (live, ceiling) = (live(observed, now, service), ceiling(service));
        if came && live > ceiling {
            let how = format!("{id}: {live} live of at most {ceiling}");
            self.breach("never more live than the budget says", how);
        }
    }

    /// What runs on a machine fits there. What its agent was not told of is not counted: it is
    /// being stopped.
    pub(crate) fn law_of_capacity(&mut self, node: &NodeId) {
        let host = &self.hosts[node];
        let (held, has) = (host.machine.held(), host.capacity);
        if held.cpu > has.cpu || held.memory > has.memory {
            let runs = host.machine.runs.iter().filter(|(_, run)| run.is_there());
            let holds = runs.map(|(id, run)| format!("{id} {}", run.spec.resources.cpu));
            let holds = holds.collect::<Vec<_>>().join(", ");
            let how = format!("{node} has {} cpus, {} are held: {holds}", has.cpu, held.cpu);
            self.breach("no node over capacity", how);
        }
    }
}
