//! Pages of other sites, kept out. A browser lets every page that it shows send a `POST` to any address that it
//! reaches, as long as the page does not want to read the answer: a stranger's page could make this cluster run
//! commands. Browsers say where a request comes from, and no page can make them lie; all other clients say nothing,
//! and pass.
//!
//! It does not keep out names that a stranger has pointed at the server (DNS rebinding): only a list of the names that
//! the server may be called by would, and it has such names, addresses and proxies as nobody told it of.

use api::ErrorCode;
use axum::extract::Request;
use axum::http::{HeaderMap, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::answer::Bad;

/// Passes on what a page of another site has not sent, or what changes nothing.
pub(super) async fn keep_out(request: Request, next: Next) -> Response {
    if request.method().is_safe() || !is_foreign(request.uri(), request.headers()) {
        return next.run(request).await;
    }
    let message = "a page of another site has sent this; nothing was changed";
    let hint = "use `muster`, curl or another client that is no browser; if the page is your own, a proxy has changed \
                the header `Host` on the way: let it pass on the one that it was sent";
    Bad::new(ErrorCode::Forbidden, message).hint(hint).into_response()
}

/// Whether a browser says that a request comes from a page of another origin. Old ones, and those that do not trust
/// the way to the server, only say which: then it must be where the request goes to, by whatever scheme, since a proxy
/// may have ended TLS.
fn is_foreign(uri: &Uri, headers: &HeaderMap) -> bool {
    if let Some(site) = headers.get("sec-fetch-site") {
        return site != "same-origin" && site != "none";
    }
    let Some(origin) = headers.get(header::ORIGIN) else { return false };
    let from = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let to = uri.authority().map(|authority| authority.as_str()).or(host);
    !matches!((from, to), (Some((_, from)), Some(to)) if from.eq_ignore_ascii_case(to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_browsers_say_of_other_sites_is_foreign() {
        let check = |headers: &[(&'static str, &'static str)], expected: bool| {
            let name = |name: &str| name.parse::<header::HeaderName>().unwrap();
            let headers = headers.iter().map(|(key, value)| (name(key), value.parse().unwrap()));
            let headers: HeaderMap = headers.collect();
            assert_eq!(
                is_foreign(&"/v1/apply".parse().unwrap(), &headers),
                expected,
                "{headers:?}"
            );
        };
        let host = ("host", "localhost:4040");
        check(&[], false);
        check(&[host], false);
        check(&[host, ("origin", "http://localhost:4040")], false);
        check(&[host, ("origin", "https://LOCALHOST:4040")], false);
        check(&[host, ("origin", "http://localhost:8080")], true);
        check(&[host, ("origin", "http://evil.example")], true);
        check(&[host, ("origin", "null")], true);
        check(&[("origin", "http://localhost:4040")], true);
        check(&[host, ("sec-fetch-site", "cross-site")], true);
        check(&[host, ("sec-fetch-site", "same-site")], true);
        check(&[host, ("sec-fetch-site", "none")], false);
        // Behind a proxy that changes the host, the browser knows better.
        let proxied =
            [host, ("origin", "https://muster.example"), ("sec-fetch-site", "same-origin")];
        check(&proxied, false);
    }
}
