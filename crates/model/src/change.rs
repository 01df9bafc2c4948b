//! Commands on services: apply documents, scale, restart, undo, start, pause, stop, remove. Each of them
//! creates one deployment, which moves services to new revisions, or changes whether their instances
//! run. Only instances that a user kills leave without a deployment.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::changeset::{Changeset, Outcome};
use crate::deploy::{Change, Described};
use crate::deployment::Cause;
use crate::document::{Document, Subject};
use crate::event::{About, What};
use crate::gateway::Gateway;
use crate::id::{GatewayId, InstanceId, RevisionNumber, ServiceId};
use crate::object::Key;
use crate::outcome::ChangeKind;
use crate::refusal::Refusal;
use crate::routed::still_routed;
use crate::run::Run;
use crate::selection::Selection;
use crate::service::{Goal, Service, StopReason};
use crate::spec::{INSTANCES_MAX, Spec};
use crate::state::State;
use crate::unit::Timestamp;
use crate::validate::still_needed;

impl State {
    /// Applies documents in one deployment. With `retry`, those of revisions that failed as well.
    pub(crate) fn apply_documents(
        &mut self,
        documents: Vec<Document>,
        retry: bool,
        at: Timestamp,
    ) -> Outcome {
        let problems = self.document_problems(&documents);
        if !problems.is_empty() {
            return Err(Refusal::Invalid { problems });
        }
        let mut applied = Changeset::default();
        let mut changes = Vec::new();
        let bundles = self.put_bundles(&documents, at, &mut applied);
        for document in documents {
            match document {
                Document::Service { spec, source } => {
                    let id = spec.service.clone();
                    let (source, bundle) = (source.map(Arc::new), bundles.get(&id).cloned());
                    let (spec, described) = (Arc::new(*spec), Described { source, bundle });
                    changes.push((id, Change::Spec { spec, described, retry }));
                }
                Document::Gateway(gateway) => self.put_gateway(gateway, at, &mut applied),
                // `put_bundles` has applied them, because revisions of services refer to them.
                Document::Bundle(_) => {}
                Document::Remove(Subject::Service(id)) => changes.push((id, Change::Gone)),
                Document::Remove(Subject::Gateway(id)) => {
                    self.drop_gateway(id, at, &mut applied);
                }
                Document::Remove(Subject::Bundle(path)) => self.drop_bundle(&path, &mut applied),
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
        self.deploy_one(Cause::Scale, id, Change::Changed(Arc::new(spec)), at)
    }

    pub(crate) fn scale_by(&mut self, id: ServiceId, by: i32, at: Timestamp) -> Outcome {
        let present = self.known_service(&id)?.spec().instances;
        let Some(instances) = present.checked_add_signed(by) else {
            let (count, word) = (by.unsigned_abs(), if by < 0 { "fewer" } else { "more" });
            let message = format!("{id} has {present} instances: it cannot have {count} {word}");
            return Err(Refusal::Conflict { message });
        };
        self.scale(id, instances, at)
    }

    pub(crate) fn restart(&mut self, id: ServiceId, at: Timestamp) -> Outcome {
        self.known_service(&id)?;
        self.deploy_one(Cause::Restart, id, Change::Again, at)
    }

    pub(crate) fn set_run(&mut self, ids: Vec<ServiceId>, run: Run, at: Timestamp) -> Outcome {
        ids.iter().try_for_each(|id| self.known_service(id).map(drop))?;
        let cause = match run {
            Run::Started => Cause::Start,
            Run::Paused => Cause::Pause,
            Run::Stopped => Cause::Stop,
        };
        let changes = ids.into_iter().map(|id| (id, Change::Run(run))).collect();
        let mut applied = Changeset::default();
        self.deploy(cause, changes, at, &mut applied);
        Ok(applied)
    }

    pub(crate) fn set_frozen(
        &mut self,
        ids: Vec<ServiceId>,
        resources: &Selection,
        frozen: bool,
        at: Timestamp,
    ) -> Outcome {
        let selected = |id| {
            let service = self.known_service(id)?;
            if !resources.is_whole() && service.frozen {
                let message = format!("{id} is frozen as a whole: thaw it first");
                return Err(Refusal::Conflict { message });
            }
            Ok((ServiceId::clone(id), resources.of(service.spec())?))
        };
        let selected: Vec<_> = ids.iter().map(selected).collect::<Result<_, _>>()?;
        let mut applied = Changeset::default();
        for (id, selected) in selected {
            applied.change("service", &id, ChangeKind::Unchanged);
            if resources.is_whole() {
                self.freeze(&id, frozen, at, &mut applied);
                let frozen_resources = self.service(&id).map(|s| s.frozen_resources.clone());
                // A thaw of the whole is one of its resources as well.
                let thawed = frozen_resources.filter(|_| !frozen).unwrap_or_default();
                self.freeze_resources(&id, thawed, false, at, &mut applied);
            } else {
                self.freeze_resources(&id, selected, frozen, at, &mut applied);
            }
        }
        Ok(applied)
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
            None => service.last_success(),
        };
        let Some(earlier) = earlier else {
            let known = service.revisions.values().map(|one| match &one.outcome {
                Some(outcome) => format!("{} ({})", one.number, outcome.word()),
                None => one.number.to_string(),
            });
            let known = known.collect::<Vec<_>>().join(", ");
            let wanted = match to {
                Some(number) => format!("revision {number} to go back to"),
                None => "earlier revision that succeeded and differs".into(),
            };
            let message = format!("{id} has no {wanted}: it has {known}");
            return Err(Refusal::Conflict { message });
        };
        // The number of instances is not undone: an undo must not leave too few of them.
        let instances = target.spec.instances;
        let earlier = Arc::clone(earlier);
        let spec = Spec { instances, ..Spec::clone(&earlier.spec) };
        if let Some(lost) = self.routes_lost(&id, self.wanted(&id), Some(&spec)).next() {
            return Err(Refusal::Conflict { message: still_routed(lost) });
        }
        self.deploy_one(Cause::Undo, id, Change::Earlier(Arc::new(spec), earlier), at)
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
            ids.into_iter().map(|id| (id, Change::Gone)).collect(),
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
                Some((id, Change::Changed(Arc::new(spec))))
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
        applied.change("service", &id, ChangeKind::Updated);
        applied.event(at, About::Service(id), What::DelayReset);
        Ok(applied)
    }

    /// The service of that id; otherwise a refusal that names the most similar one.
    pub fn known_service(&self, id: &ServiceId) -> Result<&Arc<Service>, Refusal> {
        self.service(id).ok_or_else(|| self.unknown_service(id))
    }

    fn deploy_one(&mut self, cause: Cause, id: ServiceId, to: Change, at: Timestamp) -> Outcome {
        let mut applied = Changeset::default();
        self.deploy(cause, vec![(id, to)], at, &mut applied);
        Ok(applied)
    }

    fn put_gateway(&mut self, gateway: Gateway, at: Timestamp, applied: &mut Changeset) {
        let id = gateway.gateway.clone();
        let verdict = match self.gateways.get(&id) {
            Some(known) if **known == gateway => ChangeKind::Unchanged,
            Some(_) => ChangeKind::Updated,
            None => ChangeKind::Created,
        };
        applied.change("gateway", &id, verdict);
        if verdict != ChangeKind::Unchanged {
            let what = What::GatewayApplied { listen: gateway.listen };
            applied.event(at, About::Gateway(id.clone()), what);
            applied.changed.insert(Key::Gateway(id.clone()));
            self.gateways.insert_mut(id, Arc::new(gateway));
        }
    }

    /// Removes a gateway document; `false` if it does not exist.
    pub(crate) fn drop_gateway(
        &mut self,
        id: GatewayId,
        at: Timestamp,
        applied: &mut Changeset,
    ) -> bool {
        let is_known = self.gateways.remove_mut(&id);
        if is_known {
            applied.changed.insert(Key::Gateway(id.clone()));
            applied.change("gateway", &id, ChangeKind::Removed);
            applied.event(at, About::Gateway(id), What::GatewayRemoved);
        }
        is_known
    }
}
