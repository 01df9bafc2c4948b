//! The responses that the gateway sends itself, all of them errors. Their bodies are the native
//! API's error documents, so that a reader can tell them from the responses of a backend.

use api::{ErrorBody, ErrorCode};
use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use model::InstanceId;

use crate::backend::exchange::{BackendFailure, ClientFailure};
use crate::client::body::Body;
use crate::client::state::RequestGuard;
use crate::request::Invalid;

fn error(
    status: StatusCode,
    code: ErrorCode,
    message: String,
    guard: RequestGuard,
) -> Response<Body> {
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

/// The request is rejected, and its connection closes without reading further.
pub(crate) fn invalid(request: Invalid, guard: RequestGuard) -> Response<Body> {
    let code = match request.status {
        StatusCode::METHOD_NOT_ALLOWED => ErrorCode::MethodNotAllowed,
        _ => ErrorCode::BadRequest,
    };
    let mut response = error(request.status, code, request.message.into(), guard);
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// Why a request cannot be sent to any backend.
#[derive(Debug)]
pub(crate) enum Unroutable {
    /// No route matches.
    NoRoute(String),
    /// The route has no backend, or none that can be reached.
    NoBackend(String),
}

/// The request cannot be sent to any backend.
pub(crate) fn unroutable(reason: Unroutable, guard: RequestGuard) -> Response<Body> {
    match reason {
        Unroutable::NoRoute(message) => {
            error(StatusCode::NOT_FOUND, ErrorCode::NotFound, message, guard)
        }
        Unroutable::NoBackend(message) => {
            error(StatusCode::SERVICE_UNAVAILABLE, ErrorCode::Unavailable, message, guard)
        }
    }
}

/// The client failed to send its request; `None` if it disconnected and cannot read a response.
pub(crate) fn client_failed(failure: ClientFailure, guard: RequestGuard) -> Option<Response<Body>> {
    match failure {
        ClientFailure::Disconnected => None,
        ClientFailure::Malformed => {
            guard.expect_more_input();
            let message = "the body of the request is malformed";
            Some(invalid(Invalid { status: StatusCode::BAD_REQUEST, message }, guard))
        }
        ClientFailure::Timeout => {
            let message = "the rest of the request did not arrive in time";
            Some(invalid(Invalid { status: StatusCode::REQUEST_TIMEOUT, message }, guard))
        }
    }
}

/// The backend failed to respond.
pub(crate) fn backend_failed(
    failure: BackendFailure,
    instance: &InstanceId,
    guard: RequestGuard,
) -> Response<Body> {
    let status = match failure {
        BackendFailure::Timeout => StatusCode::GATEWAY_TIMEOUT,
        _ => StatusCode::BAD_GATEWAY,
    };
    error(status, ErrorCode::BadGateway, format!("{instance}: {failure}"), guard)
}
