//! Marathon's API, under `/v2`, `/service/marathon/v2` and `/marathon/v2`: one table from methods
//! and paths to handlers.
//!
//! Its clients write paths with empty segments in them, so paths are taken apart here instead of
//! by the router. Whatever is answered is JSON with Marathon's headers, errors included.

mod reply;

use axum::body::Body;
use axum::extract::Request;
use axum::http::Method;
use axum::response::Response;

use super::Server;
use reply::{Ask, Reply};

/// Bodies beyond this are refused before they are read.
const BODY_MAX: usize = 16 << 20;

/// Where the API may be found: at the root, and where DC/OS has it.
const PREFIXES: [&str; 2] = ["service/marathon", "marathon"];

/// The segments of a path, percent-decoded, without those that are empty and without a prefix.
/// `None` if a segment is not text.
fn segments(path: &str) -> Option<Vec<String>> {
    let decode = |segment: &str| {
        let decoded = percent_encoding::percent_decode_str(segment).decode_utf8();
        decoded.map(String::from).ok()
    };
    let segments = path.split('/').filter(|segment| !segment.is_empty()).map(decode);
    let mut segments = segments.collect::<Option<Vec<_>>>()?;
    for prefix in PREFIXES {
        let prefix: Vec<_> = prefix.split('/').collect();
        if segments.len() > prefix.len() && segments.iter().zip(&prefix).all(|(a, b)| a == b) {
            segments.drain(..prefix.len());
            break;
        }
    }
    Some(segments)
}

/// Whether a path is one of this API.
pub(super) fn is_ours(path: &str) -> bool {
    let first = segments(path).and_then(|segments| segments.into_iter().next());
    first.is_some_and(|first| matches!(first.as_str(), "v2" | "ping" | "metrics"))
}

/// Answers a request to the API.
pub(super) async fn answer(server: Server, request: Request<Body>) -> Response {
    let reply = match Ask::read(&server, request).await {
        Ok(ask) => route(&ask).await,
        Err(reply) => reply,
    };
    reply.into_response(&server)
}

async fn route(ask: &Ask) -> Reply {
    let path: Vec<&str> = ask.segments.iter().map(String::as_str).collect();
    match (&ask.method, path.as_slice()) {
        (&Method::GET, ["ping"]) => Reply::text("pong"),
        _ => Reply::not_found("URI not found"),
    }
}
