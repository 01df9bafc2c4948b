//! Request and response bodies: JSON in both directions, and one shape for all errors.

use api::{ErrorBody, ErrorCode};
use axum::Json;
use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use model::Refusal;
use serde::de::DeserializeOwned;

use crate::control::RequestError;
use crate::shell::Failure;

/// An error response.
#[derive(Debug)]
pub(crate) struct ErrorResponse(pub(crate) ErrorBody);

impl ErrorResponse {
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> ErrorResponse {
        ErrorResponse(ErrorBody::new(code, message))
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> ErrorResponse {
        self.0.hint = Some(hint.into());
        self
    }
}

impl IntoResponse for ErrorResponse {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.code.status());
        (status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), Json(self.0)).into_response()
    }
}

impl From<Refusal> for ErrorResponse {
    fn from(refusal: Refusal) -> ErrorResponse {
        let code = match &refusal {
            Refusal::Forbidden { .. } => ErrorCode::Forbidden,
            Refusal::Unknown { .. } => ErrorCode::NotFound,
            Refusal::Invalid { .. } | Refusal::RequestReused { .. } => ErrorCode::Invalid,
            Refusal::Conflict { .. }
            | Refusal::Frozen { .. }
            | Refusal::Moving { .. }
            | Refusal::Changed { .. }
            | Refusal::Stale(_) => ErrorCode::Conflict,
        };
        let mut body = ErrorBody::new(code, refusal.to_string());
        if let Refusal::Invalid { problems } = refusal {
            let detail = |(_, problem): (usize, model::Problem)| api::Detail {
                key: Some(problem.key),
                message: problem.message,
                ..api::Detail::default()
            };
            body.details = problems.into_iter().map(detail).collect();
        }
        ErrorResponse(body)
    }
}

impl From<Failure> for ErrorResponse {
    fn from(failure: Failure) -> ErrorResponse {
        match failure {
            Failure::RequestError(RequestError::Refused(refusal)) => refusal.into(),
            Failure::RequestError(RequestError::Storage(message)) => {
                let message = format!("nothing was changed: {message}");
                ErrorResponse::new(ErrorCode::Unavailable, message)
                    .hint("check the server's disk, then try again")
            }
            Failure::Busy => ErrorResponse::new(ErrorCode::Unavailable, "the server is overloaded")
                .hint("try again in a moment"),
            Failure::Stopping => ErrorResponse::new(
                ErrorCode::Unavailable,
                "the server is stopping; whether the request took effect is unknown",
            )
            .hint("check the state once it runs again, then repeat the request"),
        }
    }
}

/// A request body, parsed as JSON.
pub(crate) struct Body<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = ErrorResponse;
    async fn from_request(request: Request, state: &S) -> Result<Self, ErrorResponse> {
        let bytes =
            Bytes::from_request(request, state).await.map_err(|error| match error.status() {
                StatusCode::PAYLOAD_TOO_LARGE => {
                    let message = format!("the body is larger than {} MiB", super::BODY_MAX >> 20);
                    ErrorResponse::new(ErrorCode::TooLarge, message)
                        .hint("send the documents in several requests")
                }
                _ => ErrorResponse::new(ErrorCode::BadRequest, error.body_text()),
            })?;
        serde_json::from_slice(&bytes).map(Body).map_err(|error| {
            ErrorResponse::new(ErrorCode::BadRequest, format!("the body cannot be read: {error}"))
        })
    }
}

/// A query string, parsed into a type.
pub(crate) struct Query<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = ErrorResponse;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ErrorResponse> {
        match axum::extract::Query::<T>::from_request_parts(parts, state).await {
            Ok(axum::extract::Query(query)) => Ok(Query(query)),
            Err(error) => Err(ErrorResponse::new(ErrorCode::BadRequest, error.body_text())),
        }
    }
}

/// The parameter of a path, parsed into a type.
pub(crate) struct Named<T>(pub(crate) T);

impl<T, S> FromRequestParts<S> for Named<T>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
    S: Send + Sync,
{
    type Rejection = ErrorResponse;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ErrorResponse> {
        let bad = |message: String| ErrorResponse::new(ErrorCode::BadRequest, message);
        let path = axum::extract::Path::<String>::from_request_parts(parts, state).await;
        let axum::extract::Path(text) = path.map_err(|error| bad(error.body_text()))?;
        let name = text.parse().map_err(|error: T::Err| {
            bad(format!("`{text}` is not a name that can be used here: {error}"))
        });
        name.map(Named)
    }
}

pub(crate) async fn not_found(uri: Uri) -> ErrorResponse {
    ErrorResponse::new(ErrorCode::UnknownPath, format!("there is nothing at {}", uri.path()))
}

pub(crate) async fn method_not_allowed(uri: Uri) -> ErrorResponse {
    let message = format!("{} does not take this method", uri.path());
    ErrorResponse::new(ErrorCode::MethodNotAllowed, message)
}
