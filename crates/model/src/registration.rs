//! The registration of a daemon: which node it runs on and, for an agent, what the node offers.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::id::NodeId;
use crate::problem::Problem;
use crate::software::Software;
use crate::spec::Resources;

/// The registration of a daemon.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Registration {
    /// The node.
    pub node: NodeId,
    /// The address of the instances on it.
    pub address: String,
    /// The agent's part; `None` for a gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentRegistration>,
}

impl Registration {
    /// All violations of this registration. Its values are used in routes and in sums, so they must
    /// be valid.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
        if self.address.is_empty() || !self.address.chars().all(is_part) {
            let message = format!("`{}` is not an address or a host name", self.address);
            problems.push(Problem::new("address", message));
        }
        if let Some((first, last)) = self.agent.as_ref().map(|agent| agent.ports)
            && (first == 0 || first > last)
        {
            let message = format!("{first} to {last} is not a range of ports");
            problems.push(Problem::new("agent.ports", message));
        }
        problems
    }
}

/// The agent's part of a registration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgentRegistration {
    /// The id of the agent: unique, and kept in its data directory. Empty if the agent reports
    /// none.
    #[serde(default)]
    pub id: String,
    /// The port of its API for logs.
    pub port: u16,
    /// The resources that it offers to instances.
    pub capacity: Resources,
    /// Attributes for constraints.
    pub labels: BTreeMap<String, String>,
    /// Capabilities such as `docker`.
    pub capabilities: BTreeSet<String>,
    /// The first and the last port of the range that is assigned to instances.
    pub ports: (u16, u16),
    /// The version and the features of the agent.
    #[serde(default)]
    pub software: Software,
}
