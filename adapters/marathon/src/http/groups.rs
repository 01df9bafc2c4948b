//! `/v2/groups`: show, create, update, scale and remove groups.

use std::collections::BTreeSet;

use crate::format::{self, App, GroupUpdate};
use axum::http::{StatusCode, header};
use model::{ServiceId, Timestamp};
use serde_json::json;

use super::change::{self, DesiredApps, present};
use super::reply::{ApiRequest, Reply};
use super::with_presenter;
use crate::view::app::{Apps, Versioned};
use crate::view::group::{self, AppAt, Entry, ROOT, Shown};
use server::control::Snapshot;

fn path(segments: &[&str]) -> String {
    format!("/{}", segments.join("/"))
}

/// `GET /v2/groups[/{id}]`.
pub(super) fn show(request: &ApiRequest, segments: &[&str]) -> Result<Reply, Reply> {
    let path = path(segments);
    let embed: Vec<&str> = request.parameters("embed").collect();
    let shown = Shown::from(embed.iter().copied());
    with_presenter(request, shown.of_apps.last_task_failure, |presenter| {
        match group::exists(&presenter.snapshot.state, &path) {
            true => Ok(Reply::json(&group::info(presenter, &path, shown))),
            false => Err(Reply::group_not_found(&path)),
        }
    })
}

/// `GET /v2/groups/{id}/apps`.
pub(super) fn apps(request: &ApiRequest, segments: &[&str]) -> Result<Reply, Reply> {
    let path = path(segments);
    let shown = Shown::from(request.parameters("embed").collect::<Vec<_>>().iter().copied());
    Ok(with_presenter(request, shown.of_apps.last_task_failure, |presenter| {
        let services = group::services(&presenter.snapshot.state, &path);
        let apps: Vec<_> = services.map(|service| presenter.info(service, shown.of_apps)).collect();
        Reply::json(&apps)
    }))
}

/// `GET /v2/groups[/{id}]/versions`.
pub(super) fn versions(request: &ApiRequest, segments: &[&str]) -> Result<Reply, Reply> {
    let path = path(segments);
    let snapshot = request.server.snapshot();
    match group::exists(&snapshot.state, &path) {
        true => Ok(Reply::json(&group::versions(&snapshot.state, &path))),
        false => Err(Reply::group_not_found(&path)),
    }
}

/// `GET /v2/groups[/{id}]/versions/{version}`: the group at that time.
pub(super) fn version(request: &ApiRequest, segments: &[&str], at: &str) -> Result<Reply, Reply> {
    let path = path(segments);
    let at = super::timestamp(at)?;
    with_presenter(request, false, |presenter| {
        let state = &presenter.snapshot.state;
        if !group::versions(state, &path).contains(&at) {
            let message = format!("Group '{path}' does not exist in version {at}");
            return Err(Reply::not_found(message));
        }
        let shown = Shown { groups: true, apps: true, pods: true, of_apps: Default::default() };
        let apps = group::apps_at(state, presenter.apps, &path, at).into_iter();
        let apps = apps.map(|(id, AppAt { app, version, version_info })| {
            let app = json!(Versioned { app: &app, version, version_info });
            Entry { id, version, app }
        });
        let mut tree = group::tree(&path, apps.collect(), Vec::new(), shown);
        tree.version = at;
        Ok(Reply::json(&tree))
    })
}

/// `POST /v2/groups[/{id}]`: creates a group, which must not exist.
pub(super) async fn create(request: &ApiRequest, segments: &[&str]) -> Result<Reply, Reply> {
    let update = format::read_group(&request.body, &path(segments))?;
    let id = update.id.clone();
    let desired = |snapshot: &Snapshot| {
        if group::exists(&snapshot.state, &id) && id != ROOT {
            let message = format!("Group {id} is already created. Use PUT to change this group.");
            return Err(Reply::error(StatusCode::CONFLICT, message));
        }
        refuse_app(snapshot, &id)?;
        Changes::new(snapshot, &request.marathon.apps).update(&update)
    };
    let done = change::submit(request, request.flag("force", false), desired).await?;
    let location = format!("/v2/groups{id}");
    Ok(done.reply().status(StatusCode::CREATED).header(header::LOCATION, location))
}

fn refuse_app(snapshot: &Snapshot, path: &str) -> Result<(), Reply> {
    let app = path.parse().ok().and_then(|id: ServiceId| present(&snapshot.state, &id));
    match app {
        Some(_) => {
            let message = format!("An app with the path {path} already exists.");
            Err(Reply::error(StatusCode::CONFLICT, message))
        }
        None => Ok(()),
    }
}

/// `PUT /v2/groups[/{id}]`: creates or updates a group. With `dryRun`, returns the steps of the
/// deployment without starting it.
pub(super) async fn update(request: &ApiRequest, segments: &[&str]) -> Result<Reply, Reply> {
    let update = format::read_group(&request.body, &path(segments))?;
    let desired = |snapshot: &Snapshot| {
        refuse_app(snapshot, &update.id)?;
        Changes::new(snapshot, &request.marathon.apps).update(&update)
    };
    if request.flag("dryRun", false) {
        let steps = change::dry_run(request, desired)?;
        let steps: Vec<_> = steps.iter().map(|actions| json!({ "actions": actions })).collect();
        return Ok(Reply::json(&json!({ "steps": steps })));
    }
    Ok(change::submit(request, request.flag("force", false), desired).await?.reply())
}

/// `DELETE /v2/groups[/{id}]`: removes a group with all its apps and subgroups.
pub(super) async fn remove(request: &ApiRequest, segments: &[&str]) -> Result<Reply, Reply> {
    let path = path(segments);
    let desired = |snapshot: &Snapshot| {
        if !group::exists(&snapshot.state, &path) {
            return Err(Reply::group_not_found(&path));
        }
        let mut changes = Changes::new(snapshot, &request.marathon.apps);
        changes.remove(&path);
        Ok(changes.desired)
    };
    Ok(change::submit(request, request.flag("force", false), desired).await?.reply())
}

/// The changes of apps and groups that result from the update of a group.
struct Changes<'a> {
    snapshot: &'a Snapshot,
    apps: &'a Apps,
    desired: DesiredApps,
}

impl<'a> Changes<'a> {
    fn new(snapshot: &'a Snapshot, apps: &'a Apps) -> Changes<'a> {
        Changes { snapshot, apps, desired: DesiredApps::default() }
    }

    fn update(mut self, update: &GroupUpdate) -> Result<DesiredApps, Reply> {
        if let Some(factor) = update.scale_by {
            self.scale(&update.id, factor)?;
        } else if let Some(at) = update.version {
            self.restore(&update.id, at)?;
        } else {
            self.replace(update);
            self.desired.described = update.id.parse().ok();
        }
        Ok(self.desired)
    }

    /// Multiplies the instances of each app in the group by `factor`, rounding up.
    fn scale(&mut self, path: &str, factor: f64) -> Result<(), Reply> {
        if !group::exists(&self.snapshot.state, path) {
            return Err(Reply::group_not_found(path));
        }
        for service in group::services(&self.snapshot.state, path) {
            let app = App::clone(&self.apps.target(service));
            let instances = (f64::from(app.instances()) * factor).ceil();
            if !(0.0..=f64::from(u32::MAX)).contains(&instances) {
                let message = format!("{factor} times {} instances cannot be", app.instances());
                return Err(Reply::invalid("/scaleBy", &message));
            }
            self.desired.apps.push(app.scaled(instances as u32));
        }
        Ok(())
    }

    /// Restores the apps of the group as of the time `at`, with those that have been removed since,
    /// and removes newer ones.
    fn restore(&mut self, path: &str, at: Timestamp) -> Result<(), Reply> {
        let state = &self.snapshot.state;
        if !group::versions(state, path).contains(&at) {
            let message = format!("Group '{path}' does not exist in version {at}");
            return Err(Reply::not_found(message));
        }
        let then = group::apps_at(state, self.apps, path, at);
        let newer = group::services(state, path).filter(|service| !then.contains_key(&service.id));
        self.desired.removed.extend(newer.map(|service| service.id.clone()));
        self.desired.apps.extend(then.into_values().map(|then| App::clone(&then.app)));
        self.desired.described = path.parse().ok();
        Ok(())
    }

    /// Replaces the lists that the update contains. Absent lists leave the group unchanged.
    fn replace(&mut self, update: &GroupUpdate) {
        let prefix = update.id.trim_end_matches('/');
        let child = |id: &ServiceId| {
            let rest = id.as_str().strip_prefix(prefix)?.strip_prefix('/')?;
            Some(rest.split_once('/').map_or((rest, false), |(first, _)| (first, true)))
                .map(|(first, below)| (format!("{prefix}/{first}"), below))
        };
        let present: Vec<_> = group::services(&self.snapshot.state, &update.id).collect();
        if let Some(apps) = &update.apps {
            let stays: BTreeSet<_> = apps.iter().map(|app| app.id().clone()).collect();
            for service in &present {
                let is_own = child(&service.id).is_some_and(|(_, below)| !below);
                if is_own && !stays.contains(&service.id) {
                    self.desired.removed.push(service.id.clone());
                }
            }
            self.desired.apps.extend(apps.iter().cloned());
        }
        if let Some(groups) = &update.groups {
            let stays: BTreeSet<&str> = groups.iter().map(|group| group.id.as_str()).collect();
            let stored = self.snapshot.state.bundles().map(|bundle| &bundle.spec.path);
            let inside = present.iter().filter_map(|service| child(&service.id));
            let inside = inside.filter(|(_, below)| *below).chain(stored.filter_map(child));
            let goes: BTreeSet<String> = inside
                .map(|(path, _)| path)
                .filter(|path| !stays.contains(path.as_str()))
                .collect();
            goes.iter().for_each(|path| self.remove(path));
            groups.iter().for_each(|group| self.replace(group));
        }
        if let Ok(id) = update.id.parse::<ServiceId>() {
            let known =
                self.snapshot.state.bundle(&id).map(|bundle| bundle.spec.depends_on.clone());
            let depends_on = update.dependencies.clone().or(known).unwrap_or_default();
            self.touch(&update.id, update.dependencies.is_some());
            self.desired.groups.insert(id, depends_on);
        }
    }

    /// Resubmits all apps in a group whose dependencies change, because the dependencies of a group
    /// are resolved in the services of its apps.
    fn touch(&mut self, path: &str, depends_otherwise: bool) {
        if !depends_otherwise {
            return;
        }
        let done: BTreeSet<_> = self.desired.apps.iter().map(|app| app.id().clone()).collect();
        let removed: BTreeSet<_> = self.desired.removed.iter().cloned().collect();
        for service in group::services(&self.snapshot.state, path) {
            if !done.contains(&service.id) && !removed.contains(&service.id) {
                self.desired.apps.push(App::clone(&self.apps.target(service)));
            }
        }
    }

    fn remove(&mut self, path: &str) {
        let state = &self.snapshot.state;
        self.desired.removed.extend(group::services(state, path).map(|service| service.id.clone()));
        let stored = state.bundles().map(|bundle| &bundle.spec.path);
        self.desired.removed_groups.extend(stored.filter(|stored| stored.is_in(path)).cloned());
    }
}
