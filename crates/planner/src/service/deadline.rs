//! The progress of a move, and its failure at the deadline: of a deployment on its way forward, and of
//! one that rolls back.

use std::sync::Arc;

use model::{Failure, Laggard, NotServing, Stage, Stall, Step, Timestamp, not_serving};

use super::Planning;
use super::classify::Classified;

impl Planning<'_, '_> {
    /// Records progress: the move has begun, or more instances are ready than ever before.
    pub(super) fn track(&mut self, classified: &Classified<'_>) {
        let Some((_, m)) = self.deployment else { return };
        let ready = classified.ready();
        if m.progressed_at.is_none() || ready > m.ready {
            self.plan.steps.push(Step::Progress { service: self.service.id.clone(), ready });
        }
    }

    fn deadline(&self) -> Option<Timestamp> {
        let progressed_at = self.deployment?.1.progressed_at?;
        Some(self.observed().seen_from(progressed_at).after(self.service.spec().rollout.deadline))
    }

    /// Whether the service has made no progress until its deadline.
    pub(super) fn has_failed(&mut self) -> bool {
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

    pub(super) fn fail(&mut self, classified: &Classified<'_>) {
        let Some((deployment, _)) = self.deployment else { return };
        if classified.ready() == self.service.wanted() && classified.outgoing.is_empty() {
            // All instances are ready; only terminating ones are left.
            self.arrive(classified);
            return;
        }
        let deadline = self.service.spec().rollout.deadline;
        let cause = match self.laggard(classified) {
            Some(laggard) => Stall::NotReady(laggard),
            None => self.unplaced(classified),
        };
        let revision = self.service.target;
        let service = self.service.id.clone();
        let failure = Failure::Stalled { service: service.clone(), revision, deadline, cause };
        let reason = Arc::new(failure);
        if deployment.stage == Stage::Running {
            // Its services roll back. If it rolls back already, the others go on.
            self.failed.insert(deployment.id);
        }
        self.plan.steps.push(Step::Fail { deployment: deployment.id, service, reason });
    }

    /// Why the next missing instance is not placed, as it was shown while the service waited.
    fn unplaced(&mut self, classified: &Classified<'_>) -> Stall {
        const NAMED: usize = 10;
        let wanted = self.service.wanted();
        let is_taken = |slot: &u32| classified.stay.iter().any(|one| one.replica.slot == *slot);
        let slot = (0..wanted).find(|slot| !is_taken(slot)).unwrap_or(0);
        let packed = self.packer.place(self.service, &[slot], &self.terminated.reaped);
        let refusals = packed.refusals.as_deref().unwrap_or_default();
        Stall::Unplaced {
            placed: classified.stay.len() as u32,
            wanted,
            nodes: refusals.iter().take(NAMED).cloned().collect(),
            node_count: refusals.len(),
            failures: self.service.slot(slot).failures as usize,
        }
    }

    /// The first instance that stays and is not ready.
    pub(super) fn laggard(&self, classified: &Classified<'_>) -> Option<Laggard> {
        let lagging = classified.stay.iter().find(|instance| !instance.ready)?;
        let node = lagging.placement.node.clone();
        let why = match self.view.lost.contains(&node) {
            true => Some(NotServing::Unreachable),
            false => not_serving(self.service, lagging.replica, lagging.status),
        };
        let why = why.unwrap_or(NotServing::JustStarted);
        Some(Laggard { instance: self.id(lagging.replica), node, why })
    }
}
