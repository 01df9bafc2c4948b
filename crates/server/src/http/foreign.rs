//! Rejects requests from pages of other sites (cross-site request forgery). A browser lets every
//! page send a `POST` to any address that it reaches, as long as the page does not read the
//! response: a malicious page could make this cluster run commands. Browsers state the origin of a
//! request in headers that no page can change. Other clients do not send these headers, and their
//! requests pass.
//!
//! `host` rejects the requests of pages that the browser takes for pages of this server.

use api::ErrorCode;
use axum::extract::Request;
use axum::http::{HeaderMap, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::response::ErrorResponse;

/// Rejects requests of pages of other origins unless their method is safe.
pub(super) async fn reject_cross_site(request: Request, next: Next) -> Response {
    if request.method().is_safe() || !is_foreign(request.uri(), request.headers()) {
        return next.run(request).await;
    }
    let message = "a page of another site has sent this; nothing was changed";
    let hint = "use `muster`, curl or another client that is no browser; if the page is your own, a proxy has changed \
                the header `Host` on the way: let it pass on the one that it was sent";
    ErrorResponse::new(ErrorCode::Forbidden, message).hint(hint).into_response()
}

/// Whether a browser states that a request comes from a page of another origin. Old browsers, and
/// those that do not trust the connection to the server, send only the header `Origin`: its
/// authority must then be that of the request. The scheme is ignored, since a proxy may have
/// terminated TLS.
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
    fn only_cross_site_requests_of_browsers_are_foreign() {
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
        // Behind a proxy that changes the host, only `sec-fetch-site` is right.
        let proxied =
            [host, ("origin", "https://muster.example"), ("sec-fetch-site", "same-origin")];
        check(&proxied, false);
    }
}
