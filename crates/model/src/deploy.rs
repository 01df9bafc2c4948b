//! Deployments come into being here: each changed service gets its next revision or another run
//! goal, and one deployment moves the services to them.

use std::collections::BTreeSet;
use std::iter;
use std::sync::Arc;

use crate::changeset::Changeset;
use crate::deployment::{Cause, Deployment, Move, MoveState, Stage};
use crate::event::{About, What};
use crate::id::{DeploymentId, ResourceId, RevisionNumber, ServiceId};
use crate::object::Key;
use crate::outcome::ChangeKind;
use crate::revision::{BundleRef, Revision, Source};
use crate::run::{Run, RunChange};
use crate::service::{Service, ServiceHead};
use crate::spec::Spec;
use crate::state::State;
use crate::unit::Timestamp;

/// A change of one service.
pub(crate) enum Change {
    /// This spec, with the documents that described it.
    Spec {
        spec: Arc<Spec>,
        described: Described,
        /// Whether it is tried again if it failed.
        retry: bool,
    },
    /// This spec, described as the present target.
    Changed(Arc<Spec>),
    /// This spec, with the template and the description of an earlier revision.
    Earlier(Arc<Spec>, Arc<Revision>),
    /// The same spec, with a restart of all instances.
    Again,
    /// The same revision, with instances that run or not.
    Run(Run),
    /// Removal.
    Gone,
}

impl Change {
    /// Takes the goals out of a document that has some: revisions are stored without them.
    fn take_goals(&mut self) -> (Option<Run>, Option<bool>) {
        match self {
            Change::Spec { spec, .. } if spec.run.is_some() || spec.frozen.is_some() => {
                let spec = Arc::make_mut(spec);
                (spec.run.take(), spec.frozen.take())
            }
            Change::Run(run) => (Some(*run), None),
            _ => (None, None),
        }
    }
}

/// The documents beside the spec that described a revision; see the fields of [`Revision`].
#[derive(Clone, Default)]
pub(crate) struct Described {
    pub(crate) source: Option<Arc<Source>>,
    pub(crate) bundle: Option<BundleRef>,
}

impl Described {
    fn of(revision: &Revision) -> Described {
        Described { source: revision.source.clone(), bundle: revision.bundle.clone() }
    }
}

/// The destination of a service after a change.
enum Target {
    /// The present one.
    Unchanged {
        /// Why, for the user.
        note: Option<String>,
    },
    Removal,
    Revision(Next),
}

/// The next revision of a service.
struct Next {
    spec: Arc<Spec>,
    /// `None`: a template of its own, so that all instances restart.
    template: Option<RevisionNumber>,
    described: Described,
}

impl State {
    /// Creates the new revisions and the deployment that moves the services to them.
    pub(crate) fn deploy(
        &mut self,
        cause: Cause,
        changes: Vec<(ServiceId, Change)>,
        at: Timestamp,
        applied: &mut Changeset,
    ) {
        let deployment = DeploymentId(self.meta.deployments + 1);
        let mut moves = Vec::new();
        for (id, mut change) in changes {
            let before = self.service(&id).filter(|service| !service.removing).map(Arc::clone);
            let (run, frozen) = change.take_goals();
            let moving = self.turn(&id, change, deployment, at, applied);
            if let Some(frozen) = frozen {
                self.freeze(&id, frozen, at, applied);
            }
            if let Some(moving) = self.turn_run(&id, run, moving, deployment, at, applied) {
                let before = before.as_ref().map(|service| service.spec().as_ref());
                self.emit_lost_routes(&id, before, at, applied);
                moves.push(moving);
            }
        }
        if moves.is_empty() {
            return;
        }
        self.meta.deployments = deployment.0;
        applied.changed.insert(Key::Meta);
        for moving in &moves {
            self.supersede(&moving.service, deployment, at, applied);
            if let Ok(service) = self.service_mut(&moving.service) {
                service.deployment = Some(deployment);
            }
        }
        moves.sort_by(|a: &Move, b| a.service.cmp(&b.service));
        const NAMED: usize = 10;
        let services = moves.iter().take(NAMED).map(|m| m.service.clone()).collect();
        let more = moves.len().saturating_sub(NAMED);
        let what = What::DeploymentStarted { cause, services, more };
        applied.event(at, About::Deployment(deployment), what);
        applied.changed.insert(Key::Deployment(deployment));
        let stage = Stage::Running;
        // [`State::apply`] adds what the proposal says of itself, once for all its effects.
        let (by, via) = (None, None);
        let forced = false;
        let services: Vec<ServiceId> = moves.iter().map(|m| m.service.clone()).collect();
        let entry =
            Deployment { id: deployment, created_at: at, cause, by, via, forced, moves, stage };
        self.deployments.insert_mut(deployment, Arc::new(entry));
        // Not only once they arrive, which those that are always superseded never do.
        services.iter().for_each(|service| self.prune_revisions(service, applied));
    }

    /// Points one service to its new target; `None` if the change has no effect.
    fn turn(
        &mut self,
        id: &ServiceId,
        change: Change,
        deployment: DeploymentId,
        at: Timestamp,
        applied: &mut Changeset,
    ) -> Option<Move> {
        let known = self.services.get(id).map(Arc::clone);
        let present = known.as_ref().filter(|service| !service.removing);
        let aimed = present.map(|service| service.target);
        let (verdict, to) = match target(known.as_deref(), change)? {
            Target::Unchanged { note } => {
                let change = applied.change("service", id, ChangeKind::Unchanged);
                (change.revision, change.note) = (aimed, note);
                return None;
            }
            Target::Removal => {
                self.service_mut(id).ok()?.removing = true;
                (ChangeKind::Removed, None)
            }
            Target::Revision(next) => {
                let number = self.add_revision(id, next, at);
                applied.changed.insert(Key::Revision(id.clone(), number));
                let verdict =
                    if known.is_some() { ChangeKind::Updated } else { ChangeKind::Created };
                (verdict, Some(number))
            }
        };
        applied.changed.insert(Key::Service(id.clone()));
        let change = applied.change("service", id, verdict);
        (change.revision, change.deployment) = (to, Some(deployment));
        let from = known.and_then(|service| service.settled);
        Some(Move::new(id.clone(), from, aimed, to))
    }

    /// Changes whether the instances of a service run, after `turn` has returned `moving` for it.
    /// Returns the move, if either has an effect.
    fn turn_run(
        &mut self,
        id: &ServiceId,
        run: Option<Run>,
        moving: Option<Move>,
        deployment: DeploymentId,
        at: Timestamp,
        applied: &mut Changeset,
    ) -> Option<Move> {
        let Some(to) = run else { return moving };
        let service = self.services.get_mut(id).filter(|service| !service.removing);
        let Some(service) = service.filter(|service| service.run != to) else { return moving };
        let service = Arc::make_mut(service);
        let change = RunChange { from: service.run, to };
        service.run = to;
        let target = Some(service.target);
        applied.changed.insert(Key::Service(id.clone()));
        applied.event(at, About::Service(id.clone()), What::RunChanged { change });
        let entry = applied.changes.last_mut().expect("`turn` has added the service");
        entry.run = Some(change);
        entry.deployment = Some(deployment);
        if entry.verdict == ChangeKind::Unchanged {
            entry.verdict = ChangeKind::Updated;
        }
        let same_revision = || Move::new(id.clone(), target, target, target);
        Some(Move { run: Some(change), ..moving.unwrap_or_else(same_revision) })
    }

    /// Freezes or thaws a service that is the last one of `applied.changes`.
    pub(crate) fn freeze(
        &mut self,
        id: &ServiceId,
        frozen: bool,
        at: Timestamp,
        applied: &mut Changeset,
    ) {
        let service = self.services.get_mut(id).filter(|service| service.frozen != frozen);
        let Some(service) = service else { return };
        Arc::make_mut(service).frozen = frozen;
        applied.changed.insert(Key::Service(id.clone()));
        let what = if frozen { What::Frozen } else { What::Thawed };
        applied.event(at, About::Service(id.clone()), what);
        let entry = applied.changes.last_mut().expect("the service has an entry");
        entry.frozen = Some(frozen);
        if entry.verdict == ChangeKind::Unchanged {
            entry.verdict = ChangeKind::Updated;
        }
        if frozen {
            return;
        }
        let Ok(deployment) = self.deployment_moving(id) else { return };
        let deployment = Arc::make_mut(deployment);
        if let Some(m) = deployment.move_mut(id).filter(|m| m.progressed_at.is_some()) {
            // The time while it was frozen does not count towards the deadline.
            m.progressed_at = Some(at);
            applied.changed.insert(Key::Deployment(deployment.id));
        }
    }

    /// Freezes or thaws resources of a service that is the last one of `applied.changes`.
    pub(crate) fn freeze_resources(
        &mut self,
        id: &ServiceId,
        mut resources: BTreeSet<ResourceId>,
        frozen: bool,
        at: Timestamp,
        applied: &mut Changeset,
    ) {
        let Some(service) = self.services.get_mut(id) else { return };
        resources.retain(|name| service.frozen_resources.contains(name) != frozen);
        if resources.is_empty() {
            return;
        }
        let known = &mut Arc::make_mut(service).frozen_resources;
        match frozen {
            true => known.extend(resources.iter().cloned()),
            false => known.retain(|name| !resources.contains(name)),
        }
        applied.changed.insert(Key::Service(id.clone()));
        let resources: Vec<_> = resources.into_iter().collect();
        let names: Vec<_> = resources.iter().map(ResourceId::as_str).collect();
        let word = if frozen { "frozen" } else { "thawed" };
        let note = format!("{word}: {}", names.join(", "));
        let what = match frozen {
            true => What::ResourcesFrozen { resources },
            false => What::ResourcesThawed { resources },
        };
        applied.event(at, About::Service(id.clone()), what);
        let entry = applied.changes.last_mut().expect("the service has an entry");
        entry.note = Some(note);
        if entry.verdict == ChangeKind::Unchanged {
            entry.verdict = ChangeKind::Updated;
        }
    }

    /// Adds a revision to a service, new or known, and makes it the target.
    fn add_revision(&mut self, id: &ServiceId, next: Next, at: Timestamp) -> RevisionNumber {
        let Next { spec, template, described: Described { source, bundle } } = next;
        let mut service = match self.services.get(id) {
            Some(known) => Service::clone(known),
            None => ServiceHead::new(id.clone(), self.meta.attempts).into(),
        };
        let newest = service.revisions.values().next_back();
        let number = newest.map_or(0, |newest| newest.number).max(service.target) + 1;
        // The creation times of a service's revisions are distinct.
        let created_at = newest.map_or(at, |newest| at.max(Timestamp(newest.created_at.0 + 1)));
        let before = service.revisions.get(&service.target).filter(|_| !service.removing);
        let configured_at = before
            .filter(|before| is_scaled(&before.spec, &spec))
            .map(|before| before.configured_at.unwrap_or(before.created_at));
        let template = template.unwrap_or(number);
        let outcome = None;
        let revision =
            Revision { number, template, created_at, configured_at, spec, source, bundle, outcome };
        service.revisions.insert(number, Arc::new(revision));
        service.target = number;
        service.failed = None;
        service.removing = false;
        service.slots.iter_mut().for_each(|slot| slot.failures = 0);
        self.services.insert_mut(id.clone(), Arc::new(service));
        self.recount(id);
        number
    }

    /// Removes a service from the deployment that moves it.
    fn supersede(
        &mut self,
        id: &ServiceId,
        by: DeploymentId,
        at: Timestamp,
        applied: &mut Changeset,
    ) {
        let Ok(deployment) = self.deployment_moving(id) else { return };
        let deployment = Arc::make_mut(deployment);
        if let Some(moving) = deployment.move_mut(id) {
            moving.state = MoveState::Superseded;
        }
        applied.changed.insert(Key::Deployment(deployment.id));
        if !deployment.is_moving() {
            deployment.stage = Stage::Superseded { by, at };
            let what = What::DeploymentSuperseded { successor: by };
            applied.event(at, About::Deployment(deployment.id), what);
        }
    }
}

/// The destination of a service after `change`; `None` if that needs a known service.
fn target(known: Option<&Service>, change: Change) -> Option<Target> {
    let next =
        |spec, template, described| Some(Target::Revision(Next { spec, template, described }));
    let (service, change) = match (known, change) {
        (Some(service), change) => (service, change),
        (None, Change::Spec { spec, described, .. }) => return next(spec, None, described),
        (None, _) => return None,
    };
    let present = service.target();
    match change {
        Change::Gone if service.removing => {
            Some(Target::Unchanged { note: Some("it is being removed already".into()) })
        }
        Change::Gone => Some(Target::Removal),
        Change::Run(_) => {
            let note = service.removing.then(|| "it is being removed".into());
            Some(Target::Unchanged { note })
        }
        Change::Again => next(Arc::clone(&present.spec), None, Described::of(present)),
        Change::Earlier(spec, earlier) => {
            next(spec, Some(earlier.template), Described::of(&earlier))
        }
        Change::Changed(spec) if !service.removing && present.spec == spec => {
            Some(Target::Unchanged { note: None })
        }
        Change::Changed(spec) => next(spec, Some(present.template), Described::of(present)),
        Change::Spec { spec, described, retry } => {
            if let Some(note) = unchanged(service, &spec, described.source.as_deref(), retry) {
                return Some(Target::Unchanged { note });
            }
            // Prefer the template of the target, else that of the newest revision with the same
            // template: applying an earlier document again keeps the instances that still run it.
            let mut known = iter::once(present).chain(service.revisions.values().rev());
            let same = known.find(|revision| !spec.needs_restart(&revision.spec));
            let template = same.map(|revision| revision.template);
            next(spec, template, described)
        }
    }
}

/// Whether going from `before` to `spec` changes the number of instances and nothing else.
fn is_scaled(before: &Spec, spec: &Spec) -> bool {
    before.instances != spec.instances
        && Spec { instances: spec.instances, ..before.clone() } == *spec
}

/// `Some` if applying `spec` would change nothing; the inner value is a note for the user.
fn unchanged(
    service: &Service,
    spec: &Spec,
    source: Option<&Source>,
    retry: bool,
) -> Option<Option<String>> {
    let known = service.target().source.as_deref();
    if service.removing || source.is_some_and(|source| known != Some(source)) {
        return None;
    }
    if let Some(failed) = &service.failed {
        let revision = service.revisions.get(&failed.revision);
        if revision.is_some_and(|revision| *revision.spec == *spec) {
            let (number, reason) = (failed.revision, &failed.reason);
            let note = format!(
                "revision {number} is this document and failed: {reason}; change it, or try it \
                 again with `muster apply --retry`"
            );
            return (!retry).then_some(Some(note));
        }
    }
    (**service.spec() == *spec).then_some(None)
}
