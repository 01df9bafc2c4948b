//! The instances of a service by their treatment in a plan: those that stay, those that leave, and
//! those that count no more.

use std::collections::BTreeSet;

use model::{Goal, Placement, ReplicaId, Spec, Status, Step, StopReason, Timestamp};

use super::Planning;
use crate::instance::Instance;
use crate::surplus;

/// The instances of a service by their treatment in this plan. Each is in exactly one of `stay`,
/// `outgoing`, `terminating` (as a count) and `lost`.
#[derive(Default)]
pub(super) struct Classified<'a> {
    pub(super) stay: Vec<Instance<'a>>,
    pub(super) outgoing: Vec<(StopReason, Instance<'a>)>,
    /// The number of instances that are draining or stopping.
    pub(super) terminating: u32,
    /// Slots that stay empty until their unhealthy instance has terminated.
    pub(super) closed: BTreeSet<u32>,
    /// Instances that would stay but are on lost nodes. They do not count, but are removed only
    /// once they are replaced: a node that reports again still runs them.
    pub(super) lost: Vec<ReplicaId>,
}

impl Classified<'_> {
    /// Counts a terminating instance. If it `closes` its slot, nothing is placed there until it has
    /// terminated.
    pub(super) fn terminates(&mut self, replica: ReplicaId, closes: bool) {
        self.terminating += 1;
        if closes {
            self.closed.insert(replica.slot);
        }
    }

    pub(super) fn live(&self) -> u32 {
        (self.stay.len() + self.outgoing.len()) as u32 + self.terminating
    }

    pub(super) fn healthy(&self) -> u32 {
        let outgoing = self.outgoing.iter().map(|(_, instance)| instance);
        self.stay.iter().chain(outgoing).filter(|instance| instance.healthy).count() as u32
    }

    pub(super) fn ready(&self) -> u32 {
        self.stay.iter().filter(|instance| instance.ready).count() as u32
    }
}

impl<'a> Planning<'a, '_> {
    /// Stops the drained instances and classifies the desired ones.
    pub(super) fn classify(&mut self) -> Classified<'a> {
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
        if self.has_drained(replica, until) {
            let instance = self.id(replica);
            self.plan.steps.push(Step::Stop { instance, why });
        }
    }

    /// Whether an instance has finished its requests or `until` has passed. Otherwise wakes the
    /// planner when that may change without a report.
    pub(super) fn has_drained(&mut self, replica: ReplicaId, until: Timestamp) -> bool {
        let drained = self.observed().is_drained(&self.id(replica), &self.view.gateways);
        let has_drained = drained || self.view.now >= until;
        if !has_drained {
            // A gateway that becomes silent no longer delays the drain.
            let silent_at = self.view.gateway_silent_at;
            self.plan.wake(silent_at.map_or(until, |at| at.min(until)));
        }
        has_drained
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
}
