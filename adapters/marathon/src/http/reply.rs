//! Requests and responses of Marathon's API, with the headers that all responses have.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::format::Rejected;
use api::error_chain;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, Request};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use http_body_util::LengthLimitError;
use model::{DeploymentId, Origin, Refusal, RequestId, ServiceId, Timestamp};
use serde::Serialize;
use serde_json::{Value, json};

use super::BODY_MAX;
use crate::Marathon;
use crate::view::name;
use server::adapter::Failure;
use server::adapter::Server;
use server::control::RequestError;

/// A request whose path, query and body have been read, but not validated.
pub(super) struct ApiRequest {
    pub(super) marathon: Arc<Marathon>,
    pub(super) server: Server,
    pub(super) method: Method,
    /// The path after the prefix, without empty segments.
    pub(super) segments: Vec<String>,
    /// The decoded parameters of the query, in order.
    pub(super) query: Vec<(String, String)>,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// The client and the path, which are included in events.
    pub(super) origin: Origin,
    /// The id under which the client may repeat the request.
    pub(super) id: Option<RequestId>,
}

impl ApiRequest {
    pub(super) async fn read(
        marathon: Arc<Marathon>,
        server: Server,
        request: Request,
    ) -> Result<ApiRequest, Reply> {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path();
        let Some(segments) = super::segments(path) else {
            return Err(Reply::error(StatusCode::BAD_REQUEST, "the path is not UTF-8"));
        };
        let body = axum::body::to_bytes(body, BODY_MAX).await.map_err(|error| {
            let cause = std::error::Error::source(&error);
            let message = match cause.is_some_and(|cause| cause.is::<LengthLimitError>()) {
                true => format!("the body is larger than {} MiB", BODY_MAX >> 20),
                false => format!("the body could not be read: {error}"),
            };
            Reply::error(StatusCode::PAYLOAD_TOO_LARGE, message)
        })?;
        let client = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        let client = client.map_or_else(|| "unknown".into(), |info| info.0.ip().to_string());
        // A HEAD is handled as a GET without the body of the response, except where it has its own
        // meaning.
        let is_other = segments.len() > 1 && ["pods", "events"].contains(&segments[1].as_str());
        let method = match parts.method {
            Method::HEAD if !is_other => Method::GET,
            method => method,
        };
        let query = form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes());
        Ok(ApiRequest {
            marathon,
            server,
            query: query.into_owned().collect(),
            origin: Origin { client, uri: format!("/{}", segments.join("/")) },
            id: parts.extensions.get().cloned(),
            segments,
            method,
            headers: parts.headers,
            body,
        })
    }

    /// The path from the segment with index `from` on.
    pub(super) fn rest(&self, from: usize) -> String {
        format!("/{}", self.segments.get(from..).unwrap_or_default().join("/"))
    }

    /// The address of the leader, see [`leader()`].
    pub(super) fn leader(&self) -> String {
        leader(&self.server, &self.headers)
    }

    /// The last value of a query parameter.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters(name).last()
    }

    /// All values of a repeatable query parameter.
    pub(super) fn parameters(&self, name: &str) -> impl Iterator<Item = &str> {
        let named = self.query.iter().filter(move |(key, _)| key == name);
        named.map(|(_, value)| value.as_str())
    }

    /// The value of a boolean query parameter. As in Java, all values but `true` are false.
    pub(super) fn flag(&self, name: &str, default: bool) -> bool {
        self.parameter(name).map_or(default, |value| value.eq_ignore_ascii_case("true"))
    }
}

/// The address of the server as `host:port`. If it listens on all addresses, the `Host` header of
/// the request is used.
pub(super) fn leader(server: &Server, headers: &HeaderMap) -> String {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let host = host.filter(|_| server.address().ip().is_unspecified());
    host.map_or_else(|| server.address().to_string(), String::from)
}

/// The response to a request.
pub(super) struct Reply {
    status: StatusCode,
    body: Content,
    headers: Vec<(HeaderName, String)>,
}

enum Content {
    Json(Vec<u8>),
    Text(String),
    Nothing,
    Ready(Box<Response>),
}

impl Reply {
    pub(super) fn json(value: &impl Serialize) -> Reply {
        Reply::with(StatusCode::OK, value)
    }

    pub(super) fn with(status: StatusCode, value: &impl Serialize) -> Reply {
        let body = serde_json::to_vec(value);
        match body {
            Ok(body) => Reply { status, body: Content::Json(body), headers: Vec::new() },
            Err(error) => {
                tracing::error!(%error, "a response could not be serialized");
                Reply::nothing(StatusCode::INTERNAL_SERVER_ERROR)
            }
        }
    }

    pub(super) fn text(text: impl Into<String>) -> Reply {
        let body = Content::Text(text.into());
        Reply { status: StatusCode::OK, body, headers: Vec::new() }
    }

    pub(super) fn nothing(status: StatusCode) -> Reply {
        Reply { status, body: Content::Nothing, headers: Vec::new() }
    }

    /// Wraps a response that has been built elsewhere, such as a stream.
    pub(super) fn ready(response: Response) -> Reply {
        let (status, body) = (response.status(), Content::Ready(Box::new(response)));
        Reply { status, body, headers: Vec::new() }
    }

    pub(super) fn error(status: StatusCode, message: impl Into<String>) -> Reply {
        Reply::with(status, &json!({ "message": message.into() }))
    }

    pub(super) fn not_found(message: impl Into<String>) -> Reply {
        Reply::error(StatusCode::NOT_FOUND, message)
    }

    /// An error for the value at `path` in the body.
    pub(super) fn invalid(path: &str, what: &str) -> Reply {
        let details = json!([{ "path": path, "errors": [what] }]);
        let body = json!({ "message": "Object is not valid", "details": details });
        Reply::with(StatusCode::UNPROCESSABLE_ENTITY, &body)
    }

    pub(super) fn app_not_found(id: &str) -> Reply {
        Reply::not_found(format!("App '{id}' does not exist"))
    }

    pub(super) fn shared_id(id: &ServiceId) -> Reply {
        let what = format!("Groups and Applications may not have the same identifier: {id}");
        Reply::invalid("/id", &what)
    }

    pub(super) fn group_not_found(path: &str) -> Reply {
        Reply::not_found(format!("Group '{path}' does not exist"))
    }

    /// The response to an accepted change, with its version and its deployment. Without a
    /// deployment, the id is a placeholder, since clients require one.
    pub(super) fn deployed(at: Timestamp, deployment: Option<DeploymentId>) -> Reply {
        let id = deployment.map_or_else(|| name::no_deployment(at), name::deployment);
        Reply::json(&json!({ "version": at, "deploymentId": id })).header(DEPLOYMENT_ID, id)
    }

    pub(super) fn status(mut self, status: StatusCode) -> Reply {
        self.status = status;
        self
    }

    pub(super) fn header(mut self, name: HeaderName, value: impl Into<String>) -> Reply {
        self.headers.push((name, value.into()));
        self
    }

    pub(super) fn into_response(self, leader: &str) -> Response {
        let mut response = match self.body {
            Content::Json(body) => {
                ([(header::CONTENT_TYPE, "application/json")], body).into_response()
            }
            Content::Text(text) => text.into_response(),
            Content::Nothing => ().into_response(),
            Content::Ready(response) => *response,
        };
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        for (name, value) in COMMON {
            headers.insert(name, HeaderValue::from_static(value));
        }
        let leader = (LEADER, format!("http://{leader}"));
        for (name, value) in self.headers.into_iter().chain([leader]) {
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(name, value);
            }
        }
        response
    }
}

/// The header with the id of the deployment that a request has started.
pub(super) const DEPLOYMENT_ID: HeaderName = HeaderName::from_static("marathon-deployment-id");
const LEADER: HeaderName = HeaderName::from_static("x-marathon-leader");
const COMMON: [(HeaderName, &str); 5] = [
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::X_XSS_PROTECTION, "1; mode=block"),
    (header::CACHE_CONTROL, "no-cache, no-store, must-revalidate"),
    (header::PRAGMA, "no-cache"),
    (header::EXPIRES, "0"),
];

impl From<Rejected> for Reply {
    fn from(rejected: Rejected) -> Reply {
        let status = StatusCode::from_u16(rejected.status);
        Reply::with(status.unwrap_or(StatusCode::UNPROCESSABLE_ENTITY), &rejected.body())
    }
}

impl From<Failure> for Reply {
    fn from(failure: Failure) -> Reply {
        let refusal = match failure {
            Failure::RequestError(RequestError::Refused(refusal)) => refusal,
            Failure::RequestError(RequestError::Storage(message)) => {
                let message = format!("nothing was changed: {message}");
                return Reply::error(StatusCode::SERVICE_UNAVAILABLE, message);
            }
            Failure::Busy | Failure::Stopping => {
                let message = "the server is overloaded: try again in a moment";
                return Reply::error(StatusCode::SERVICE_UNAVAILABLE, message);
            }
        };
        match refusal {
            Refusal::Unknown { name, .. } => Reply::app_not_found(&name),
            Refusal::Moving { by, .. } => Reply::locked(&by),
            Refusal::Invalid { problems } => {
                let detail = |(_, problem): &(usize, model::Problem)| {
                    let key = crate::format::key_of(&problem.key);
                    let path = format!("/{}", key.replace('.', "/"));
                    json!({ "path": path, "errors": [problem.message] })
                };
                let details: Vec<Value> = problems.iter().map(detail).collect();
                let body = json!({ "message": "Object is not valid", "details": details });
                Reply::with(StatusCode::UNPROCESSABLE_ENTITY, &body)
            }
            other => Reply::error(StatusCode::CONFLICT, error_chain(&other)),
        }
    }
}

impl Reply {
    /// An error for a change of apps that these deployments are changing.
    pub(super) fn locked(by: &[DeploymentId]) -> Reply {
        let message = "App is locked by one or more deployments. Override with the option \
                       '?force=true'. View details at '/v2/deployments/<DEPLOYMENT_ID>'.";
        let ids: Vec<Value> = by.iter().map(|id| json!({ "id": name::deployment(*id) })).collect();
        let body = json!({ "message": message, "deployments": ids });
        Reply::with(StatusCode::CONFLICT, &body)
    }
}

/// Parses the segments of a path as the id of an app.
pub(super) fn app_id(segments: &[&str]) -> Result<ServiceId, Reply> {
    let id = format!("/{}", segments.join("/"));
    id.parse().map_err(|_| Reply::app_not_found(&id))
}
