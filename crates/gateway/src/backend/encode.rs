//! Writes the head of a request to a backend from the client's headers.
//!
//! The client's headers are not modified, so that the request can be written again for another
//! backend. Omitted are the fields of the client's connection (RFC 9110 §7.6.1) and framing; the
//! forwarding fields are those of `forwarded`.

use std::borrow::Cow;
use std::io::Write as _;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, Version};
use model::Subnet;

use super::field::{is_forbidden_trailer, is_hop_by_hop, is_imitation};
use super::head::tokens;
use super::line::{joined, put};
use crate::client::state::Client;
use crate::forwarded;

/// How the body of a request is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// It has no body.
    None,
    /// It has this many bytes.
    Sized(u64),
    /// Its length is unknown.
    Chunked,
}

/// Writes the head. `host` is the host of the request, which is empty if it names none, `trust` has
/// the trusted proxies, and `upgrade` is whether to switch protocols.
pub(crate) fn request(
    out: &mut Vec<u8>,
    parts: &Parts,
    client: &Client,
    host: &str,
    trust: &[Subnet],
    framing: Framing,
    upgrade: bool,
) {
    let named = named_by_connection(&parts.headers);
    // HTTP/1.1 requires a host: the address that the client connected to (RFC 9112 §3.3).
    let host = match host {
        "" => Cow::Owned(client.local.to_string()),
        host => Cow::Borrowed(host),
    };
    put(out, &[parts.method.as_str().as_bytes(), b" "]);
    match parts.uri.path_and_query() {
        Some(target) if target.as_str().starts_with(['/', '*']) => {
            out.extend_from_slice(target.as_str().as_bytes());
        }
        Some(target) => put(out, &[b"/", target.as_str().as_bytes()]),
        None => out.push(b'/'),
    }
    put(out, &[b" HTTP/1.1\r\nhost: ", host.as_bytes(), b"\r\n"]);
    let mut cookies = 0;
    for (name, value) in &parts.headers {
        match *name {
            header::HOST
            | header::CONNECTION
            | header::CONTENT_LENGTH
            | header::TRANSFER_ENCODING
            | header::TE
            | header::UPGRADE
            | header::EXPECT
            | header::PROXY_AUTHORIZATION => continue,
            header::COOKIE if parts.version == Version::HTTP_2 => {
                cookies += 1;
                continue;
            }
            _ => {}
        }
        let is_omitted = forwarded::is_written(name)
            || is_hop_by_hop(name)
            || is_imitation(name)
            || named.contains(name);
        if !is_omitted {
            put(out, &[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"]);
        }
    }
    if cookies > 0 {
        // HTTP/2 may split the field that HTTP/1.1 allows only once (RFC 9113 §8.2.3).
        out.extend_from_slice(b"cookie: ");
        joined(out, &parts.headers, &header::COOKIE, b"; ");
        out.extend_from_slice(b"\r\n");
    }
    match framing {
        Framing::None if expects_length(&parts.method) => {
            out.extend_from_slice(b"content-length: 0\r\n");
        }
        Framing::None => {}
        // Writing into a vector cannot fail.
        Framing::Sized(length) => drop(write!(out, "content-length: {length}\r\n")),
        Framing::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
    }
    if upgrade {
        out.extend_from_slice(b"connection: upgrade\r\nupgrade: ");
        joined(out, &parts.headers, &header::UPGRADE, b", ");
        out.extend_from_slice(b"\r\n");
    } else if wants_trailers(&parts.headers) {
        out.extend_from_slice(b"connection: te\r\nte: trailers\r\n");
    }
    forwarded::write(out, &parts.headers, client, &host, trust);
    out.extend_from_slice(b"\r\n");
}

/// Writes the line before a chunk: its size.
pub(crate) fn chunk(out: &mut Vec<u8>, length: usize) {
    // Writing into a vector cannot fail.
    drop(write!(out, "{length:x}\r\n"));
}

/// Writes the end of a chunked body, without forbidden trailers.
pub(crate) fn last_chunk(out: &mut Vec<u8>, trailers: Option<&HeaderMap>) {
    out.extend_from_slice(b"0\r\n");
    for (name, value) in trailers.into_iter().flatten() {
        if !is_forbidden_trailer(name) {
            put(out, &[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"]);
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// The fields that `Connection` lists. Almost always none, and allocates nothing then.
fn named_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    let values = headers.get_all(header::CONNECTION).iter();
    values
        .flat_map(|value| tokens(value.as_bytes()))
        .filter(|token| {
            !token.eq_ignore_ascii_case(b"keep-alive")
                && !token.eq_ignore_ascii_case(b"close")
                && !token.eq_ignore_ascii_case(b"upgrade")
        })
        .filter_map(|token| HeaderName::from_bytes(token).ok())
        .collect()
}

fn wants_trailers(headers: &HeaderMap) -> bool {
    let trailers = |value: &HeaderValue| {
        tokens(value.as_bytes()).any(|token| token.eq_ignore_ascii_case(b"trailers"))
    };
    headers.get_all(header::TE).iter().any(trailers)
}

/// Whether servers expect requests with this method to have a length of zero (RFC 9110 §8.6).
fn expects_length(method: &Method) -> bool {
    matches!(*method, Method::POST | Method::PUT | Method::PATCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(request: http::Request<()>, framing: Framing, upgrade: bool, expected: &str) {
        let (parts, ()) = request.into_parts();
        let client = Client::for_tests("10.0.0.9:5000", "10.0.0.1:8080");
        let mut out = Vec::new();
        super::request(&mut out, &parts, &client, "shop.example", &[], framing, upgrade);
        assert_eq!(String::from_utf8(out).unwrap().replace("\r\n", "\n"), expected);
    }

    const FORWARDED: &str = "x-forwarded-proto: http\nx-forwarded-host: shop.example\n\
                             x-forwarded-port: 8080\n\n";

    #[test]
    fn omits_hop_by_hop_and_reserved_fields() {
        let request = http::Request::get("http://other/a?b=1")
            .header("host", "other")
            .header("connection", "close, x-secret")
            .header("keep-alive", "5")
            .header("proxy-connection", "close")
            .header("x-secret", "1")
            .header("te", "gzip")
            .header("upgrade", "h2c")
            .header("expect", "100-continue")
            .header("content-length", "7")
            .header("transfer-encoding", "chunked")
            .header("x-forwarded-proto", "https")
            .header("x-forwarded-host", "evil")
            .header("x-forwarded-port", "1")
            .header("x-forwarded-for", "1.1.1.1")
            .header("x-forwarded-for", "2.2.2.2")
            .header("x_forwarded_for", "3.3.3.3")
            .header("content_length", "7")
            .header("x-kept", "1")
            .header("x-kept", "2")
            .body(())
            .unwrap();
        let expected = format!(
            "GET /a?b=1 HTTP/1.1\nhost: shop.example\nx-kept: 1\nx-kept: 2\n\
             x-forwarded-for: 1.1.1.1, 2.2.2.2, 10.0.0.9\n{FORWARDED}"
        );
        check(request, Framing::None, false, &expected);
    }

    #[test]
    fn writes_framing_and_upgrade_fields() {
        let post = |uri: &str| http::Request::post(uri).body(()).unwrap();
        let rest = format!("x-forwarded-for: 10.0.0.9\n{FORWARDED}");
        let head = "POST / HTTP/1.1\nhost: shop.example\n";
        let check_framing = |framing, field: &str| {
            check(post("/"), framing, false, &format!("{head}{field}\n{rest}"));
        };
        check_framing(Framing::None, "content-length: 0");
        check_framing(Framing::Sized(12), "content-length: 12");
        check_framing(Framing::Chunked, "transfer-encoding: chunked");
        let request = http::Request::get("/chat").header("upgrade", "websocket").body(()).unwrap();
        let expected = format!(
            "GET /chat HTTP/1.1\nhost: shop.example\nconnection: upgrade\nupgrade: websocket\n{rest}"
        );
        check(request, Framing::None, true, &expected);
    }

    #[test]
    fn joins_the_cookies_of_http_2() {
        let request = http::Request::get("http://shop.example")
            .version(Version::HTTP_2)
            .header("cookie", "a=1")
            .header("cookie", "b=2")
            .header("te", "trailers")
            .body(())
            .unwrap();
        let expected = format!(
            "GET / HTTP/1.1\nhost: shop.example\ncookie: a=1; b=2\nconnection: te\nte: trailers\n\
             x-forwarded-for: 10.0.0.9\n{FORWARDED}"
        );
        check(request, Framing::None, false, &expected);
    }

    #[test]
    fn trailers_cannot_smuggle() {
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", HeaderValue::from_static("1"));
        trailers.insert("content-length", HeaderValue::from_static("9"));
        trailers.insert("expect", HeaderValue::from_static("100-continue"));
        trailers.insert("x-forwarded-for", HeaderValue::from_static("1.1.1.1"));
        let mut out = Vec::new();
        last_chunk(&mut out, Some(&trailers));
        assert_eq!(out, b"0\r\nx-sum: 1\r\n\r\n");
    }
}
