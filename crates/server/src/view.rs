//! API views of one snapshot.

use api::{
    DeploymentView, GatewayView, InstanceView, MoveView, NodeState, NodeView, ServiceState,
    ServiceView, WaitView,
};
use model::{
    Deployment, Gateway, Goal, InstanceId, Move, MoveState, NodeUsage, Phase, Run, SILENT_AFTER,
    Service, ServiceId, Spec, Timestamp, Wait, not_serving,
};

use crate::control::Snapshot;

/// The number of instances of a service in each state.
#[derive(Default)]
struct Counts {
    running: u32,
    healthy: u32,
    ready: u32,
    outgoing: u32,
    /// Instances whose agent has not reported since observation began.
    unreported: u32,
}

fn count(snapshot: &Snapshot, service: &Service, now: Timestamp) -> Counts {
    let mut counts = Counts::default();
    for (replica, placement) in &service.placements {
        if !placement.is_wanted() || !service.is_current(placement.revision) {
            counts.outgoing += 1;
            continue;
        }
        // An instance on a lost node is not known to run.
        if snapshot.observed.is_lost(&placement.node, now) {
            continue;
        }
        let Some(status) = snapshot.observed.status(&service.id, *replica) else {
            let agent = snapshot.observed.agents.get(&placement.node);
            counts.unreported += u32::from(!agent.is_some_and(|agent| agent.synced));
            continue;
        };
        let spec = service.running_spec(placement.revision);
        counts.running += u32::from(status.phase == Phase::Running);
        counts.healthy += u32::from(status.is_healthy(spec));
        counts.ready += u32::from(status.ready_at(spec).is_some_and(|at| at <= now));
    }
    counts
}

/// The view of a reason to wait.
pub(crate) fn wait(service: &ServiceId, wait: &Wait) -> WaitView {
    WaitView { service: service.clone(), message: wait.to_string(), wait: wait.clone() }
}

fn waits(snapshot: &Snapshot, service: &ServiceId) -> Vec<WaitView> {
    let waits = snapshot.waits.get(service);
    waits.into_iter().flatten().map(|known| wait(service, known)).collect()
}

fn runs(spec: &Spec) -> String {
    let programs: Vec<_> = spec.resources().map(|one| one.program.to_string()).collect();
    programs.join(" + ")
}

/// The view of a service.
pub(crate) fn service(snapshot: &Snapshot, service: &Service, now: Timestamp) -> ServiceView {
    let counts = count(snapshot, service, now);
    let state = match service.deployment {
        _ if service.removing => ServiceState::Removing,
        Some(_) => ServiceState::Deploying,
        None if service.run == Run::Stopped => ServiceState::Stopped,
        None if service.run == Run::Paused => ServiceState::Paused,
        None if counts.ready < service.wanted() => {
            match counts.ready + counts.unreported >= service.wanted() {
                true => ServiceState::Unknown,
                false => ServiceState::Degraded,
            }
        }
        None => ServiceState::Running,
    };
    ServiceView {
        service: service.id.clone(),
        state,
        instances: if service.removing { 0 } else { service.spec().instances },
        run: service.run,
        frozen: service.frozen,
        frozen_resources: service.frozen_resources.clone(),
        running: counts.running,
        healthy: counts.healthy,
        ready: counts.ready,
        outgoing: counts.outgoing,
        revision: service.target,
        runs: runs(service.spec()),
        applied_at: service.target().created_at,
        deployment: service.deployment,
        failed: service.failed.as_ref().map(Into::into),
        waits: waits(snapshot, &service.id),
        spec: service.spec().clone(),
        revisions: Vec::new(),
    }
}

/// The views of the instances of a service.
pub(crate) fn instances<'a>(
    snapshot: &'a Snapshot,
    service: &'a Service,
    now: Timestamp,
) -> impl Iterator<Item = InstanceView> + 'a {
    service.placements.iter().map(move |(replica, placement)| {
        let status = snapshot.observed.status(&service.id, *replica);
        let node = snapshot.state.node(&placement.node);
        let lost = snapshot.observed.is_lost(&placement.node, now);
        let phase = match status {
            _ if lost => Phase::Lost,
            Some(status) if placement.goal == Goal::Run || status.phase.is_over() => status.phase,
            Some(status) if matches!(placement.goal, Goal::Drain { .. }) => status.phase,
            Some(_) => Phase::Stopping,
            None => Phase::Placed,
        };
        InstanceView {
            instance: InstanceId { service: service.id.clone(), replica: *replica },
            service: service.id.clone(),
            node: placement.node.clone(),
            address: node.map(|node| node.node.address.clone()).unwrap_or_default(),
            ports: placement.given.ports.clone(),
            revision: placement.revision,
            current: service.is_current(placement.revision),
            goal: placement.goal.clone(),
            pause: placement.pause,
            placed_at: placement.placed_at,
            phase,
            status: status.cloned(),
            not_serving: not_serving(service, *replica, status).map(|why| why.to_string()),
        }
    })
}

/// The view of a node. The heartbeats of its agent count, or those of its gateway if no agent has
/// registered.
pub(crate) fn node(snapshot: &Snapshot, node: &NodeUsage, now: Timestamp) -> NodeView {
    let id = &node.node.id;
    let agent = snapshot.observed.agents.get(id).map(|agent| agent.seen_at);
    let gateway = snapshot.observed.gateways.get(id).map(|gateway| gateway.seen_at);
    let seen_at = if node.node.capacity.is_some() { agent } else { gateway };
    let state = match seen_at.unwrap_or(snapshot.observed.since) {
        at if now.since(at) >= snapshot.observed.lost_after => NodeState::Lost,
        at if seen_at.is_none() || now.since(at) >= SILENT_AFTER => NodeState::Silent,
        _ => NodeState::Ready,
    };
    NodeView {
        node: node.node.clone(),
        state,
        seen_at,
        used: node.used,
        instances: node.instances.len() as u32,
        unknown: snapshot.observed.unknown_on(id) as u32,
    }
}

/// The view of a deployment.
pub(crate) fn deployment(
    snapshot: &Snapshot,
    deployment: &Deployment,
    now: Timestamp,
) -> DeploymentView {
    let moves = deployment.moves.iter().map(|m| moving(snapshot, deployment, m, now)).collect();
    let reason = deployment.stage.reason().map(ToString::to_string);
    DeploymentView { deployment: deployment.clone(), reason, moves }
}

fn moving(snapshot: &Snapshot, deployment: &Deployment, m: &Move, now: Timestamp) -> MoveView {
    let id = &m.service;
    let service = snapshot.state.service(id).filter(|_| m.state == MoveState::Moving);
    let Some(service) = service else {
        // The deployment has ended for this service: the view keeps the number that was reached.
        let (wanted, ready) = (m.ready, m.ready);
        let (deadline_in, waits) = (None, Vec::new());
        return MoveView { service: id.clone(), wanted, ready, outgoing: 0, deadline_in, waits };
    };
    let counts = count(snapshot, service, now);
    let proceeds = !deployment.stage.is_suspended() && !snapshot.state.is_frozen(service);
    let deadline = m.progressed_at.filter(|_| proceeds).map(|at| {
        snapshot.observed.seen_from(at).after(service.spec().rollout.deadline).since(now)
    });
    MoveView {
        service: id.clone(),
        wanted: service.wanted(),
        ready: counts.ready,
        outgoing: counts.outgoing,
        deadline_in: deadline,
        waits: waits(snapshot, id),
    }
}

/// The view of a gateway document.
pub(crate) fn gateway(snapshot: &Snapshot, gateway: &Gateway, now: Timestamp) -> GatewayView {
    let listeners = &snapshot.routes.listeners;
    let listener = listeners.iter().find(|listener| listener.gateway == gateway.gateway);
    let gateways = &snapshot.observed.gateways;
    let live = gateways.iter().filter(|(id, _)| snapshot.observed.gateway_responds(id, now));
    let newest = snapshot.routes.generation;
    let (follows, pending): (Vec<_>, Vec<_>) =
        live.partition(|(_, status)| status.generation == newest);
    let stuck = gateways.iter().flat_map(|(id, status)| {
        status.stuck.iter().map(|(thread, task)| (id.clone(), *thread, task.clone()))
    });
    let failed = snapshot.failed.iter().filter(|((listen, _), _)| *listen == gateway.listen);
    GatewayView {
        gateway: gateway.clone(),
        routes: listener.map(|listener| listener.routes.clone()).unwrap_or_default(),
        followed_by: follows.into_iter().map(|(id, _)| id.clone()).collect(),
        pending: pending.into_iter().map(|(id, _)| id.clone()).collect(),
        stuck: stuck.collect(),
        failed: failed.map(|((_, node), why)| (node.clone(), why.clone())).collect(),
    }
}

#[cfg(test)]
mod tests {
    use planner::scenario::{World, execute};

    use super::*;

    /// The snapshot of a cluster after these lines of a scenario.
    fn snapshot(world: &mut World, lines: &[&str]) -> Snapshot {
        for line in lines {
            execute(world, line).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
        Snapshot {
            state: world.state.clone(),
            observed: world.observed.clone().into(),
            waits: Default::default(),
            routes: Default::default(),
            failed: Default::default(),
            revision: 0,
        }
    }

    #[test]
    fn instances_on_lost_nodes_are_shown_and_do_not_count() {
        let mut world = World::new();
        let mut look = |lines: &[&str]| {
            let snapshot = snapshot(&mut world, lines);
            let web = snapshot.state.services().next().unwrap();
            let view = service(&snapshot, web, world.now);
            let phases: Vec<_> = instances(&snapshot, web, world.now).map(|i| i.phase).collect();
            let n1 = snapshot.state.node(&"n1".parse().unwrap()).unwrap();
            let n1 = node(&snapshot, n1, world.now);
            let counts = (view.running, view.healthy, view.ready, view.outgoing);
            (view.state, counts, phases, n1.state, n1.instances)
        };
        let running = vec![Phase::Running; 2];
        assert_eq!(
            look(&["node n1 cpu=1", "node n2 cpu=1", "apply /web instances=2 health", "settle"]),
            (ServiceState::Running, (2, 2, 2, 0), running.clone(), NodeState::Ready, 1)
        );
        // A silent node is not lost yet: the last reported statuses still count.
        assert_eq!(
            look(&["lose n1", "tick 29s"]),
            (ServiceState::Running, (2, 2, 2, 0), running.clone(), NodeState::Silent, 1)
        );
        let (state, counts, mut phases, of_node, placed) = look(&["tick 1s", "run"]);
        phases.sort();
        assert_eq!((state, counts), (ServiceState::Degraded, (1, 1, 1, 0)));
        assert_eq!((of_node, placed), (NodeState::Lost, 1));
        assert_eq!(phases, [Phase::Running, Phase::Lost]);
        assert_eq!(
            look(&["return n1"]),
            (ServiceState::Running, (2, 2, 2, 0), running, NodeState::Ready, 1)
        );
    }
}
