//! The tree of groups, derived from paths.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::{Bundle, Service, ServiceId, State, Timestamp};
use serde::Serialize;

use super::app::{Apps, Embed, Info, Presenter, VersionInfo, version_info};
use crate::format::{App, GroupSource};

/// The path of the root group.
pub(crate) const ROOT: &str = "/";

/// A group with its content.
#[derive(Serialize)]
pub(crate) struct Group<App> {
    pub(crate) id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) apps: Option<Vec<App>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) groups: Option<Vec<Group<App>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pods: Option<[(); 0]>,
    pub(crate) dependencies: BTreeSet<ServiceId>,
    pub(crate) version: Timestamp,
}

/// The parts of groups that a response contains.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shown {
    pub(crate) groups: bool,
    pub(crate) apps: bool,
    pub(crate) pods: bool,
    pub(crate) of_apps: Embed,
}

impl Shown {
    /// The parts that a client requests. The default is all parts, but no optional parts of apps.
    pub(crate) fn from<'a>(names: impl Iterator<Item = &'a str> + Clone) -> Shown {
        let any = names.clone().next().is_some();
        let has = |wanted: &[&str]| !any || names.clone().any(|name| wanted.contains(&name));
        let of_apps = Embed::default().and(names.clone().filter(|name| name.contains("apps.")));
        let details = names.clone().any(|name| name.starts_with("group.apps."));
        Shown {
            groups: has(&["group.groups", "groups"]),
            apps: details || has(&["group.apps", "apps"]),
            pods: has(&["group.pods", "pods"]),
            of_apps,
        }
    }
}

/// Whether a path is a group: the root, a stored group, or a prefix of another path.
pub(crate) fn exists(state: &State, path: &str) -> bool {
    let below = |id: &ServiceId| id.is_in(path) && id.as_str() != path;
    path == ROOT
        || state.services().any(|service| !service.removing && below(&service.id))
        || state.bundles().any(|bundle| bundle.spec.path.is_in(path))
}

/// The services in a group and its subgroups.
pub(crate) fn services<'a>(
    state: &'a State,
    path: &'a str,
) -> impl Iterator<Item = &'a Arc<Service>> {
    let is_app = move |id: &ServiceId| id.as_str() == path;
    let services = state.services().filter(|service| !service.removing);
    services.filter(move |service| service.id.is_in(path) && !is_app(&service.id))
}

/// A group with its current content.
pub(crate) fn info(presenter: &Presenter<'_>, path: &str, shown: Shown) -> Group<Info> {
    let state = &presenter.snapshot.state;
    let entry = |service: &Arc<Service>| Entry {
        id: service.id.clone(),
        version: service.target().created_at,
        app: presenter.info(service, shown.of_apps),
    };
    let apps = services(state, path).map(entry).collect();
    let bundles = state.bundles().filter(|bundle| bundle.spec.path.is_in(path)).collect();
    tree(path, apps, bundles, shown)
}

/// An app in a group, in some form.
pub(crate) struct Entry<App> {
    pub(crate) id: ServiceId,
    pub(crate) version: Timestamp,
    pub(crate) app: App,
}

/// The apps and bundles below one path.
type Members<'a, App> = (Vec<Entry<App>>, Vec<&'a Arc<Bundle>>);

/// Builds the tree below `path` from apps and bundles, both in the order of their paths.
pub(crate) fn tree<App>(
    path: &str,
    all: Vec<Entry<App>>,
    bundles: Vec<&Arc<Bundle>>,
    shown: Shown,
) -> Group<App> {
    let prefix = path.trim_end_matches('/');
    let child = |id: &ServiceId| {
        let rest = id.as_str().strip_prefix(prefix)?.strip_prefix('/')?;
        let (name, below) = rest.split_once('/').map_or((rest, false), |(name, _)| (name, true));
        Some((format!("{prefix}/{name}"), below))
    };
    let own = bundles.iter().find(|bundle| bundle.spec.path.as_str() == path).copied();
    let mut version = own.map_or(Timestamp(0), |bundle| bundle.created_at);
    let mut apps = Vec::new();
    let mut groups: BTreeMap<String, Members<'_, App>> = BTreeMap::new();
    for entry in all {
        version = version.max(entry.version);
        match child(&entry.id) {
            Some((_, false)) => apps.push(entry.app),
            Some((group, true)) => groups.entry(group).or_default().0.push(entry),
            None => {}
        }
    }
    for bundle in bundles {
        if let Some((path, _)) = child(&bundle.spec.path) {
            version = version.max(bundle.created_at);
            groups.entry(path).or_default().1.push(bundle);
        }
    }
    let subtree =
        |(path, (apps, bundles)): (String, Members<'_, App>)| tree(&path, apps, bundles, shown);
    Group {
        id: path.into(),
        apps: shown.apps.then_some(apps),
        groups: shown.groups.then(|| groups.into_iter().map(subtree).collect()),
        pods: shown.pods.then_some([]),
        dependencies: own.map(|bundle| bundle.spec.depends_on.clone()).unwrap_or_default(),
        version,
    }
}

/// The times of all changes in a group, newest first.
pub(crate) fn versions(state: &State, path: &str) -> Vec<Timestamp> {
    let revisions = services(state, path).flat_map(|service| service.revisions.values());
    let bundles = state.bundles().filter(|bundle| bundle.spec.path.is_in(path));
    let bundles = bundles.flat_map(|bundle| state.bundle_revisions(&bundle.spec.path));
    let times = revisions.map(|revision| revision.created_at);
    let times: BTreeSet<_> = times.chain(bundles.map(|bundle| bundle.created_at)).collect();
    times.into_iter().rev().collect()
}

/// An app as it was at some time.
pub(crate) struct AppAt {
    pub(crate) app: Arc<App>,
    pub(crate) version: Timestamp,
    pub(crate) version_info: VersionInfo,
}

/// The apps of a group at a time. An app that has been removed since is as the last document of a
/// group that contained it described it.
pub(crate) fn apps_at(
    state: &State,
    known: &Apps,
    path: &str,
    at: Timestamp,
) -> BTreeMap<ServiceId, AppAt> {
    let mut apps = described_at(state, path, at);
    for service in services(state, path) {
        if let Some(revision) = service.revisions.values().rfind(|r| r.created_at <= at) {
            let app = known.of(service, revision);
            let (version, version_info) = (revision.created_at, version_info(revision));
            apps.insert(service.id.clone(), AppAt { app, version, version_info });
        }
    }
    apps
}

/// The apps of a group at a time, as the bundles at, above and below it describe them.
fn described_at(state: &State, path: &str, at: Timestamp) -> BTreeMap<ServiceId, AppAt> {
    let group: Option<ServiceId> = path.parse().ok();
    let overlaps = |bundle: &&Arc<Bundle>| {
        let other = &bundle.spec.path;
        other.is_in(path) || group.as_ref().is_some_and(|group| group.is_in(other.as_str()))
    };
    let then = |bundle: &Arc<Bundle>| {
        let mut revisions = state.bundle_revisions(&bundle.spec.path).rev();
        revisions.find(|revision| revision.created_at <= at && revision.spec.source.is_some())
    };
    let mut bundles: Vec<_> = state.bundles().filter(overlaps).filter_map(then).collect();
    bundles.sort_by_key(|bundle| bundle.created_at);
    let mut apps = BTreeMap::new();
    for bundle in bundles {
        let source = bundle.spec.source.as_ref().and_then(GroupSource::read);
        let Some(GroupSource { id, apps: described }) = source else { continue };
        // A description is complete, so it replaces earlier ones.
        apps.retain(|app: &ServiceId, _| !app.is_in(id.as_str()));
        let version = bundle.created_at;
        for app in described.into_iter().filter(|app| app.id().is_in(path)) {
            let version_info =
                VersionInfo { last_scaling_at: version, last_config_change_at: version };
            apps.insert(app.id().clone(), AppAt { app: Arc::new(app), version, version_info });
        }
    }
    apps
}
