//! Marathon's API, by default under `/v2`, `/service/marathon/v2` and `/marathon/v2`: a table from
//! methods and paths to handlers.
//!
//! Clients send paths with empty segments, so paths are split here instead of by the router. All
//! responses have Marathon's headers, errors included. Bodies are JSON, except for events and for
//! responses that clients request as text.

mod apps;
mod change;
mod deployments;
mod events;
mod groups;
mod info;
mod mesos;
mod package;
mod queue;
mod reply;
mod tasks;

use std::collections::BTreeMap;
use std::sync::Arc;

use api::now;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::Response;
use model::Timestamp;
use serde_json::json;

use crate::Marathon;
use crate::view::app::Presenter;
use crate::view::failure;
use reply::{ApiRequest, Reply};
use server::adapter::{Claim, Server};

/// The maximum size of a body. Larger ones are rejected before they are read completely.
const BODY_MAX: usize = 16 << 20;

/// The prefixes of the API: Marathon's own, and those of DC/OS.
pub(crate) const PREFIXES: [&str; 3] = ["/", "/service/marathon", "/marathon"];

/// The routes of Marathon's API and of the parts of Mesos and DC/OS that its clients read.
pub(crate) const CLAIMS: [Claim; 10] = [
    Claim::new("/v2/**"),
    Claim::new("/ping"),
    Claim::new("/metrics").accepting("application/json"),
    Claim::new("/mesos/**"),
    Claim::new("/mesos_dns/**"),
    Claim::new("/slave/**"),
    Claim::new("/agent/**"),
    Claim::new("/capabilities"),
    Claim::new("/dcos-metadata/**"),
    Claim::new("/package/**"),
];

/// Splits a path into percent-decoded segments, without empty ones. Returns `None` if a segment is
/// not valid UTF-8.
fn segments(path: &str) -> Option<Vec<String>> {
    let decode = |segment: &str| {
        let decoded = percent_encoding::percent_decode_str(segment).decode_utf8();
        decoded.map(String::from).ok()
    };
    path.split('/').filter(|segment| !segment.is_empty()).map(decode).collect()
}

/// Handles a request to the API.
pub(crate) async fn respond(marathon: Arc<Marathon>, server: Server, request: Request) -> Response {
    let leader = reply::leader(&server, request.headers());
    let reply = match ApiRequest::read(marathon, server, request).await {
        Ok(request) => route(&request).await,
        Err(reply) => reply,
    };
    reply.into_response(&leader)
}

async fn route(request: &ApiRequest) -> Reply {
    let path: Vec<&str> = request.segments.iter().map(String::as_str).collect();
    let reply = match path.as_slice() {
        ["v2", "apps", rest @ ..] => apps(request, rest).await,
        ["v2", "groups", rest @ ..] => groups(request, rest).await,
        path => others(request, path).await,
    };
    reply.unwrap_or_else(|reply| reply)
}

fn unknown() -> Result<Reply, Reply> {
    Err(Reply::not_found("URI not found"))
}

async fn apps(request: &ApiRequest, path: &[&str]) -> Result<Reply, Reply> {
    match (request.method.as_str(), path) {
        ("GET", []) => apps::list(request),
        ("POST", []) => apps::create(request).await,
        ("PUT", []) => apps::update_many(request, true).await,
        ("PATCH", []) => apps::update_many(request, false).await,
        ("GET", [id @ .., "tasks"]) => tasks::of_app(request, id),
        ("DELETE", [id @ .., "tasks"]) => tasks::kill_of_app(request, id).await,
        ("DELETE", [id @ .., "tasks", task]) => tasks::kill_one(request, id, task).await,
        ("GET", [id @ .., "versions"]) => apps::versions(request, id),
        ("GET", [id @ .., "versions", version]) => apps::version(request, id, version),
        ("POST", [id @ .., "restart"]) => apps::restart(request, id).await,
        ("GET", [group @ .., "*"]) => apps::show_group(request, group),
        ("GET", id) => apps::show(request, id),
        ("PUT", id) => apps::update(request, id, true).await,
        ("PATCH", id) => apps::update(request, id, false).await,
        ("DELETE", id) => apps::remove(request, id).await,
        _ => unknown(),
    }
}

async fn groups(request: &ApiRequest, path: &[&str]) -> Result<Reply, Reply> {
    match (request.method.as_str(), path) {
        ("GET", [group @ .., "versions"]) => groups::versions(request, group),
        ("GET", [group @ .., "versions", version]) => groups::version(request, group, version),
        ("GET", [group @ .., "apps"]) => groups::apps(request, group),
        ("GET", group) => groups::show(request, group),
        ("POST", group) => groups::create(request, group).await,
        ("PUT", group) => groups::update(request, group).await,
        ("DELETE", group) => groups::remove(request, group).await,
        _ => unknown(),
    }
}

async fn others(request: &ApiRequest, path: &[&str]) -> Result<Reply, Reply> {
    match (request.method.as_str(), path) {
        ("GET", ["v2", "tasks"]) => tasks::list(request),
        ("POST", ["v2", "tasks", "delete"]) => tasks::kill_many(request).await,
        ("GET", ["v2", "deployments"]) => Ok(deployments::list(request)),
        ("DELETE", ["v2", "deployments", id]) => deployments::remove(request, id).await,
        ("GET", ["v2", "events"]) => events::follow(request),
        ("GET", ["ping"]) => Ok(info::ping(request)),
        ("GET", ["metrics"]) => Ok(info::metrics(request)),
        ("GET", ["v2", "info"]) => Ok(info::info(request)),
        ("GET", ["v2", "leader"]) => Ok(info::leader(request)),
        ("DELETE", ["v2", "leader"]) => info::abdicate(request).await,
        ("GET", ["v2", "plugins"]) => Ok(Reply::json(&json!({ "plugins": [] }))),
        ("GET", ["v2", "queue"]) => Ok(queue::list(request)),
        ("DELETE", ["v2", "queue", id @ .., "delay"]) => queue::reset_delay(request, id).await,
        (_, ["v2", "pods", ..]) => Ok(info::pods(request)),
        (_, path) => mesos_part(request, path).await,
    }
}

/// Routes requests to the API of Mesos.
async fn mesos_part(request: &ApiRequest, path: &[&str]) -> Result<Reply, Reply> {
    let path = match path {
        ["mesos", "master", rest @ ..] | ["mesos", rest @ ..] if request.method == "GET" => {
            return match rest {
                ["state.json" | "state" | "state-summary"] => Ok(mesos::master(request)),
                ["slaves"] => Ok(mesos::slaves(request)),
                _ => unknown(),
            };
        }
        path => path,
    };
    match (request.method.as_str(), path) {
        ("GET", ["slave" | "agent", id, "state.json" | "state"]) => mesos::slave(request, id),
        ("GET", ["slave" | "agent", _, "files", "read.json" | "read"]) => {
            mesos::read(request).await
        }
        ("GET", ["mesos_dns", "v1", "hosts", name]) => Ok(mesos::hosts(request, name)),
        ("GET", ["capabilities"]) => Ok(mesos::capabilities()),
        ("POST", ["package", path @ ..]) => Ok(package::respond(request, path)),
        ("GET", ["dcos-metadata", "dcos-version.json"]) => Ok(mesos::version()),
        _ => unknown(),
    }
}

/// Calls `show` with the current snapshot. The last failures of tasks are included only if
/// `failures` is set, because they are computed from the event log.
fn with_presenter<T>(
    request: &ApiRequest,
    failures: bool,
    show: impl FnOnce(&Presenter<'_>) -> T,
) -> T {
    let snapshot = request.server.snapshot();
    let failures = match failures {
        true => {
            let events = request.server.events();
            failure::last(&snapshot, events.iter().map(AsRef::as_ref))
        }
        false => BTreeMap::new(),
    };
    show(&Presenter { snapshot: &snapshot, apps: &request.marathon.apps, failures, now: now() })
}

/// Parses a version in a path.
fn timestamp(text: &str) -> Result<Timestamp, Reply> {
    text.parse().map_err(|_| {
        let message =
            format!("Invalid format: \"{text}\" is not a time such as 2026-11-21T10:00:00.000Z");
        Reply::error(StatusCode::UNPROCESSABLE_ENTITY, message)
    })
}
