//! Information about the server: its identity, leader, metrics and features.

use axum::http::StatusCode;
use axum::http::header::ACCEPT;
use model::{Command, Proposal};
use serde_json::json;

use super::reply::{ApiRequest, Reply};
use super::with_presenter;
use crate::view::mesos::FRAMEWORK;
use crate::view::queue;

/// The version of Marathon whose API is implemented.
const SPOKEN: &str = "1.9.109";

/// `GET /ping`.
pub(super) fn ping(request: &ApiRequest) -> Reply {
    let accept =
        request.headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or("*/*");
    match accept {
        accept if accept.contains("text/") || accept.contains("*/*") => Reply::text("pong"),
        accept if accept.contains("application/json") => Reply::json(&"pong"),
        _ => Reply::nothing(StatusCode::NO_CONTENT),
    }
}

/// `GET /v2/info`.
pub(super) fn info(request: &ApiRequest) -> Reply {
    let (address, port) = (request.leader(), request.server.address().port());
    Reply::json(&json!({
        "name": "marathon",
        "version": SPOKEN,
        "buildref": concat!("muster-", env!("CARGO_PKG_VERSION")),
        "elected": true,
        "leader": address,
        "frameworkId": FRAMEWORK,
        "marathon_config": {
            "master": format!("http://{address}/mesos"),
            "framework_name": "marathon",
            "hostname": address.rsplit_once(':').map_or(&*address, |(host, _)| host),
            "local_port_min": 10_000,
            "local_port_max": 20_000,
            "mesos_leader_ui_url": format!("http://{address}/mesos"),
            "features": [],
        },
        "zookeeper_config": {},
        "http_config": { "http_port": port, "https_port": 0 },
    }))
}

/// `GET /v2/leader`.
pub(super) fn leader(request: &ApiRequest) -> Reply {
    Reply::json(&json!({ "leader": request.leader() }))
}

/// `DELETE /v2/leader`: the leader resigns. With a single server, the same server becomes leader
/// again with the next epoch, without interrupting its clients.
pub(super) async fn abdicate(request: &ApiRequest) -> Result<Reply, Reply> {
    for name in ["backup", "restore"] {
        if request.parameter(name).is_some_and(|uri| !uri.is_empty()) {
            let message = format!(
                "`{name}` is not supported: copy the server's state file, which can be done while \
                 it runs"
            );
            return Err(Reply::error(StatusCode::UNPROCESSABLE_ENTITY, message));
        }
    }
    request.server.propose(Proposal::operator(Command::BecomeLeader)).await?;
    Ok(Reply::json(&json!({ "message": "Leadership abdicated" })))
}

/// `GET /metrics`.
pub(super) fn metrics(request: &ApiRequest) -> Reply {
    with_presenter(request, false, |presenter| {
        let state = &presenter.snapshot.state;
        let in_progress = state.deployments().filter(|deployment| !deployment.stage.is_over());
        let statuses = presenter.snapshot.observed.instances.values();
        let running = statuses.flat_map(|statuses| statuses.values());
        let running = running.filter(|status| status.phase == model::Phase::Running).count();
        let gauge = |value: usize| json!({ "value": value });
        Reply::json(&json!({
            "version": "3.0.0",
            "gauges": {
                "marathon.apps.active.gauge": gauge(state.services().count()),
                "marathon.instances.running.gauge": gauge(running),
                "marathon.deployments.active.gauge": gauge(in_progress.count()),
                "marathon.instances.launch-queue.gauge": gauge(queue::queue(presenter, Default::default()).len()),
            },
            "counters": {},
            "histograms": {},
            "meters": {},
            "timers": {},
        }))
    })
}

/// All requests about pods, which are not supported: there are never any.
pub(super) fn pods(request: &ApiRequest) -> Reply {
    match request.method.as_str() {
        "HEAD" => Reply::nothing(StatusCode::OK),
        "GET"
            if request.segments.len() <= 2
                || request.segments.last().is_some_and(|s| s == "::status") =>
        {
            Reply::json(&json!([]))
        }
        "GET" | "DELETE" => Reply::not_found(format!("Pod '{}' does not exist", request.rest(2))),
        _ => {
            let message = "pods are not supported: describe each of their containers as an app";
            Reply::error(StatusCode::UNPROCESSABLE_ENTITY, message)
        }
    }
}
