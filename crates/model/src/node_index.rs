//! The nodes in short: what every plan asks of all of them.
//!
//! Plans look at each node, also while nothing is to be done; they read this list instead of the
//! nodes themselves, which lie all over the memory. It is derived from the nodes, and in their
//! order.

use std::sync::Arc;

use crate::id::NodeId;
use crate::node::{Availability, Node};
use crate::state::State;

/// A node in short.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeSummary {
    /// Its name.
    pub id: NodeId,
    /// Whether an agent has ever called from it.
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

impl State {
    /// The nodes in short, by name.
    pub fn node_index(&self) -> &[NodeSummary] {
        &self.node_index
    }

    /// Notes what has become of one node.
    pub(crate) fn refresh(&mut self, id: &NodeId) {
        let now = self.nodes.get(id).map(|node| NodeSummary::from(&node.node));
        match (self.node_index.binary_search_by(|node| node.id.cmp(id)), now) {
            (Ok(at), Some(node)) if self.node_index[at] == node => {}
            (Ok(at), Some(node)) => Arc::make_mut(&mut self.node_index)[at] = node,
            (Ok(at), None) => drop(Arc::make_mut(&mut self.node_index).remove(at)),
            (Err(at), Some(node)) => Arc::make_mut(&mut self.node_index).insert(at, node),
            (Err(_), None) => {}
        }
    }

    /// The node index as it should be.
    pub(crate) fn build_node_index(&self) -> Vec<NodeSummary> {
        self.nodes.values().map(|node| NodeSummary::from(&node.node)).collect()
    }
}
