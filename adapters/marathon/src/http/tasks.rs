//! `/v2/tasks` and the tasks of an app: list and kill tasks.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::http::StatusCode;
use axum::http::header::ACCEPT;
use model::{Command, InstanceId, Service, ServiceId};
use serde::Deserialize;
use serde_json::json;

use super::change::{self, present};
use super::reply::{ApiRequest, Reply, app_id};
use super::with_presenter;
use crate::view::app::Presenter;
use crate::view::task::{self, Task};
use crate::view::{group, name};

fn tasks_of(presenter: &Presenter<'_>, service: &Arc<Service>) -> Vec<Task> {
    let ports = presenter.apps.target(service).service_ports();
    task::of(presenter.snapshot, service, &ports, false, presenter.now).collect()
}

/// `GET /v2/tasks`, as JSON or, if the client accepts text, as lines for a load balancer.
pub(super) fn list(request: &ApiRequest) -> Result<Reply, Reply> {
    let wanted: Vec<&str> =
        request.parameters("status").chain(request.parameters("status[]")).collect();
    let is_wanted = |task: &Task| {
        let status = match task.state {
            "TASK_RUNNING" => "running",
            "TASK_STAGING" => "staging",
            _ => "",
        };
        wanted.is_empty() || wanted.contains(&status)
    };
    Ok(with_presenter(request, false, |presenter| {
        if prefers_text(request) {
            return Reply::text(lines(presenter));
        }
        let services = presenter.snapshot.state.services();
        let tasks = services.flat_map(|service| tasks_of(presenter, service)).filter(is_wanted);
        Reply::json(&json!({ "tasks": tasks.collect::<Vec<_>>() }))
    }))
}

fn prefers_text(request: &ApiRequest) -> bool {
    let accept = request.headers.get(ACCEPT).and_then(|accept| accept.to_str().ok());
    accept.is_some_and(|accept| accept.trim_start().starts_with("text/plain"))
}

/// One line per port of each app: name, service port, and endpoints of its running tasks.
fn lines(presenter: &Presenter<'_>) -> String {
    let mut lines = String::new();
    for service in presenter.snapshot.state.services() {
        let tasks = tasks_of(presenter, service);
        let app = service.id.as_str().trim_start_matches('/').replace('/', "_");
        for (i, port) in presenter.apps.target(service).service_ports().into_iter().enumerate() {
            let _ = write!(lines, "{app}\t{port}\t");
            let running = tasks.iter().filter(|task| task.state == "TASK_RUNNING");
            for (task, port) in running.filter_map(|task| Some((task, task.ports.get(i)?))) {
                let _ = write!(lines, "{}:{port}\t", task.host);
            }
            lines.push('\n');
        }
    }
    lines
}

/// `GET /v2/apps/{id}/tasks` and `/v2/apps/{group}/*/tasks`.
pub(super) fn of_app(request: &ApiRequest, segments: &[&str]) -> Result<Reply, Reply> {
    with_presenter(request, false, |presenter| {
        if let [group @ .., "*"] = segments {
            let path = format!("/{}", group.join("/"));
            let services = group::services(&presenter.snapshot.state, &path);
            let tasks: Vec<_> = services.flat_map(|service| tasks_of(presenter, service)).collect();
            return Ok(Reply::json(&json!({ "tasks": tasks })));
        }
        let id = app_id(segments)?;
        let service = present(&presenter.snapshot.state, &id);
        let service = service.ok_or_else(|| Reply::app_not_found(id.as_str()))?;
        let ports = presenter.apps.target(service).service_ports();
        let tasks = task::of(presenter.snapshot, service, &ports, true, presenter.now);
        Ok(Reply::json(&json!({ "tasks": tasks.collect::<Vec<_>>() })))
    })
}

/// `DELETE /v2/apps/{id}/tasks`: kills all tasks of an app, or those on `host`.
pub(super) async fn kill_of_app(request: &ApiRequest, segments: &[&str]) -> Result<Reply, Reply> {
    let id = app_id(segments)?;
    let host = request.parameter("host").filter(|host| !host.is_empty() && *host != "*");
    let (instances, tasks) = with_presenter(request, false, |presenter| {
        let service = present(&presenter.snapshot.state, &id);
        let service = service.ok_or_else(|| Reply::app_not_found(id.as_str()))?;
        let tasks = tasks_of(presenter, service);
        let is_there =
            |task: &Task| host.is_none_or(|host| task.host == host || task.slave_id == host);
        let tasks: Vec<_> = tasks.into_iter().filter(is_there).collect();
        Ok::<_, Reply>((tasks.iter().filter_map(instance).collect(), tasks))
    })?;
    kill(request, vec![id], instances, &json!({ "tasks": tasks })).await
}

fn instance(task: &Task) -> Option<InstanceId> {
    name::parse_task(&task.id).map(|(instance, _)| instance)
}

/// `DELETE /v2/apps/{id}/tasks/{task}`.
pub(super) async fn kill_one(
    request: &ApiRequest,
    segments: &[&str],
    task: &str,
) -> Result<Reply, Reply> {
    let id = match name::parse_task(task).filter(|_| segments.join("/") == app_of_earlier(task)) {
        Some((instance, _)) => instance.service,
        None => app_id(segments)?,
    };
    let unknown = || Reply::not_found(format!("Task '{task}' does not exist"));
    let found = with_presenter(request, false, |presenter| {
        let service = present(&presenter.snapshot.state, &id);
        let service = service.ok_or_else(|| Reply::app_not_found(id.as_str()))?;
        let found = tasks_of(presenter, service).into_iter().find(|known| is_named(known, task));
        found.ok_or_else(unknown)
    })?;
    let instances = instance(&found).into_iter().collect();
    kill(request, vec![id], instances, &json!({ "task": found })).await
}

/// The app of a task as go-marathon derives it from the id of the task alone: as if it had the form
/// of earlier versions, `shop_web.UUID`.
fn app_of_earlier(task: &str) -> String {
    task.rsplit_once('.').map_or(task, |(app, _)| app).replace('_', "/")
}

/// Whether `name` is the name of the task or of its instance.
fn is_named(task: &Task, name: &str) -> bool {
    task.id == name || task.id.strip_prefix(name).is_some_and(|rest| rest.starts_with("._app."))
}

/// The body of `POST /v2/tasks/delete`.
#[derive(Deserialize)]
struct Ids {
    ids: Vec<String>,
}

/// `POST /v2/tasks/delete`. Tasks that do not exist any more are ignored.
pub(super) async fn kill_many(request: &ApiRequest) -> Result<Reply, Reply> {
    let Ids { ids } = serde_json::from_slice(&request.body).map_err(|error| {
        let body = json!({ "message": "Invalid JSON", "details": error.to_string() });
        Reply::with(StatusCode::BAD_REQUEST, &body)
    })?;
    let parse = |id: &String| {
        let invalid = || {
            let message = format!("Invalid task id '{id}'.");
            Reply::error(StatusCode::BAD_REQUEST, message)
        };
        name::parse_task(id).map(|(instance, _)| instance).ok_or_else(invalid)
    };
    let named = ids.iter().map(parse).collect::<Result<Vec<InstanceId>, Reply>>()?;
    let (instances, apps, idle, tasks) = with_presenter(request, false, |presenter| {
        let mut apps: Vec<ServiceId> = named.iter().map(|id| id.service.clone()).collect();
        apps.sort();
        apps.dedup();
        let service = |id| presenter.snapshot.state.service(id);
        let has_tasks = |id| service(id).is_some_and(|service| !service.placements.is_empty());
        let idle = apps.iter().find(|id| !has_tasks(id)).cloned();
        let services = apps.iter().filter_map(service);
        let tasks = services.flat_map(|service| tasks_of(presenter, service));
        let is_match = |task: &Task| ids.iter().any(|id| is_named(task, id));
        let tasks: Vec<_> = tasks.filter(is_match).collect();
        let instances: Vec<_> = tasks.iter().filter_map(instance).collect();
        (instances, apps, idle, tasks)
    });
    if let Some(id) = idle.filter(|_| instances.is_empty() && request.flag("scale", false)) {
        refuse_both(request)?;
        return Err(Reply::app_not_found(id.as_str()));
    }
    kill(request, apps, instances, &json!({ "tasks": tasks })).await
}

/// Kills instances. Returns `killed` or, with `scale`, the deployment that scales the apps down.
async fn kill(
    request: &ApiRequest,
    apps: Vec<ServiceId>,
    instances: Vec<InstanceId>,
    killed: &serde_json::Value,
) -> Result<Reply, Reply> {
    refuse_both(request)?;
    let scale = request.flag("scale", false);
    // Without `scale`, nothing about the app changes, so it cannot conflict with a deployment.
    let force = !scale || request.flag("force", false);
    let done = change::commit(request, Command::Kill { instances, scale }, apps, force).await?;
    Ok(if scale { done.reply() } else { Reply::json(killed) })
}

/// Rejects `scale` combined with `wipe`: a task that is not replaced has no state to wipe.
fn refuse_both(request: &ApiRequest) -> Result<(), Reply> {
    match request.flag("scale", false) && request.flag("wipe", false) {
        true => {
            let message = "You cannot use scale and wipe at the same time.";
            Err(Reply::error(StatusCode::BAD_REQUEST, message))
        }
        false => Ok(()),
    }
}
