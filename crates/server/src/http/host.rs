//! The host names under which a server may be addressed. A page of another site can make a browser
//! resolve the name of that site to the address of this server (DNS rebinding): the browser then
//! treats both as one origin, so the page can change the cluster and read its state. Such a request
//! has the name of the other site in its `Host`, which no page can change.
//!
//! An IP address has no name that could be resolved to another address, so every address passes.
//! The names that pass are those of loopback, of this machine, of the nodes and their addresses,
//! and those that the operator adds. A request without a host is not of a browser.

use api::ErrorCode;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use model::State as Cluster;

use super::response::ErrorResponse;
use crate::adapter::Server;

/// Rejects requests to a host name that is not one of this server.
pub(super) async fn check(State(server): State<Server>, request: Request, next: Next) -> Response {
    let Some(host) = named(request.uri(), request.headers()) else {
        return next.run(request).await;
    };
    let snapshot = server.handle.snapshot();
    if is_own(&host, &server.host_names, &snapshot.state) {
        return next.run(request).await;
    }
    let message = format!("this server is not known by the name `{host}`; nothing was changed");
    let hint = format!(
        "address it by its IP address or the name of a node, or start it with `--host-name {host}` \
         if the name is its own"
    );
    ErrorResponse::new(ErrorCode::WrongHost, message).hint(hint).into_response()
}

/// The host of a request in lower case and without its port, if it is a name.
fn named(uri: &Uri, headers: &HeaderMap) -> Option<String> {
    let header = headers.get(header::HOST).map(|host| String::from_utf8_lossy(host.as_bytes()));
    let authority = uri.authority().map(|authority| authority.as_str().into()).or(header)?;
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if is_port(port) => host,
        _ => &authority,
    };
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let is_address = address.parse::<std::net::IpAddr>().is_ok();
    (!is_address).then(|| host.trim_end_matches('.').to_ascii_lowercase())
}

fn is_own(host: &str, names: &[String], cluster: &Cluster) -> bool {
    let is_loopback = host == "localhost" || host.ends_with(".localhost");
    let mut nodes = cluster.nodes();
    is_loopback
        || names.iter().any(|name| name.eq_ignore_ascii_case(host))
        || nodes.any(|node| node.id.as_str() == host || node.address.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_need_to_be_known() {
        let check = |host: Option<&'static str>, expected: Option<&str>| {
            let headers = host.map(|host| (header::HOST, host.parse().unwrap()));
            let found = named(&"/v1/health".parse().unwrap(), &headers.into_iter().collect());
            assert_eq!(found.as_deref(), expected, "{host:?}");
        };
        check(None, None);
        for address in ["127.0.0.1", "10.0.0.1:4040", "[::1]:4040", "[fe80::1]", "192.0.2.1:"] {
            check(Some(address), None);
        }
        check(Some("Evil.Example:4040"), Some("evil.example"));
        check(Some("evil.example."), Some("evil.example"));
        check(Some("127.0.0.1.evil.example"), Some("127.0.0.1.evil.example"));
        check(Some(""), Some(""));
        let uri = "http://evil.example/v1/health".parse().unwrap();
        let headers = [(header::HOST, "localhost".parse().unwrap())].into_iter().collect();
        assert_eq!(named(&uri, &headers).as_deref(), Some("evil.example"), "as in HTTP/2");
    }

    #[test]
    fn the_names_of_nodes_and_of_the_operator_are_own() {
        let mut cluster = Cluster::new();
        let registration = r#"{"node": "n1", "address": "N1.example"}"#;
        let registration = serde_json::from_str(registration).unwrap();
        let registration = model::Proposal::registration(registration);
        cluster.apply(registration, model::Timestamp(1)).unwrap();
        let names = ["Muster.example".to_string()];
        for own in ["localhost", "a.localhost", "n1", "n1.example", "muster.example"] {
            assert!(is_own(own, &names, &cluster), "{own}");
        }
        for foreign in ["", "n2", "evil.example", "notlocalhost", "n1.example.evil.example"] {
            assert!(!is_own(foreign, &names, &cluster), "{foreign}");
        }
    }
}
