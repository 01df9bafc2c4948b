//! The parts of the API of Mesos that the DC/OS CLI uses: nodes, tasks, and the output of tasks.

use api::{LogPartQuery, now};
use axum::http::StatusCode;
use model::NodeId;
use serde_json::json;

use super::reply::{ApiRequest, Reply};
use crate::view::history;
use crate::view::mesos::{self, Mesos};

fn with_mesos<T>(request: &ApiRequest, show: impl FnOnce(&Mesos<'_>) -> T) -> T {
    let events = request.server.events();
    let history = history::ended(events.iter().map(AsRef::as_ref));
    let (snapshot, address) = (request.server.snapshot(), request.leader());
    show(&Mesos { snapshot: &snapshot, history: &history, address: &address, now: now() })
}

/// `GET /mesos/master/state.json` and its aliases.
pub(super) fn master(request: &ApiRequest) -> Reply {
    Reply::json(&with_mesos(request, |mesos| mesos.master()))
}

/// `GET /mesos/master/slaves`.
pub(super) fn slaves(request: &ApiRequest) -> Reply {
    let slaves = with_mesos(request, |mesos| mesos.master()["slaves"].take());
    Reply::json(&json!({ "slaves": slaves }))
}

/// `GET /slave/{id}/state.json`.
pub(super) fn slave(request: &ApiRequest, id: &str) -> Result<Reply, Reply> {
    let unknown = || Reply::not_found(format!("there is no agent `{id}`"));
    let node: NodeId = id.parse().map_err(|_| unknown())?;
    let state = with_mesos(request, |mesos| mesos.slave(&node));
    state.map(|state| Reply::json(&state)).ok_or_else(unknown)
}

/// `GET /mesos_dns/v1/hosts/{name}`.
pub(super) fn hosts(request: &ApiRequest, name: &str) -> Reply {
    Reply::json(&with_mesos(request, |mesos| mesos.hosts(name)))
}

/// `GET /slave/{id}/files/read.json`: a range of a task's output or, with the offset -1, its size.
/// Agents return at most 1 MiB at once. Offsets count from the start of the instance.
pub(super) async fn read(request: &ApiRequest) -> Result<Reply, Reply> {
    let path = request.parameter("path").unwrap_or_default();
    let missing = || Reply::not_found(format!("there is no file `{path}`"));
    let (instance, stream) = mesos::file(path).ok_or_else(missing)?;
    let number = |name: &str, default: i64| match request.parameter(name) {
        None => Ok(default),
        Some(text) => text.parse::<i64>().map_err(|_| {
            let message = format!("`{name}` is not a number: {text}");
            Reply::error(StatusCode::BAD_REQUEST, message)
        }),
    };
    let (offset, length) = (number("offset", -1)?, number("length", -1)?);
    let begin = u64::try_from(offset).ok();
    // Without an offset, the client requests the size only.
    let length = u64::try_from(length).unwrap_or(u64::MAX).min(begin.map_or(0, |_| u64::MAX));
    let query =
        LogPartQuery { instance, resource: None, stream, offset: begin.unwrap_or(0), length };
    let part = request.server.log_part(&query).await.map_err(|error| {
        let status = StatusCode::from_u16(error.code.status());
        Reply::error(status.unwrap_or(StatusCode::BAD_GATEWAY), error.message)
    })?;
    let offset = if begin.is_some() { part.offset } else { part.size };
    let text = String::from_utf8_lossy(&part.bytes);
    Ok(Reply::json(&json!({ "data": text, "offset": offset })))
}

/// `GET /capabilities`.
pub(super) fn capabilities() -> Reply {
    Reply::json(&json!({ "capabilities": [{ "name": "PACKAGE_MANAGEMENT" }] }))
}

/// `GET /dcos-metadata/dcos-version.json`.
pub(super) fn version() -> Reply {
    Reply::json(&json!({
        "version": "1.8.4",
        "dcos-image-commit": env!("CARGO_PKG_VERSION"),
        "bootstrap-id": "muster",
    }))
}
