//! Why a file cannot be fetched: the URL, the cause, and what to do.

use std::io;
use std::net::{IpAddr, SocketAddr};

use http::StatusCode;
use url::Url;

/// The maximum size of a download, in MiB.
pub(super) const MIB_MAX: u64 = 1024;
/// The maximum number of redirects.
pub(super) const REDIRECTS_MAX: usize = 5;

/// Why a file cannot be fetched.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The URL cannot be parsed.
    #[error("`{text}` is not a URL")]
    Url {
        /// The URL, or the target of a redirect.
        text: String,
        /// The cause.
        #[source]
        source: url::ParseError,
    },
    /// The scheme is neither `http` nor `https`, or a redirect leaves `https`.
    #[error(
        "{url} leads to {to}: a file is fetched by http or https, and a redirect stays with https"
    )]
    Scheme {
        /// The URL.
        url: String,
        /// The URL that is not followed.
        to: String,
    },
    /// The name of the host cannot be resolved.
    #[error("cannot resolve {host}; check its name and the resolver of the node")]
    Resolve {
        /// The name.
        host: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The host has no address.
    #[error("the host of {url} has no address")]
    NoAddress {
        /// The URL.
        url: String,
    },
    /// The node does not fetch from this address.
    #[error(
        "{url} is at {address}, a {range} address, from which this node does not fetch; start its \
         agent with --fetch-local to allow that"
    )]
    Forbidden {
        /// The URL.
        url: String,
        /// The address.
        address: IpAddr,
        /// The range that it is in.
        range: &'static str,
    },
    /// There is no connection.
    #[error("cannot connect to {address} for {url}")]
    Connect {
        /// The URL.
        url: String,
        /// The address.
        address: SocketAddr,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// There is no secure connection.
    #[error(
        "cannot trust the server of {url}; if its authority is your own, install it on the node"
    )]
    Tls {
        /// The URL.
        url: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The URL cannot be requested.
    #[error("{url} cannot be requested")]
    Request {
        /// The URL.
        url: String,
        /// The cause.
        #[source]
        source: http::Error,
    },
    /// A step took too long.
    #[error("{url}: timed out while {doing}")]
    Timeout {
        /// The URL.
        url: String,
        /// The step.
        doing: &'static str,
    },
    /// The connection broke, or its response is not HTTP.
    #[error("the connection to {url} broke")]
    Broken {
        /// The URL.
        url: String,
        /// The cause.
        #[source]
        source: hyper::Error,
    },
    /// The server has another response than the file.
    #[error("{url} returns {status}; {}", hint(*status))]
    Status {
        /// The URL.
        url: String,
        /// The status.
        status: StatusCode,
    },
    /// There are too many redirects.
    #[error("{url} is redirected more than {REDIRECTS_MAX} times")]
    Redirects {
        /// The URL.
        url: String,
    },
    /// The file is too large.
    #[error("{url} has more than {MIB_MAX} MiB, the most that is fetched")]
    TooLarge {
        /// The URL.
        url: String,
    },
    /// The content is not the one that the document asks for.
    #[error("{url} has the checksum {found} and not {expected}; check `url` and `sha256`")]
    Checksum {
        /// The URL.
        url: String,
        /// The checksum of the document.
        expected: String,
        /// The checksum of the content.
        found: String,
    },
    /// The content cannot be stored on the node.
    #[error("cannot store {url} on the node")]
    Disk {
        /// The URL.
        url: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// A URL for messages: without its query, which may contain a signature, and without a password.
pub(super) fn shown(url: &Url) -> String {
    let query = if url.query().is_some() { "?…" } else { "" };
    let host = &url[url::Position::BeforeHost..url::Position::AfterPath];
    format!("{}://{host}{query}", url.scheme())
}

fn hint(status: StatusCode) -> &'static str {
    match status {
        StatusCode::NOT_FOUND | StatusCode::GONE => "check `url`",
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            "the file must be readable without credentials from this node"
        }
        StatusCode::TOO_MANY_REQUESTS => "the server wants fewer requests; it is tried again later",
        status if status.is_server_error() => "the server has failed; it is tried again later",
        _ => "the response must be 200 with the file",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_have_no_signature_and_no_password() {
        for (url, expected) in [
            (
                "https://user:secret@a.example:8443/b/c?signature=x#d",
                "https://a.example:8443/b/c?…",
            ),
            ("http://[::1]/", "http://[::1]/"),
        ] {
            assert_eq!(shown(&Url::parse(url).unwrap()), expected);
        }
    }
}
