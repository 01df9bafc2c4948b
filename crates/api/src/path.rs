//! Where things are. Servers route by these, clients ask by these; nobody else spells a path.

/// `GET`: 200 once the server answers for the cluster.
pub const HEALTH: &str = "/v1/health";
/// `POST` an `ApplyRequest`: carry documents out, or show what that would do.
pub const APPLY: &str = "/v1/apply";
/// `GET` all services; `?group=/shop` for those below a path.
pub const SERVICES: &str = "/v1/services";
/// `GET`, `DELETE` one service: `/v1/services/shop/web`.
pub const SERVICE: &str = "/v1/services/{*service}";
/// `POST` a `ScaleRequest`.
pub const SCALE: &str = "/v1/scale";
/// `POST` a `RemoveRequest`.
pub const REMOVE: &str = "/v1/remove";
/// `POST` a `RolloutRequest` without `how`: start all instances anew.
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
/// `GET` the `ClusterState`: all that is stored and observed.
pub const STATE: &str = "/v1/state";
/// `POST` a `model::Registration`: a daemon introduces its node.
pub const REGISTER: &str = "/v1/register";
/// `GET` a stream of `Assignments`, a line each.
pub const NODE_ASSIGNMENTS: &str = "/v1/nodes/{node}/assignments";
/// `POST` a `Report`.
pub const NODE_REPORT: &str = "/v1/nodes/{node}/report";
/// `GET` all deployments.
pub const DEPLOYMENTS: &str = "/v1/deployments";
/// `GET` all gateway documents with their backends.
pub const GATEWAYS: &str = "/v1/gateways";
/// `DELETE` a gateway document.
pub const GATEWAY: &str = "/v1/gateways/{gateway}";
/// `GET` a stream of `model::RouteTable`, a line each.
pub const ROUTES: &str = "/v1/routes";
/// `POST` a `GatewayReport`.
pub const ROUTES_REPORT: &str = "/v1/routes/report";
/// `GET` events as server-sent events; `?after=17`, `?follow=true`, `?service=/shop/web`.
pub const EVENTS: &str = "/v1/events";
/// `GET` the output of an instance, as `LogQuery` says; served by agents, relayed by servers.
pub const LOGS: &str = "/v1/logs";
/// `GET` a part of one output stream of an instance, as `LogPartQuery` says, with where it lies in
/// the headers `LOG_OFFSET` and `LOG_SIZE`; served by agents.
pub const LOG_PART: &str = "/v1/logs/part";

/// Fills the `{..}` of a path with a name.
pub fn with(path: &str, name: &str) -> String {
    match path.split_once('{') {
        Some((before, rest)) => {
            let after = rest.split_once('}').map_or("", |(_, after)| after);
            format!("{before}{}{after}", name.trim_start_matches('/'))
        }
        None => path.into(),
    }
}

/// Appends a query; values are percent-encoded.
pub fn query<'a>(path: &str, pairs: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let mut out = path.to_string();
    let mut separator = '?';
    for (key, value) in pairs {
        out.push(separator);
        out.push_str(key);
        out.push('=');
        for byte in value.bytes() {
            match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => {
                    out.push(byte.into());
                }
                _ => out.push_str(&format!("%{byte:02X}")),
            }
        }
        separator = '&';
    }
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn paths_are_filled_and_queries_encoded() {
        assert_eq!(super::with(super::SERVICE, "/shop/web"), "/v1/services/shop/web");
        assert_eq!(super::with(super::NODE_REPORT, "n1"), "/v1/nodes/n1/report");
        let path = super::query("/v1/logs", [("instance", "/a~0.1".into()), ("x", "a b&c".into())]);
        assert_eq!(path, "/v1/logs?instance=/a~0.1&x=a%20b%26c");
    }
}
