//! The agent's own API: the output of its instances, relayed to people by servers.

use std::sync::Arc;

use api::{ErrorBody, ErrorCode, LOG_OFFSET, LOG_SIZE, LogPartQuery, LogQuery};
use axum::Router;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{StatusCode, header};
use model::InstanceId;
use tokio::sync::{mpsc, oneshot};

use super::Input;
use crate::drivers::{Driver, OutputQuery, Part, PartQuery};

/// A question to the main loop: whose is this instance?
#[derive(Debug)]
pub(super) struct Where {
    pub(super) instance: InstanceId,
    pub(super) answer: oneshot::Sender<Option<crate::drivers::Kind>>,
}

/// The drivers and the way to ask where an instance is.
#[derive(Clone)]
pub(super) struct Logs {
    pub(super) drivers: super::Drivers,
    pub(super) asks: mpsc::UnboundedSender<Input>,
}

/// The routes of the API.
pub(super) fn router(logs: Logs) -> Router {
    let router = Router::new().route(api::path::LOGS, get(output));
    router.route(api::path::LOG_PART, get(part)).with_state(logs)
}

async fn output(
    State(logs): State<Logs>,
    query: Result<Query<LogQuery>, QueryRejection>,
) -> Response {
    let query = match query {
        Ok(Query(query)) => query,
        Err(rejection) => return refuse(ErrorCode::BadRequest, rejection.body_text()),
    };
    let Some(driver) = driver(&logs, &query.instance).await else {
        let message = format!("{} is not on this node", query.instance);
        return refuse(ErrorCode::NotFound, message);
    };
    let LogQuery { instance, stream, tail, follow } = query;
    match driver.output(&instance, OutputQuery { stream, tail, follow }).await {
        Ok(output) => {
            let headers = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
            (headers, Body::from_stream(output)).into_response()
        }
        Err(error) => failed(&instance, &error),
    }
}

/// The most of a stream that is given at once.
const PART_MAX: u64 = 1 << 20;

async fn part(
    State(logs): State<Logs>,
    query: Result<Query<LogPartQuery>, QueryRejection>,
) -> Response {
    let LogPartQuery { instance, stream, offset, length } = match query {
        Ok(Query(query)) => query,
        Err(rejection) => return refuse(ErrorCode::BadRequest, rejection.body_text()),
    };
    if stream.name().is_none() {
        return refuse(ErrorCode::BadRequest, "a part is of one stream: stdout or stderr".into());
    }
    let Some(driver) = driver(&logs, &instance).await else {
        return refuse(ErrorCode::NotFound, format!("{instance} is not on this node"));
    };
    let length = length.min(PART_MAX);
    match driver.part(&instance, PartQuery { stream, offset, length }).await {
        Ok(Part { bytes, offset, size }) => {
            let headers = [(LOG_OFFSET, offset.to_string()), (LOG_SIZE, size.to_string())];
            (headers, bytes).into_response()
        }
        Err(error) => failed(&instance, &error),
    }
}

fn failed(instance: &InstanceId, error: &std::io::Error) -> Response {
    if error.kind() == std::io::ErrorKind::NotFound {
        return refuse(ErrorCode::NotFound, format!("{instance} has not written anything yet"));
    }
    refuse(ErrorCode::Unavailable, format!("the output of {instance}: {error}"))
}

async fn driver(logs: &Logs, instance: &InstanceId) -> Option<Arc<dyn Driver>> {
    let (answer, told) = oneshot::channel();
    logs.asks.send(Input::Where(Where { instance: instance.clone(), answer })).ok()?;
    logs.drivers.get(told.await.ok()??)
}

fn refuse(code: ErrorCode, message: String) -> Response {
    let status = StatusCode::from_u16(code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, axum::Json(ErrorBody::new(code, message))).into_response()
}
