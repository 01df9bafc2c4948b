//! The tree of groups, derived from paths.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::{Service, ServiceId, State, Timestamp};
use serde::Serialize;

use super::app::{Embed, Info, Look};

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
        || state.groups().any(|group| group.group.is_in(path))
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
pub(crate) fn info(look: &Look<'_>, path: &str, shown: Shown) -> Group<Info> {
    let state = &look.snapshot.state;
    let services: Vec<_> = services(state, path).collect();
    let stored: Vec<_> = state.groups().filter(|group| group.group.is_in(path)).collect();
    tree(path, &services, &stored, shown, &|service| look.info(service, shown.of_apps))
}

/// The services and stored groups below one path.
type Inside<'a> = (Vec<&'a Arc<Service>>, Vec<&'a Arc<model::Group>>);

/// Builds the tree below `path` from services and stored groups, both in the order of their paths.
pub(crate) fn tree<App>(
    path: &str,
    services: &[&Arc<Service>],
    stored: &[&Arc<model::Group>],
    shown: Shown,
    app: &impl Fn(&Arc<Service>) -> App,
) -> Group<App> {
    let prefix = path.trim_end_matches('/');
    let child = |id: &ServiceId| {
        let rest = id.as_str().strip_prefix(prefix)?.strip_prefix('/')?;
        let (name, below) = rest.split_once('/').map_or((rest, false), |(name, _)| (name, true));
        Some((format!("{prefix}/{name}"), below))
    };
    let own = stored.iter().find(|group| group.group.as_str() == path);
    let mut version = own.map_or(Timestamp(0), |group| group.changed_at);
    let mut apps = Vec::new();
    let mut groups: BTreeMap<String, Inside<'_>> = BTreeMap::new();
    for service in services {
        version = version.max(service.target().created_at);
        match child(&service.id) {
            Some((_, false)) => apps.push(app(service)),
            Some((group, true)) => groups.entry(group).or_default().0.push(service),
            None => {}
        }
    }
    for group in stored {
        if let Some((path, _)) = child(&group.group) {
            version = version.max(group.changed_at);
            groups.entry(path).or_default().1.push(group);
        }
    }
    let subtree = |(path, (services, stored)): (String, Inside<'_>)| {
        tree(&path, &services, &stored, shown, app)
    };
    Group {
        id: path.into(),
        apps: shown.apps.then_some(apps),
        groups: shown.groups.then(|| groups.into_iter().map(subtree).collect()),
        pods: shown.pods.then_some([]),
        dependencies: own.map(|group| group.depends_on.clone()).unwrap_or_default(),
        version,
    }
}

/// The times of all changes in a group, newest first.
pub(crate) fn versions(state: &State, path: &str) -> Vec<Timestamp> {
    let revisions = services(state, path).flat_map(|service| service.revisions.values());
    let stored = state.groups().filter(|group| group.group.is_in(path));
    let times = revisions.map(|revision| revision.created_at);
    let times: BTreeSet<_> = times.chain(stored.map(|group| group.changed_at)).collect();
    times.into_iter().rev().collect()
}
