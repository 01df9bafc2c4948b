//! The header fields that a gateway does not forward: those of one connection, those that it sets
//! itself, and those that must not be trailers.

use std::borrow::Cow;

use http::header::{self, HeaderName};

/// Whether a field that `http` has no constant for belongs to a connection, not to a message.
pub(crate) fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(name.as_str(), "keep-alive" | "proxy-connection")
}

/// Whether a field has the name of one that the gateway sets or removes, but with underscores. A
/// server that passes fields on as variables, as CGI does, cannot tell the two apart, so a client
/// could set `x_forwarded_for`. Other fields with underscores are forwarded.
pub(crate) fn is_imitation(name: &HeaderName) -> bool {
    match normal(name) {
        Cow::Borrowed(_) => false,
        Cow::Owned(name) => is_of_connection(&name) || is_forwarding(&name),
    }
}

/// Whether a trailer is dropped, because it would change the framing, routing, authentication or
/// meaning of a message that a recipient has already begun to process (RFC 9110 §6.5.1).
pub(crate) fn is_forbidden_trailer(name: &HeaderName) -> bool {
    let normal = normal(name);
    let name = normal.as_ref();
    is_of_connection(name)
        || is_forwarding(name)
        || ["content-", "if-", "proxy-", "access-control-"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
        || [
            header::ACCEPT_RANGES,
            header::AGE,
            header::AUTHORIZATION,
            header::CACHE_CONTROL,
            header::COOKIE,
            header::DATE,
            header::EXPIRES,
            header::LOCATION,
            header::MAX_FORWARDS,
            header::PRAGMA,
            header::RANGE,
            header::REFRESH,
            header::RETRY_AFTER,
            header::SET_COOKIE,
            header::STRICT_TRANSPORT_SECURITY,
            header::TRAILER,
            header::VARY,
            header::WARNING,
            header::WWW_AUTHENTICATE,
        ]
        .iter()
        .any(|forbidden| forbidden == name)
}

/// A name with hyphens in place of underscores.
fn normal(name: &HeaderName) -> Cow<'_, str> {
    match name.as_str().contains('_') {
        true => Cow::Owned(name.as_str().replace('_', "-")),
        false => Cow::Borrowed(name.as_str()),
    }
}

fn is_of_connection(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "content-length"
            | "expect"
            | "host"
            | "keep-alive"
            | "proxy-authorization"
            | "proxy-connection"
            | "te"
            | "transfer-encoding"
            | "upgrade"
    )
}

fn is_forwarding(name: &str) -> bool {
    name == "forwarded" || name.starts_with("x-forwarded-")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &'static str) -> HeaderName {
        HeaderName::from_static(name)
    }

    #[test]
    fn a_field_with_underscores_must_not_imitate_one_of_the_gateway() {
        for imitation in
            ["x_forwarded_for", "x-forwarded_proto", "content_length", "proxy_connection"]
        {
            assert!(is_imitation(&name(imitation)), "{imitation}");
        }
        for other in ["x_request_id", "x-forwarded-for", "content-length", "x_forwarded"] {
            assert!(!is_imitation(&name(other)), "{other}");
        }
    }

    #[test]
    fn trailers_carry_nothing_that_is_needed_before_the_body() {
        for forbidden in [
            "expect",
            "host",
            "content-length",
            "content_length",
            "content-type",
            "transfer-encoding",
            "x-forwarded-for",
            "x_forwarded_for",
            "forwarded",
            "authorization",
            "proxy-authenticate",
            "cookie",
            "set-cookie",
            "cache-control",
            "if-match",
            "range",
            "max-forwards",
            "location",
            "trailer",
        ] {
            assert!(is_forbidden_trailer(&name(forbidden)), "{forbidden}");
        }
        for allowed in ["x-sum", "etag", "digest", "grpc-status", "server-timing", "x_sum"] {
            assert!(!is_forbidden_trailer(&name(allowed)), "{allowed}");
        }
    }
}
