//! Commands on services: apply documents, scale, restart, undo, remove. Each of them creates new
//! revisions and one deployment that moves services to them. Only instances that a user kills leave
//! without a deployment.

use std::collections::{BTreeMap, BTreeSet};
use std::iter;
use std::sync::Arc;

use crate::changeset::{Changeset, Outcome, Verdict};
use crate::deployment::{Cause, Deployment, Move, MoveState, Stage};
use crate::document::Document;
use crate::event::{About, What};
use crate::gateway::Gateway;
use crate::group::Group;
use crate::id::{DeploymentId, InstanceId, RevisionNumber, ServiceId};
use crate::object::Key;
use crate::refusal::Refusal;
use crate::routed::still_routed;
use crate::service::{Goal, Revision, Service, ServiceHead, Source, StopReason};
use crate::spec::{INSTANCES_MAX, Spec};
use crate::state::State;
use crate::unit::Timestamp;
use crate::validate::still_needed;

/// The destination of a service.
enum To {
    /// This spec, with its source if a foreign document described it.
    Spec(Arc<Spec>, Option<Source>),
    /// This spec, with the source of the present target.
    Changed(Arc<Spec>),
    /// This spec, with the template and the source of an earlier revision.
    Earlier(Arc<Spec>, Arc<Revision>),
    /// The same spec, with a new start of all instances.
    Again,
    /// Removal.
    Gone,
}

impl State {
    pub(crate) fn apply_documents(&mut self, documents: Vec<Document>, at: Timestamp) -> Outcome {
        let problems = self.document_problems(&documents);
        if !problems.is_empty() {
            return Err(Refusal::Invalid { problems });
        }
        let mut applied = Changeset::default();
        let mut changes = Vec::new();
        for document in documents {
            match document {
                Document::Service(spec) => {
                    changes.push((spec.service.clone(), To::Spec(Arc::new(*spec), None)));
                }
                Document::Foreign(spec, source) => {
                    changes.push((spec.service.clone(), To::Spec(Arc::new(*spec), Some(source))));
                }
                Document::Gateway(gateway) => self.put_gateway(gateway, at, &mut applied),
                Document::Group(group) => self.put_group(group, &mut applied),
                Document::NoService(id) => changes.push((id, To::Gone)),
                Document::NoGroup(path) => {
                    if self.groups.remove_mut(&path) {
                        applied.change("group", &path, Verdict::Removed);
                        applied.changed.insert(Key::Group(path));
                    }
                }
            }
        }
        self.deploy(Cause::Apply, changes, at, &mut applied);
        Ok(applied)
    }

    pub(crate) fn scale(&mut self, id: ServiceId, instances: u32, at: Timestamp) -> Outcome {
        let service = self.known_service(&id)?;
        if instances > INSTANCES_MAX {
            let message = format!("{id} can have at most {INSTANCES_MAX} instances");
            return Err(Refusal::Conflict { message });
        }
        let spec = Spec { instances, ..Spec::clone(service.spec()) };
        self.deploy_one(Cause::Scale, id, To::Changed(Arc::new(spec)), at)
    }

    pub(crate) fn restart(&mut self, id: ServiceId, at: Timestamp) -> Outcome {
        self.known_service(&id)?;
        self.deploy_one(Cause::Restart, id, To::Again, at)
    }

    pub(crate) fn undo(
        &mut self,
        id: ServiceId,
        to: Option<RevisionNumber>,
        at: Timestamp,
    ) -> Outcome {
        let service = self.known_service(&id)?;
        let target = service.target();
        let earlier = match to {
            Some(number) => service.revisions.get(&number),
            None => match service.settled.and_then(|number| service.revisions.get(&number)) {
                Some(settled) if settled.template != target.template => Some(settled),
                _ => {
                    let earlier = service.revisions.range(..target.number).rev();
                    earlier.map(|(_, r)| r).find(|r| r.template != target.template)
                }
            },
        };
        let Some(earlier) = earlier else {
            let known: Vec<_> = service.revisions.keys().map(u32::to_string).collect();
            let wanted = to.map_or("earlier revision".into(), |n| format!("revision {n}"));
            let known = known.join(", ");
            let message = format!("{id} has no {wanted} to go back to: it has {known}");
            return Err(Refusal::Conflict { message });
        };
        // The number of instances is not undone: an undo must not leave too few of them.
        let instances = target.spec.instances;
        let earlier = Arc::clone(earlier);
        let spec = Spec { instances, ..Spec::clone(&earlier.spec) };
        if let Some(lost) = self.routes_lost(&id, self.wanted(&id), Some(&spec)).next() {
            return Err(Refusal::Conflict { message: still_routed(lost) });
        }
        self.deploy_one(Cause::Undo, id, To::Earlier(Arc::new(spec), earlier), at)
    }

    pub(crate) fn remove_services(&mut self, ids: Vec<ServiceId>, at: Timestamp) -> Outcome {
        ids.iter().try_for_each(|id| self.known_service(id).map(drop))?;
        let going: BTreeSet<_> = ids.iter().collect();
        let stays = |service: &&Arc<Service>| !service.removing && !going.contains(&service.id);
        for service in self.services().filter(stays) {
            if let Some(id) = service.spec().depends_on.iter().find(|id| going.contains(id)) {
                let message = still_needed(&service.id, id);
                return Err(Refusal::Conflict { message });
            }
        }
        for id in &ids {
            if let Some(lost) = self.routes_lost(id, self.wanted(id), None).next() {
                return Err(Refusal::Conflict { message: still_routed(lost) });
            }
        }
        let mut applied = Changeset::default();
        self.deploy(
            Cause::Remove,
            ids.into_iter().map(|id| (id, To::Gone)).collect(),
            at,
            &mut applied,
        );
        Ok(applied)
    }

    pub(crate) fn kill(
        &mut self,
        instances: Vec<InstanceId>,
        scale: bool,
        at: Timestamp,
    ) -> Outcome {
        let mut applied = Changeset::default();
        let mut fewer: BTreeMap<ServiceId, u32> = BTreeMap::new();
        for id in instances {
            let Some(service) = self.services.get(&id.service) else { continue };
            let Some(placement) = service.placements.get(&id.replica) else { continue };
            if !placement.is_wanted() {
                continue;
            }
            let until = at.after(service.drain(placement.revision));
            let why = StopReason::Requested;
            *fewer.entry(id.service.clone()).or_default() += 1;
            applied.extend(self.leave(id, Goal::Drain { until, why }, why, at)?);
        }
        if scale {
            let rest = |(id, gone): (ServiceId, u32)| {
                let service = self.services.get(&id).filter(|service| !service.removing)?;
                let instances = service.spec().instances.saturating_sub(gone);
                let spec = Spec { instances, ..Spec::clone(service.spec()) };
                Some((id, To::Changed(Arc::new(spec))))
            };
            let changes = fewer.into_iter().filter_map(rest).collect();
            self.deploy(Cause::Scale, changes, at, &mut applied);
        }
        Ok(applied)
    }

    pub(crate) fn reset_delay(&mut self, id: ServiceId, at: Timestamp) -> Outcome {
        self.known_service(&id)?;
        let service = self.service_mut(&id)?;
        service.slots.iter_mut().for_each(|slot| slot.failures = 0);
        service.retries = service.retries.wrapping_add(1);
        let mut applied =
            Changeset { changed: [Key::Service(id.clone())].into(), ..Changeset::default() };
        applied.change("service", &id, Verdict::Updated);
        applied.event(at, About::Service(id), What::DelayReset);
        Ok(applied)
    }

    /// The service of that id; otherwise a refusal that names the most similar one.
    pub fn known_service(&self, id: &ServiceId) -> Result<&Arc<Service>, Refusal> {
        self.service(id).ok_or_else(|| self.unknown_service(id))
    }

    fn deploy_one(&mut self, cause: Cause, id: ServiceId, to: To, at: Timestamp) -> Outcome {
        let mut applied = Changeset::default();
        self.deploy(cause, vec![(id, to)], at, &mut applied);
        Ok(applied)
    }

    fn put_gateway(&mut self, gateway: Gateway, at: Timestamp, applied: &mut Changeset) {
        let id = gateway.gateway.clone();
        let verdict = match self.gateways.get(&id) {
            Some(known) if **known == gateway => Verdict::Unchanged,
            Some(_) => Verdict::Updated,
            None => Verdict::Created,
        };
        applied.change("gateway", &id, verdict);
        if verdict != Verdict::Unchanged {
            let what = What::GatewayApplied { listen: gateway.listen };
            applied.event(at, About::Gateway(id.clone()), what);
            applied.changed.insert(Key::Gateway(id.clone()));
            self.gateways.insert_mut(id, Arc::new(gateway));
        }
    }

    fn put_group(&mut self, group: Group, applied: &mut Changeset) {
        let known = self.groups.get(&group.group);
        let verdict = match known {
            Some(known) if known.depends_on == group.depends_on => Verdict::Unchanged,
            Some(_) => Verdict::Updated,
            None => Verdict::Created,
        };
        applied.change("group", &group.group, verdict);
        if verdict != Verdict::Unchanged {
            applied.changed.insert(Key::Group(group.group.clone()));
            self.groups.insert_mut(group.group.clone(), Arc::new(group));
        }
    }

    /// Creates the new revisions and the deployment that moves the services to them.
    fn deploy(
        &mut self,
        cause: Cause,
        changes: Vec<(ServiceId, To)>,
        at: Timestamp,
        applied: &mut Changeset,
    ) {
        let deployment = DeploymentId(self.meta.deployments + 1);
        let mut moves = Vec::new();
        for (id, to) in changes {
            let before = self.service(&id).filter(|service| !service.removing).map(Arc::clone);
            if let Some(moving) = self.turn(&id, to, deployment, at, applied) {
                let before = before.as_ref().map(|service| service.spec().as_ref());
                self.tell_routes_lost(&id, before, at, applied);
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
        // [`State::apply`] adds the author once for all effects of a proposal.
        let (by, via) = (None, None);
        let entry = Deployment { id: deployment, created_at: at, cause, by, via, moves, stage };
        self.deployments.insert_mut(deployment, Arc::new(entry));
    }

    /// Points one service to its new target; `None` if that changes nothing.
    fn turn(
        &mut self,
        id: &ServiceId,
        to: To,
        deployment: DeploymentId,
        at: Timestamp,
        applied: &mut Changeset,
    ) -> Option<Move> {
        let known = self.services.get(id).map(Arc::clone);
        let from = known.as_ref().and_then(|service| service.settled);
        let present = known.as_ref().filter(|service| !service.removing);
        let aimed = present.map(|service| service.target);
        let moving = |to| Move {
            service: id.clone(),
            from,
            aimed,
            to,
            state: MoveState::Moving,
            ready: 0,
            progressed_at: None,
        };
        let (spec, template, source) = match (to, &known) {
            (To::Gone, Some(service)) if service.removing => {
                applied.change("service", id, Verdict::Unchanged).note =
                    Some("it is being removed already".into());
                return None;
            }
            (To::Gone, _) => {
                let service = self.service_mut(id).ok()?;
                service.removing = true;
                applied.changed.insert(Key::Service(id.clone()));
                let change = applied.change("service", id, Verdict::Removed);
                change.deployment = Some(deployment);
                return Some(moving(None));
            }
            (To::Again, Some(service)) => {
                let Revision { spec, source, .. } = Revision::clone(service.target());
                (spec, None, source)
            }
            (To::Earlier(spec, earlier), Some(_)) => {
                (spec, Some(earlier.template), earlier.source.clone())
            }
            (To::Changed(spec), Some(service)) if !service.removing && service.spec() == &spec => {
                let change = applied.change("service", id, Verdict::Unchanged);
                change.revision = Some(service.target);
                return None;
            }
            (To::Changed(spec), Some(service)) => {
                (spec, Some(service.target().template), service.target().source.clone())
            }
            (To::Spec(spec, source), Some(service)) => {
                if let Some(note) = unchanged(service, &spec, source.as_ref()) {
                    let change = applied.change("service", id, Verdict::Unchanged);
                    change.revision = Some(service.target);
                    change.note = note;
                    return None;
                }
                // Prefer the template of the target, else that of the newest revision with the same
                // template: applying an earlier document again keeps the instances that still run
                // it.
                let mut known =
                    iter::once(service.target()).chain(service.revisions.values().rev());
                let same = known.find(|revision| !spec.needs_restart(&revision.spec));
                let template = same.map(|revision| revision.template);
                (spec, template, source.map(Arc::new))
            }
            (To::Spec(spec, source), None) => (spec, None, source.map(Arc::new)),
            (To::Changed(_) | To::Again | To::Earlier(..), None) => return None,
        };
        let configured_at = present.and_then(|service| {
            let before = service.target();
            let scales = is_scaled(&before.spec, &spec);
            scales.then(|| before.configured_at.unwrap_or(before.created_at))
        });
        let verdict = if known.is_some() { Verdict::Updated } else { Verdict::Created };
        let attempts = self.meta.attempts;
        let mut service = known.map_or_else(
            || ServiceHead::new(id.clone(), attempts).into(),
            |service| Service::clone(&service),
        );
        let number =
            service.revisions.keys().next_back().copied().unwrap_or(0).max(service.target) + 1;
        let template = template.unwrap_or(number);
        // The creation times of a service's revisions are distinct.
        let before = service.revisions.values().next_back().map(|before| before.created_at);
        let created_at = before.map_or(at, |before| at.max(Timestamp(before.0 + 1)));
        let revision = Revision { number, template, created_at, configured_at, spec, source };
        service.revisions.insert(number, Arc::new(revision));
        service.target = number;
        service.failed = None;
        service.removing = false;
        service.slots.iter_mut().for_each(|slot| slot.failures = 0);
        applied.changed.insert(Key::Service(id.clone()));
        applied.changed.insert(Key::Revision(id.clone(), number));
        let change = applied.change("service", id, verdict);
        change.revision = Some(number);
        change.deployment = Some(deployment);
        self.services.insert_mut(id.clone(), Arc::new(service));
        self.recount(id);
        Some(moving(Some(number)))
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

/// Whether going from `before` to `spec` changes the number of instances and nothing else.
fn is_scaled(before: &Spec, spec: &Spec) -> bool {
    before.instances != spec.instances
        && Spec { instances: spec.instances, ..before.clone() } == *spec
}

/// `Some` if applying `spec` would change nothing; the inner value is a note for the user.
fn unchanged(service: &Service, spec: &Spec, source: Option<&Source>) -> Option<Option<String>> {
    let known = service.target().source.as_deref();
    if service.removing || source.is_some_and(|source| known != Some(source)) {
        return None;
    }
    if let Some(failed) = &service.failed {
        let revision = service.revisions.get(&failed.revision);
        if revision.is_some_and(|revision| *revision.spec == *spec) {
            let (id, number, reason) = (&service.id, failed.revision, &failed.reason);
            let again = match service.target == number {
                true => format!("muster rollout resume {id}"),
                false => format!("muster rollout undo {id} --to {number}"),
            };
            return Some(Some(format!(
                "revision {number} is this document and failed: {reason}; change it, or try it \
                 again with `{again}`"
            )));
        }
    }
    (**service.spec() == *spec).then_some(None)
}
