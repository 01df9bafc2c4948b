//! The agent's own API: the output of its instances, relayed to people by servers.

use std::path::PathBuf;
use std::sync::Arc;

use api::{ErrorBody, ErrorCode, LogQuery};
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
use crate::drivers::{Driver, OutputQuery};

/// What the API is told of an instance.
pub(super) type Place = (Arc<dyn Driver>, PathBuf);

/// A question to the main loop: where is this instance?
#[derive(Debug)]
pub(super) struct Where {
    pub(super) instance: InstanceId,
    pub(super) answer: oneshot::Sender<Option<(crate::drivers::Kind, PathBuf)>>,
}

/// The drivers and the way to ask where an instance is.
#[derive(Clone)]
pub(super) struct Logs {
    pub(super) drivers: super::Drivers,
    pub(super) asks: mpsc::UnboundedSender<Input>,
}

/// The routes of the API.
pub(super) fn router(logs: Logs) -> Router {
    Router::new().route(api::path::LOGS, get(output)).with_state(logs)
}

async fn output(
    State(logs): State<Logs>,
    query: Result<Query<LogQuery>, QueryRejection>,
) -> Response {
    let query = match query {
        Ok(Query(query)) => query,
        Err(rejection) => return refuse(ErrorCode::BadRequest, rejection.body_text()),
    };
    let Some((driver, dir)) = place(&logs, &query.instance).await else {
        let message = format!("{} is not on this node", query.instance);
        return refuse(ErrorCode::NotFound, message);
    };
    let LogQuery { instance, stream, tail, follow } = query;
    match driver.output(&instance, dir, OutputQuery { stream, tail, follow }).await {
        Ok(output) => {
            let headers = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
            (headers, Body::from_stream(output)).into_response()
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            refuse(ErrorCode::NotFound, format!("{instance} has not written anything yet"))
        }
        Err(error) => refuse(ErrorCode::Unavailable, format!("the output of {instance}: {error}")),
    }
}

async fn place(logs: &Logs, instance: &InstanceId) -> Option<Place> {
    let (answer, told) = oneshot::channel();
    logs.asks.send(Input::Where(Where { instance: instance.clone(), answer })).ok()?;
    let (kind, dir) = told.await.ok()??;
    Some((logs.drivers.get(kind)?, dir))
}

fn refuse(code: ErrorCode, message: String) -> Response {
    let status = StatusCode::from_u16(code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, axum::Json(ErrorBody::new(code, message))).into_response()
}
