//! Reads the properties of a client's request that routing and forwarding depend on, and rejects
//! requests that hyper accepts and a gateway must not: a backend could read them differently.

use http::header;
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode, Version};
use hyper::body::{Body, Incoming};

use crate::backend::encode::Framing;
use crate::backend::head::tokens;

/// Why a request is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Invalid {
    pub(crate) status: StatusCode,
    pub(crate) message: &'static str,
}

/// Rejects requests that must not be forwarded.
pub(crate) fn check(parts: &Parts) -> Result<(), Invalid> {
    if parts.method == Method::CONNECT {
        let message = "this is not a proxy for CONNECT";
        return Err(Invalid { status: StatusCode::METHOD_NOT_ALLOWED, message });
    }
    let mut codings = parts.headers.get_all(header::TRANSFER_ENCODING).iter();
    let plain = |coding: &HeaderValue| coding.as_bytes().eq_ignore_ascii_case(b"chunked");
    if codings.next().is_some_and(|coding| !plain(coding)) || codings.next().is_some() {
        let message = "`chunked` is the only transfer coding that is supported";
        return Err(Invalid { status: StatusCode::NOT_IMPLEMENTED, message });
    }
    let invalid = |message| Invalid { status: StatusCode::BAD_REQUEST, message };
    // hyper reads a target such as `foo` as the target of CONNECT, and `*` for every method.
    let is_path = parts.uri.scheme().is_some() || parts.uri.authority().is_none();
    if !is_path || parts.uri.path() == "*" && parts.method != Method::OPTIONS {
        return Err(invalid("the target of the request is neither a path nor a URL"));
    }
    host(parts).map(drop).map_err(invalid)
}

/// The host of a request as the client wrote it; empty if an HTTP/1.0 request has none.
pub(crate) fn host(parts: &Parts) -> Result<&str, &'static str> {
    let host = match parts.uri.authority() {
        Some(authority) => authority.as_str(),
        None => {
            let mut hosts = parts.headers.get_all(header::HOST).iter();
            match (hosts.next(), hosts.next()) {
                (Some(host), None) => host.to_str().map_err(|_| "the host is not a name")?,
                (None, _) if parts.version < Version::HTTP_11 => "",
                (None, _) => return Err("the request names no host"),
                (Some(_), Some(_)) => return Err("the request names several hosts"),
            }
        }
    };
    let is_valid = |byte: u8| byte.is_ascii_alphanumeric() || b".-_~:[]%".contains(&byte);
    if host.bytes().all(is_valid) { Ok(host) } else { Err("the host is not a name") }
}

/// How the body is framed when it is sent to a backend.
pub(crate) fn framing(parts: &Parts, body: &Incoming) -> Framing {
    if body.is_end_stream() {
        return Framing::None;
    }
    match body.size_hint().exact() {
        // A chunked body stays chunked because it may end with trailers.
        Some(length) if !parts.headers.contains_key(header::TRANSFER_ENCODING) => {
            Framing::Sized(length)
        }
        _ => Framing::Chunked,
    }
}

/// Whether the client wants to switch to another protocol than HTTP. A switch to HTTP/2 is not
/// forwarded: later requests on that connection would bypass the rules of this gateway.
pub(crate) fn wants_upgrade(parts: &Parts) -> bool {
    let Some(protocol) = parts.headers.get(header::UPGRADE) else { return false };
    let wanted = parts
        .headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|value| tokens(value.as_bytes()))
        .any(|token| token.eq_ignore_ascii_case(b"upgrade"));
    let is_http =
        tokens(protocol.as_bytes()).any(|token| token.to_ascii_lowercase().starts_with(b"h2"));
    wanted && !is_http && parts.version == Version::HTTP_11
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(request: http::request::Builder) -> Parts {
        request.body(()).unwrap().into_parts().0
    }

    fn get() -> http::request::Builder {
        http::Request::get("/a")
    }

    #[test]
    fn ambiguous_requests_are_rejected() {
        let check = |request, expected: Option<(u16, &str)>| {
            let found = check(&parts(request)).err().map(|e| (e.status.as_u16(), e.message));
            assert_eq!(found, expected);
        };
        check(get().header("host", "shop.example:80"), None);
        check(get().version(Version::HTTP_10), None);
        check(get(), Some((400, "the request names no host")));
        let two = get().header("host", "a").header("host", "b");
        check(two, Some((400, "the request names several hosts")));
        check(get().header("host", "a b"), Some((400, "the host is not a name")));
        let coded = |coding: &str| get().header("host", "a").header("transfer-encoding", coding);
        check(coded("Chunked"), None);
        let message = "`chunked` is the only transfer coding that is supported";
        check(coded("gzip"), Some((501, message)));
        check(coded("chunked").header("transfer-encoding", "chunked"), Some((501, message)));
        let message = "the target of the request is neither a path nor a URL";
        for target in ["foo", "foo:80", "*"] {
            check(http::Request::get(target).header("host", "a"), Some((400, message)));
        }
        check(http::Request::options("*").header("host", "a"), None);
        check(http::Request::get("http://foo"), None);
        let connect = http::Request::connect("a:80");
        check(connect, Some((405, "this is not a proxy for CONNECT")));
    }

    #[test]
    fn only_upgrades_to_protocols_other_than_http_are_forwarded() {
        let wants = |protocol: &str, connection: &str, version| {
            let request = get().header("upgrade", protocol).header("connection", connection);
            wants_upgrade(&parts(request.version(version)))
        };
        assert!(wants("websocket", "keep-alive, Upgrade", Version::HTTP_11));
        assert!(!wants("websocket", "keep-alive", Version::HTTP_11));
        assert!(!wants("websocket", "upgrade", Version::HTTP_10));
        assert!(!wants("h2c", "upgrade", Version::HTTP_11));
        assert!(!wants("websocket, H2C", "upgrade", Version::HTTP_11));
    }
}
