//! How traffic gets in: what a user writes, and the table that gateways follow.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::id::{GatewayId, InstanceId, ServiceId};
use crate::problem::Problem;
use crate::spec::PortRef;
use crate::unit::{Millis, NumberOrText};

/// A gateway document: a port on every gateway, and where its requests go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Gateway {
    /// Its name.
    pub gateway: GatewayId,
    /// Where it listens: a port, or an address and a port.
    pub listen: Listen,
    /// The requests it answers; the most specific host, then the longest path, wins.
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
            Ok(port) => Some(SocketAddr::from(([0, 0, 0, 0], port))),
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

/// Requests of some hosts and paths, and the service that answers them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// The hosts, with `*.` for all subdomains; none means every host.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub hosts: BTreeSet<String>,
    /// The beginning of the path, in whole segments.
    #[serde(default = "all_paths", skip_serializing_if = "is_all_paths")]
    pub path: String,
    /// The service and its port: `/shop/web:http`; without a port, its first.
    pub to: RouteTo,
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
    /// Everything wrong with this document taken by itself.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.routes.is_empty() {
            problems.push(Problem::new("routes", "give at least one route"));
        }
        let mut seen = BTreeSet::new();
        for (i, route) in self.routes.iter().enumerate() {
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
            let hosts: Vec<_> = route.hosts.iter().map(|host| host.to_ascii_lowercase()).collect();
            if !seen.insert((hosts, &route.path)) {
                let message = "another route has the same hosts and path";
                problems.push(Problem::new(format!("routes.{i}"), message));
            }
        }
        problems
    }
}

/// What every gateway should do. A whole document: the newest generation wins.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RouteTable {
    /// Rises with every change, also over restarts of servers.
    pub generation: u64,
    /// The listeners, by address.
    pub listeners: Vec<Listener>,
}

/// One address and its routes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// The document it comes from.
    pub gateway: GatewayId,
    /// Where it listens.
    pub listen: Listen,
    /// Its routes, in the order of the document.
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
    /// The service that answers.
    pub service: ServiceId,
    /// The instances that may be sent requests.
    pub backends: Vec<Backend>,
    /// Why there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub empty_because: Option<String>,
}

/// An instance that may be sent requests.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Backend {
    /// The instance.
    pub instance: InstanceId,
    /// Where it listens: the node's address and the port on it.
    pub address: String,
}

/// An address of a node and a port of it, as URLs and routes have them: IPv6 in brackets.
pub fn endpoint(address: &str, port: u16) -> String {
    match address.contains(':') {
        true => format!("[{address}]:{port}"),
        false => format!("{address}:{port}"),
    }
}

/// How long a gateway may go without a word before nothing waits for it any more.
pub const GATEWAY_SILENCE_MAX: Millis = Millis::secs(15);
