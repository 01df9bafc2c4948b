//! The replacement of outgoing instances within the budget: new ones are placed, and old ones
//! terminate as far as enough others are healthy.

use std::collections::{BTreeMap, BTreeSet};

use model::{Placement, ReplicaId, Step, StopReason, Timestamp, Wait};

use super::Planning;
use super::classify::Classified;
use crate::instance::Instance;
use crate::packer::Packed;
use crate::rolling::Budget;

/// The new instances of a service in this plan.
#[derive(Default)]
pub(super) struct Placed {
    /// The slots that got an instance.
    pub(super) slots: BTreeSet<u32>,
    /// The number of instances that no node accepts.
    pub(super) unplaced: u32,
}

impl<'a> Planning<'a, '_> {
    /// Terminates all but the newest of several unhealthy instances in one slot: the replacement is
    /// unhealthy as well, and the next one waits for the back-off of the slot. Where unhealthy
    /// instances are killed first, the newest terminates as well.
    pub(super) fn terminate_unhealthy(&mut self, classified: &mut Classified<'a>) {
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

    /// Places new instances in free slots.
    pub(super) fn place_missing(&mut self, classified: &Classified<'_>, budget: Budget) -> Placed {
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
    pub(super) fn remove_lost(&mut self, classified: &Classified<'_>, placed: &BTreeSet<u32>) {
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
    pub(super) fn terminate_outgoing(
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
    pub(super) fn terminate(&mut self, instance: &Instance<'_>, why: StopReason) {
        let id = self.id(instance.replica);
        let step = match self.drain_until(instance.replica, instance.placement) {
            Some(until) => Step::Drain { instance: id, until, why },
            None => Step::Stop { instance: id, why },
        };
        self.plan.steps.push(step);
    }

    /// The deadline for finishing its requests, of an instance that may have some in flight. Wakes
    /// the planner when it passes.
    pub(super) fn drain_until(
        &mut self,
        replica: ReplicaId,
        placement: &Placement,
    ) -> Option<Timestamp> {
        let drain = self.service.drain(placement.revision);
        // Only the reports of gateways show that it has no requests. The current routes and its
        // phase do not: a gateway may still follow an earlier table, and the instance may run
        // again.
        let gateways = &self.view.gateways;
        let busy = !gateways.is_empty() && !self.observed().is_drained(&self.id(replica), gateways);
        let until = (busy && drain.0 > 0).then(|| self.view.now.after(drain))?;
        self.plan.wake(until);
        Some(until)
    }
}
