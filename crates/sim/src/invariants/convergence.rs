//! Liveness: some time after the fault phase, every service on the nodes that recovered is in its
//! desired state, or there is a reason why not. For nodes with an outage, only the duties of the
//! server are checked: it must replace their instances if the service requires that.

use std::collections::{BTreeMap, BTreeSet};

use model::{
    Goal, InstanceId, NodeId, PauseReport, Phase, Piece, Placement, ReplicaId, Service, ServiceId,
    Stage, State, Status, Wait,
};
use server::control::Snapshot;

use crate::cluster::Cluster;
use crate::gateway::has_backend;
use crate::machine::DEFECT;
use crate::queue::Moment;

/// The longest time from the end of the fault phase to convergence.
pub(crate) const TIMEOUT_MS: Moment = 15 * 60_000;
/// The time from the end of the fault phase to the first check: by then no command is in flight any
/// more, and the server has noticed every outage.
pub(crate) const FIRST_CHECK_MS: u64 = 60_000;
/// The interval between two checks.
pub(crate) const INTERVAL_MS: u64 = 5_000;

/// The part of a status that the server and an agent must agree on. Their clocks may differ.
fn summary(status: &Status) -> (Phase, u32, Option<bool>, bool, Option<&PauseReport>) {
    (status.phase, status.run, status.healthy, status.ready, status.pause.as_ref())
}

/// All differences from the desired state that have no reason.
pub(crate) fn differences(cluster: &Cluster, now: Moment) -> Vec<String> {
    let Some(server) = &cluster.server.running else { return vec!["no server runs".into()] };
    let view = View { cluster, snapshot: &server.snapshot, state: &server.snapshot.state, now };
    let mut differences = Vec::new();
    for service in view.state.services() {
        view.service(service, &mut differences);
    }
    view.deployments(&mut differences);
    view.runs(&mut differences);
    view.gateways(&mut differences);
    view.backends(&mut differences);
    differences
}

/// The deployments that go on: those that have not ended, although none of their services waits for
/// a user or for another deployment. A revision that does not work is no reason, nor is a lost node:
/// the deployment fails at its deadline, and so does its rollback.
pub(crate) fn endless(cluster: &Cluster) -> Vec<String> {
    let Some(server) = &cluster.server.running else { return Vec::new() };
    let Snapshot { state, waits, .. } = &server.snapshot;
    let waits_for_user = |wait: &Wait| {
        matches!(wait, Wait::Still { .. } | Wait::Frozen { .. })
            || matches!(wait, Wait::Dependencies { .. } | Wait::Dependents { .. })
    };
    let moved = state.services().filter_map(|service| Some((&service.id, service.deployment?)));
    let endless = moved.filter_map(|(id, deployment)| {
        let waits = waits.get(id).map_or(&[][..], Vec::as_slice);
        let stage = state.deployment(deployment).map_or("gone", |known| known.stage.word());
        let ends = waits.iter().any(waits_for_user);
        (!ends).then(|| format!("{deployment} of {id} is {stage}: {waits:?}"))
    });
    endless.collect()
}

struct View<'a> {
    cluster: &'a Cluster,
    snapshot: &'a Snapshot,
    state: &'a State,
    now: Moment,
}

impl View<'_> {
    fn has_outage(&self, node: &NodeId) -> bool {
        self.cluster.hosts[node].outage.is_some()
    }

    fn service(&self, service: &Service, differences: &mut Vec<String>) {
        let id = &service.id;
        let waits = self.snapshot.waits.get(id).map_or(&[][..], Vec::as_slice);
        let waits_for_others = waits.iter().any(|wait| {
            matches!(wait, Wait::NoNode { .. } | Wait::Still { .. })
                || matches!(wait, Wait::Dependencies { .. } | Wait::Dependents { .. })
        });
        // A service that does not replace lost instances waits for them until their node returns.
        let waits_for_node = waits.iter().any(|wait| match wait {
            Wait::Ready { next: Some(laggard), .. } => {
                !service.spec().lost.replace && self.has_outage(&laggard.node)
            }
            _ => false,
        });
        // A revision that never becomes healthy never converges, not even after a rollback to it.
        let has_reason = waits_for_others || waits_for_node || is_defective(service);
        if service.deployment.is_some() && !has_reason {
            differences.push(format!("{id} is still deploying: {waits:?}"));
        }
        let placed = self.counted(service);
        // A paused service has the instances that it had.
        if placed != service.wanted() && !service.is_paused() && !has_reason {
            let wanted = service.wanted();
            differences.push(format!("{id} has {placed} of {wanted} placed: {waits:?}"));
        }
        let recovered = service.placements.iter();
        for (replica, placement) in recovered.filter(|(_, p)| !self.has_outage(&p.node)) {
            differences.extend(self.instance(service, *replica, placement, has_reason));
        }
    }

    /// The number of placements that count towards the instances of a service. On a node with an
    /// outage an instance counts only if the service keeps it until the node returns.
    fn counted(&self, service: &Service) -> u32 {
        let replace = service.spec().lost.replace;
        let placements = service.placements.values();
        placements.filter(|p| !(replace && self.has_outage(&p.node))).count() as u32
    }

    fn instance(
        &self,
        service: &Service,
        replica: ReplicaId,
        placement: &Placement,
        has_reason: bool,
    ) -> Option<String> {
        let instance = InstanceId { service: service.id.clone(), replica };
        let host = &self.cluster.hosts[&placement.node];
        let observed = self.snapshot.observed.status(&service.id, replica);
        let agent = host.agent.running.as_ref();
        let known = agent.and_then(|agent| {
            agent.core.statuses().find(|(id, _)| **id == instance).map(|(_, status)| status)
        });
        let disagree = || {
            let (known, observed) = (known.map(summary), observed.map(summary));
            format!("the agent has {known:?}, the server observed {observed:?}")
        };
        if placement.goal != Goal::Run {
            return (!has_reason)
                .then(|| format!("{instance} is still terminating: {}", disagree()));
        }
        if host.machine.runs_of(&instance).any(|(_, run)| !run.defect().is_empty()) {
            return None;
        }
        if service.is_paused() && !has_reason {
            let is_suspended = |status: &Status| status.pause == Some(PauseReport::Suspended);
            let mut runs = host.machine.runs_of(&instance);
            let runs = runs.any(|(_, run)| run.is_alive() && !run.suspended);
            let is_paused = !runs && observed.is_some_and(is_suspended);
            return (!is_paused).then(|| format!("{instance} is not suspended: {}", disagree()));
        }
        if service.is_paused() {
            return None;
        }
        if !host.machine.is_serving(&instance, self.now) {
            return Some(format!("{instance} on {} is not healthy", placement.node));
        }
        let (Some(seen), Some(own)) = (observed, known) else {
            return Some(format!("{instance}: {}", disagree()));
        };
        if summary(seen) != summary(own) {
            return Some(format!("{instance}: {}", disagree()));
        }
        let spec = service.running_spec(placement.revision);
        let is_ready = seen.phase == Phase::Running && seen.ready_at(spec).is_some();
        (!is_ready).then(|| format!("{instance} is not ready: {seen:?}"))
    }

    fn deployments(&self, differences: &mut Vec<String>) {
        let running = self.state.deployments().filter(|d| d.stage == Stage::Running);
        for deployment in running {
            if !self.state.services().any(|s| s.deployment == Some(deployment.id)) {
                differences.push(format!("{} runs without a service", deployment.id));
            }
        }
    }

    /// Only placed instances run.
    fn runs(&self, differences: &mut Vec<String>) {
        for (node, host) in self.cluster.hosts.iter().filter(|(_, host)| host.outage.is_none()) {
            let alive = host.machine.runs.iter().filter(|(_, run)| run.is_alive());
            for (of, _) in alive {
                if self.state.placement(&of.instance).is_none_or(|p| p.node != *node) {
                    differences.push(format!("{of} runs on {node} without a placement"));
                }
            }
        }
    }

    /// Every gateway follows the newest table.
    fn gateways(&self, differences: &mut Vec<String>) {
        let newest = self.snapshot.routes.generation;
        let recovered = self.cluster.hosts.iter().filter(|(_, host)| host.outage.is_none());
        for (node, gateway) in
            recovered.filter_map(|(node, host)| Some((node, host.gateway.as_ref()?)))
        {
            let Some(running) = &gateway.running else {
                differences.push(format!("no gateway runs on {node}"));
                continue;
            };
            for table in &running.threads {
                let generation = table.as_ref().map_or(0, |table| table.generation);
                if generation != newest {
                    let detail =
                        format!("the gateway on {node} follows {generation}, not {newest}");
                    differences.push(detail);
                }
            }
        }
    }

    /// Every healthy instance that a route leads to is in the table.
    fn backends(&self, differences: &mut Vec<String>) {
        for (node, host) in self.cluster.hosts.iter().filter(|(_, host)| host.outage.is_none()) {
            let instances: BTreeSet<_> =
                host.machine.runs.keys().map(|resource| &resource.instance).collect();
            let is_serving = |id: &&InstanceId| host.machine.is_serving(id, self.now);
            for instance in instances.into_iter().filter(is_serving) {
                let Some(service) = self.state.service(&instance.service) else { continue };
                let is_routed = self.state.gateways().any(|gateway| {
                    gateway.routes.iter().any(|route| route.to.service == instance.service)
                });
                let placement = service.placements.get(&instance.replica);
                let is_wanted = placement.is_some_and(|p| p.may_serve() && p.node == *node);
                let in_table = has_backend(&self.snapshot.routes, instance);
                if is_routed && is_wanted && !is_defective(service) && !in_table {
                    differences.push(format!("{instance} is healthy and gets no requests"));
                }
            }
        }
    }
}

fn is_defective(service: &Service) -> bool {
    service.spec().env.get(DEFECT).is_some_and(|defect| defect.as_text() != Some(""))
}

/// The runs of every service that needs no reason: it is not deploying, waits for nothing, and can
/// become healthy. They must not change while no event occurs.
pub(crate) fn settled(cluster: &Cluster) -> BTreeMap<ServiceId, BTreeSet<(NodeId, Piece)>> {
    let Some(server) = &cluster.server.running else { return BTreeMap::new() };
    let snapshot = &server.snapshot;
    let settled = snapshot.state.services().filter(|service| {
        let waits = snapshot.waits.get(&service.id);
        service.deployment.is_none() && waits.is_none_or(Vec::is_empty) && !is_defective(service)
    });
    let runs = settled.map(|service| {
        let recovered = cluster.hosts.iter().filter(|(_, host)| host.outage.is_none());
        let runs = recovered.flat_map(|(node, host)| {
            let runs = host.machine.runs.iter();
            let alive =
                runs.filter(|(of, run)| of.instance.service == service.id && run.is_alive());
            alive.map(|(of, run)| (node.clone(), of.run(run.number)))
        });
        (service.id.clone(), runs.collect())
    });
    runs.collect()
}
