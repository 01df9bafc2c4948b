//! The steps that suspend the instances of a paused service and resume those of a started one.
//!
//! Both wait for the agent in both directions: an instance is paused anew only once it has been
//! resumed, and resumed only once its agent has confirmed the suspension. So the last report on an
//! instance never precedes the assignment that it seems to confirm, and no route leads to processes
//! that are about to be suspended.

use std::collections::BTreeSet;

use model::{
    GOALS, Laggard, NodeId, NotServing, Pause, PauseReport, Placement, ReplicaId, Status, Step,
    StopReason, Wait,
};

use super::{Classified, Planning};
use crate::order;

/// The instances of a paused service that are not suspended yet.
#[derive(Default)]
struct Pending {
    count: u32,
    /// The first one whose agent cannot suspend it.
    failed: Option<Box<Laggard>>,
    /// Instances whose agents are too old.
    unsupported: u32,
}

impl<'a> Planning<'a, '_> {
    /// Suspends the instances of a paused service, after those of services that depend on it. None
    /// is placed or replaced; those that are surplus, or on nodes that are being drained, terminate.
    pub(super) fn pause(&mut self, classified: Classified<'a>) {
        let on = order::dependents(self.view, self.service);
        if !on.is_empty() {
            self.plan.wait(&self.service.id, Wait::Dependents { on });
            return;
        }
        let mut terminated = BTreeSet::new();
        for (why, instance) in &classified.outgoing {
            if matches!(why, StopReason::Surplus | StopReason::Draining) {
                self.terminate(instance, *why);
                terminated.insert(instance.replica);
            }
        }
        let mut pending = Pending::default();
        for (replica, placement, status) in self.service_view.instances() {
            let stays = placement.is_wanted()
                && !terminated.contains(&replica)
                && !self.terminated.reaped.contains(&replica);
            if stays {
                self.pause_instance(replica, placement, status, &mut pending);
            }
        }
        let Pending { count, failed, unsupported } = pending;
        if count > 0 {
            self.plan.wait(&self.service.id, Wait::Pausing { count, failed });
        }
        self.explain_unsupported();
        let is_over = count + unsupported + classified.terminating == 0 && terminated.is_empty();
        if self.deployment.is_some() && is_over {
            self.plan.steps.push(Step::Arrive { service: self.service.id.clone() });
        }
        let outgoing = classified.outgoing.len() as u32 - terminated.len() as u32;
        let missing = self.service.wanted().saturating_sub(classified.stay.len() as u32);
        let missing = missing.saturating_sub(outgoing);
        if missing + outgoing > 0 {
            self.plan.wait(&self.service.id, Wait::Paused { missing, outgoing });
        }
    }

    fn pause_instance(
        &mut self,
        replica: ReplicaId,
        placement: &Placement,
        status: Option<&Status>,
        pending: &mut Pending,
    ) {
        let report = status.and_then(|status| status.pause.as_ref());
        let is_lost = self.view.lost.contains(&placement.node);
        match placement.pause {
            // Once its node reports again, it is suspended. Nothing confirms that until then.
            _ if is_lost && placement.is_suspended() => {}
            None | Some(Pause::Drain { .. }) if is_lost => self.suspend(replica),
            None if self.is_too_old(&placement.node) => pending.unsupported += 1,
            // Its agent has not resumed it yet.
            None if report == Some(&PauseReport::Suspended) => pending.count += 1,
            None => {
                pending.count += 1;
                match self.drain_until(replica, placement) {
                    Some(until) => {
                        let (instance, pause) = (self.id(replica), Pause::Drain { until });
                        self.plan.steps.push(Step::Pause { instance, pause });
                    }
                    None => self.suspend(replica),
                }
            }
            Some(Pause::Drain { until }) => {
                pending.count += 1;
                if self.has_drained(replica, until) {
                    self.suspend(replica);
                }
            }
            Some(Pause::Suspend) => match report {
                Some(PauseReport::Suspended) => {}
                Some(PauseReport::Failed { message }) => {
                    pending.count += 1;
                    let why = NotServing::Pausing { failure: Some(message.clone()) };
                    let (instance, node) = (self.id(replica), placement.node.clone());
                    pending.failed.get_or_insert(Box::new(Laggard { instance, node, why }));
                }
                None => pending.count += 1,
            },
        }
    }

    fn suspend(&mut self, replica: ReplicaId) {
        let (instance, pause) = (self.id(replica), Pause::Suspend);
        self.plan.steps.push(Step::Pause { instance, pause });
    }

    /// Resumes the paused instances of a service that is to run.
    pub(super) fn resume(&mut self, classified: &Classified<'a>) {
        let outgoing = classified.outgoing.iter().map(|(_, instance)| instance);
        for instance in classified.stay.iter().chain(outgoing) {
            let placement = instance.placement;
            let is_confirmed = || instance.status.is_some_and(|status| status.pause.is_some());
            let may_resume = match placement.pause {
                None => false,
                Some(Pause::Drain { .. }) => true,
                Some(Pause::Suspend) => is_confirmed() || self.is_too_old(&placement.node),
            };
            if may_resume {
                self.plan.steps.push(Step::Resume { instance: self.id(instance.replica) });
            }
        }
    }

    fn is_too_old(&self, node: &NodeId) -> bool {
        let node = self.view.state.node(node);
        node.is_some_and(|node| node.node.software.lacks(GOALS).is_some())
    }
}
