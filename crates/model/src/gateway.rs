//! Gateway documents, and the routing table that gateways follow.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{Ipv6Addr, SocketAddr};
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::id::{GatewayId, InstanceId, ServiceId};
use crate::problem::Problem;
use crate::spec::PortRef;
use crate::subnet::Subnet;
use crate::unit::{Millis, NumberOrText};

/// A gateway document: a port on every gateway, and the routes of its requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Gateway {
    /// Its name.
    pub gateway: GatewayId,
    /// Where it listens: a port, or an address and a port.
    pub listen: Listen,
    /// The proxies in front of it whose `X-Forwarded-*` headers are kept, as subnets or addresses.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub trust: BTreeSet<Subnet>,
    /// The routes of its requests; the most specific host, then the longest path, wins.
    pub routes: Vec<Route>,
}

/// Where a gateway listens: `8080` (all addresses) or `127.0.0.1:8080`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, JsonSchema)]
#[schemars(with = "NumberOrText")]
pub struct Listen(pub SocketAddr);

impl FromStr for Listen {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let address = match text.parse::<u16>() {
            Ok(port) => Some(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))),
            Err(_) => text.parse().ok(),
        };
        match address {
            Some(address) if address.port() != 0 => Ok(Listen(address)),
            _ => Err(format!(
                "`{text}` is not a port such as 8080 or an address such as 127.0.0.1:8080"
            )),
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Listen {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(
            untagged,
            expecting = "expected a port such as 8080 or an address such as 127.0.0.1:8080"
        )]
        enum Form {
            Port(u16),
            Text(String),
        }
        let text = match Form::deserialize(deserializer)? {
            Form::Port(port) => port.to_string(),
            Form::Text(text) => text,
        };
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The hosts and paths of requests, and the service that receives them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Route {
    /// The hosts, with `*.` for all subdomains; none means every host.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub hosts: BTreeSet<String>,
    /// The prefix of the path, in whole segments.
    #[serde(default = "all_paths", skip_serializing_if = "is_all_paths")]
    pub path: String,
    /// The service and its port: `/shop/web:http`; without a port, its first.
    pub to: RouteTo,
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Route { hosts, path, to } = self;
        let hosts: Vec<_> = hosts.iter().map(String::as_str).collect();
        write!(f, "{}{path} to {to}", hosts.join(","))
    }
}

fn all_paths() -> String {
    "/".into()
}

fn is_all_paths(path: &str) -> bool {
    path == "/"
}

/// A service and one of its ports: `/shop/web:http`, `/shop/web:1`, `/shop/web`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct RouteTo {
    /// The service.
    pub service: ServiceId,
    /// Its port.
    pub port: PortRef,
}

impl TryFrom<String> for RouteTo {
    type Error = crate::id::Error;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        let (service, port) = text.rsplit_once(':').unwrap_or((&text, "0"));
        let port = match port.parse() {
            Ok(index) => PortRef::Index(index),
            Err(_) => PortRef::Name(port.into()),
        };
        Ok(RouteTo { service: service.parse()?, port })
    }
}

impl fmt::Display for RouteTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            PortRef::Index(0) => self.service.fmt(f),
            _ => write!(f, "{}:{}", self.service, self.port),
        }
    }
}

impl From<RouteTo> for String {
    fn from(to: RouteTo) -> String {
        to.to_string()
    }
}

impl Gateway {
    /// All violations of this document by itself.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.routes.is_empty() {
            problems.push(Problem::new("routes", "give at least one route"));
        }
        let mut seen = BTreeSet::new();
        for (i, route) in self.routes.iter().enumerate() {
            if route.path.contains("${") {
                let message = "a route leads to all instances of a service, so it has no references \
                               to facts of one";
                problems.push(Problem::new(format!("routes.{i}.path"), message));
            }
            if !route.path.starts_with('/') {
                let message = format!("`{}` must begin with /", route.path);
                problems.push(Problem::new(format!("routes.{i}.path"), message));
            }
            for host in &route.hosts {
                let name = host.strip_prefix("*.").unwrap_or(host);
                let good = !name.is_empty()
                    && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'-');
                if !good {
                    let message = format!(
                        "`{host}` is not a host name such as shop.example.com or *.example.com"
                    );
                    problems.push(Problem::new(format!("routes.{i}.hosts"), message));
                }
            }
            // Hosts are compared as gateways compare them, and one by one: between two equal hosts
            // the order of the document would decide.
            let bare = |host: &String| host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
            let mut hosts: BTreeSet<_> = route.hosts.iter().map(bare).collect();
            if hosts.is_empty() {
                hosts.insert("*".into());
            }
            for host in hosts {
                let message = format!(
                    "another route already matches `{host}{}`: give them other hosts or paths, or \
                     remove one",
                    route.path
                );
                if !seen.insert((host, route.path.trim_end_matches('/'))) {
                    problems.push(Problem::new(format!("routes.{i}"), message));
                }
            }
        }
        problems
    }
}

/// The routing table of every gateway. Each table is complete, and the newest generation wins.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RouteTable {
    /// The generation. It rises with every change, also across restarts of servers.
    pub generation: u64,
    /// The listeners, by address.
    pub listeners: Vec<Listener>,
}

/// One address and its routes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// The document that it comes from.
    pub gateway: GatewayId,
    /// The address.
    pub listen: Listen,
    /// See [`Gateway::trust`].
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub trust: BTreeSet<Subnet>,
    /// The routes, in the order of the document.
    pub routes: Vec<TableRoute>,
}

/// A route and the instances behind it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableRoute {
    /// See [`Route::hosts`].
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub hosts: BTreeSet<String>,
    /// See [`Route::path`].
    pub path: String,
    /// The service that receives the requests.
    pub service: ServiceId,
    /// The instances that may receive requests.
    pub backends: Vec<Backend>,
    /// Why there are no such instances.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub empty_because: Option<String>,
}

/// An instance that may receive requests.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Backend {
    /// The instance.
    pub instance: InstanceId,
    /// The endpoint: the node's address and the port on it.
    pub address: String,
}

/// The endpoint of an address and a port, as in URLs and routes: IPv6 is in brackets.
pub fn endpoint(address: &str, port: u16) -> String {
    match address.contains(':') {
        true => format!("[{address}]:{port}"),
        false => format!("{address}:{port}"),
    }
}

/// The timeout for the heartbeats of a gateway. After it, the gateway counts as unreachable.
pub const GATEWAY_SILENCE_MAX: Millis = Millis::secs(15);

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn gateway(routes: Value) -> Gateway {
        let document = json!({"gateway": "public", "listen": 80, "routes": routes});
        serde_json::from_value(document).unwrap()
    }

    fn check(routes: Value, expected: &[&str]) {
        let problems = gateway(routes.clone()).problems();
        let keys: Vec<_> = problems.iter().map(|problem| problem.key.as_str()).collect();
        assert_eq!(keys, expected, "{routes}");
    }

    #[test]
    fn a_gateway_listens_on_a_port_of_one_or_of_all_addresses() {
        for (given, written) in [
            (json!(8080), "[::]:8080"),
            (json!("8080"), "[::]:8080"),
            (json!("0.0.0.0:8080"), "0.0.0.0:8080"),
            (json!("127.0.0.1:80"), "127.0.0.1:80"),
            (json!("[::1]:80"), "[::1]:80"),
        ] {
            let listen: Listen = serde_json::from_value(given).unwrap();
            assert_eq!(listen.to_string(), written);
            assert_eq!(serde_json::to_value(listen).unwrap(), json!(written));
            assert_eq!(written.parse(), Ok(listen));
        }
        for wrong in [json!(0), json!("127.0.0.1:0"), json!("127.0.0.1"), json!(65536), json!("a")]
        {
            assert!(serde_json::from_value::<Listen>(wrong.clone()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_route_targets_a_port_by_name_or_index_and_by_default_the_first() {
        for (given, port, written) in [
            ("/shop/web:http", PortRef::Name("http".into()), "/shop/web:http"),
            ("shop/web:1", PortRef::Index(1), "/shop/web:1"),
            ("/shop/web:0", PortRef::Index(0), "/shop/web"),
            ("/shop/web", PortRef::Index(0), "/shop/web"),
        ] {
            let to = RouteTo::try_from(given.to_string()).unwrap();
            assert_eq!(to, RouteTo { service: "/shop/web".parse().unwrap(), port });
            assert_eq!(String::from(to), written);
        }
        assert!(RouteTo::try_from("/Shop:http".to_string()).is_err());
    }

    #[test]
    fn a_route_is_written_without_default_conditions() {
        let routes = json!([{"to": "/a"}, {"hosts": ["a.example"], "path": "/api", "to": "/b:1"}]);
        let gateway = gateway(routes.clone());
        assert_eq!(gateway.routes[0].path, "/");
        assert_eq!(serde_json::to_value(&gateway.routes).unwrap(), routes);
    }

    #[test]
    fn hosts_are_names_and_paths_begin_with_a_slash() {
        check(json!([]), &["routes"]);
        check(json!([{"path": "api", "to": "/a"}]), &["routes.0.path"]);
        check(json!([{"path": "/${slot}", "to": "/a"}]), &["routes.0.path"]);
        for host in ["a", "a-1.Example", "*.a.example", "10.0.0.1"] {
            check(json!([{"hosts": [host], "to": "/a"}]), &[]);
        }
        for host in ["", "*", "*.", "a_b", "a.*", "a b", "a:80"] {
            check(json!([{"hosts": [host], "to": "/a"}]), &["routes.0.hosts"]);
        }
    }

    /// The result for two equal routes would depend on their order, which does not matter.
    #[test]
    fn no_two_routes_have_the_same_host_and_path() {
        let both = |first: Value, second: Value, expected: &[&str]| {
            let route = |mut route: Value| {
                route["to"] = json!("/a");
                route
            };
            check(json!([route(first), route(second)]), expected);
        };
        both(json!({}), json!({"path": "/api"}), &[]);
        both(json!({}), json!({"hosts": ["a"]}), &[]);
        both(json!({"hosts": ["a"]}), json!({"hosts": ["*.a", "b"]}), &[]);
        both(json!({}), json!({"path": "/"}), &["routes.1"]);
        both(json!({"path": "/api"}), json!({"path": "/api/"}), &["routes.1"]);
        both(json!({"hosts": ["a"]}), json!({"hosts": ["A."]}), &["routes.1"]);
        both(json!({"hosts": ["a", "B"]}), json!({"hosts": ["c", "b"]}), &["routes.1"]);
    }

    #[test]
    fn ipv6_addresses_are_written_in_brackets() {
        assert_eq!(endpoint("10.0.0.1", 80), "10.0.0.1:80");
        assert_eq!(endpoint("fd00::1", 80), "[fd00::1]:80");
    }
}
