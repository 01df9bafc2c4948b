//! `/v2/apps`: list, show, create, update, restart and remove apps, and their versions.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::format::{self, App, LabelSelector, Rejected, Update};
use axum::http::{StatusCode, header};
use model::{Command, Revision, Service, ServiceId, Timestamp};
use serde::Serialize;
use serde_json::json;

use super::change::{self, Done, Wish, present};
use super::reply::{Ask, DEPLOYMENT_ID, Reply, app_id};
use super::with_look;
use crate::view::app::{Embed, Info, Versioned};
use crate::view::{group, name};
use server::control::Snapshot;

/// The response with a list of apps, which clients expect under the key `apps`.
#[derive(Serialize)]
struct Listed {
    apps: Vec<Info>,
}

/// `GET /v2/apps`.
pub(super) fn list(ask: &Ask) -> Result<Reply, Reply> {
    let selectors = ask.parameters("label").map(LabelSelector::parse);
    let selectors = selectors.collect::<Result<Vec<_>, Rejected>>()?;
    let part = |name| ask.parameter(name).map(str::to_lowercase).unwrap_or_default();
    let (id, cmd) = (part("id"), part("cmd"));
    let embed = Embed::default().and(ask.parameters("embed"));
    Ok(with_look(ask, embed.last_task_failure, |look| {
        let is_chosen = |service: &&Arc<Service>| {
            if service.removing || !service.id.as_str().contains(&id) {
                return false;
            }
            if cmd.is_empty() && selectors.is_empty() {
                return true;
            }
            let app = look.apps.target(service);
            let line = app.cmd().unwrap_or_default().to_lowercase();
            line.contains(&cmd) && selectors.iter().all(|s| s.matches(app.labels()))
        };
        let services = look.snapshot.state.services().filter(is_chosen);
        Reply::json(&Listed { apps: services.map(|service| look.info(service, embed)).collect() })
    }))
}

/// `GET /v2/apps/{id}`.
pub(super) fn show(ask: &Ask, segments: &[&str]) -> Result<Reply, Reply> {
    let id = app_id(segments)?;
    let embed = Embed::ONE.and(ask.parameters("embed"));
    with_look(ask, true, |look| {
        let service = existing(look.snapshot, &id)?;
        Ok(Reply::json(&json!({ "app": look.info(service, embed) })))
    })
}

/// `GET /v2/apps/{group}/*`: all apps in a group and its subgroups.
pub(super) fn show_group(ask: &Ask, segments: &[&str]) -> Result<Reply, Reply> {
    let path = format!("/{}", segments.join("/"));
    let embed = Embed::default().and(ask.parameters("embed"));
    with_look(ask, embed.last_task_failure, |look| {
        if !group::exists(&look.snapshot.state, &path) {
            return Err(Reply::group_not_found(&path));
        }
        let services = group::services(&look.snapshot.state, &path);
        let apps: Vec<_> = services.map(|service| look.info(service, embed)).collect();
        Ok(Reply::json(&json!({ "*": apps })))
    })
}

fn existing<'a>(snapshot: &'a Snapshot, id: &ServiceId) -> Result<&'a Arc<Service>, Reply> {
    present(&snapshot.state, id).ok_or_else(|| Reply::app_not_found(id.as_str()))
}

/// `POST /v2/apps`.
pub(super) async fn create(ask: &Ask) -> Result<Reply, Reply> {
    let app = format::read_app(&ask.body, None)?;
    let id = app.id().clone();
    let wish = |snapshot: &Snapshot| {
        if present(&snapshot.state, &id).is_some() {
            let message = format!("An app with id [{id}] already exists.");
            return Err(Reply::error(StatusCode::CONFLICT, message));
        }
        refuse_group(snapshot, &id)?;
        Ok(Wish { apps: vec![app.clone()], ..Wish::default() })
    };
    let done = change::submit(ask, ask.flag("force", false), wish).await?;
    with_look(ask, false, |look| {
        let service = existing(look.snapshot, &id)?;
        let made = look.made(service, done.deployment);
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
pub(super) async fn update(ask: &Ask, segments: &[&str], may_create: bool) -> Result<Reply, Reply> {
    let path = format!("/{}", segments.join("/"));
    let id: ServiceId = match path.parse() {
        Ok(id) => id,
        Err(error) if may_create => {
            return Err(Reply::invalid("/id", &model::id::Error::to_string(&error)));
        }
        Err(_) => return Err(Reply::app_not_found(&path)),
    };
    let is_new = AtomicBool::new(false);
    let partial = !may_create || ask.flag("partialUpdate", true);
    let wish = |snapshot: &Snapshot| {
        let missing = present(&snapshot.state, &id).is_none();
        is_new.store(missing, Ordering::Relaxed);
        if missing && !may_create {
            return Err(Reply::app_not_found(id.as_str()));
        }
        let app = updated(ask, snapshot, &id, &ask.body, partial)?;
        Ok(Wish { apps: vec![app], ..Wish::default() })
    };
    let done = change::submit(ask, ask.flag("force", false), wish).await?;
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
    ask: &Ask,
    snapshot: &Snapshot,
    id: &ServiceId,
    body: &[u8],
    partial: bool,
) -> Result<App, Reply> {
    let service = present(&snapshot.state, id);
    let current = service.map(|service| ask.marathon.apps.target(service));
    if current.is_none() {
        refuse_group(snapshot, id)?;
    }
    match format::update_app(current.as_deref(), id, body, partial)? {
        Update::App(app) => Ok(*app),
        Update::Version(at) => {
            let service = service.ok_or_else(|| Reply::app_not_found(id.as_str()))?;
            let revision = at_version(service, at)?;
            Ok(App::clone(&ask.marathon.apps.of(service, revision)))
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
pub(super) async fn update_many(ask: &Ask, may_create: bool) -> Result<Reply, Reply> {
    let updates = format::update_apps(&ask.body)?;
    let partial = !may_create || ask.flag("partialUpdate", true);
    let wish = |snapshot: &Snapshot| {
        let update = |(id, body): &(ServiceId, Vec<u8>)| {
            if !may_create && present(&snapshot.state, id).is_none() {
                return Err(Reply::app_not_found(id.as_str()));
            }
            updated(ask, snapshot, id, body, partial)
        };
        let apps = updates.iter().map(update).collect::<Result<_, _>>()?;
        Ok(Wish { apps, ..Wish::default() })
    };
    let done = change::submit(ask, ask.flag("force", false), wish).await?;
    Ok(done.reply())
}

/// `DELETE /v2/apps/{id}`. By default, it overrides a deployment of the app.
pub(super) async fn remove(ask: &Ask, segments: &[&str]) -> Result<Reply, Reply> {
    let id = app_id(segments)?;
    let wish = |snapshot: &Snapshot| {
        existing(snapshot, &id)?;
        Ok(Wish { gone: vec![id.clone()], ..Wish::default() })
    };
    Ok(change::submit(ask, ask.flag("force", true), wish).await?.reply())
}

/// `POST /v2/apps/{id}/restart`.
pub(super) async fn restart(ask: &Ask, segments: &[&str]) -> Result<Reply, Reply> {
    let id = app_id(segments)?;
    existing(&ask.server.snapshot(), &id)?;
    let command = Command::Restart { service: id.clone() };
    let done: Done = change::carry_out(ask, command, vec![id], ask.flag("force", false)).await?;
    Ok(done.reply())
}

/// `GET /v2/apps/{id}/versions`, newest first.
pub(super) fn versions(ask: &Ask, segments: &[&str]) -> Result<Reply, Reply> {
    let id = app_id(segments)?;
    let snapshot = ask.server.snapshot();
    let revisions = existing(&snapshot, &id)?.revisions.values().rev();
    let versions: Vec<_> = revisions.map(|revision| revision.created_at).collect();
    Ok(Reply::json(&json!({ "versions": versions })))
}

/// `GET /v2/apps/{id}/versions/{version}`.
pub(super) fn version(ask: &Ask, segments: &[&str], at: &str) -> Result<Reply, Reply> {
    let id = app_id(segments)?;
    let at = super::timestamp(at)?;
    let snapshot = ask.server.snapshot();
    let service = existing(&snapshot, &id)?;
    let revision = at_version(service, at)?;
    let app = ask.marathon.apps.of(service, revision);
    Ok(Reply::json(&Versioned::new(&app, revision)))
}
