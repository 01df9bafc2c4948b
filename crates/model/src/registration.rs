//! The registration of a daemon: which node it runs on and, for an agent, what the node offers.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::id::NodeId;
use crate::problem::Problem;
use crate::software::Software;
use crate::spec::Resources;

/// What a daemon tells of its node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Registration {
    /// The node.
    pub node: NodeId,
    /// The address by which instances on it are reached.
    pub address: String,
    /// What an agent tells; a gateway leaves it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentRegistration>,
}

impl Registration {
    /// Everything wrong with it: what it says is put into routes and counted with.
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

/// What an agent tells of its node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgentRegistration {
    /// Which agent it is: what it keeps in its data directory, and no other has. Empty if it does
    /// not say.
    #[serde(default)]
    pub id: String,
    /// The port of its API for logs.
    pub port: u16,
    /// What it can give to instances.
    pub capacity: Resources,
    /// Attributes that constraints look at.
    pub labels: BTreeMap<String, String>,
    /// What it can do.
    pub capabilities: BTreeSet<String>,
    /// The ports that may be assigned, first and last.
    pub ports: (u16, u16),
    /// Its version and features.
    #[serde(default)]
    pub software: Software,
}
