//! What one service needs done now.
//!
//! Reads from top to bottom as the life of its instances: those that are over are forgotten, those
//! whose requests are done are stopped, then the rest is sorted into instances that stay and
//! outgoing ones, and the budget says how many of these may go and how many may come. Nothing here
//! remembers anything: what a rollout has done so far is seen in the instances.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::{
    Deployment, DeploymentId, Failure, Goal, InstanceId, Laggard, Move, NotServing, Observed,
    Placement, ReplicaId, Service, Spec, Stage, Stall, Status, Step, StopReason, Timestamp,
    Unhealthy, Wait, not_serving,
};

use crate::ended::Ended;
use crate::instance::{Instance, Subject};
use crate::rolling::{self, Budget};
use crate::room::{Places, Room};
use crate::surplus;
use crate::view::View;
use crate::{Plan, order};

/// The instances of a service, sorted by what should become of them.
#[derive(Default)]
struct Sorted<'a> {
    stay: Vec<Instance<'a>>,
    outgoing: Vec<(StopReason, Instance<'a>)>,
    /// Those that were told to leave and have not ended.
    leaving: u32,
    /// Slots whose unhealthy instance must have ended before they are filled again.
    closed: BTreeSet<u32>,
    /// Those that would stay, on nodes that have been silent for too long. They do not count; but
    /// they are given up only for a replacement, since a node that calls again still runs them.
    lost: Vec<ReplicaId>,
}

/// The new instances of a plan.
#[derive(Default)]
struct Brought {
    /// The slots that were filled.
    slots: BTreeSet<u32>,
    /// How many found no node.
    unplaced: u32,
}

impl Sorted<'_> {
    /// One is told to leave; if that `closes` its slot, nothing is placed there until it has ended.
    fn leave(&mut self, replica: ReplicaId, closes: bool) {
        self.leaving += 1;
        if closes {
            self.closed.insert(replica.slot);
        }
    }

    fn live(&self) -> u32 {
        (self.stay.len() + self.outgoing.len()) as u32 + self.leaving
    }

    fn healthy(&self) -> u32 {
        let outgoing = self.outgoing.iter().map(|(_, instance)| instance);
        self.stay.iter().chain(outgoing).filter(|instance| instance.healthy).count() as u32
    }

    fn ready(&self) -> u32 {
        self.stay.iter().filter(|instance| instance.ready).count() as u32
    }
}

/// Appends to `plan` what `service` needs done now, and what it waits for, once what has ended of
/// it is forgotten.
pub(crate) fn plan(
    view: &View<'_>,
    subject: Subject<'_>,
    ended: Ended,
    room: &mut Room,
    plan: &mut Plan,
    failed: &mut BTreeSet<DeploymentId>,
) {
    let service = subject.service;
    if let Some(deployment) = service.deployment.filter(|id| failed.contains(id)) {
        // It fails in this very plan, and turns its services back before they go on.
        plan.wait(&service.id, Wait::Still { why: format!("{deployment} fails") });
        return;
    }
    let deployment = deployment(view, service);
    Planning { view, subject, service, deployment, ended, room, plan, failed }.run();
}

fn deployment<'a>(view: &View<'a>, service: &Service) -> Option<(&'a Deployment, &'a Move)> {
    let deployment = view.state.deployment_of(service)?;
    Some((deployment, deployment.moving(&service.id)?))
}

struct Planning<'a, 'p> {
    view: &'a View<'a>,
    subject: Subject<'a>,
    service: &'a Service,
    /// The deployment that moves the service, if one does, and the service's part in it.
    deployment: Option<(&'a Deployment, &'a Move)>,
    ended: Ended,
    room: &'p mut Room,
    plan: &'p mut Plan,
    /// The deployments that fail in this plan.
    failed: &'p mut BTreeSet<DeploymentId>,
}

impl<'a> Planning<'a, '_> {
    fn run(mut self) {
        let sorted = self.sort();
        if sorted.leaving > 0 {
            self.plan.wait(&self.service.id, Wait::Leaving { count: sorted.leaving });
        }
        if let Some((deployment, _)) = self.deployment.filter(|(d, _)| d.stage.is_still()) {
            let why = match &deployment.stage {
                Stage::Held { reason } => format!("{} is held: {reason}", deployment.id),
                _ => format!("{} is paused", deployment.id),
            };
            self.plan.wait(&self.service.id, Wait::Still { why });
            return;
        }
        if self.service.removing {
            self.remove(sorted);
        } else {
            self.move_on(sorted);
        }
    }

    fn id(&self, replica: ReplicaId) -> InstanceId {
        InstanceId { service: self.service.id.clone(), replica }
    }

    fn observed(&self) -> &'a Observed {
        self.view.observed
    }

    /// Stops what is drained, and sorts what is wanted.
    fn sort(&mut self) -> Sorted<'a> {
        let mut sorted = Sorted::default();
        let target = self.service.target().template;
        let kills_first = self.kills_first();
        for (replica, placement, status) in self.subject.instances() {
            if self.ended.gone.contains(&replica) {
                continue;
            }
            if self.view.lost.contains(&placement.node) {
                if self.is_waited_for(placement) {
                    let (healthy, ready) = (false, false);
                    sorted.stay.push(Instance { replica, placement, status, healthy, ready });
                } else {
                    sorted.lost.push(replica);
                }
                continue;
            }
            match &placement.goal {
                Goal::Run => {}
                Goal::Drain { until, why } => {
                    self.stop_once_drained(replica, *until, *why);
                    sorted.leave(replica, kills_first && *why == StopReason::Unhealthy);
                    continue;
                }
                Goal::Stop { why } => {
                    sorted.leave(replica, kills_first && *why == StopReason::Unhealthy);
                    continue;
                }
            }
            let spec = self.service.running_spec(placement.revision);
            let healthy = status.is_some_and(|status| status.is_healthy(spec));
            let current = self.service.template(placement.revision) == target;
            let ready = healthy && self.is_ready(status, spec);
            // A new instance counts once it is ready; one of an earlier revision as long as it is
            // healthy.
            let counts = if current { ready } else { healthy };
            let instance = Instance { replica, placement, status, healthy: counts, ready };
            let is_unhealthy = status.is_some_and(|status| status.is_unhealthy(spec));
            let why = if self.service.removing {
                Some(StopReason::Removed)
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
                Some(why) => sorted.outgoing.push((why, instance)),
                None => sorted.stay.push(instance),
            }
        }
        self.sort_out_surplus(&mut sorted);
        sorted
    }

    /// Whether an instance on a node that is lost may still come back before it is replaced; if
    /// it is given up at some time, plans for then.
    fn is_waited_for(&mut self, placement: &Placement) -> bool {
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

    /// Whether an unhealthy instance has to end before its replacement comes.
    fn kills_first(&self) -> bool {
        self.service.spec().rollout.unhealthy == Unhealthy::KillFirst
    }

    /// Of several unhealthy instances in one slot all but the newest go: their replacement has
    /// come and is no better, and the next one is to wait until the slot may be placed again.
    /// Where unhealthy ones are killed first, the newest goes as well.
    fn give_up_unhealthy(&mut self, sorted: &mut Sorted<'a>) {
        let unhealthy = |(why, _): &(StopReason, Instance<'_>)| *why == StopReason::Unhealthy;
        let mut newest = BTreeMap::new();
        for (_, instance) in sorted.outgoing.iter().filter(|entry| unhealthy(entry)) {
            newest.insert(instance.replica.slot, instance.replica);
        }
        let kills_first = self.kills_first();
        let no_use = |entry: &mut (StopReason, Instance<'_>)| {
            unhealthy(entry) && (kills_first || newest[&entry.1.replica.slot] != entry.1.replica)
        };
        let given_up: Vec<_> = sorted.outgoing.extract_if(.., no_use).collect();
        for (why, instance) in given_up {
            self.ended.fail(self.service, instance.replica, instance.placement, self.view.now);
            self.let_go(&instance, why);
            sorted.leave(instance.replica, kills_first);
        }
    }

    /// Whether a healthy instance is ready by now; if it only has to settle, plans for then.
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
            // A gateway that falls silent is not waited for any longer.
            let silent_at = self.view.gateway_silent_at;
            self.plan.wake(silent_at.map_or(until, |at| at.min(until)));
        }
    }

    /// Moves those that are too many to the outgoing ones. Those on lost nodes are given up: their
    /// agent, if it calls again, finds them no longer assigned.
    fn sort_out_surplus(&self, sorted: &mut Sorted<'a>) {
        let wanted = self.service.wanted() as usize;
        let stay = std::mem::take(&mut sorted.stay);
        let (stay, surplus) = surplus::split(self.view.state, self.service, stay, wanted);
        sorted.stay = stay;
        for instance in surplus {
            match self.view.lost.contains(&instance.placement.node) {
                true => sorted.lost.push(instance.replica),
                false => sorted.outgoing.push((StopReason::Surplus, instance)),
            }
        }
    }

    /// A service that goes away: everything stops, after the services that depend on it.
    fn remove(&mut self, sorted: Sorted<'a>) {
        let on = order::dependents(self.view, self.service);
        if !on.is_empty() {
            self.plan.wait(&self.service.id, Wait::Dependents { on });
            return;
        }
        if self.ended.gone.len() == self.service.placements.len() {
            self.plan.steps.push(Step::Arrive { service: self.service.id.clone() });
        }
        for (why, instance) in sorted.outgoing {
            self.let_go(&instance, why);
        }
    }

    /// A service that stays: outgoing instances are replaced within the budget.
    fn move_on(&mut self, mut sorted: Sorted<'a>) {
        if self.deployment.is_some() {
            let on = order::dependencies(self.view, self.service);
            if !on.is_empty() {
                self.plan.wait(&self.service.id, Wait::Dependencies { on });
                return;
            }
        }
        let wanted = self.service.wanted();
        let healthy = sorted.healthy();
        let budget = rolling::budget(&self.service.spec().rollout, wanted, healthy);
        self.track(&sorted);
        if self.has_failed() {
            self.fail(&sorted);
            return;
        }
        self.give_up_unhealthy(&mut sorted);
        let brought = self.bring(&sorted, budget);
        self.give_up_lost(&sorted, &brought.slots);
        self.release(&sorted, budget, healthy, brought.unplaced);
        self.explain(&sorted);
        self.arrive(&sorted);
    }

    /// Records that the service has begun to move, or that more of it is ready than ever before.
    fn track(&mut self, sorted: &Sorted<'_>) {
        let Some((_, m)) = self.deployment else { return };
        let ready = sorted.ready();
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

    /// Whether the service has made no progress for so long that its deployment has failed.
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

    fn fail(&mut self, sorted: &Sorted<'_>) {
        let Some((deployment, m)) = self.deployment else { return };
        if sorted.ready() == self.service.wanted() && sorted.outgoing.is_empty() {
            // Everything is there; it only waits for leaving instances to end.
            self.arrive(sorted);
            return;
        }
        let deadline = self.service.spec().rollout.deadline;
        let cause = match self.laggard(sorted) {
            Some(laggard) => Stall::NotReady(laggard),
            None => {
                let (placed, wanted) = (sorted.stay.len() as u32, self.service.wanted());
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

    /// The first instance that should be ready and is not.
    fn laggard(&self, sorted: &Sorted<'_>) -> Option<Laggard> {
        let lagging = sorted.stay.iter().find(|instance| !instance.ready)?;
        let node = lagging.placement.node.clone();
        let why = match self.view.lost.contains(&node) {
            true => Some(NotServing::Unreachable),
            false => not_serving(self.service, lagging.replica, lagging.status),
        };
        let why = why.unwrap_or(NotServing::JustStarted);
        Some(Laggard { instance: self.id(lagging.replica), node, why })
    }

    /// Places new instances in open slots.
    fn bring(&mut self, sorted: &Sorted<'_>, budget: Budget) -> Brought {
        let missing = self.service.wanted().saturating_sub(sorted.stay.len() as u32);
        if missing == 0 {
            return Brought::default();
        }
        let come = budget.may_come(missing, sorted.live()) as usize;
        let taken: BTreeSet<u32> =
            sorted.stay.iter().map(|instance| instance.replica.slot).collect();
        let open = (0u32..).filter(|slot| !taken.contains(slot)).take(missing as usize);
        let open = open.filter(|slot| !sorted.closed.contains(slot));
        let mut slots = Vec::new();
        let mut later: Option<Timestamp> = None;
        for slot in open {
            if slots.len() == come {
                break;
            }
            match self.ended.placeable_at(self.service, slot) {
                at if at <= self.view.now => slots.push(slot),
                at => later = Some(later.map_or(at, |known| known.min(at))),
            }
        }
        if let Some(until) = later {
            self.plan.wake(until);
            self.plan.wait(&self.service.id, Wait::BackOff { until });
        }
        let Places { placed, refusals } = self.room.place(self.service, &slots, &self.ended.gone);
        let mut brought =
            Brought { unplaced: (slots.len() - placed.len()) as u32, ..Brought::default() };
        for (instance, placement) in placed {
            let Placement { revision, node, given, .. } = placement;
            brought.slots.insert(instance.replica.slot);
            self.plan.steps.push(Step::Place { instance, revision, node, given });
        }
        if let Some(nodes) = refusals {
            self.plan.wait(&self.service.id, Wait::NoNode { nodes });
        }
        if come < missing as usize && slots.len() == come {
            let (live, max) = (sorted.live() + come as u32, budget.live_max);
            self.plan.wait(&self.service.id, Wait::Budget { live, max });
        }
        brought
    }

    /// Forgets lost instances that have been replaced, and those beyond what is still missing.
    fn give_up_lost(&mut self, sorted: &Sorted<'_>, placed: &BTreeSet<u32>) {
        let missing = self.service.wanted() as usize;
        let mut kept = missing.saturating_sub(sorted.stay.len() + placed.len());
        for replica in &sorted.lost {
            if kept > 0 && !placed.contains(&replica.slot) {
                kept -= 1;
            } else {
                let (instance, why) = (self.id(*replica), StopReason::Lost);
                self.plan.steps.push(Step::Forget { instance, why });
            }
        }
    }

    /// Lets outgoing instances go: healthy ones as far as the floor allows, unhealthy ones when
    /// that makes nothing worse. `unplaced` new ones found no node.
    fn release(&mut self, sorted: &Sorted<'a>, budget: Budget, healthy: u32, unplaced: u32) {
        let wanted = self.service.wanted();
        let ready_slots: BTreeSet<u32> =
            sorted.stay.iter().filter(|i| i.ready).map(|i| i.replica.slot).collect();
        let all_ready = sorted.ready() >= wanted;
        let mut may_leave = budget.may_leave(healthy);
        let mut some_stay = false;
        // Where the ceiling or the nodes leave no room for what is missing, unhealthy ones make it.
        let missing = wanted.saturating_sub(sorted.stay.len() as u32);
        let free = budget.live_max.saturating_sub(sorted.live()) + sorted.leaving;
        let mut make_room =
            missing.saturating_sub(free).max(unplaced.saturating_sub(sorted.leaving));
        for (why, instance) in &sorted.outgoing {
            let goes = if instance.healthy {
                let goes = may_leave > 0;
                may_leave -= u32::from(goes);
                goes
            } else if all_ready
                || *why == StopReason::Surplus
                || ready_slots.contains(&instance.replica.slot)
                || (*why != StopReason::Unhealthy && healthy >= budget.healthy_min)
            {
                true
            } else {
                let goes = make_room > 0;
                make_room -= u32::from(goes);
                goes
            };
            if goes {
                self.let_go(instance, *why);
            } else {
                some_stay |= instance.healthy;
            }
        }
        if some_stay {
            let min = budget.healthy_min;
            self.plan.wait(&self.service.id, Wait::Health { healthy, min });
        }
    }

    /// Tells one instance to leave: first its requests are finished, if it may have any.
    fn let_go(&mut self, instance: &Instance<'_>, why: StopReason) {
        let id = self.id(instance.replica);
        let drain = self.service.drain(instance.placement.revision);
        // Whether a route leads to its service now, or whether it runs, says nothing: gateways may
        // still follow a table of before, and it may run again. Only their word counts.
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

    fn explain(&mut self, sorted: &Sorted<'_>) {
        if let Some(laggard) = self.laggard(sorted) {
            let (ready, wanted) = (sorted.ready(), self.service.wanted());
            let next = Some(Box::new(laggard));
            self.plan.wait(&self.service.id, Wait::Ready { ready, wanted, next });
        }
    }

    /// The service is where it should be once all its instances are ready and the others gone.
    fn arrive(&mut self, sorted: &Sorted<'_>) {
        let there = sorted.ready() == self.service.wanted()
            && sorted.outgoing.is_empty()
            && sorted.leaving == 0;
        if self.deployment.is_some() && there {
            self.plan.steps.push(Step::Arrive { service: self.service.id.clone() });
        }
    }
}
