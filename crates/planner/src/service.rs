//! The steps for one service.
//!
//! Terminated instances have been reaped before. Drained instances are stopped; the others are
//! classified into instances that stay and outgoing ones, and the budget limits how many of these
//! terminate and how many are placed. There is no state besides the instances: the progress of a
//! rollout is derived from them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::{
    Deployment, DeploymentId, Failure, GOALS, Goal, InstanceId, Laggard, Move, NotServing,
    Observed, Placement, ReplicaId, Service, Spec, Stage, Stall, Status, Step, StopReason,
    Timestamp, Unhealthy, Wait, not_serving,
};

use crate::instance::{Instance, ServiceView};
use crate::packer::{Packed, Packer};
use crate::rolling::{self, Budget};
use crate::surplus;
use crate::terminated::Terminated;
use crate::view::View;
use crate::{Plan, order};

/// The instances of a service by their treatment in this plan. Each is in exactly one of `stay`,
/// `outgoing`, `terminating` (as a count) and `lost`.
#[derive(Default)]
struct Classified<'a> {
    stay: Vec<Instance<'a>>,
    outgoing: Vec<(StopReason, Instance<'a>)>,
    /// The number of instances that are draining or stopping.
    terminating: u32,
    /// Slots that stay empty until their unhealthy instance has terminated.
    closed: BTreeSet<u32>,
    /// Instances that would stay but are on lost nodes. They do not count, but are removed only
    /// once they are replaced: a node that reports again still runs them.
    lost: Vec<ReplicaId>,
}

/// The new instances of a service in this plan.
#[derive(Default)]
struct Placed {
    /// The slots that got an instance.
    slots: BTreeSet<u32>,
    /// The number of instances that no node accepts.
    unplaced: u32,
}

impl Classified<'_> {
    /// Counts a terminating instance. If it `closes` its slot, nothing is placed there until it has
    /// terminated.
    fn terminates(&mut self, replica: ReplicaId, closes: bool) {
        self.terminating += 1;
        if closes {
            self.closed.insert(replica.slot);
        }
    }

    fn live(&self) -> u32 {
        (self.stay.len() + self.outgoing.len()) as u32 + self.terminating
    }

    fn healthy(&self) -> u32 {
        let outgoing = self.outgoing.iter().map(|(_, instance)| instance);
        self.stay.iter().chain(outgoing).filter(|instance| instance.healthy).count() as u32
    }

    fn ready(&self) -> u32 {
        self.stay.iter().filter(|instance| instance.ready).count() as u32
    }
}

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
        if self.view.state.is_frozen(self.service) {
            self.explain_frozen(&classified);
        } else if self.service.is_leaving() {
            self.empty(classified);
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

    /// Stops the drained instances and classifies the desired ones.
    fn classify(&mut self) -> Classified<'a> {
        let mut classified = Classified::default();
        let target = self.service.target().template;
        let kills_first = self.kills_first();
        for (replica, placement, status) in self.service_view.instances() {
            if self.terminated.reaped.contains(&replica) {
                continue;
            }
            if self.view.lost.contains(&placement.node) {
                if self.may_return(placement) {
                    let (healthy, ready) = (false, false);
                    classified.stay.push(Instance { replica, placement, status, healthy, ready });
                } else {
                    classified.lost.push(replica);
                }
                continue;
            }
            match &placement.goal {
                Goal::Run => {}
                Goal::Drain { until, why } => {
                    self.stop_once_drained(replica, *until, *why);
                    classified.terminates(replica, kills_first && *why == StopReason::Unhealthy);
                    continue;
                }
                Goal::Stop { why } => {
                    classified.terminates(replica, kills_first && *why == StopReason::Unhealthy);
                    continue;
                }
            }
            let spec = self.service.running_spec(placement.revision);
            let healthy = status.is_some_and(|status| status.is_healthy(spec));
            let current = self.service.template(placement.revision) == target;
            let ready = healthy && self.is_ready(status, spec);
            // An instance of the target counts once it is ready, one of an earlier revision while
            // it is healthy.
            let counts = if current { ready } else { healthy };
            let instance = Instance { replica, placement, status, healthy: counts, ready };
            let is_unhealthy = status.is_some_and(|status| status.is_unhealthy(spec));
            let why = if self.service.removing {
                Some(StopReason::Removed)
            } else if self.service.is_leaving() {
                Some(StopReason::Stopped)
            } else if is_unhealthy && kills_first {
                Some(StopReason::Unhealthy)
            } else if !current {
                Some(StopReason::Replaced)
            } else if self.view.draining.contains(&placement.node) {
                Some(StopReason::Draining)
            } else if is_unhealthy {
                Some(StopReason::Unhealthy)
            } else {
                None
            };
            match why {
                Some(why) => classified.outgoing.push((why, instance)),
                None => classified.stay.push(instance),
            }
        }
        self.separate_surplus(&mut classified);
        classified
    }

    /// Whether an instance on a lost node is not replaced yet. Wakes the planner when that changes.
    fn may_return(&mut self, placement: &Placement) -> bool {
        if !placement.is_wanted() {
            return false;
        }
        match self.view.given_up_at(self.service, placement) {
            Some(at) if at <= self.view.now => false,
            Some(at) => {
                self.plan.wake(at);
                true
            }
            None => true,
        }
    }

    /// Whether an unhealthy instance must terminate before its replacement is placed.
    fn kills_first(&self) -> bool {
        self.service.spec().rollout.unhealthy == Unhealthy::KillFirst
    }

    /// Terminates all but the newest of several unhealthy instances in one slot: the replacement is
    /// unhealthy as well, and the next one waits for the back-off of the slot. Where unhealthy
    /// instances are killed first, the newest terminates as well.
    fn terminate_unhealthy(&mut self, classified: &mut Classified<'a>) {
        let unhealthy = |(why, _): &(StopReason, Instance<'_>)| *why == StopReason::Unhealthy;
        let mut newest = BTreeMap::new();
        for (_, instance) in classified.outgoing.iter().filter(|entry| unhealthy(entry)) {
            newest.insert(instance.replica.slot, instance.replica);
        }
        let kills_first = self.kills_first();
        let is_superseded = |entry: &mut (StopReason, Instance<'_>)| {
            unhealthy(entry) && (kills_first || newest[&entry.1.replica.slot] != entry.1.replica)
        };
        let superseded: Vec<_> = classified.outgoing.extract_if(.., is_superseded).collect();
        for (why, instance) in superseded {
            self.terminated.fail(self.service, instance.replica, instance.placement, self.view.now);
            self.terminate(&instance, why);
            classified.terminates(instance.replica, kills_first);
        }
    }

    /// Whether a healthy instance is ready. Wakes the planner when it will have been healthy for
    /// long enough.
    fn is_ready(&mut self, status: Option<&Status>, spec: &Spec) -> bool {
        match status.and_then(|status| status.ready_at(spec)) {
            Some(at) if at <= self.view.now => true,
            Some(at) => {
                self.plan.wake(at);
                false
            }
            None => false,
        }
    }

    fn stop_once_drained(&mut self, replica: ReplicaId, until: Timestamp, why: StopReason) {
        let instance = self.id(replica);
        let drained = self.observed().is_drained(&instance, &self.view.gateways);
        if drained || self.view.now >= until {
            self.plan.steps.push(Step::Stop { instance, why });
        } else {
            // A gateway that becomes silent no longer delays the stop.
            let silent_at = self.view.gateway_silent_at;
            self.plan.wake(silent_at.map_or(until, |at| at.min(until)));
        }
    }

    /// Moves surplus instances to the outgoing ones. Those on lost nodes become lost: if their
    /// agent reports again, they are no longer assigned to it.
    fn separate_surplus(&self, classified: &mut Classified<'a>) {
        let wanted = self.service.wanted() as usize;
        let stay = std::mem::take(&mut classified.stay);
        let (stay, surplus) = surplus::split(self.view.state, self.service, stay, wanted);
        classified.stay = stay;
        for instance in surplus {
            match self.view.lost.contains(&instance.placement.node) {
                true => classified.lost.push(instance.replica),
                false => classified.outgoing.push((StopReason::Surplus, instance)),
            }
        }
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
        self.terminate_unhealthy(&mut classified);
        let placed = self.place_missing(&classified, budget);
        self.remove_lost(&classified, &placed.slots);
        self.terminate_outgoing(&classified, budget, healthy, placed.unplaced);
        self.explain(&classified);
        self.arrive(&classified);
    }

    /// Records progress: the move has begun, or more instances are ready than ever before.
    fn track(&mut self, classified: &Classified<'_>) {
        let Some((_, m)) = self.deployment else { return };
        let ready = classified.ready();
        if m.progressed_at.is_none() || ready > m.ready {
            self.plan.steps.push(Step::Progress { service: self.service.id.clone(), ready });
        }
    }

    fn deadline(&self) -> Option<Timestamp> {
        let (deployment, m) = self.deployment?;
        let running = deployment.stage == Stage::Running;
        let progressed_at = m.progressed_at.filter(|_| running)?;
        Some(self.observed().seen_from(progressed_at).after(self.service.spec().rollout.deadline))
    }

    /// Whether the service has made no progress until its deadline.
    fn has_failed(&mut self) -> bool {
        let progressing = self.plan.steps.last().is_some_and(
            |step| matches!(step, Step::Progress { service, .. } if *service == self.service.id),
        );
        match self.deadline() {
            None => false,
            Some(_) if progressing => {
                self.plan.wake(self.view.now.after(self.service.spec().rollout.deadline));
                false
            }
            Some(deadline) if deadline > self.view.now => {
                self.plan.wake(deadline);
                false
            }
            Some(_) => true,
        }
    }

    fn fail(&mut self, classified: &Classified<'_>) {
        let Some((deployment, m)) = self.deployment else { return };
        if classified.ready() == self.service.wanted() && classified.outgoing.is_empty() {
            // All instances are ready; only terminating ones are left.
            self.arrive(classified);
            return;
        }
        let deadline = self.service.spec().rollout.deadline;
        let cause = match self.laggard(classified) {
            Some(laggard) => Stall::NotReady(laggard),
            None => {
                let (placed, wanted) = (classified.stay.len() as u32, self.service.wanted());
                Stall::Unplaced { placed, wanted }
            }
        };
        let revision = m.to.unwrap_or(self.service.target);
        let service = self.service.id.clone();
        let failure = Failure::Stalled { service: service.clone(), revision, deadline, cause };
        let reason = Arc::new(failure);
        self.failed.insert(deployment.id);
        self.plan.steps.push(Step::Fail { deployment: deployment.id, service, reason });
    }

    /// The first instance that stays and is not ready.
    fn laggard(&self, classified: &Classified<'_>) -> Option<Laggard> {
        let lagging = classified.stay.iter().find(|instance| !instance.ready)?;
        let node = lagging.placement.node.clone();
        let why = match self.view.lost.contains(&node) {
            true => Some(NotServing::Unreachable),
            false => not_serving(self.service, lagging.replica, lagging.status),
        };
        let why = why.unwrap_or(NotServing::JustStarted);
        Some(Laggard { instance: self.id(lagging.replica), node, why })
    }

    /// Places new instances in free slots.
    fn place_missing(&mut self, classified: &Classified<'_>, budget: Budget) -> Placed {
        let missing = self.service.wanted().saturating_sub(classified.stay.len() as u32);
        if missing == 0 {
            return Placed::default();
        }
        let come = budget.may_start(missing, classified.live()) as usize;
        let taken: BTreeSet<u32> =
            classified.stay.iter().map(|instance| instance.replica.slot).collect();
        let open = (0u32..).filter(|slot| !taken.contains(slot)).take(missing as usize);
        let open = open.filter(|slot| !classified.closed.contains(slot));
        let mut slots = Vec::new();
        let mut later: Option<Timestamp> = None;
        for slot in open {
            if slots.len() == come {
                break;
            }
            match self.terminated.placeable_at(self.service, slot) {
                at if at <= self.view.now => slots.push(slot),
                at => later = Some(later.map_or(at, |known| known.min(at))),
            }
        }
        if let Some(until) = later {
            self.plan.wake(until);
            self.plan.wait(&self.service.id, Wait::BackOff { until });
        }
        let Packed { placed: found, refusals } =
            self.packer.place(self.service, &slots, &self.terminated.reaped);
        let unplaced = (slots.len() - found.len()) as u32;
        let mut placed = Placed { unplaced, ..Placed::default() };
        for (instance, placement) in found {
            let Placement { revision, node, given, .. } = placement;
            placed.slots.insert(instance.replica.slot);
            self.plan.steps.push(Step::Place { instance, revision, node, given });
        }
        if let Some(nodes) = refusals {
            self.plan.wait(&self.service.id, Wait::NoNode { nodes });
        }
        if come < missing as usize && slots.len() == come {
            let (live, max) = (classified.live() + come as u32, budget.live_max);
            self.plan.wait(&self.service.id, Wait::Budget { live, max });
        }
        placed
    }

    /// Removes lost instances that have been replaced, and those beyond the number still missing.
    fn remove_lost(&mut self, classified: &Classified<'_>, placed: &BTreeSet<u32>) {
        let missing = self.service.wanted() as usize;
        let mut kept = missing.saturating_sub(classified.stay.len() + placed.len());
        for replica in &classified.lost {
            if kept > 0 && !placed.contains(&replica.slot) {
                kept -= 1;
            } else {
                let (instance, why) = (self.id(*replica), StopReason::Lost);
                self.plan.steps.push(Step::Forget { instance, why });
            }
        }
    }

    /// Terminates outgoing instances: healthy ones as far as `min_healthy` allows, unhealthy ones
    /// when that does not reduce availability. `unplaced` is the number of instances without a
    /// node.
    fn terminate_outgoing(
        &mut self,
        classified: &Classified<'a>,
        budget: Budget,
        healthy: u32,
        unplaced: u32,
    ) {
        let wanted = self.service.wanted();
        let ready_slots: BTreeSet<u32> =
            classified.stay.iter().filter(|i| i.ready).map(|i| i.replica.slot).collect();
        let all_ready = classified.ready() >= wanted;
        let mut may_stop = budget.may_stop(healthy);
        let mut healthy_stay = false;
        // Where the ceiling or the nodes leave no capacity for missing instances, unhealthy ones
        // terminate to free it.
        let missing = wanted.saturating_sub(classified.stay.len() as u32);
        let free = budget.live_max.saturating_sub(classified.live()) + classified.terminating;
        let mut to_free =
            missing.saturating_sub(free).max(unplaced.saturating_sub(classified.terminating));
        for (why, instance) in &classified.outgoing {
            let goes = if instance.healthy {
                let goes = may_stop > 0;
                may_stop -= u32::from(goes);
                goes
            } else if all_ready
                || *why == StopReason::Surplus
                || ready_slots.contains(&instance.replica.slot)
                || (*why != StopReason::Unhealthy && healthy >= budget.healthy_min)
            {
                true
            } else {
                let goes = to_free > 0;
                to_free -= u32::from(goes);
                goes
            };
            if goes {
                self.terminate(instance, *why);
            } else {
                healthy_stay |= instance.healthy;
            }
        }
        if healthy_stay {
            let min = budget.healthy_min;
            self.plan.wait(&self.service.id, Wait::Health { healthy, min });
        }
    }

    /// Terminates one instance: drains it first if it may have requests in flight.
    fn terminate(&mut self, instance: &Instance<'_>, why: StopReason) {
        let id = self.id(instance.replica);
        let drain = self.service.drain(instance.placement.revision);
        // Only the reports of gateways show that it has no requests. The current routes and its
        // phase do not: a gateway may still follow an earlier table, and the instance may run
        // again.
        let gateways = &self.view.gateways;
        let busy = !gateways.is_empty() && !self.observed().is_drained(&id, gateways);
        let step = if busy && drain.0 > 0 {
            let until = self.view.now.after(drain);
            self.plan.wake(until);
            Step::Drain { instance: id, until, why }
        } else {
            Step::Stop { instance: id, why }
        };
        self.plan.steps.push(step);
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
