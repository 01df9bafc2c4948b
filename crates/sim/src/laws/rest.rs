//! Once nothing breaks any more, what is wanted is what is, or a reason says why not.

use std::collections::BTreeSet;

use model::{Goal, InstanceId, Phase, Stage, Status, Wait};

use crate::gateway::has;
use crate::machine::{Run, SICK};
use crate::queue::Moment;
use crate::world::{Happening, World};

/// It takes at most so long.
const PATIENCE_MS: Moment = 15 * 60_000;
/// Everything has been as it should be for so long.
const LOOK_MS: u64 = 5_000;

/// What a server goes by. Times are each clock's own.
fn verdict(status: &Status) -> (Phase, u32, Option<bool>, bool) {
    (status.phase, status.run, status.healthy, status.ready)
}

impl World {
    /// Looks whether everything is as it should be.
    pub(crate) fn look(&mut self) {
        let differences = self.differences();
        if differences.is_empty() {
            self.laws.at_rest = true;
            return;
        }
        if self.now() > self.laws.calm_at + PATIENCE_MS {
            let how = differences.join("\n    ");
            self.breach("everything comes to rest", how);
            return;
        }
        self.queue.after(LOOK_MS, Happening::Look);
    }

    /// Everything that is not as it should be and for which there is no reason.
    fn differences(&self) -> Vec<String> {
        let mut found = Vec::new();
        let Some(running) = &self.server.running else { return vec!["no server".into()] };
        let state = &running.snapshot.state;
        let mut placed = BTreeSet::new();
        for service in state.services() {
            let waits = running.snapshot.waits.get(&service.id).map_or(&[][..], Vec::as_slice);
            let excused = waits.iter().any(|wait| {
                matches!(wait, Wait::NoNode { .. } | Wait::Still { .. })
                    || matches!(wait, Wait::Dependencies { .. } | Wait::Dependents { .. })
            });
            // Nothing comes of a revision that never gets well, also where it was gone back to.
            let sickness = service.spec().env.get(SICK);
            let excused = excused || sickness.is_some_and(|sickness| !sickness.is_empty());
            let still = state.deployment_of(service).is_some_and(|d| d.stage.is_still());
            let id = &service.id;
            if service.deployment.is_some() && !excused && !still {
                found.push(format!("{id} is still being moved: {waits:?}"));
            }
            if service.placements.len() as u32 != service.wanted() && !excused {
                let (there, wanted) = (service.placements.len(), service.wanted());
                found.push(format!("{id} has {there} of {wanted} placed: {waits:?}"));
            }
            for (replica, placement) in &service.placements {
                let instance = InstanceId { service: id.clone(), replica: *replica };
                let run = self.hosts[&placement.node].machine.runs.get(&instance);
                placed.insert((placement.node.clone(), instance.clone()));
                let sick = run.is_some_and(|run| !run.sickness().is_empty());
                let told = running.snapshot.observed.status(id, *replica);
                let agent = self.hosts[&placement.node].agent.as_ref();
                let known = agent.and_then(|agent| {
                    agent.core.statuses().find(|(id, _)| **id == instance).map(|(_, s)| s)
                });
                if placement.goal != Goal::Run {
                    if !excused {
                        let (known, told) = (known.map(verdict), told.map(verdict));
                        found.push(format!(
                            "{instance} is still leaving: it is {known:?}, and observed as {told:?}"
                        ));
                    }
                    continue;
                }
                if sick {
                    continue;
                }
                if !run.is_some_and(|run| run.is_well(self.now())) {
                    found.push(format!("{instance} on {} is not well", placement.node));
                    continue;
                }
                match (told, known) {
                    (Some(told), Some(known)) if verdict(told) == verdict(known) => {
                        let spec = service.running_spec(placement.revision);
                        if told.phase != Phase::Running || told.ready_at(spec).is_none() {
                            found.push(format!("{instance} is not ready: {told:?}"));
                        }
                    }
                    _ => {
                        let (known, told) = (known.map(verdict), told.map(verdict));
                        found.push(format!("{instance} is {known:?}, and observed as {told:?}"));
                    }
                }
            }
        }
        for deployment in state.deployments() {
            if deployment.stage == Stage::Running
                && !state.services().any(|service| service.deployment == Some(deployment.id))
            {
                found.push(format!("{} moves nothing", deployment.id));
            }
        }
        for (node, host) in &self.hosts {
            for (instance, run) in &host.machine.runs {
                if !placed.contains(&(node.clone(), instance.clone())) && run.is_there() {
                    found.push(format!("{instance} runs on {node} and nobody wants it"));
                }
            }
        }
        self.differences_of_gateways(&mut found);
        found
    }

    fn differences_of_gateways(&self, found: &mut Vec<String>) {
        let Some(running) = &self.server.running else { return };
        let table = &running.snapshot.routes;
        for (node, host) in self.hosts.iter().filter(|(_, host)| host.has_gateway) {
            let Some(gateway) = &host.gateway else {
                found.push(format!("no gateway on {node}"));
                continue;
            };
            for known in &gateway.threads {
                let known = known.as_ref().map_or(0, |table| table.generation);
                if known != table.generation {
                    let newest = table.generation;
                    found.push(format!("the gateway on {node} follows {known}, not {newest}"));
                }
            }
        }
        for (node, host) in &self.hosts {
            let runs = host.machine.runs.iter();
            for (instance, _) in runs.filter(|(_, run): &(_, &Run)| run.is_well(self.now())) {
                let state = &running.snapshot.state;
                let Some(service) = state.service(&instance.service) else { continue };
                let is_routed = state.gateways().any(|gateway| {
                    gateway.routes.iter().any(|route| route.to.service == instance.service)
                });
                let wanted = service.placements.get(&instance.replica);
                let wanted = wanted.is_some_and(|p| p.is_wanted() && p.node == *node);
                let sick = service.spec().env.get(SICK);
                if is_routed
                    && wanted
                    && sick.is_none_or(|sick| sick.is_empty())
                    && !has(table, instance)
                {
                    found.push(format!("{instance} is well and gets no requests"));
                }
            }
        }
    }
}
