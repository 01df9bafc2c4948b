//! Steering of deployments: pause, resume, abort, fail.

use std::sync::Arc;

use crate::changeset::{Changeset, Outcome};
use crate::deployment::{Move, MoveState, Stage};
use crate::event::{About, What};
use crate::failure::Failure;
use crate::id::{DeploymentId, RevisionNumber, ServiceId};
use crate::nearest::nearest;
use crate::object::Key;
use crate::outcome::ChangeKind;
use crate::proposal::Steer;
use crate::refusal::Refusal;
use crate::revision::RevisionOutcome;
use crate::service::FailedRevision;
use crate::spec::OnFailure;
use crate::state::State;
use crate::unit::Timestamp;

impl State {
    pub(crate) fn steer(&mut self, id: DeploymentId, how: Steer, at: Timestamp) -> Outcome {
        let Some(deployment) = self.deployments.get(&id) else {
            let names: Vec<_> = self.deployments.keys().map(DeploymentId::to_string).collect();
            let name = id.to_string();
            let nearest = nearest(&name, names.iter().map(String::as_str));
            return Err(Refusal::Unknown { kind: "deployment".into(), name, nearest });
        };
        let stage = match (how, &deployment.stage) {
            (_, stage) if stage.is_over() => {
                let message = format!("{id} is over: {}", stage.word());
                return Err(Refusal::Conflict { message });
            }
            (Steer::Pause, Stage::Running) => Stage::Paused,
            (Steer::Pause, Stage::Paused) | (Steer::Resume, Stage::Running) => {
                let mut applied = Changeset::default();
                applied.change("deployment", id, ChangeKind::Unchanged);
                return Ok(applied);
            }
            (Steer::Resume, Stage::Paused | Stage::Held { .. }) => Stage::Running,
            (Steer::Abort, Stage::Running | Stage::Paused | Stage::Held { .. }) => {
                let mut applied = self.roll_back(id, None, Arc::new(Failure::Aborted), at)?;
                applied.change("deployment", id, ChangeKind::Updated);
                return Ok(applied);
            }
            (Steer::Abort, Stage::RollingBack { .. }) => {
                let moving = deployment.moves.iter().filter(|m| m.state == MoveState::Moving);
                let moving: Vec<_> = moving.map(|m| m.service.clone()).collect();
                let mut applied = self.abandon(id, &moving, Arc::new(Failure::Aborted), at)?;
                applied.change("deployment", id, ChangeKind::Updated);
                return Ok(applied);
            }
            (Steer::Pause, Stage::Held { .. }) => {
                let message = format!("{id} is held already: resume it, abort it, or apply again");
                return Err(Refusal::Conflict { message });
            }
            _ => {
                let message = format!(
                    "{id} is rolling back: it ends by itself, at the latest after the deadline of \
                     the earlier revisions; `muster rollout abort {id}` ends it now"
                );
                return Err(Refusal::Conflict { message });
            }
        };
        let mut applied =
            Changeset { changed: [Key::Deployment(id)].into(), ..Changeset::default() };
        let what = match stage {
            Stage::Paused => What::DeploymentPaused,
            _ => What::DeploymentResumed,
        };
        applied.event(at, About::Deployment(id), what);
        applied.change("deployment", id, ChangeKind::Updated);
        let deployment = self.deployments.get_mut(&id).map(Arc::make_mut);
        let deployment = deployment.ok_or(Refusal::Stale("the deployment is gone"))?;
        deployment.stage = stage;
        let mut moving = Vec::new();
        for m in deployment.moves.iter_mut().filter(|m| m.state == MoveState::Moving) {
            // The time while it was paused or held does not count towards the deadline.
            m.progressed_at = m.progressed_at.map(|_| at);
            moving.push(m.service.clone());
        }
        for id in moving {
            let service = self.service_mut(&id)?;
            if service.failed.take().is_some() {
                applied.changed.insert(Key::Service(id));
            }
        }
        Ok(applied)
    }

    /// Handles the failure of a service: the deployment rolls back or is held, as its spec says. If
    /// it rolls back already, the return of that service is given up.
    pub(crate) fn fail(
        &mut self,
        id: DeploymentId,
        failed: &ServiceId,
        reason: Arc<Failure>,
        at: Timestamp,
    ) -> Outcome {
        let deployment = self.deployments.get(&id);
        let moving = deployment.and_then(|one| Some((&one.stage, one.moving(failed)?.from)));
        let from = match moving {
            Some((Stage::Running, from)) => from,
            Some((Stage::RollingBack { .. }, _)) => {
                return self.abandon(id, std::slice::from_ref(failed), reason, at);
            }
            _ => return Err(Refusal::Stale("the deployment has advanced")),
        };
        let service = self.services.get(failed).ok_or(Refusal::Stale("the service is gone"))?;
        match (service.spec().rollout.on_failure, from) {
            (OnFailure::Rollback, Some(_)) => self.roll_back(id, Some(failed), reason, at),
            (OnFailure::Rollback, None) => {
                let reason = Arc::new(Failure::Irreversible { failure: reason });
                self.hold(id, Some(failed), reason, at)
            }
            (OnFailure::Hold, _) => self.hold(id, Some(failed), reason, at),
        }
    }

    /// Leaves the services of a failed deployment as they are until a user decides. `failed` is the
    /// service that caused the failure; `None` if a user did.
    fn hold(
        &mut self,
        id: DeploymentId,
        failed: Option<&ServiceId>,
        reason: Arc<Failure>,
        at: Timestamp,
    ) -> Outcome {
        let mut applied =
            Changeset { changed: [Key::Deployment(id)].into(), ..Changeset::default() };
        let deployment = self.deployments.get_mut(&id).map(Arc::make_mut);
        let deployment = deployment.ok_or(Refusal::Stale("the deployment is gone"))?;
        deployment.stage = Stage::Held { reason: Arc::clone(&reason) };
        let moves = deployment.moves.clone();
        for m in moves.iter().filter(|m| is_cause(m, failed)) {
            self.block_revision(m, &reason, at, &mut applied)?;
        }
        applied.event(at, About::Deployment(id), What::DeploymentHeld { reason });
        Ok(applied)
    }

    /// Moves every service of the deployment that has an earlier revision back to it. `failed` is the
    /// service that caused the failure; `None` if a user did. Then new services that have not arrived
    /// are removed: nothing came before them.
    fn roll_back(
        &mut self,
        id: DeploymentId,
        failed: Option<&ServiceId>,
        reason: Arc<Failure>,
        at: Timestamp,
    ) -> Outcome {
        let deployment = self.deployments.get(&id).ok_or(Refusal::Stale("it is gone"))?;
        let mut moves = deployment.moves.clone();
        let is_new = |m: &Move| m.state == MoveState::Moving && m.from.is_none() && m.to.is_some();
        let back = moves.iter().map(|m| match self.rollback_target(m) {
            Some(target) => Some(Back::To(target)),
            None => (failed.is_none() && is_new(m)).then_some(Back::Removal),
        });
        let back: Vec<_> = back.collect();
        if back.iter().all(Option::is_none) {
            let reason = Arc::new(Failure::Irreversible { failure: reason });
            return self.hold(id, failed, reason, at);
        }
        let mut applied =
            Changeset { changed: [Key::Deployment(id)].into(), ..Changeset::default() };
        for (m, back) in moves.iter_mut().zip(back) {
            let is_cause = is_cause(m, failed);
            match back {
                Some(back) => {
                    m.state = MoveState::Moving;
                    m.ready = 0;
                    m.progressed_at = None;
                    let before = self.service(&m.service).map(Arc::clone);
                    let before = before.as_ref().filter(|service| !service.removing);
                    let service = self.service_mut(&m.service)?;
                    service.removing = back == Back::Removal;
                    if let Back::To(target) = back {
                        service.target = target;
                    }
                    if let Some(change) = m.run {
                        service.run = change.from;
                    }
                    service.deployment = Some(id);
                    service.slots.iter_mut().for_each(|slot| slot.failures = 0);
                    self.recount(&m.service);
                    let before = before.map(|service| service.spec().as_ref());
                    self.emit_lost_routes(&m.service, before, at, &mut applied);
                }
                // A new service has no earlier revision and stays.
                None if m.state == MoveState::Moving => {
                    m.state = MoveState::Abandoned;
                    self.service_mut(&m.service)?.deployment = None;
                }
                None => continue,
            }
            applied.changed.insert(Key::Service(m.service.clone()));
            if is_cause {
                self.block_revision(m, &reason, at, &mut applied)?;
            } else {
                self.withdraw_revision(m, &reason, at, &mut applied);
            }
        }
        if let Some(deployment) = self.deployments.get_mut(&id).map(Arc::make_mut) {
            deployment.moves = moves;
            deployment.stage = Stage::RollingBack { reason: Arc::clone(&reason) };
        }
        applied.event(at, About::Deployment(id), What::DeploymentRollingBack { reason });
        Ok(applied)
    }

    /// Gives up the return of services to their earlier revisions. They stay as they are, without a
    /// deployment: the planner still brings them there if it can.
    fn abandon(
        &mut self,
        id: DeploymentId,
        services: &[ServiceId],
        failure: Arc<Failure>,
        at: Timestamp,
    ) -> Outcome {
        let mut applied =
            Changeset { changed: [Key::Deployment(id)].into(), ..Changeset::default() };
        for service in services {
            let deployment = self.deployments.get_mut(&id).map(Arc::make_mut);
            if let Some(m) = deployment.and_then(|deployment| deployment.move_mut(service)) {
                m.state = MoveState::Abandoned;
                m.failure = Some(Arc::clone(&failure));
            }
            let known = self.service_mut(service)?;
            (known.deployment, known.removing) = (None, false);
            applied.changed.insert(Key::Service(service.clone()));
        }
        if let Some(what) = self.end_if_complete(id, at) {
            applied.event(at, About::Deployment(id), what);
        }
        self.prune_deployments(&mut applied);
        Ok(applied)
    }

    /// Ends a deployment once it moves no service any more. Returns the event of its end.
    pub(crate) fn end_if_complete(&mut self, id: DeploymentId, at: Timestamp) -> Option<What> {
        let deployment = Arc::make_mut(self.deployments.get_mut(&id)?);
        if deployment.is_moving() {
            return None;
        }
        let given_up = deployment.moves.iter().find_map(|m| m.failure.clone());
        let (stage, what) = match (&deployment.stage, given_up) {
            (Stage::RollingBack { reason }, None) => (
                Stage::RolledBack { reason: Arc::clone(reason), at },
                What::DeploymentRolledBack { reason: Arc::clone(reason) },
            ),
            (Stage::RollingBack { reason }, Some(cause)) => (
                Stage::RollbackFailed { reason: Arc::clone(reason), cause: Arc::clone(&cause), at },
                What::DeploymentRollbackFailed { reason: Arc::clone(reason), cause },
            ),
            _ => (Stage::Succeeded { at }, What::DeploymentSucceeded),
        };
        deployment.stage = stage;
        Some(what)
    }

    /// The revision to which a rollback moves a service. `None` if the service has none, or belongs
    /// to another deployment by now.
    fn rollback_target(&self, m: &Move) -> Option<RevisionNumber> {
        let service = self.services.get(&m.service)?;
        let is_ours = match m.state {
            MoveState::Moving => true,
            // It arrived, and no other deployment has moved it since.
            MoveState::Done => {
                service.deployment.is_none()
                    && m.to == Some(service.target)
                    && m.run.is_none_or(|change| service.run == change.to)
            }
            MoveState::Superseded | MoveState::Abandoned => false,
        };
        // A removed service returns to its target if it never arrived at any revision.
        let back = m.from.or(m.to.is_none().then_some(service.target));
        back.filter(|number| is_ours && service.revisions.contains_key(number))
    }

    /// Records that a revision failed, so that its document is not tried again by accident.
    fn block_revision(
        &mut self,
        m: &Move,
        reason: &Arc<Failure>,
        at: Timestamp,
        applied: &mut Changeset,
    ) -> Result<(), Refusal> {
        let Some(revision) = m.new_revision() else { return Ok(()) };
        let service = self.service_mut(&m.service)?;
        service.failed = Some(FailedRevision { revision, reason: Arc::clone(reason), at });
        applied.changed.insert(Key::Service(m.service.clone()));
        let outcome = RevisionOutcome::Failed { reason: Arc::clone(reason), at };
        self.conclude(&m.service, revision, outcome, applied);
        Ok(())
    }

    /// Records that a revision was given up although it did not fail. One that had arrived has
    /// succeeded.
    fn withdraw_revision(
        &mut self,
        m: &Move,
        reason: &Arc<Failure>,
        at: Timestamp,
        applied: &mut Changeset,
    ) {
        let Some(number) = m.new_revision() else { return };
        let service = self.services.get(&m.service);
        let revision = service.and_then(|service| service.revisions.get(&number));
        if revision.is_some_and(|revision| revision.outcome.is_none()) {
            let outcome = RevisionOutcome::Withdrawn { reason: Arc::clone(reason), at };
            self.conclude(&m.service, number, outcome, applied);
        }
    }

    /// Records the outcome of a revision.
    pub(crate) fn conclude(
        &mut self,
        id: &ServiceId,
        number: RevisionNumber,
        outcome: RevisionOutcome,
        applied: &mut Changeset,
    ) {
        let Ok(service) = self.service_mut(id) else { return };
        if let Some(revision) = service.revisions.get_mut(&number) {
            Arc::make_mut(revision).outcome = Some(outcome);
            applied.changed.insert(Key::Revision(id.clone(), number));
        }
    }
}

/// Where a rollback moves a service.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Back {
    To(RevisionNumber),
    Removal,
}

/// Whether a move caused the failure of its deployment. Only its revision is blocked: the others may
/// work. A user who aborts a deployment rejects the revisions that were on their way.
fn is_cause(m: &Move, failed: Option<&ServiceId>) -> bool {
    match failed {
        Some(failed) => m.service == *failed,
        None => m.state == MoveState::Moving && m.progressed_at.is_some(),
    }
}
