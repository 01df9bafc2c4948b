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

use crate::control::Trouble;
use crate::shell::Failure;

/// An error response.
#[derive(Debug)]
pub(crate) struct Bad(pub(crate) ErrorBody);

impl Bad {
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Bad {
        Bad(ErrorBody::new(code, message))
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Bad {
        self.0.hint = Some(hint.into());
        self
    }
}

impl IntoResponse for Bad {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.code.status());
        (status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), Json(self.0)).into_response()
    }
}

impl From<Refusal> for Bad {
    fn from(refusal: Refusal) -> Bad {
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
        Bad(body)
    }
}

impl From<Failure> for Bad {
    fn from(failure: Failure) -> Bad {
        match failure {
            Failure::Trouble(Trouble::Refused(refusal)) => refusal.into(),
            Failure::Trouble(Trouble::Storage(message)) => {
                let message = format!("nothing was changed: {message}");
                Bad::new(ErrorCode::Unavailable, message)
                    .hint("see to the server's disk, then ask again")
            }
            Failure::Busy => Bad::new(ErrorCode::Unavailable, "the server has too much to do")
                .hint("ask again in a moment"),
            Failure::Stopping => Bad::new(
                ErrorCode::Unavailable,
                "the server stops; whether this was carried out is not known",
            )
            .hint("look at what there is once it runs again, then ask again"),
        }
    }
}

/// A request body, parsed as JSON.
pub(crate) struct Body<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Bad;
    async fn from_request(request: Request, state: &S) -> Result<Self, Bad> {
        let bytes =
            Bytes::from_request(request, state).await.map_err(|error| match error.status() {
                StatusCode::PAYLOAD_TOO_LARGE => {
                    let message = format!("the body is larger than {} MiB", super::BODY_MAX >> 20);
                    Bad::new(ErrorCode::TooLarge, message)
                        .hint("send the documents in several requests")
                }
                _ => Bad::new(ErrorCode::BadRequest, error.body_text()),
            })?;
        serde_json::from_slice(&bytes).map(Body).map_err(|error| {
            Bad::new(ErrorCode::BadRequest, format!("the body cannot be read: {error}"))
        })
    }
}

/// A query string, parsed into a type.
pub(crate) struct Query<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Bad;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Bad> {
        match axum::extract::Query::<T>::from_request_parts(parts, state).await {
            Ok(axum::extract::Query(query)) => Ok(Query(query)),
            Err(error) => Err(Bad::new(ErrorCode::BadRequest, error.body_text())),
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
    type Rejection = Bad;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Bad> {
        let bad = |message: String| Bad::new(ErrorCode::BadRequest, message);
        let path = axum::extract::Path::<String>::from_request_parts(parts, state).await;
        let axum::extract::Path(text) = path.map_err(|error| bad(error.body_text()))?;
        let name = text.parse().map_err(|error: T::Err| {
            bad(format!("`{text}` is not a name that can be used here: {error}"))
        });
        name.map(Named)
    }
}

pub(crate) async fn not_found(uri: Uri) -> Bad {
    Bad::new(ErrorCode::UnknownPath, format!("there is nothing at {}", uri.path()))
}

pub(crate) async fn method_not_allowed(uri: Uri) -> Bad {
    let message = format!("{} does not take this method", uri.path());
    Bad::new(ErrorCode::MethodNotAllowed, message)
}
