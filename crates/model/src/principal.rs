//! Who proposes changes.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::id::NodeId;

/// The author of a proposal. `State::permits` decides which commands it may propose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Principal {
    /// A user, by name.
    User(Arc<str>),
    /// The agent or the gateway on a node.
    Daemon(NodeId),
    /// The planner of the leader.
    Planner,
    /// A server that becomes leader.
    Server,
}

impl Principal {
    /// The only user while requests are not authenticated.
    pub fn operator() -> Principal {
        Principal::User("operator".into())
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Principal::User(name) => f.pad(name),
            Principal::Daemon(node) => write!(f, "node {node}"),
            Principal::Planner => f.pad("planner"),
            Principal::Server => f.pad("server"),
        }
    }
}

/// The request through which a user made a proposal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The address of the client.
    pub client: String,
    /// The path of the request, such as `/v2/apps/shop/web`.
    pub uri: String,
}
