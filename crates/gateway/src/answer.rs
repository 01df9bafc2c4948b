//! The gateway's own answers: the native API's error documents, so that whoever reads one knows
//! which side said it and why.

use api::{ErrorBody, ErrorCode};
use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use model::InstanceId;

use crate::backend::exchange::Failure;
use crate::client::{Body, Request};
use crate::table::CompiledRoute;

fn answer(status: StatusCode, code: ErrorCode, message: String, guard: Request) -> Response<Body> {
    let body = serde_json::to_vec(&ErrorBody::new(code, message)).unwrap_or_default();
    let mut response = Response::new(Body::whole(Bytes::from(body), Some(guard)));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// The request itself is refused, and nothing more is read from its connection.
pub(crate) fn refusal(status: StatusCode, message: &str, guard: Request) -> Response<Body> {
    let code = match status {
        StatusCode::METHOD_NOT_ALLOWED => ErrorCode::MethodNotAllowed,
        _ => ErrorCode::BadRequest,
    };
    let mut response = answer(status, code, message.into(), guard);
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// No route is for this request.
pub(crate) fn no_route(host: &str, path: &str, guard: Request) -> Response<Body> {
    let message = format!("no route for `{host}` and `{path}`");
    answer(StatusCode::NOT_FOUND, ErrorCode::NotFound, message, guard)
}

/// The route has no backend, or none that could be reached.
pub(crate) fn no_backend(
    route: &CompiledRoute,
    unreachable: Option<&str>,
    guard: Request,
) -> Response<Body> {
    let service = &route.service;
    let message = match (unreachable, &route.empty_because) {
        (Some(reason), _) => format!("no instance of {service} can be reached: {reason}"),
        (None, Some(reason)) => format!("{service} has no instance that serves: {reason}"),
        (None, None) => format!("{service} has no instance that serves"),
    };
    answer(StatusCode::SERVICE_UNAVAILABLE, ErrorCode::Unavailable, message, guard)
}

/// A backend did not answer as it should; `None` if nobody is there to be told.
pub(crate) fn failure(
    failure: Failure,
    instance: &InstanceId,
    guard: Request,
) -> Option<Response<Body>> {
    let (status, message) = match failure {
        Failure::Client => return None,
        Failure::ClientLate => {
            let message = "the rest of the request did not come in time";
            return Some(refusal(StatusCode::REQUEST_TIMEOUT, message, guard));
        }
        Failure::Unsent | Failure::Lost => {
            (StatusCode::BAD_GATEWAY, "it closed the connection without an answer".into())
        }
        Failure::Cut => {
            (StatusCode::BAD_GATEWAY, "it closed the connection in the middle of an answer".into())
        }
        Failure::Garbage(garbage) => (StatusCode::BAD_GATEWAY, garbage.to_string()),
        Failure::Late => (StatusCode::GATEWAY_TIMEOUT, "it did not answer in time".to_string()),
    };
    Some(answer(status, ErrorCode::BadGateway, format!("{instance}: {message}"), guard))
}
