//! Carrying out what changes apps: looked at, worked out, and committed only if what was looked at
//! still holds; otherwise looked at again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::format::App;
use api::now;
use axum::http::StatusCode;
use model::{
    Changeset, Command, DeploymentId, Document, Guard, Millis, OnFailure, Principal, Proposal,
    Refusal, Service, ServiceId, State, Timestamp,
};

use serde_json::json;

use super::reply::{Ask, Reply};
use crate::view::app::Apps;
use crate::view::event::Event;
use crate::view::feed::{api_post, posts, versioned};
use crate::view::{name, plan};
use server::adapter::Failure;
use server::control::{Snapshot, Trouble};

/// Each look may be overtaken by somebody else's change; more often than this is no accident.
const LOOKS_MAX: usize = 10;

/// A label by which an app asks for Muster's own way with a deployment that gets nowhere.
const DEADLINE_LABEL: &str = "MUSTER_DEADLINE";
/// Marathon's deployments never give up.
const NO_DEADLINE: Millis = Millis::secs(100 * 365 * 24 * 3600);

/// What a request wants of apps and groups.
#[derive(Default)]
pub(super) struct Wish {
    /// Apps as they should be.
    pub(super) apps: Vec<App>,
    /// Apps that should not be there.
    pub(super) gone: Vec<ServiceId>,
    /// Groups that something is said of, with what they depend on.
    pub(super) groups: BTreeMap<ServiceId, BTreeSet<ServiceId>>,
    /// Groups of which nothing is said any more.
    pub(super) no_groups: Vec<ServiceId>,
}

impl Wish {
    fn targets(&self) -> impl Iterator<Item = &ServiceId> {
        self.apps.iter().map(App::id).chain(&self.gone)
    }

    /// The command that carries it out.
    fn command(self, snapshot: &Snapshot, known: &Apps) -> Result<Command, Reply> {
        let Wish { apps, gone, groups, no_groups } = self;
        let making = Making::new(snapshot, &apps, &gone, &groups);
        let mut documents = making.documents(known, apps)?;
        let changed_at = now();
        documents.extend(groups.into_iter().map(|(group, depends_on)| {
            Document::Group(model::Group { group, depends_on, changed_at })
        }));
        documents.extend(gone.into_iter().map(Document::NoService));
        documents.extend(no_groups.into_iter().map(Document::NoGroup));
        Ok(Command::Apply(documents))
    }
}

/// What came of it.
pub(super) struct Done {
    /// The version that apps have now.
    pub(super) at: Timestamp,
    /// The deployment that carries it out, if something had to change.
    pub(super) deployment: Option<DeploymentId>,
}

impl Done {
    pub(super) fn reply(&self) -> Reply {
        Reply::deployed(self.at, self.deployment)
    }

    fn new(ask: &Ask, applied: &Changeset) -> Done {
        let snapshot = ask.server.snapshot();
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
            // Nothing had to change: it is done as soon as it was asked for.
            let origin = &ask.origin;
            let plan = json!({ "id": name::no_deployment(at), "steps": [], "version": at });
            let fields = json!({ "id": name::no_deployment(at), "plan": plan });
            let services = applied.changes.iter().filter_map(|change| {
                let id: ServiceId = change.name.parse().ok()?;
                posts(origin, &id).then(|| snapshot.state.service(&id)).flatten()
            });
            let app = |service: &Arc<Service>| {
                api_post(origin, versioned(&ask.marathon.apps, service, service.target()), at)
            };
            let mut told: Vec<Event> = services.take(1).map(app).collect();
            told.push(Event::new("deployment_success", at, fields));
            ask.marathon.post(told);
        }
        Done { at, deployment }
    }
}

/// Carries out one command, told with who asked for it; unless `force` is given, only while no
/// deployment moves any of `apps`.
pub(super) async fn carry_out(
    ask: &Ask,
    command: Command,
    apps: Vec<ServiceId>,
    force: bool,
) -> Result<Done, Reply> {
    let guard = Guard { still: if force { Vec::new() } else { apps }, ..Guard::default() };
    match ask.server.propose(proposal(ask, guard, command)).await {
        Ok(applied) => Ok(Done::new(ask, &applied)),
        Err(failure) => Err(refused(ask, failure)),
    }
}

/// Tells of a change that was refused because another is under way.
fn refused(ask: &Ask, failure: Failure) -> Reply {
    if let Failure::Trouble(Trouble::Refused(Refusal::Moving { service, by })) = &failure {
        let group = service.as_str().rsplit_once('/').map_or("", |(group, _)| group);
        let group = if group.is_empty() { "/" } else { group };
        let at = now();
        let by: Vec<String> = by.iter().map(|id| name::deployment(*id)).collect();
        let reason = format!("{service} is locked by deployment {}", by.join(", "));
        let fields = json!({ "groupId": group, "version": at, "reason": reason });
        ask.marathon.post(vec![Event::new("group_change_failed", at, fields)]);
    }
    failure.into()
}

fn proposal(ask: &Ask, guard: Guard, command: Command) -> Proposal {
    let via = Some(ask.origin.clone());
    Proposal { by: Principal::operator(), via, guard, command }
}

/// Carries out what `wish` makes of the apps as they are.
pub(super) async fn submit(
    ask: &Ask,
    force: bool,
    wish: impl Fn(&Snapshot) -> Result<Wish, Reply>,
) -> Result<Done, Reply> {
    for _ in 0..LOOKS_MAX {
        let snapshot = ask.server.snapshot();
        let wish = wish(&snapshot)?;
        let targets: Vec<ServiceId> = wish.targets().cloned().collect();
        let revision = |id: &ServiceId| present(&snapshot.state, id).map(|service| service.target);
        let seen = targets.iter().map(|id| (id.clone(), revision(id))).collect();
        let mut guard = Guard { seen, still: Vec::new() };
        if !force {
            guard.still = targets;
        }
        let command = wish.command(&snapshot, &ask.marathon.apps)?;
        match ask.server.propose(proposal(ask, guard, command)).await {
            Ok(applied) => {
                ask.marathon.apps.prune(&ask.server.snapshot());
                return Ok(Done::new(ask, &applied));
            }
            Err(Failure::Trouble(Trouble::Refused(Refusal::Changed { .. }))) => {}
            Err(failure) => return Err(refused(ask, failure)),
        }
    }
    let message = "others keep changing the same apps: ask again in a moment";
    Err(Reply::error(StatusCode::SERVICE_UNAVAILABLE, message))
}

/// The steps that a wish would take, if it were carried out now.
pub(super) fn dry_run(
    ask: &Ask,
    wish: impl Fn(&Snapshot) -> Result<Wish, Reply>,
) -> Result<Vec<plan::Step>, Reply> {
    let snapshot = ask.server.snapshot();
    let command = wish(&snapshot)?.command(&snapshot, &ask.marathon.apps)?;
    let mut state = snapshot.state.clone();
    let refused = |refusal| Reply::from(Failure::Trouble(Trouble::Refused(refusal)));
    let applied = state.apply(Proposal::operator(command), now()).map_err(refused)?;
    let deployment = applied.changes.iter().find_map(|change| change.deployment);
    let deployment = deployment.and_then(|id| state.deployment(id));
    Ok(deployment.map(|deployment| plan::steps(deployment, &state)).unwrap_or_default())
}

/// A service that is not about to go away.
pub(super) fn present<'a>(state: &'a State, id: &ServiceId) -> Option<&'a Arc<Service>> {
    state.service(id).filter(|service| !service.removing)
}

/// What apps become services from: which others there will be, and what their groups depend on.
struct Making<'a> {
    snapshot: &'a Snapshot,
    /// All apps there will be.
    all: BTreeSet<ServiceId>,
    /// What groups depend on, by path.
    depends_on: BTreeMap<&'a ServiceId, &'a BTreeSet<ServiceId>>,
}

impl<'a> Making<'a> {
    fn new(
        snapshot: &'a Snapshot,
        apps: &[App],
        gone: &[ServiceId],
        groups: &'a BTreeMap<ServiceId, BTreeSet<ServiceId>>,
    ) -> Making<'a> {
        let services = snapshot.state.services().filter(|service| !service.removing);
        let mut all: BTreeSet<_> = services.map(|service| service.id.clone()).collect();
        all.extend(apps.iter().map(|app| app.id().clone()));
        all.retain(|id| !gone.contains(id));
        let stored = snapshot.state.groups().map(|group| (&group.group, &group.depends_on));
        Making { snapshot, all, depends_on: stored.chain(groups).collect() }
    }

    /// An app may not have the path of a group: none may lie within another that is described here
    /// for the first time, and none of those within another.
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
            // What only the service can say, and no app, stays as it is.
            let mut spec = match service.zip(before) {
                Some((service, before)) => app.spec_over(&before, &service.target().spec)?,
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
            Ok(Document::Foreign(Box::new(spec), app.source()))
        };
        apps.into_iter().map(document).collect()
    }

    /// The services that an app depends on: by itself or as its groups do, each of which may name
    /// an app or a group. One that is not there is passed over, as in Marathon: it is still shown,
    /// and takes effect when the app is next changed after it has come. A service may depend only
    /// on what there is.
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
