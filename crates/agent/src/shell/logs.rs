//! The agent's own API: the output of its instances, which servers relay to users.

use std::collections::VecDeque;
use std::sync::Arc;

use api::{ErrorBody, ErrorCode, LOG_OFFSET, LOG_SIZE, LogPartQuery, LogQuery};
use axum::Router;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, stream};
use http::{StatusCode, header};
use model::{InstanceId, InstanceResource, ResourceId};
use tokio::sync::{mpsc, oneshot};

use super::Input;
use crate::drivers::{Driver, Kind, Output, OutputQuery, Part, PartQuery};

/// A request to the main loop for the resources of an instance.
#[derive(Debug)]
pub(super) struct ResourcesQuery {
    pub(super) instance: InstanceId,
    pub(super) reply: oneshot::Sender<Vec<(ResourceId, Kind)>>,
}

/// The drivers, and the channel to the main loop that locates resources.
#[derive(Clone)]
pub(super) struct Logs {
    pub(super) drivers: super::Drivers,
    pub(super) inputs: mpsc::UnboundedSender<Input>,
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
    let LogQuery { instance, resource, stream, tail, follow } = query;
    let resources = match resources(&logs, &instance, resource).await {
        Ok(resources) => resources,
        Err(refused) => return refused,
    };
    let query = OutputQuery { stream, tail, follow };
    let prefixed = resources.len() > 1;
    let mut outputs = Vec::new();
    let mut failure = None;
    for (of, driver) in resources {
        match driver.output(&of, query).await {
            Ok(output) if prefixed => outputs.push(lines_of(&of.resource, output)),
            Ok(output) => outputs.push(output),
            // Other resources of the instance may have written output already.
            Err(error) if prefixed && error.kind() == std::io::ErrorKind::NotFound => {
                failure.get_or_insert(error);
            }
            Err(error) => return failed(&instance, &error),
        }
    }
    if let (Some(error), true) = (failure, outputs.is_empty()) {
        return failed(&instance, &error);
    }
    let body = match follow {
        true => Body::from_stream(stream::select_all(outputs)),
        false => Body::from_stream(stream::iter(outputs).flatten()),
    };
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], body).into_response()
}

/// Splits an output into lines and prefixes each with the name of its resource.
fn lines_of(resource: &ResourceId, output: Output) -> Output {
    let prefix = format!("{resource} | ");
    let begin = (output, BytesMut::new(), VecDeque::new(), false);
    Box::pin(stream::unfold(begin, move |(mut output, mut rest, mut ready, mut ended)| {
        let prefix = prefix.clone();
        async move {
            loop {
                if let Some(line) = ready.pop_front() {
                    return Some((line, (output, rest, ready, ended)));
                }
                if ended {
                    return None;
                }
                match output.next().await {
                    Some(Ok(chunk)) => {
                        rest.extend_from_slice(&chunk);
                        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                            ready.push_back(Ok(prefix_line(&prefix, &rest.split_to(end + 1))));
                        }
                    }
                    Some(Err(error)) => ready.push_back(Err(error)),
                    None => {
                        ended = true;
                        if !rest.is_empty() {
                            let mut line = rest.split();
                            line.extend_from_slice(b"\n");
                            ready.push_back(Ok(prefix_line(&prefix, &line)));
                        }
                    }
                }
            }
        }
    }))
}

fn prefix_line(prefix: &str, line: &[u8]) -> Bytes {
    [prefix.as_bytes(), line].concat().into()
}

/// The maximum length of a part in one response, in bytes.
const PART_MAX: u64 = 1 << 20;

async fn part(
    State(logs): State<Logs>,
    query: Result<Query<LogPartQuery>, QueryRejection>,
) -> Response {
    let LogPartQuery { instance, resource, stream, offset, length } = match query {
        Ok(Query(query)) => query,
        Err(rejection) => return refuse(ErrorCode::BadRequest, rejection.body_text()),
    };
    if stream.name().is_none() {
        return refuse(ErrorCode::BadRequest, "a part is of one stream: stdout or stderr".into());
    }
    let resources = match resources(&logs, &instance, resource).await {
        Ok(resources) => resources,
        Err(refused) => return refused,
    };
    let Some((of, driver)) = resources.into_iter().next() else {
        return refuse(ErrorCode::NotFound, format!("{instance} is not on this node"));
    };
    let length = length.min(PART_MAX);
    match driver.part(&of, PartQuery { stream, offset, length }).await {
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

/// The requested resources of an instance, in stack order, each with its driver.
async fn resources(
    logs: &Logs,
    instance: &InstanceId,
    wanted: Option<ResourceId>,
) -> Result<Vec<(InstanceResource, Arc<dyn Driver>)>, Response> {
    let (reply, found) = oneshot::channel();
    let _ =
        logs.inputs.send(Input::Resources(ResourcesQuery { instance: instance.clone(), reply }));
    let found = found.await.unwrap_or_default();
    if found.is_empty() {
        return Err(refuse(ErrorCode::NotFound, format!("{instance} is not on this node")));
    }
    if let Some(wanted) = &wanted
        && !found.iter().any(|(resource, _)| resource == wanted)
    {
        let names: Vec<_> = found.iter().map(|(resource, _)| resource.as_str()).collect();
        let message = format!("{instance} has no resource `{wanted}`, only {}", names.join(", "));
        return Err(refuse(ErrorCode::NotFound, message));
    }
    let of = |resource| InstanceResource { instance: instance.clone(), resource };
    let found = found.into_iter();
    let found = found.filter(|(resource, _)| wanted.as_ref().is_none_or(|name| name == resource));
    Ok(found.filter_map(|(name, kind)| Some((of(name), logs.drivers.get(kind)?))).collect())
}

fn refuse(code: ErrorCode, message: String) -> Response {
    let status = StatusCode::from_u16(code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, axum::Json(ErrorBody::new(code, message))).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_prefixed_across_chunk_boundaries() {
        let check = async |chunks: &'static [&'static str], expected: &[&str]| {
            let chunks = chunks.iter().map(|chunk| Ok(Bytes::from(*chunk)));
            let lines = lines_of(&"web".parse().unwrap(), Box::pin(stream::iter(chunks)));
            let lines: Vec<_> = lines.map(|line| line.unwrap()).collect().await;
            assert_eq!(lines, expected);
        };
        check(&["a\nb\n"], &["web | a\n", "web | b\n"]).await;
        check(&["a", "b\nc"], &["web | ab\n", "web | c\n"]).await;
        check(&["", "\n"], &["web | \n"]).await;
        check(&[], &[]).await;
    }
}
