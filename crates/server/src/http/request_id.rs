//! The id of a request, by which its client may repeat it without executing it twice: the header
//! `Idempotency-Key` (IETF draft-ietf-httpapi-idempotency-key-header), quoted or not.
//!
//! It is read for all routes, those of adapters included, before any handler: a repetition is
//! recognised by its method, path and body, whatever a handler makes of them in the present state.

use std::convert::Infallible;
use std::hash::{Hash as _, Hasher as _};

use api::{ErrorCode, REQUEST_ID};
use axum::body::Body;
use axum::extract::{FromRequestParts, Request};
use axum::http::Method;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use fnv::FnvHasher;
use model::{Command, Proposal, RequestId, RequestKey};

use super::BODY_MAX;
use super::response::ErrorResponse;

/// Adds the [`RequestId`] to the extensions of a request that has one.
pub(super) async fn identify(request: Request, next: Next) -> Response {
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        return next.run(request).await;
    }
    let Some(header) = request.headers().get(REQUEST_ID) else { return next.run(request).await };
    let text = header.to_str().unwrap_or_default();
    let quoted = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    let key: RequestKey = match quoted.unwrap_or(text).parse() {
        Ok(key) => key,
        Err(error) => {
            return ErrorResponse::new(ErrorCode::BadRequest, error.to_string()).into_response();
        }
    };
    let (mut parts, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, BODY_MAX).await else {
        let message = format!("the body is incomplete or larger than {} MiB", BODY_MAX >> 20);
        return ErrorResponse::new(ErrorCode::TooLarge, message).into_response();
    };
    let digest = digest(&parts, &body);
    parts.extensions.insert(RequestId { key, digest });
    next.run(Request::from_parts(parts, Body::from(body))).await
}

/// A stable hash. It guards against mistakes of a client, which may choose its own ids anyway, so
/// it need not be cryptographic.
fn digest(parts: &Parts, body: &[u8]) -> u64 {
    let mut hasher = FnvHasher::default();
    (parts.method.as_str(), parts.uri.to_string(), body).hash(&mut hasher);
    hasher.finish()
}

/// The author of a request for a change, with the id that it gave.
pub(super) struct Author {
    id: Option<RequestId>,
}

impl Author {
    /// The author's proposal of a command.
    pub(super) fn proposal(self, command: Command) -> Proposal {
        Proposal { id: self.id, ..Proposal::operator(command) }
    }

    /// The outcome of this request if it was executed before. Handlers that derive a command from
    /// the present state ask for it first.
    pub(super) fn first_outcome(&self, state: &model::State) -> Option<model::Outcome> {
        let by = model::Principal::operator();
        self.id.as_ref().and_then(|id| state.first_outcome(id, &by))
    }
}

impl<S: Sync> FromRequestParts<S> for Author {
    type Rejection = Infallible;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Author { id: parts.extensions.get().cloned() })
    }
}
