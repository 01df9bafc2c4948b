//! `/v2/apps`: list, show, create, update, restart and remove apps, and their versions.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::format::{self, App, LabelSelector, Rejected, Update};
use axum::http::{StatusCode, header};
use model::{Command, Revision, Service, ServiceId, Timestamp};
use serde::Serialize;
use serde_json::json;

use super::change::{self, Applied, DesiredApps, present};
use super::reply::{ApiRequest, DEPLOYMENT_ID, Reply, app_id};
use super::with_presenter;
use crate::view::app::{Embed, Info, Versioned};
use crate::view::{group, name};
use server::control::Snapshot;

/// The response with a list of apps, which clients expect under the key `apps`.
#[derive(Serialize)]
struct Listed {
    apps: Vec<Info>,
}

/// `GET /v2/apps`.
pub(super) fn list(request: &ApiRequest) -> Result<Reply, Reply> {
    let selectors = request.parameters("label").map(LabelSelector::parse);
    let selectors = selectors.collect::<Result<Vec<_>, Rejected>>()?;
    let part = |name| request.parameter(name).map(str::to_lowercase).unwrap_or_default();
    let (id, cmd) = (part("id"), part("cmd"));
    let embed = Embed::default().and(request.parameters("embed"));
    Ok(with_presenter(request, embed.last_task_failure, |presenter| {
        let is_chosen = |service: &&Arc<Service>| {
            if service.removing || !service.id.as_str().contains(&id) {
                return false;
            }
            if cmd.is_empty() && selectors.is_empty() {
                return true;
            }
            let app = presenter.apps.target(service);
            let line = app.cmd().unwrap_or_default().to_lowercase();
            line.contains(&cmd) && selectors.iter().all(|s| s.matches(app.labels()))
        };
        let services = presenter.snapshot.state.services().filter(is_chosen);
        Reply::json(&Listed {
            apps: services.map(|service| presenter.info(service, embed)).collect(),
        })
    }))
}

/// `GET /v2/apps/{id}`.
pub(super) fn show(request: &ApiRequest, segments: &[&str]) -> Result<Reply, Reply> {
    let id = app_id(segments)?;
    let embed = Embed::ONE.and(request.parameters("embed"));
    with_presenter(request, true, |presenter| {
        let service = existing(presenter.snapshot, &id)?;
        Ok(Reply::json(&json!({ "app": presenter.info(service, embed) })))
    })
}

/// `GET /v2/apps/{group}/*`: all apps in a group and its subgroups.
pub(super) fn show_group(request: &ApiRequest, segments: &[&str]) -> Result<Reply, Reply> {
    let path = format!("/{}", segments.join("/"));
    let embed = Embed::default().and(request.parameters("embed"));
    with_presenter(request, embed.last_task_failure, |presenter| {
        if !group::exists(&presenter.snapshot.state, &path) {
            return Err(Reply::group_not_found(&path));
        }
        let services = group::services(&presenter.snapshot.state, &path);
        let apps: Vec<_> = services.map(|service| presenter.info(service, embed)).collect();
        Ok(Reply::json(&json!({ "*": apps })))
    })
}

fn existing<'a>(snapshot: &'a Snapshot, id: &ServiceId) -> Result<&'a Arc<Service>, Reply> {
    present(&snapshot.state, id).ok_or_else(|| Reply::app_not_found(id.as_str()))
}

/// `POST /v2/apps`.
pub(super) async fn create(request: &ApiRequest) -> Result<Reply, Reply> {
    let app = format::read_app(&request.body, None)?;
    let id = app.id().clone();
    let desired = |snapshot: &Snapshot| {
        if present(&snapshot.state, &id).is_some() {
            let message = format!("An app with id [{id}] already exists.");
            return Err(Reply::error(StatusCode::CONFLICT, message));
        }
        refuse_group(snapshot, &id)?;
        Ok(DesiredApps { apps: vec![app.clone()], ..DesiredApps::default() })
    };
    let done = change::submit(request, request.flag("force", false), desired).await?;
    with_presenter(request, false, |presenter| {
        let service = existing(presenter.snapshot, &id)?;
        let made = presenter.made(service, done.deployment);
        let reply = Reply::with(StatusCode::CREATED, &made);
        let reply = reply.header(header::LOCATION, format!("/v2/apps{id}"));
        Ok(match done.deployment {
            Some(deployment) => reply.header(DEPLOYMENT_ID, name::deployment(deployment)),
            None => reply,
        })
    })
}

/// Rejects an app with the path of an existing group.
fn refuse_group(snapshot: &Snapshot, id: &ServiceId) -> Result<(), Reply> {
    match group::exists(&snapshot.state, id.as_str()) {
        true => Err(Reply::shared_id(id)),
        false => Ok(()),
    }
}

/// `PUT` and `PATCH /v2/apps/{id}`. Only `PUT` creates an app that does not exist.
pub(super) async fn update(
    request: &ApiRequest,
    segments: &[&str],
    may_create: bool,
) -> Result<Reply, Reply> {
    let path = format!("/{}", segments.join("/"));
    let id: ServiceId = match path.parse() {
        Ok(id) => id,
        Err(error) if may_create => {
            return Err(Reply::invalid("/id", &model::id::Error::to_string(&error)));
        }
        Err(_) => return Err(Reply::app_not_found(&path)),
    };
    let is_new = AtomicBool::new(false);
    let partial = !may_create || request.flag("partialUpdate", true);
    let desired = |snapshot: &Snapshot| {
        let missing = present(&snapshot.state, &id).is_none();
        is_new.store(missing, Ordering::Relaxed);
        if missing && !may_create {
            return Err(Reply::app_not_found(id.as_str()));
        }
        let app = updated(request, snapshot, &id, &request.body, partial)?;
        Ok(DesiredApps { apps: vec![app], ..DesiredApps::default() })
    };
    let done = change::submit(request, request.flag("force", false), desired).await?;
    Ok(match is_new.into_inner() {
        true => done
            .reply()
            .status(StatusCode::CREATED)
            .header(header::LOCATION, format!("/v2/apps{id}")),
        false => done.reply(),
    })
}

/// Applies the update in `body` to the app `id`, and returns the resulting app.
fn updated(
    request: &ApiRequest,
    snapshot: &Snapshot,
    id: &ServiceId,
    body: &[u8],
    partial: bool,
) -> Result<App, Reply> {
    let service = present(&snapshot.state, id);
    let current = service.map(|service| request.marathon.apps.target(service));
    if current.is_none() {
        refuse_group(snapshot, id)?;
    }
    match format::update_app(current.as_deref(), id, body, partial)? {
        Update::App(app) => Ok(*app),
        Update::Version(at) => {
            let service = service.ok_or_else(|| Reply::app_not_found(id.as_str()))?;
            let revision = at_version(service, at)?;
            Ok(App::clone(&request.marathon.apps.of(service, revision)))
        }
    }
}

fn at_version(service: &Service, at: Timestamp) -> Result<&Arc<Revision>, Reply> {
    let mut revisions = service.revisions.values();
    revisions.find(|revision| revision.created_at == at).ok_or_else(|| {
        Reply::not_found(format!("App '{}' does not exist in version {at}", service.id))
    })
}

/// `PUT` and `PATCH /v2/apps`: updates several apps in one deployment.
pub(super) async fn update_many(request: &ApiRequest, may_create: bool) -> Result<Reply, Reply> {
    let updates = format::update_apps(&request.body)?;
    let partial = !may_create || request.flag("partialUpdate", true);
    let desired = |snapshot: &Snapshot| {
        let update = |(id, body): &(ServiceId, Vec<u8>)| {
            if !may_create && present(&snapshot.state, id).is_none() {
                return Err(Reply::app_not_found(id.as_str()));
            }
            updated(request, snapshot, id, body, partial)
        };
        let apps = updates.iter().map(update).collect::<Result<_, _>>()?;
        Ok(DesiredApps { apps, ..DesiredApps::default() })
    };
    let done = change::submit(request, request.flag("force", false), desired).await?;
    Ok(done.reply())
}

/// `DELETE /v2/apps/{id}`. By default, it overrides a deployment of the app.
pub(super) async fn remove(request: &ApiRequest, segments: &[&str]) -> Result<Reply, Reply> {
    let id = app_id(segments)?;
    let desired = |snapshot: &Snapshot| {
        existing(snapshot, &id)?;
        Ok(DesiredApps { removed: vec![id.clone()], ..DesiredApps::default() })
    };
    Ok(change::submit(request, request.flag("force", true), desired).await?.reply())
}

/// `POST /v2/apps/{id}/restart`.
pub(super) async fn restart(request: &ApiRequest, segments: &[&str]) -> Result<Reply, Reply> {
    let id = app_id(segments)?;
    existing(&request.server.snapshot(), &id)?;
    let command = Command::Restart { service: id.clone() };
    let done: Applied =
        change::commit(request, command, vec![id], request.flag("force", false)).await?;
    Ok(done.reply())
}

/// `GET /v2/apps/{id}/versions`, newest first.
pub(super) fn versions(request: &ApiRequest, segments: &[&str]) -> Result<Reply, Reply> {
    let id = app_id(segments)?;
    let snapshot = request.server.snapshot();
    let revisions = existing(&snapshot, &id)?.revisions.values().rev();
    let versions: Vec<_> = revisions.map(|revision| revision.created_at).collect();
    Ok(Reply::json(&json!({ "versions": versions })))
}

/// `GET /v2/apps/{id}/versions/{version}`.
pub(super) fn version(request: &ApiRequest, segments: &[&str], at: &str) -> Result<Reply, Reply> {
    let id = app_id(segments)?;
    let at = super::timestamp(at)?;
    let snapshot = request.server.snapshot();
    let service = existing(&snapshot, &id)?;
    let revision = at_version(service, at)?;
    let app = request.marathon.apps.of(service, revision);
    Ok(Reply::json(&Versioned::new(&app, revision)))
}
