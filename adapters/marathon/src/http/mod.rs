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
use crate::view::app::Look;
use crate::view::failure;
use reply::{Ask, Reply};
use server::adapter::{Claim, Server};

/// The maximum size of a body. Larger ones are rejected before they are read completely.
const BODY_MAX: usize = 16 << 20;

/// The prefixes of the API: Marathon's own, and those of DC/OS.
pub(crate) const PREFIXES: [&str; 3] = ["/", "/service/marathon", "/marathon"];

/// The routes of Marathon's API and of the parts of Mesos and DC/OS that its clients read.
pub(crate) const CLAIMS: [Claim; 9] = [
    Claim::new("/v2/**"),
    Claim::new("/ping"),
    Claim::new("/metrics").accepting("application/json"),
    Claim::new("/mesos/**"),
    Claim::new("/mesos_dns/**"),
    Claim::new("/slave/**"),
    Claim::new("/agent/**"),
    Claim::new("/capabilities"),
    Claim::new("/dcos-metadata/**"),
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
pub(crate) async fn answer(marathon: Arc<Marathon>, server: Server, request: Request) -> Response {
    let leader = reply::leader(&server, request.headers());
    let reply = match Ask::read(marathon, server, request).await {
        Ok(ask) => route(&ask).await,
        Err(reply) => reply,
    };
    reply.into_response(&leader)
}

async fn route(ask: &Ask) -> Reply {
    let path: Vec<&str> = ask.segments.iter().map(String::as_str).collect();
    let reply = match path.as_slice() {
        ["v2", "apps", rest @ ..] => apps(ask, rest).await,
        ["v2", "groups", rest @ ..] => groups(ask, rest).await,
        path => others(ask, path).await,
    };
    reply.unwrap_or_else(|reply| reply)
}

fn unknown() -> Result<Reply, Reply> {
    Err(Reply::not_found("URI not found"))
}

async fn apps(ask: &Ask, path: &[&str]) -> Result<Reply, Reply> {
    match (ask.method.as_str(), path) {
        ("GET", []) => apps::list(ask),
        ("POST", []) => apps::create(ask).await,
        ("PUT", []) => apps::update_many(ask, true).await,
        ("PATCH", []) => apps::update_many(ask, false).await,
        ("GET", [id @ .., "tasks"]) => tasks::of_app(ask, id),
        ("DELETE", [id @ .., "tasks"]) => tasks::kill_of_app(ask, id).await,
        ("DELETE", [id @ .., "tasks", task]) => tasks::kill_one(ask, id, task).await,
        ("GET", [id @ .., "versions"]) => apps::versions(ask, id),
        ("GET", [id @ .., "versions", version]) => apps::version(ask, id, version),
        ("POST", [id @ .., "restart"]) => apps::restart(ask, id).await,
        ("GET", [group @ .., "*"]) => apps::show_group(ask, group),
        ("GET", id) => apps::show(ask, id),
        ("PUT", id) => apps::update(ask, id, true).await,
        ("PATCH", id) => apps::update(ask, id, false).await,
        ("DELETE", id) => apps::remove(ask, id).await,
        _ => unknown(),
    }
}

async fn groups(ask: &Ask, path: &[&str]) -> Result<Reply, Reply> {
    match (ask.method.as_str(), path) {
        ("GET", [group @ .., "versions"]) => groups::versions(ask, group),
        ("GET", [group @ .., "versions", version]) => groups::version(ask, group, version),
        ("GET", [group @ .., "apps"]) => groups::apps(ask, group),
        ("GET", group) => groups::show(ask, group),
        ("POST", group) => groups::create(ask, group).await,
        ("PUT", group) => groups::update(ask, group).await,
        ("DELETE", group) => groups::remove(ask, group).await,
        _ => unknown(),
    }
}

async fn others(ask: &Ask, path: &[&str]) -> Result<Reply, Reply> {
    match (ask.method.as_str(), path) {
        ("GET", ["v2", "tasks"]) => tasks::list(ask),
        ("POST", ["v2", "tasks", "delete"]) => tasks::kill_many(ask).await,
        ("GET", ["v2", "deployments"]) => Ok(deployments::list(ask)),
        ("DELETE", ["v2", "deployments", id]) => deployments::remove(ask, id).await,
        ("GET", ["v2", "events"]) => events::follow(ask),
        ("GET", ["ping"]) => Ok(info::ping(ask)),
        ("GET", ["metrics"]) => Ok(info::metrics(ask)),
        ("GET", ["v2", "info"]) => Ok(info::info(ask)),
        ("GET", ["v2", "leader"]) => Ok(info::leader(ask)),
        ("DELETE", ["v2", "leader"]) => info::abdicate(ask).await,
        ("GET", ["v2", "plugins"]) => Ok(Reply::json(&json!({ "plugins": [] }))),
        ("GET", ["v2", "queue"]) => Ok(queue::list(ask)),
        ("DELETE", ["v2", "queue", id @ .., "delay"]) => queue::reset_delay(ask, id).await,
        (_, ["v2", "pods", ..]) => Ok(info::pods(ask)),
        (_, path) => mesos_part(ask, path).await,
    }
}

/// Routes requests to the API of Mesos.
async fn mesos_part(ask: &Ask, path: &[&str]) -> Result<Reply, Reply> {
    let path = match path {
        ["mesos", "master", rest @ ..] | ["mesos", rest @ ..] if ask.method == "GET" => {
            return match rest {
                ["state.json" | "state" | "state-summary"] => Ok(mesos::master(ask)),
                ["slaves"] => Ok(mesos::slaves(ask)),
                _ => unknown(),
            };
        }
        path => path,
    };
    match (ask.method.as_str(), path) {
        ("GET", ["slave" | "agent", id, "state.json" | "state"]) => mesos::slave(ask, id),
        ("GET", ["slave" | "agent", _, "files", "read.json" | "read"]) => mesos::read(ask).await,
        ("GET", ["mesos_dns", "v1", "hosts", name]) => Ok(mesos::hosts(ask, name)),
        ("GET", ["capabilities"]) => Ok(mesos::capabilities()),
        ("GET", ["dcos-metadata", "dcos-version.json"]) => Ok(mesos::version()),
        _ => unknown(),
    }
}

/// Calls `show` with the current snapshot. The last failures of tasks are included only if
/// `failures` is set, because they are computed from the event log.
fn with_look<T>(ask: &Ask, failures: bool, show: impl FnOnce(&Look<'_>) -> T) -> T {
    let snapshot = ask.server.snapshot();
    let failures = match failures {
        true => {
            let events = ask.server.events();
            failure::last(&snapshot, events.iter().map(AsRef::as_ref))
        }
        false => BTreeMap::new(),
    };
    show(&Look { snapshot: &snapshot, apps: &ask.marathon.apps, failures, now: now() })
}

/// Parses a version in a path.
fn timestamp(text: &str) -> Result<Timestamp, Reply> {
    text.parse().map_err(|_| {
        let message =
            format!("Invalid format: \"{text}\" is not a time such as 2026-11-21T10:00:00.000Z");
        Reply::error(StatusCode::UNPROCESSABLE_ENTITY, message)
    })
}
