//! The paths of the native API. Servers mount their routes and clients build their requests from
//! these constants; no other file contains a path.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// `GET`: 200 once the server is ready for requests.
pub const HEALTH: &str = "/v1/health";
/// `POST` an `ApplyRequest`: apply documents, or return the changes that this would make.
pub const APPLY: &str = "/v1/apply";
/// `GET` all services; `?group=/shop` for those below a path.
pub const SERVICES: &str = "/v1/services";
/// `GET`, `DELETE` one service: `/v1/services/shop/web`.
pub const SERVICE: &str = "/v1/services/{*service}";
/// `POST` a `ScaleRequest`.
pub const SCALE: &str = "/v1/scale";
/// `POST` a `RunRequest`.
pub const RUN: &str = "/v1/run";
/// `POST` a `FreezeRequest`.
pub const FREEZE: &str = "/v1/freeze";
/// `POST` a `RemoveRequest`.
pub const REMOVE: &str = "/v1/remove";
/// `POST` a `RolloutRequest` without `how`: restart all instances.
pub const RESTART: &str = "/v1/restart";
/// `POST` an `UndoRequest`.
pub const UNDO: &str = "/v1/undo";
/// `POST` a `RolloutRequest`.
pub const ROLLOUT: &str = "/v1/rollout";
/// `GET` all instances; `?service=/shop/web` for those of one.
pub const INSTANCES: &str = "/v1/instances";
/// `GET` all nodes.
pub const NODES: &str = "/v1/nodes";
/// `DELETE` a node that runs nothing.
pub const NODE: &str = "/v1/nodes/{node}";
/// `POST` a `model::Availability`.
pub const NODE_AVAILABILITY: &str = "/v1/nodes/{node}/availability";
/// `POST` a `StopUnknownRequest`.
pub const STOP_UNKNOWN: &str = "/v1/nodes/{node}/stop-unknown";
/// `GET` the `ClusterView`: the identity of the cluster, and the daemons that do not follow it.
pub const CLUSTER: &str = "/v1/cluster";
/// `POST` an `AcceptLossRequest`.
pub const ACCEPT_LOSS: &str = "/v1/cluster/accept-loss";
/// `GET` the `ClusterState`: everything that is stored and observed.
pub const STATE: &str = "/v1/state";
/// `POST` a `model::Registration` of the node that a daemon runs on.
pub const REGISTER: &str = "/v1/register";
/// `GET` a stream of `Assignments`, one JSON document per line.
pub const NODE_ASSIGNMENTS: &str = "/v1/nodes/{node}/assignments";
/// `POST` a `Report`.
pub const NODE_REPORT: &str = "/v1/nodes/{node}/report";
/// `GET` all deployments.
pub const DEPLOYMENTS: &str = "/v1/deployments";
/// `GET` all gateway documents with their backends.
pub const GATEWAYS: &str = "/v1/gateways";
/// `DELETE` a gateway document.
pub const GATEWAY: &str = "/v1/gateways/{gateway}";
/// `GET` a stream of `model::RouteTable`, one JSON document per line.
pub const ROUTES: &str = "/v1/routes";
/// `POST` a `GatewayReport`.
pub const ROUTES_REPORT: &str = "/v1/routes/report";
/// `GET` events as server-sent events; `?after=17`, `?follow=true`, `?service=/shop/web`.
pub const EVENTS: &str = "/v1/events";
/// `GET` the output of an instance selected by a `LogQuery`; served by agents, relayed by servers.
pub const LOGS: &str = "/v1/logs";
/// `GET` the part of an output stream that a `LogPartQuery` selects; the headers `LOG_OFFSET` and
/// `LOG_SIZE` return its position. Served by agents.
pub const LOG_PART: &str = "/v1/logs/part";

/// Bytes of a path segment that are not encoded: the unreserved ones of RFC 3986 §2.3.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// Bytes of a whole path or a query value that are not encoded: `/` separates segments.
const PATH: &AsciiSet = &SEGMENT.remove(b'/');

/// Fills the `{..}` of a path with a name, percent-encoded. The `/` of a name separates segments
/// only where the path ends in `{*..}`; there a leading one is dropped.
pub fn with(path: &str, name: &str) -> String {
    let Some((before, rest)) = path.split_once('{') else { return path.into() };
    let after = rest.split_once('}').map_or("", |(_, after)| after);
    let name = match rest.starts_with('*') {
        true => utf8_percent_encode(name.trim_start_matches('/'), PATH),
        false => utf8_percent_encode(name, SEGMENT),
    };
    format!("{before}{name}{after}")
}

/// Appends a query; values are percent-encoded.
pub fn query<'a>(path: &str, pairs: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let mut out = path.to_string();
    let mut separator = '?';
    for (key, value) in pairs {
        out.push(separator);
        out.push_str(key);
        out.push('=');
        out.extend(utf8_percent_encode(&value, PATH));
        separator = '&';
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_parameters_and_queries_are_filled_in() {
        assert_eq!(with(SERVICE, "/shop/web"), "/v1/services/shop/web");
        assert_eq!(with(NODE_REPORT, "n1"), "/v1/nodes/n1/report");
        assert_eq!(with(NODES, "n1"), NODES);
        let path = query("/v1/logs", [("instance", "/a~0.1".into()), ("x", "a b&c".into())]);
        assert_eq!(path, "/v1/logs?instance=/a~0.1&x=a%20b%26c");
    }

    #[test]
    fn special_characters_in_names_are_percent_encoded() {
        for (name, segment) in [
            ("simpleservice:0.9", "simpleservice%3A0.9"),
            ("My shop", "My%20shop"),
            ("a/b", "a%2Fb"),
            ("100%", "100%25"),
            ("a?b#c", "a%3Fb%23c"),
            ("{x}", "%7Bx%7D"),
            ("caf\u{e9}", "caf%C3%A9"),
        ] {
            let path = with(NODE_REPORT, name);
            assert_eq!(path, format!("/v1/nodes/{segment}/report"));
            let uri: http::Uri = path.parse().unwrap();
            assert_eq!((uri.path(), uri.query()), (path.as_str(), None));
            let decoded = percent_encoding::percent_decode_str(segment).decode_utf8().unwrap();
            assert_eq!(decoded, name);
        }
        assert_eq!(with(SERVICE, "/my shop/a?b"), "/v1/services/my%20shop/a%3Fb");
        assert_eq!(query("/", [("x", "100% + caf\u{e9}".into())]), "/?x=100%25%20%2B%20caf%C3%A9");
    }
}
