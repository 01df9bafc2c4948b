//! The machines. A node is known from the first time one of its daemons calls.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::id::NodeId;
use crate::software::Software;
use crate::spec::Resources;

/// A machine of the cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// Its name.
    pub id: NodeId,
    /// What its agent can give to instances; `None` while no agent has called.
    pub capacity: Option<Resources>,
    /// Whether a gateway runs on it.
    #[serde(default)]
    pub gateway: bool,
    /// The address by which instances on it are reached.
    pub address: String,
    /// Which agent called last, if it said so.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub agent_id: String,
    /// The port of its agent's API for logs.
    #[serde(default)]
    pub agent_port: u16,
    /// Attributes that constraints look at.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// What it can do beyond running a process, such as `docker` or `ssd`.
    #[serde(default)]
    pub capabilities: BTreeSet<String>,
    /// The version and features of its agent.
    #[serde(default, skip_serializing_if = "Software::is_unknown")]
    pub software: Software,
    /// The ports that may be assigned to instances, first and last.
    pub ports: (u16, u16),
    /// What may happen on it.
    #[serde(default)]
    pub availability: Availability,
}

/// What may happen on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Availability {
    /// Instances come and stay.
    #[default]
    Active,
    /// No new instances; those that run stay.
    Cordoned,
    /// No new instances; those that run move elsewhere.
    Draining,
}

/// The ports assigned to instances unless a node says otherwise: above the well-known ones,
/// below the range from which Linux draws for outgoing connections.
pub const PORTS: (u16, u16) = (20000, 31999);

impl Node {
    /// A node of which nothing but the name is known.
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
        }
    }

    /// Its role: the label `role`, or `*`.
    pub fn role(&self) -> &str {
        self.labels.get("role").map_or("*", String::as_str)
    }

    /// The value of an attribute that constraints name.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        match name {
            "hostname" | "@hostname" => Some(self.id.as_str()),
            _ => self.labels.get(name.strip_prefix('@').unwrap_or(name)).map(String::as_str),
        }
    }
}
