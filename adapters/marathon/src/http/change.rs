//! Changes of apps with optimistic concurrency: each change is computed from a snapshot and
//! committed only if the apps in it have not changed since; otherwise it is computed again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::format::{App, GroupSource};
use api::now;
use axum::http::StatusCode;
use model::{
    BundleSpec, Changeset, Command, DeploymentId, Document, Guard, Millis, OnFailure, Principal,
    Proposal, Refusal, Service, ServiceId, State, Subject, Timestamp,
};

use serde_json::json;

use super::reply::{ApiRequest, Reply};
use crate::view::app::Apps;
use crate::view::event::Event;
use crate::view::translator::{api_post, is_created_or_updated, versioned};
use crate::view::{name, plan};
use server::adapter::Failure;
use server::control::{RequestError, Snapshot};

/// The maximum number of attempts to commit a change. Conflicts with concurrent changes are
/// expected, but more of them than this indicate a problem.
const COMMIT_ATTEMPTS_MAX: usize = 10;

/// The label that sets a deadline for the deployments of an app. A deployment that misses it fails
/// as those of native services do.
const DEADLINE_LABEL: &str = "MUSTER_DEADLINE";
/// Deployments of Marathon have no deadline.
const NO_DEADLINE: Millis = Millis::secs(100 * 365 * 24 * 3600);

/// The desired state of some apps and groups, as a request defines it.
#[derive(Default)]
pub(super) struct DesiredApps {
    /// Apps to create or update.
    pub(super) apps: Vec<App>,
    /// Apps to remove.
    pub(super) removed: Vec<ServiceId>,
    /// Groups to store, with their dependencies.
    pub(super) groups: BTreeMap<ServiceId, BTreeSet<ServiceId>>,
    /// Groups to remove from the store. Their apps are not affected.
    pub(super) removed_groups: Vec<ServiceId>,
    /// The group whose complete content the request describes.
    pub(super) described: Option<ServiceId>,
}

impl DesiredApps {
    fn targets(&self) -> impl Iterator<Item = &ServiceId> {
        self.apps.iter().map(App::id).chain(&self.removed)
    }

    /// Converts the desired state into a command.
    fn command(self, snapshot: &Snapshot, known: &Apps) -> Result<Command, Reply> {
        let DesiredApps { apps, removed, groups, removed_groups, described } = self;
        let context = TranslationContext::new(snapshot, &apps, &removed, &groups);
        let mut documents = context.documents(known, apps)?;
        let mut bundles =
            context.described(known, &documents, (&removed, &removed_groups), described);
        for (path, depends_on) in &groups {
            let plain = BundleSpec { depends_on: depends_on.clone(), ..BundleSpec::new(path) };
            bundles.entry(path.clone()).or_insert(plain);
        }
        documents.extend(bundles.into_values().map(Document::Bundle));
        let removed = removed.into_iter().map(Subject::Service);
        let removed_groups = removed_groups.into_iter().map(Subject::Bundle);
        documents.extend(removed.chain(removed_groups).map(Document::Remove));
        Ok(Command::Apply(documents))
    }
}

/// The result of a change.
pub(super) struct Applied {
    /// The version of the apps after the change.
    pub(super) at: Timestamp,
    /// The deployment of the change; `None` if the change had no effect.
    pub(super) deployment: Option<DeploymentId>,
}

impl Applied {
    pub(super) fn reply(&self) -> Reply {
        Reply::deployed(self.at, self.deployment)
    }

    fn new(request: &ApiRequest, applied: &Changeset) -> Applied {
        let snapshot = request.server.snapshot();
        let revisions = applied.changes.iter().filter_map(|change| {
            let service = snapshot.state.service(&change.name.parse().ok()?)?;
            Some(service.revisions.get(&change.revision?)?.created_at)
        });
        let deployment = applied.changes.iter().find_map(|change| change.deployment);
        let version = deployment.and_then(|id| snapshot.state.deployment(id));
        let version = version.map(|deployment| plan::version(deployment, &snapshot.state));
        let at = version.or(revisions.max()).unwrap_or_else(now);
        let of_apps = applied.changes.iter().any(|change| change.kind != "deployment");
        if deployment.is_none() && of_apps {
            // Without a deployment, the success is published immediately.
            let origin = &request.origin;
            let plan = json!({ "id": name::no_deployment(at), "steps": [], "version": at });
            let fields = json!({ "id": name::no_deployment(at), "plan": plan });
            let services = applied.changes.iter().filter_map(|change| {
                let id: ServiceId = change.name.parse().ok()?;
                is_created_or_updated(origin, &id).then(|| snapshot.state.service(&id)).flatten()
            });
            let app = |service: &Arc<Service>| {
                api_post(origin, versioned(&request.marathon.apps, service, service.target()), at)
            };
            let mut events: Vec<Event> = services.take(1).map(app).collect();
            events.push(Event::new("deployment_success", at, fields));
            request.marathon.post(events);
        }
        Applied { at, deployment }
    }
}

/// Proposes one command with the origin of the request. Unless `force` is set, the command is
/// rejected while a deployment changes any of `apps`.
pub(super) async fn commit(
    request: &ApiRequest,
    command: Command,
    apps: Vec<ServiceId>,
    force: bool,
) -> Result<Applied, Reply> {
    let guard = Guard { still: if force { Vec::new() } else { apps }, ..Guard::default() };
    match request.server.propose(proposal(request, guard, command)).await {
        Ok(applied) => Ok(Applied::new(request, &applied)),
        Err(failure) => Err(refused(request, failure)),
    }
}

/// Converts the failure of a proposal into a response. A conflict with a deployment is published.
fn refused(request: &ApiRequest, failure: Failure) -> Reply {
    if let Failure::RequestError(RequestError::Refused(Refusal::Moving { service, by })) = &failure
    {
        let group = service.as_str().rsplit_once('/').map_or("", |(group, _)| group);
        let group = if group.is_empty() { "/" } else { group };
        let at = now();
        let by: Vec<String> = by.iter().map(|id| name::deployment(*id)).collect();
        let reason = format!("{service} is locked by deployment {}", by.join(", "));
        let fields = json!({ "groupId": group, "version": at, "reason": reason });
        request.marathon.post(vec![Event::new("group_change_failed", at, fields)]);
    }
    failure.into()
}

fn proposal(request: &ApiRequest, guard: Guard, command: Command) -> Proposal {
    let via = Some(request.origin.clone());
    Proposal { id: request.id.clone(), via, guard, ..Proposal::operator(command) }
}

/// Proposes the change that `desired` derives from the current snapshot, and retries on conflicts.
pub(super) async fn submit(
    request: &ApiRequest,
    force: bool,
    desired: impl Fn(&Snapshot) -> Result<DesiredApps, Reply>,
) -> Result<Applied, Reply> {
    let by = Principal::operator();
    let first = |id| request.server.snapshot().state.first_outcome(id, &by);
    if let Some(outcome) = request.id.as_ref().and_then(first) {
        let refused = |refusal| Failure::RequestError(RequestError::Refused(refusal)).into();
        return outcome.map(|applied| Applied::new(request, &applied)).map_err(refused);
    }
    for _ in 0..COMMIT_ATTEMPTS_MAX {
        let snapshot = request.server.snapshot();
        let desired = desired(&snapshot)?;
        let targets: Vec<ServiceId> = desired.targets().cloned().collect();
        let revision = |id: &ServiceId| present(&snapshot.state, id).map(|service| service.target);
        let seen = targets.iter().map(|id| (id.clone(), revision(id))).collect();
        let mut guard = Guard { seen, ..Guard::default() };
        if !force {
            guard.still = targets;
        }
        let command = desired.command(&snapshot, &request.marathon.apps)?;
        match request.server.propose(proposal(request, guard, command)).await {
            Ok(applied) => {
                request.marathon.apps.prune(&request.server.snapshot());
                return Ok(Applied::new(request, &applied));
            }
            Err(Failure::RequestError(RequestError::Refused(Refusal::Changed { .. }))) => {}
            Err(failure) => return Err(refused(request, failure)),
        }
    }
    let message = "the same apps are being changed concurrently: try again in a moment";
    Err(Reply::error(StatusCode::SERVICE_UNAVAILABLE, message))
}

/// Returns the steps of the deployment that the change would start, without committing it.
pub(super) fn dry_run(
    request: &ApiRequest,
    desired: impl Fn(&Snapshot) -> Result<DesiredApps, Reply>,
) -> Result<Vec<plan::Step>, Reply> {
    let snapshot = request.server.snapshot();
    let command = desired(&snapshot)?.command(&snapshot, &request.marathon.apps)?;
    let mut state = snapshot.state.clone();
    let refused = |refusal| Reply::from(Failure::RequestError(RequestError::Refused(refusal)));
    let applied = state.apply(Proposal::operator(command), now()).map_err(refused)?;
    let deployment = applied.changes.iter().find_map(|change| change.deployment);
    let deployment = deployment.and_then(|id| state.deployment(id));
    Ok(deployment.map(|deployment| plan::steps(deployment, &state)).unwrap_or_default())
}

/// Returns the service unless it does not exist or is being removed.
pub(super) fn present<'a>(state: &'a State, id: &ServiceId) -> Option<&'a Arc<Service>> {
    state.service(id).filter(|service| !service.removing)
}

/// The context for translating apps into services: all other apps, and the dependencies of groups.
struct TranslationContext<'a> {
    snapshot: &'a Snapshot,
    /// The apps that exist after the change.
    all: BTreeSet<ServiceId>,
    /// The dependencies of groups, by path.
    depends_on: BTreeMap<&'a ServiceId, &'a BTreeSet<ServiceId>>,
}

impl<'a> TranslationContext<'a> {
    fn new(
        snapshot: &'a Snapshot,
        apps: &[App],
        removed: &[ServiceId],
        groups: &'a BTreeMap<ServiceId, BTreeSet<ServiceId>>,
    ) -> TranslationContext<'a> {
        let services = snapshot.state.services().filter(|service| !service.removing);
        let mut all: BTreeSet<_> = services.map(|service| service.id.clone()).collect();
        all.extend(apps.iter().map(|app| app.id().clone()));
        all.retain(|id| !removed.contains(id));
        let stored = snapshot.state.bundles().map(|b| (&b.spec.path, &b.spec.depends_on));
        TranslationContext { snapshot, all, depends_on: stored.chain(groups).collect() }
    }

    /// Rejects an app with the path of a group. Only new apps are considered: they must not be
    /// inside another app, nor contain another app.
    fn refuse_nested(&self, apps: &[App]) -> Result<(), Reply> {
        let is_new = |id: &&ServiceId| present(&self.snapshot.state, id).is_none();
        let new: BTreeSet<&ServiceId> = apps.iter().map(App::id).filter(is_new).collect();
        for id in self.all.iter().filter(|_| !new.is_empty()) {
            let mut path = id.as_str();
            while let Some((group, _)) = path.rsplit_once('/').filter(|(group, _)| group.len() > 1)
            {
                let app = group.parse().ok().filter(|app| self.all.contains(app));
                if let Some(app) = app.filter(|app| new.contains(app) || new.contains(id)) {
                    return Err(Reply::shared_id(&app));
                }
                path = group;
            }
        }
        Ok(())
    }

    fn documents(&self, known: &Apps, apps: Vec<App>) -> Result<Vec<Document>, Reply> {
        self.refuse_nested(&apps)?;
        let changed: BTreeSet<_> = apps.iter().map(|app| app.id().clone()).collect();
        let services = self.snapshot.state.services().filter(|service| !service.removing);
        let others = services.filter(|service| !changed.contains(&service.id));
        let mut taken: BTreeSet<u16> =
            others.flat_map(|service| known.target(service).service_ports()).collect();
        let document = |mut app: App| {
            let service = present(&self.snapshot.state, app.id());
            let before = service.map(|service| known.target(service));
            app.assign_service_ports(before.as_deref(), &taken)?;
            taken.extend(app.service_ports());
            let own = app.spec()?;
            // Settings that an app cannot express are preserved.
            let mut spec = match service.zip(before) {
                Some((service, before)) => app.spec_merged_into(&before, &service.target().spec)?,
                None => own.clone(),
            };
            spec.depends_on = self.dependencies(&own.service, &own.depends_on);
            spec.rollout.deadline = own.rollout.deadline;
            spec.rollout.on_failure = own.rollout.on_failure;
            if !spec.labels.contains_key(DEADLINE_LABEL) {
                spec.rollout.deadline = NO_DEADLINE;
                spec.rollout.on_failure = OnFailure::Hold;
            } else if let Some(deadline) = spec.labels.get(DEADLINE_LABEL) {
                spec.rollout.deadline = deadline.parse().map_err(|error: model::unit::Error| {
                    let path = format!("/labels/{DEADLINE_LABEL}");
                    Reply::invalid(&path, &error.to_string())
                })?;
            }
            Ok(Document::foreign(spec, app.source()))
        };
        apps.into_iter().map(document).collect()
    }

    /// The bundles with a new document: that of the group that the request describes, and those that
    /// gain or lose apps by the request.
    fn described(
        &self,
        known: &Apps,
        services: &[Document],
        (removed, removed_groups): (&[ServiceId], &[ServiceId]),
        described: Option<ServiceId>,
    ) -> BTreeMap<ServiceId, BundleSpec> {
        let is_new = |id: &&ServiceId| present(&self.snapshot.state, id).is_none();
        let ids = services.iter().filter_map(Document::spec).map(|spec| &spec.service);
        let come_or_go: Vec<_> = ids.filter(is_new).chain(removed).collect();
        let stored = self.snapshot.state.bundles().map(|bundle| &bundle.spec);
        let differs = |bundle: &&BundleSpec| {
            let is_kept = bundle.source.is_some() && !removed_groups.contains(&bundle.path);
            is_kept && come_or_go.iter().any(|id| id.is_in(bundle.path.as_str()))
        };
        let differing = stored.filter(differs).map(|bundle| bundle.path.clone());
        let changed: BTreeMap<_, _> = services.iter().filter_map(app_of).collect();
        let describe = |path: ServiceId| {
            let members = self.members(&path);
            let app = |id: &ServiceId| match changed.get(id) {
                Some(app) => Some(App::clone(app)),
                None => present(&self.snapshot.state, id).map(|s| App::clone(&known.target(s))),
            };
            let apps = members.iter().filter_map(app).collect();
            let source = Some(GroupSource { id: path.clone(), apps }.source());
            let depends_on = self.depends_on.get(&path).copied().cloned().unwrap_or_default();
            (path.clone(), BundleSpec { path, depends_on, members, source })
        };
        differing.chain(described).map(describe).collect()
    }

    /// The apps in a group and its subgroups after the change.
    fn members(&self, group: &ServiceId) -> BTreeSet<ServiceId> {
        let inside = |id: &&ServiceId| *id != group && id.is_in(group.as_str());
        self.all.iter().filter(inside).cloned().collect()
    }

    /// Resolves the dependencies of an app and of its groups, each of which is an app or a group. A
    /// dependency that does not exist is ignored, because a service may depend only on existing
    /// services. As in Marathon, it is still shown, and takes effect when the app is changed after
    /// the dependency has been created.
    fn dependencies(&self, app: &ServiceId, own: &BTreeSet<ServiceId>) -> BTreeSet<ServiceId> {
        let of_groups = self.depends_on.iter().filter(|(group, _)| app.is_in(group.as_str()));
        let named = own.iter().chain(of_groups.flat_map(|(_, depends_on)| depends_on.iter()));
        let named = named.filter(|named| !app.is_in(named.as_str()));
        let inside = |named: &ServiceId| {
            let named = named.clone();
            self.all.iter().filter(move |id| id.is_in(named.as_str())).cloned()
        };
        named.flat_map(inside).collect()
    }
}

/// The app that a document describes.
fn app_of(document: &Document) -> Option<(ServiceId, App)> {
    let Document::Service { spec, source: Some(source) } = document else { return None };
    Some((spec.service.clone(), App::from_source(&source.text)?))
}
