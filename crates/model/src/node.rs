//! The machines. A node becomes known when one of its daemons registers for the first time.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::id::{InstanceId, NodeId};
use crate::software::Software;
use crate::spec::Resources;

/// A machine of the cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// Its name.
    pub id: NodeId,
    /// The resources that its agent offers; `None` until an agent has registered.
    pub capacity: Option<Resources>,
    /// Whether a gateway runs on it.
    #[serde(default)]
    pub gateway: bool,
    /// The address of the instances on it.
    pub address: String,
    /// The id of the agent that registered last; empty if it reported none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub agent_id: String,
    /// The port of its agent's API for logs.
    #[serde(default)]
    pub agent_port: u16,
    /// Attributes for constraints.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Capabilities beyond running a process, such as `docker` or `ssd`.
    #[serde(default)]
    pub capabilities: BTreeSet<String>,
    /// The version and features of its agent.
    #[serde(default, skip_serializing_if = "Software::is_unknown")]
    pub software: Software,
    /// The first and the last port of the range that is assigned to instances.
    pub ports: (u16, u16),
    /// Whether it takes instances.
    #[serde(default)]
    pub availability: Availability,
    /// Instances that its agent reported, that were not placed there, and that an operator has
    /// ordered to stop.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub stop_unknown: BTreeSet<InstanceId>,
}

/// Whether a node takes and keeps instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Availability {
    /// It takes new instances and keeps its own.
    #[default]
    Active,
    /// It takes no new instances; running instances stay.
    Cordoned,
    /// It takes no new instances; running instances move elsewhere.
    Draining,
}

/// The default range of ports for instances: above the well-known ports, below the range from which
/// Linux assigns ports to outgoing connections.
pub const PORTS: (u16, u16) = (20000, 31999);

impl Node {
    /// A node of which only the name is known.
    pub fn new(id: NodeId) -> Self {
        Self {
            id,
            capacity: None,
            gateway: false,
            address: "127.0.0.1".into(),
            agent_id: String::new(),
            agent_port: 0,
            labels: BTreeMap::new(),
            capabilities: BTreeSet::new(),
            software: Software::default(),
            ports: PORTS,
            availability: Availability::Active,
            stop_unknown: BTreeSet::new(),
        }
    }

    /// Its role: the label `role`, or `*`.
    pub fn role(&self) -> &str {
        self.labels.get("role").map_or("*", String::as_str)
    }

    /// The value of an attribute, by its name in constraints.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        match name {
            "hostname" | "@hostname" => Some(self.id.as_str()),
            _ => self.labels.get(name.strip_prefix('@').unwrap_or(name)).map(String::as_str),
        }
    }

    /// Whether the value of an attribute, or another name for it, satisfies `matches`. The host of a
    /// node is known by the name of the node and by its address. `None` without the attribute.
    pub fn attribute_matches(&self, name: &str, matches: impl Fn(&str) -> bool) -> Option<bool> {
        let value = self.attribute(name)?;
        let address = matches!(name, "hostname" | "@hostname").then_some(self.address.as_str());
        Some(
            matches(value)
                || address.is_some_and(|address| !address.is_empty() && matches(address)),
        )
    }
}

/// The summary of a node: the fields that every plan reads. See `node_index`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeSummary {
    /// Its name.
    pub id: NodeId,
    /// Whether an agent has ever registered from it.
    pub agent: bool,
    /// Whether a gateway runs on it.
    pub gateway: bool,
    /// Whether it is being drained.
    pub draining: bool,
}

impl From<&Node> for NodeSummary {
    fn from(node: &Node) -> Self {
        NodeSummary {
            id: node.id.clone(),
            agent: node.capacity.is_some(),
            gateway: node.gateway,
            draining: node.availability == Availability::Draining,
        }
    }
}
