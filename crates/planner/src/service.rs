//! The steps for one service.
//!
//! Terminated instances have been reaped before. Drained instances are stopped; the others are
//! classified (`classify`) into instances that stay and outgoing ones, and the budget limits how many
//! of these terminate and how many are placed (`replace`). A move without progress fails at its
//! deadline (`deadline`). There is no state besides the instances: the progress of a
//! rollout is derived from them.

mod classify;
mod deadline;
mod pausing;
mod replace;

use std::collections::BTreeSet;
use std::sync::Arc;

use model::{
    Deployment, DeploymentId, GOALS, InstanceId, Move, Observed, ReplicaId, Service, Stage, Step,
    Unhealthy, Wait,
};

use crate::instance::{Instance, ServiceView};
use crate::packer::Packer;
use crate::rolling;
use crate::terminated::Terminated;
use crate::view::View;
use crate::{Plan, order};

use classify::Classified;

/// Appends to `plan` the steps and waits of a service whose terminated instances were reaped.
pub(crate) fn plan(
    view: &View<'_>,
    service_view: ServiceView<'_>,
    terminated: Terminated,
    packer: &mut Packer,
    plan: &mut Plan,
    failed: &mut BTreeSet<DeploymentId>,
) {
    let service = service_view.service;
    if let Some(deployment) = service.deployment.filter(|id| failed.contains(id)) {
        // The deployment fails in this plan: its services roll back before they continue.
        plan.wait(&service.id, Wait::Still { why: format!("{deployment} fails") });
        return;
    }
    let deployment = deployment(view, service);
    Planning { view, service_view, service, deployment, terminated, packer, plan, failed }.run();
}

fn deployment<'a>(view: &View<'a>, service: &Service) -> Option<(&'a Deployment, &'a Move)> {
    let deployment = view.state.deployment_of(service)?;
    Some((deployment, deployment.moving(&service.id)?))
}

struct Planning<'a, 'p> {
    view: &'a View<'a>,
    service_view: ServiceView<'a>,
    service: &'a Service,
    /// The deployment that moves the service to another revision, and the service's part in it.
    deployment: Option<(&'a Deployment, &'a Move)>,
    terminated: Terminated,
    packer: &'p mut Packer,
    plan: &'p mut Plan,
    /// The deployments that fail in this plan.
    failed: &'p mut BTreeSet<DeploymentId>,
}

impl<'a> Planning<'a, '_> {
    fn run(mut self) {
        let classified = self.classify();
        if classified.terminating > 0 {
            self.plan.wait(&self.service.id, Wait::Leaving { count: classified.terminating });
        }
        if let Some((deployment, _)) = self.deployment.filter(|(d, _)| d.stage.is_suspended()) {
            let why = match &deployment.stage {
                Stage::Held { reason } => format!("{} is held: {reason}", deployment.id),
                _ => format!("{} is paused", deployment.id),
            };
            self.plan.wait(&self.service.id, Wait::Still { why });
            return;
        }
        if !self.service.frozen_resources.is_empty() && !self.service.frozen {
            self.explain_unsupported();
        }
        if self.view.state.is_frozen(self.service) {
            self.explain_frozen(&classified);
        } else if self.service.is_leaving() {
            self.empty(classified);
        } else if self.service.is_paused() {
            self.pause(classified);
        } else {
            self.reconcile(classified);
        }
    }

    /// Explains what is not done because the service is frozen.
    fn explain_frozen(&mut self, classified: &Classified<'_>) {
        let has_ended =
            |instance: &&Instance<'_>| instance.status.is_some_and(|status| status.phase.is_over());
        let ended = classified.stay.iter().filter(has_ended).count() + classified.lost.len();
        let missing = self.service.wanted().saturating_sub(classified.stay.len() as u32);
        let outgoing = classified.outgoing.len() as u32;
        let ended = ended as u32;
        if missing + ended + outgoing > 0 || self.deployment.is_some() {
            self.plan.wait(&self.service.id, Wait::Frozen { missing, ended, outgoing });
        } else {
            // Nothing would be done if it were not frozen, and yet it may not be ready.
            self.explain(classified);
        }
        self.explain_unsupported();
    }

    /// Names the nodes with instances of the service whose agents cannot follow its goals.
    fn explain_unsupported(&mut self) {
        let nodes: BTreeSet<_> = self.service.placements.values().map(|p| &p.node).collect();
        let too_old = nodes.into_iter().filter_map(|id| {
            let reason = self.view.state.node(id)?.node.software.lacks(GOALS)?;
            Some((id.clone(), reason))
        });
        let nodes: Arc<[_]> = too_old.collect();
        if !nodes.is_empty() {
            self.plan.wait(&self.service.id, Wait::Unsupported { nodes });
        }
    }

    fn id(&self, replica: ReplicaId) -> InstanceId {
        InstanceId { service: self.service.id.clone(), replica }
    }

    fn observed(&self) -> &'a Observed {
        self.view.observed
    }

    /// Whether an unhealthy instance must terminate before its replacement is placed.
    fn kills_first(&self) -> bool {
        self.service.spec().rollout.unhealthy == Unhealthy::KillFirst
    }

    /// Terminates all instances of a service that is removed or stopped, after those of the services
    /// that depend on it.
    fn empty(&mut self, classified: Classified<'a>) {
        let on = order::dependents(self.view, self.service);
        if !on.is_empty() {
            self.plan.wait(&self.service.id, Wait::Dependents { on });
            return;
        }
        let is_empty = self.terminated.reaped.len() == self.service.placements.len();
        if is_empty && self.deployment.is_some() {
            self.plan.steps.push(Step::Arrive { service: self.service.id.clone() });
        }
        for (why, instance) in classified.outgoing {
            self.terminate(&instance, why);
        }
    }

    /// Moves a service towards its target: outgoing instances are replaced within the budget.
    fn reconcile(&mut self, mut classified: Classified<'a>) {
        if self.deployment.is_some() {
            let on = order::dependencies(self.view, self.service);
            if !on.is_empty() {
                self.plan.wait(&self.service.id, Wait::Dependencies { on });
                return;
            }
        }
        let wanted = self.service.wanted();
        let healthy = classified.healthy();
        let budget = rolling::budget(&self.service.spec().rollout, wanted, healthy);
        self.track(&classified);
        if self.has_failed() {
            self.fail(&classified);
            return;
        }
        self.resume(&classified);
        self.terminate_unhealthy(&mut classified);
        let placed = self.place_missing(&classified, budget);
        self.remove_lost(&classified, &placed.slots);
        self.terminate_outgoing(&classified, budget, healthy, placed.unplaced);
        self.explain(&classified);
        self.arrive(&classified);
    }

    fn explain(&mut self, classified: &Classified<'_>) {
        if let Some(laggard) = self.laggard(classified) {
            let (ready, wanted) = (classified.ready(), self.service.wanted());
            let next = Some(Box::new(laggard));
            self.plan.wait(&self.service.id, Wait::Ready { ready, wanted, next });
        }
    }

    /// The service arrives once all its instances are ready and all others have terminated.
    fn arrive(&mut self, classified: &Classified<'_>) {
        let has_arrived = classified.ready() == self.service.wanted()
            && classified.outgoing.is_empty()
            && classified.terminating == 0;
        if self.deployment.is_some() && has_arrived {
            self.plan.steps.push(Step::Arrive { service: self.service.id.clone() });
        }
    }
}
